"""What a report tells of a run besides its scores. Plain frozen values, every one optional: a fact that is not given is
left out of the page. Nothing here computes or reads anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


def _nothing() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class DataFacts:
    """`source`: the folder or file given; `layout`: the reader's name; `counts`: pictures by use, such as
    {"train": 600, "val": 150, "skipped": 3}; `class_counts`: use -> class -> pictures; `notes`: sentences of the
    doctor or the split; `skipped`: (picture, reason); `measures`: use -> what was measured -> text."""

    source: str = ""
    layout: str = ""
    counts: Mapping[str, int] = field(default_factory=_nothing)
    class_counts: Mapping[str, Mapping[str, int]] = field(default_factory=_nothing)
    notes: Sequence[str] = ()
    skipped: Sequence[tuple[str, str]] = ()
    measures: Mapping[str, Mapping[str, str]] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """`command`: the exact command line; `recipe`; `judged_on`: a sentence on which pictures the scores are from (and
    whether the kept epoch was chosen on them); `config`: setting -> value; `versions`: package -> version;
    `machine`: one line; `seconds`: wall time; `finished`: local time as text; `export_check`: the manifest's
    (`pictures`, `box_gap_px`, `probability_gap`); `model`: what is known of the model that was judged, name -> text;
    `stopped`: why the run ended before its time, empty where it did not; `fitted_here`: whether the
    model was calibrated on the pictures it is judged on here."""

    command: str = ""
    recipe: str = ""
    judged_on: str = ""
    config: Mapping[str, Any] = field(default_factory=_nothing)
    versions: Mapping[str, str] = field(default_factory=_nothing)
    machine: str = ""
    seed: int | None = None
    seconds: float | None = None
    finished: str = ""
    data: DataFacts = field(default_factory=DataFacts)
    export_check: Mapping[str, Any] = field(default_factory=_nothing)
    model: Mapping[str, str] = field(default_factory=_nothing)
    stopped: str = ""
    fitted_here: bool = False
