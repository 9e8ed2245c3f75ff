"""A repaired copy of a data set, in a new place. Takes a diagnosis; puts right what is sure (boxes cut at the edge,
corners in order, units, boxes turned with their picture, class spellings, duplicates, endings of file names), leaves
the rest to a person and says so. Never changes or decodes a picture, never writes over anything.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from onebox.conversion import Converted, write_dataset
from onebox.dataset import Dataset
from onebox.doctor.boxes import other_unit
from onebox.doctor.classes import merges
from onebox.doctor.diagnosis import Diagnosis
from onebox.doctor.entries import Entry, Thing
from onebox.doctor.findings import LEFT_OUT, Finding
from onebox.doctor.pictures import PictureFacts
from onebox.formats.assembly import judge_box
from onebox.formats.records import BAD_BOX, Problem
from onebox.formats.table import LAYOUTS
from onebox.images import CONTAINERS
from onebox.types import Box, ImageSize, Sample

#: Findings that a new reading of the picture's objects puts right.
_OF_BOXES = frozenset({"inverted-box", "mixed-units", "rotated-box"})
#: What sets are written as whose own layout is only read.
_OTHERWISE = "csv"


@dataclass(frozen=True, slots=True)
class Repaired:
    """`written` says where and as what; `done` and `left` are the findings that were put right, and those left to a
    person (infos are in neither)."""

    written: Converted
    done: tuple[Finding, ...]
    left: tuple[Finding, ...]


def fix(
    diagnosis: Diagnosis, out: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
) -> Repaired:
    """Writes the repaired copy to the new folder `out`, in the layout of the set where that can be written, else as
    CSV. `progress` is called with (pictures done, all). Raises what `onebox.conversion.write_dataset` raises."""
    writable = {writer.name for row in LAYOUTS for writer in row.write}
    layout = diagnosis.dataset.layout
    repaired = repair(diagnosis)
    written = write_dataset(
        repaired,
        out,
        layout if layout in writable else _OTHERWISE,
        endings=_true_endings(repaired, diagnosis.facts),
        progress=progress,
    )
    findings = diagnosis.checkup.findings
    done = tuple(f for f in findings if f.fix)
    left = tuple(f for f in findings if not f.fix and f.level != "info")
    return Repaired(written, done, left)


def repair(diagnosis: Diagnosis) -> Dataset:
    """The data set as `fix` writes it. Samples keep their paths; opens nothing."""
    dataset, findings = diagnosis.dataset, diagnosis.checkup.findings
    samples = {sample.path: sample for sample in dataset}
    samples.update(_with_boxes_put_right(diagnosis))
    dropped = {f.picture for f in findings if f.fix == LEFT_OUT}
    source = diagnosis.sources[0]
    spelling = merges(Counter(source.labels()))
    kept: list[Sample] = []
    for path, sample in sorted(samples.items()):
        fact = diagnosis.facts.get(path)
        if path in dropped or fact is None or fact.problem is not None:
            continue
        label = sample.label if sample.label is None else spelling.get(sample.label, sample.label)
        kept.append(dataclasses.replace(sample, label=label))
    return dataclasses.replace(dataset, samples=tuple(kept), class_names=_class_names(dataset, kept))


def turn_box(
    box: tuple[float, float, float, float], stored: ImageSize, orientation: int
) -> tuple[float, float, float, float]:
    """(x_min, y_min, x_max, y_max) in pixels of the picture as stored -> the same in pixels of the upright picture.
    `orientation` is EXIF's, 1 to 8 (EXIF 2.32, tag 0x0112)."""
    width, height = stored
    turns: dict[int, Callable[[float, float], tuple[float, float]]] = {
        2: lambda x, y: (width - x, y),
        3: lambda x, y: (width - x, height - y),
        4: lambda x, y: (x, height - y),
        5: lambda x, y: (y, x),
        6: lambda x, y: (height - y, x),
        7: lambda x, y: (height - y, width - x),
        8: lambda x, y: (y, width - x),
    }
    turn = turns.get(orientation)
    if turn is None:
        return box
    (x0, y0), (x1, y1) = turn(*box[:2]), turn(*box[2:])
    return (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _with_boxes_put_right(diagnosis: Diagnosis) -> Iterable[tuple[str, Sample]]:
    """The pictures whose boxes are read anew, with the largest of them, as in loading."""
    codes: dict[str, set[str]] = {}
    for finding in diagnosis.checkup.findings:
        if finding.code in _OF_BOXES and finding.fix and finding.picture is not None:
            codes.setdefault(finding.picture, set()).add(finding.code)
    splits = {sample.path: sample.split for sample in diagnosis.dataset}
    for entry in diagnosis.sources[0].labelled():
        path = entry.path or ""
        fact = diagnosis.facts.get(path)
        if path not in codes or fact is None or fact.upright is None or entry.problem is not None:
            continue
        boxes = [_put_right(entry, thing, fact, turned="rotated-box" in codes[path]) for thing in entry.things]
        sound = [(box, thing) for box, thing in zip(boxes, entry.things, strict=True) if box is not None]
        if len(sound) == len(boxes):
            box, thing = max(sound, key=lambda item: item[0].area)
            yield path, Sample(path, fact.upright, thing.label, box, thing.where, splits.get(path, entry.split))


def _put_right(entry: Entry, thing: Thing, fact: PictureFacts, *, turned: bool) -> Box | None:
    """The box inside the upright picture; None where it is not sure what it should be."""
    if fact.upright is None or fact.stored is None or not thing.finite or not thing.label:
        return None
    if thing.problem is not None and thing.problem.code != BAD_BOX:
        return None
    size = fact.stored if turned else fact.upright
    x0, y0, x1, y1 = thing.box
    straight = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    slipped = other_unit(entry, thing, size) is not None
    judged = judge_box(straight, size, is_01=entry.is_01 != slipped)
    if isinstance(judged, Problem):
        return None
    box = judged[0].xyxy
    return Box(*(turn_box(box, fact.stored, fact.orientation) if turned else box), fact.upright)


def _class_names(dataset: Dataset, samples: Iterable[Sample]) -> tuple[str, ...]:
    """In the order of the set; names that are nobody's any more left out."""
    used = {sample.label for sample in samples if sample.label is not None}
    kept = [name for name in dataset.class_names if name in used]
    return (*kept, *sorted(used.difference(kept)))


def _true_endings(dataset: Dataset, facts: Mapping[str, PictureFacts]) -> dict[str, str]:
    """Path -> the ending that fits the content, for pictures whose name says something else."""
    endings: dict[str, str] = {}
    for sample in dataset:
        fact = facts[sample.path]
        allowed = CONTAINERS.get(fact.suffix, ())
        right = next((suffix for suffix, kinds in CONTAINERS.items() if fact.container in kinds), None)
        if right is not None and fact.container not in allowed:
            endings[sample.path] = right
    return endings
