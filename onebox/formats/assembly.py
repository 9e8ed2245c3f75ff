"""From raw records to samples: the one place that decides what is used. Takes a reading and the pictures; gives samples
whose boxes are finite, inside their picture and of positive area, and a list of everything left out with its reason.
Decodes nothing: picture sizes come from headers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from onebox.errors import AnnotationError, PictureError
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    BAD_BOX,
    CLIPPED_BOX,
    MISSING_PICTURE,
    SEVERAL_OBJECTS,
    UNREADABLE_PICTURE,
    Problem,
    RawObject,
    RawPicture,
    Reading,
    Skipped,
)
from onebox.formats.tree import Tree, folder_of, split_of_folder
from onebox.images import read_size
from onebox.types import Box, ImageSize, Multiple, Sample

Progress: TypeAlias = Callable[[int, int], None]

#: A box that keeps less than this share of its area inside the picture is a mistake, not an overhang.
LEAST_AREA_KEPT = 0.5
#: Rounding of fractions (six decimals in many exports) may leave this share of a side outside: no clip worth telling.
_ROUNDING = 1e-4
_LATER = {"train": 0, "val": 1, "test": 2}


@dataclass(slots=True)
class Assembled:
    """`samples` sorted by path; `skipped` left out; `remarks` kept, but changed or chosen; `notes` for the reader."""

    samples: list[Sample] = field(default_factory=list[Sample])
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    remarks: list[Skipped] = field(default_factory=list[Skipped])
    notes: list[str] = field(default_factory=list[str])


def assemble(reading: Reading, pictures: Pictures, *, multiple: Multiple) -> Assembled:
    """Judges every record. Raises AnnotationError for a picture with several objects where `multiple` is "error"."""
    tree = pictures.tree
    out = Assembled(skipped=list(reading.skipped), notes=list(reading.notes))
    merged = _merge(reading.pictures, out)
    if multiple == "error":
        _refuse_several(merged, tree)
    judged = 0
    for path in pictures.paths:  # sorted; and nothing that is not among them is ever opened
        record = merged.get(path)
        if record is None:
            continue
        judged += 1
        sample = _sample(path, record, tree, multiple, out)
        if sample is not None:
            out.samples.append(sample)
    if judged < len(merged):
        for path in merged.keys() - set(pictures.paths):
            out.skipped.append(Skipped(path, merged[path].where, "not among the pictures listed", MISSING_PICTURE))
    if reading.list_unlabelled and judged < len(pictures.paths):
        _add_unlabelled(merged, reading, pictures, out)
    out.samples = _settle_splits(sorted(out.samples, key=lambda s: s.path), out.notes)
    _note_counts(out)
    return out


def _merge(records: list[RawPicture], out: Assembled) -> dict[str, RawPicture]:
    """One record per picture. Records without a picture go to `skipped`."""
    merged: dict[str, RawPicture] = {}
    described_twice: set[str] = set()
    twice = in_parts = 0
    for record in records:
        if record.path is None:
            problem = record.problem or Problem(MISSING_PICTURE, "no such picture")
            out.skipped.append(Skipped(record.name, record.where, problem.reason, problem.code))
            continue
        known = merged.get(record.path)
        if known is None:
            merged[record.path] = record
            continue
        described_twice.add(record.path)
        if known.is_01 != record.is_01:
            reason = f"also described in {known.where}, there in {'fractions' if known.is_01 else 'pixels'}"
            known.problem = known.problem or Problem(BAD_BOX, reason)
        if record.split != known.split and record.split is not None:
            in_parts += known.split is not None
            # the picture stays out of training where any list holds it back
            if known.split is None or _LATER.get(record.split, 0) > _LATER.get(known.split, 0):
                known.split = record.split
        known.problem = known.problem or record.problem
        known.objects.extend(record.objects)
    for path in described_twice:  # within one record they stand in the order of the file already
        merged[path].objects.sort(key=_place)
    for record in merged.values():
        if len(record.objects) > 1:
            unique: dict[tuple[object, ...], RawObject] = {}
            for raw in record.objects:
                unique.setdefault((raw.label, raw.box, raw.problem), raw)
            twice += len(record.objects) - len(unique)
            record.objects = list(unique.values())
    if twice:
        out.notes.append(f"{_count(twice, 'object')} written twice (same picture, class and box), counted once")
    if in_parts:
        out.notes.append(f"{_count(in_parts, 'picture')} listed in more than one part, kept out of training")
    return merged


def _place(raw: RawObject) -> tuple[str, int]:
    file, _, line = raw.where.rpartition(":")
    return file, int(line) if line.isdecimal() else 0


def _refuse_several(merged: dict[str, RawPicture], tree: Tree) -> None:
    several = [path for path, record in merged.items() if len(record.objects) > 1]
    if several:
        path = min(several)
        record = merged[path]
        raise AnnotationError(
            f"{len(record.objects)} objects in {tree.path(path)}, where one is expected; "
            f"{_count(len(several), 'picture')} of {len(merged)} like this",
            where=record.objects[1].where,
            fix="Use --multiple largest to keep the largest object of each, or --multiple skip to leave them out.",
        )


def _sample(path: str, record: RawPicture, tree: Tree, multiple: Multiple, out: Assembled) -> Sample | None:
    """The sample, or None with an entry in `skipped`."""
    full = tree.path(path)
    if record.problem is not None:
        return _leave_out(full, record.where, record.problem, out)
    try:
        size = read_size(full)
    except PictureError as error:
        return _leave_out(full, record.where or full, Problem(UNREADABLE_PICTURE, error.what), out)
    objects = record.objects
    if not objects:
        return Sample(full, size, where=record.where, split=record.split)
    if multiple == "skip" and len(objects) > 1:
        return _leave_out(full, record.where, Problem(SEVERAL_OBJECTS, f"{len(objects)} objects"), out)
    raw, box, clipped = objects[0], None, False
    for other in objects:
        judged = other.problem or judge_box(other.box, size, is_01=record.is_01)
        if isinstance(judged, Problem):
            # of several objects, too: which is the largest cannot be known with one of them wrong
            return _leave_out(full, other.where, judged, out)
        if box is None or judged[0].area > box.area:
            raw, (box, clipped) = other, judged
    if len(objects) > 1:
        reason = f"{len(objects)} objects, the largest kept"
        out.remarks.append(Skipped(full, raw.where, reason, SEVERAL_OBJECTS))
    if clipped:
        out.remarks.append(Skipped(full, raw.where, "the box reached over the picture's edge, clipped", CLIPPED_BOX))
    return Sample(full, size, raw.label, box, raw.where, record.split)


def _leave_out(path: str, where: str, problem: Problem, out: Assembled) -> None:
    out.skipped.append(Skipped(path, where, problem.reason, problem.code))


def judge_box(
    box: tuple[float, float, float, float], size: ImageSize, *, is_01: bool = False
) -> tuple[Box, bool] | Problem:
    """The box inside its picture, in pixels, and whether clipping took away more than rounding; or what is wrong.

    `box` is (x_min, y_min, x_max, y_max) in pixels, or in fractions where `is_01`; `size` is (width, height).
    """
    width, height = size
    x_min, y_min, x_max, y_max = box
    if is_01:
        x_min, y_min, x_max, y_max = x_min * width, y_min * height, x_max * width, y_max * height
    if 0 <= x_min < x_max <= width and 0 <= y_min < y_max <= height and (x_max - x_min) * (y_max - y_min) > 0:
        return Box(x_min, y_min, x_max, y_max, size), False
    if not all(math.isfinite(v) for v in box):
        return Problem(BAD_BOX, "the box is not four finite numbers")
    shown = f"({x_min:g}, {y_min:g}, {x_max:g}, {y_max:g})"
    if x_max < x_min or y_max < y_min:
        return Problem(BAD_BOX, f"the box is inverted: {shown}")
    area = (x_max - x_min) * (y_max - y_min)
    if not 0 < area < math.inf:
        return Problem(BAD_BOX, f"the box has no area: {shown}" if area <= 0 else f"the box is boundless: {shown}")
    left, right = max(0.0, x_min), min(float(width), x_max)
    top, bottom = max(0.0, y_min), min(float(height), y_max)
    kept = max(0.0, right - left) * max(0.0, bottom - top)
    if kept <= 0:
        return Problem(BAD_BOX, f"the box lies outside the picture ({width}x{height}): {shown}")
    if kept < LEAST_AREA_KEPT * area:
        share = f"{1 - kept / area:.0%}"
        return Problem(BAD_BOX, f"{share} of the box lies outside the picture ({width}x{height}): {shown}")
    slack_x, slack_y = _ROUNDING * width, _ROUNDING * height
    clipped = max(left - x_min, x_max - right) > slack_x or max(top - y_min, y_max - bottom) > slack_y
    return Box(left, top, right, bottom, size), clipped


def _add_unlabelled(merged: dict[str, RawPicture], reading: Reading, pictures: Pictures, out: Assembled) -> None:
    """The other pictures of folders that hold labelled ones. Pictures that were skipped stay skipped."""
    folders = {folder_of(path) for path, record in merged.items() if record.objects}
    spoken_of = merged.keys()
    for path in pictures.in_folders(folders):
        if path in spoken_of:
            continue
        full = pictures.tree.path(path)
        try:
            size = read_size(full)
        except PictureError as error:
            out.skipped.append(Skipped(full, full, error.what, UNREADABLE_PICTURE))
            continue
        out.samples.append(Sample(full, size, split=split_of_folder(folder_of(path))))


def _settle_splits(samples: list[Sample], notes: list[str]) -> list[Sample]:
    """A part is one only beside another: where all labelled pictures are of one part there is none, and where a val or
    test part is named but no train part, the rest is the train part."""
    parts = Counter(s.split for s in samples if s.label is not None)
    named = {part for part in parts if part is not None}
    if len(named) == 1 and None not in parts:
        notes.append(f"everything is of the part {named.pop()!r}: read as one undivided set")
        return [_with_split(s, None) for s in samples]
    if named and None in parts and "train" not in named:
        notes.append(f"{_count(parts[None], 'picture')} of no named part taken as train")
        return [_with_split(s, s.split or "train") for s in samples]
    return samples


def _with_split(sample: Sample, split: str | None) -> Sample:
    if sample.split == split:
        return sample
    return Sample(sample.path, sample.image_size, sample.label, sample.box, sample.where, split)


def _note_counts(out: Assembled) -> None:
    clipped = sum(r.code == CLIPPED_BOX for r in out.remarks)
    several = sum(r.code == SEVERAL_OBJECTS for r in out.remarks)
    unlabelled = sum(s.label is None for s in out.samples)
    if clipped:
        out.notes.append(f"{_count(clipped, 'box', 'boxes')} reached over the picture's edge and clipped to it")
    if several:
        out.notes.append(f"{_count(several, 'picture')} with several objects: the largest of each kept")
    if unlabelled:
        out.notes.append(f"{_count(unlabelled, 'picture')} without a label")


def _count(n: int, noun: str, plural: str | None = None) -> str:
    return f"{n} {noun if n == 1 else plural or noun + 's'}"
