"""folds.jsonl: raw outputs of the networks of `folds.py`, picture by picture. Takes and gives `Record`s, and turns rows
into predictions through the one decoding that all models share. Trains nothing, and imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onebox._version import __version__
from onebox.dataset import Dataset
from onebox.errors import OneboxError
from onebox.files import write_atomic
from onebox.images import Pixels
from onebox.manifest import Manifest
from onebox.predictions import Prediction
from onebox.runtime import Localizer, Outputs
from onebox.training.config import make_config
from onebox.types import ImageSize, Sample

#: What a run folder keeps of them.
FILE = "folds.jsonl"
#: The probe's scores among a picture's outputs.
PROBE = "probe"
#: Before the names of what is said of the close-up of the given box.
CLOSE = "close_"

#: One picture's raw outputs by name, without the batch axis; None where it could not be read.
Row = dict[str, list[float]] | None


class OutOfFold(NamedTuple):
    """One entry per labelled sample, in their order; None where the picture cannot be read. `predictions`: of the whole
    picture. `close_ups`: what the same networks say when shown the surroundings of the given box alone."""

    predictions: list[Prediction | None]
    close_ups: list[Prediction | None]


class Recorded(Localizer):
    """Outputs that were written down, answered in their order through the one decoding that all models share."""

    def __init__(self, manifest: Manifest, rows: Sequence[Mapping[str, Sequence[float]]]) -> None:
        self.manifest = manifest
        self._rows = rows
        self._next = 0

    def run(self, pictures: Pixels) -> Outputs:
        """The next `len(pictures)` rows, whatever the pictures are."""
        rows = self._rows[self._next : self._next + len(pictures)]
        self._next += len(rows)
        return {name: np.array([row[name] for row in rows], dtype=np.float32) for name in rows[0]}

    def answers(self, samples: Sequence[Sample]) -> list[Prediction]:
        """One prediction per row, said of these samples' pictures, which are not opened."""
        nothing = np.zeros((1, 1, 3), dtype=np.uint8)
        prepared = [(sample.path, (nothing, ImageSize(*sample.image_size), None)) for sample in samples]
        return [answer for answer in self._answer(prepared) if isinstance(answer, Prediction)]


@dataclass(slots=True)
class Record:
    """The content of folds.jsonl: `key` says which question was asked; `rows` by relative path, of finished folds."""

    key: dict[str, Any]
    manifest: Manifest
    rows: dict[str, Row]

    def is_whole(self, labelled: Dataset) -> bool:
        """Whether every picture of `labelled` was asked about."""
        return all(labelled.relative_path(sample) in self.rows for sample in labelled)

    def answers(self, labelled: Dataset, probe_weight: float) -> OutOfFold:
        """What is recorded of these pictures, `probe_weight` times the probe's scores in the logits."""
        rows = [self.rows[labelled.relative_path(sample)] for sample in labelled]
        readable = [(sample, row) for sample, row in zip(labelled, rows, strict=True) if row is not None]
        if not readable:
            return OutOfFold([None] * len(rows), [None] * len(rows))
        samples = [sample for sample, _ in readable]
        found: list[list[Prediction | None]] = []
        for prefix in ("", CLOSE):
            outputs = [_plain_outputs(row, prefix, probe_weight) for _, row in readable]
            answers = iter(Recorded(self.manifest, outputs).answers(samples))
            found.append([next(answers) if row is not None else None for row in rows])
        return OutOfFold(*found)


def write(path: Path, record: Record) -> None:
    """The record, in place of what was there."""
    head = {**record.key, "manifest": record.manifest.to_json(), "onebox_version": __version__}
    lines = [head, *({"path": name, "outputs": _plain(row)} for name, row in sorted(record.rows.items()))]
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in lines))


def _plain(row: Row) -> dict[str, Any] | None:
    """JSON knows no NaN: null stands for it."""

    def number(value: Any) -> Any:
        if isinstance(value, list):
            return [number(v) for v in value]
        return None if math.isnan(value) else float(f"{value:.9g}")  # nine digits are all of a float32

    return None if row is None else {name: number(values) for name, values in row.items()}


def read(path: Path) -> Record | None:
    """None where there is nothing, or nothing that can be used: it is computed again."""
    try:
        head, *lines = (json.loads(line) for line in path.read_text("utf-8").splitlines())
        manifest = Manifest.from_json(head["manifest"], where=str(path))
        # a setting that is younger than the file had its default then
        config = make_config(**head["config"]).to_dict()
        key = {"data": str(head["data"]), "config": config, "folds": int(head["folds"])}
        rows = {line["path"]: _row(line["outputs"]) for line in lines}
        complete = all(row is None or CLOSE + "logits" in row for row in rows.values())
        return Record(key, manifest, rows) if complete else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OneboxError):
        return None


def _row(outputs: Any) -> Row:
    def number(value: Any) -> Any:
        if isinstance(value, list):
            return [number(v) for v in value]
        return math.nan if value is None else float(value)

    return None if outputs is None else {str(name): number(values) for name, values in outputs.items()}


def _plain_outputs(row: Mapping[str, list[float]], prefix: str, probe_weight: float) -> dict[str, list[float]]:
    """As a model gives them, of the picture or of the close-up: the probe's scores are in the logits."""
    mine = {
        name.removeprefix(prefix): values
        for name, values in row.items()
        if name.startswith(prefix) and (prefix or not name.startswith(CLOSE))
    }
    probed = mine.pop(PROBE, None)
    if probed is not None:
        mine["logits"] = [z + probe_weight * s for z, s in zip(mine["logits"], probed, strict=True)]
    return mine
