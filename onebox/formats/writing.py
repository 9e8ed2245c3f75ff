"""What a writer is, and what all writers ask of a data set before anything is written. Takes plain samples; gives them
back judged. Refuses what no layout could say truly (a class name of two lines, a box outside its picture) instead of
writing something that reads as another thing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onebox.errors import AnnotationError, DataError
from onebox.formats.assembly import judge_box
from onebox.formats.records import Problem, clean_label
from onebox.types import Sample

PARTS = ("train", "val", "test")
#: The folder of pictures without a part where others have one.
REST = "rest"


@dataclass(frozen=True, slots=True)
class Writer:
    """How one layout is written. Pictures are brought by the caller; a writer writes annotations only.

    `name` is what `--to` takes. `folder(part, divided)` says where the pictures of a part go ("" is the root);
    `divided` is whether any picture of the set has a part. `write(samples, class_names, out)` takes samples that
    passed `judge_samples` and whose `path` is the picture's new place relative to `out`, with forward slashes; it
    gives the annotation files that it wrote, relative too. `awkward` matches what must become "_" in the stem of a
    picture's name, beyond what no layout can hold.
    """

    name: str
    folder: Callable[[str | None, bool], str]
    write: Callable[[Sequence[Sample], Sequence[str], Path], list[str]]
    awkward: re.Pattern[str] | None = None


def judge_samples(samples: Sequence[Sample], class_names: Sequence[str]) -> None:
    """Raises DataError or AnnotationError where a sample or a class name cannot be written and read back the same."""
    names = set(class_names)
    if len(names) < len(class_names):
        raise DataError("two classes have the same name", fix="Give every class a name of its own.")
    for name in class_names:
        if not name or clean_label(name) != name:
            raise DataError(
                f"the class name {name!r} cannot be written: it is empty, or holds line breaks or control characters",
                fix="Rename the class.",
            )
    for sample in samples:
        where = sample.where or sample.path
        if (sample.label is None) != (sample.box is None):
            raise AnnotationError("a label without a box, or a box without a label", where=where)
        if sample.split is not None and sample.split not in PARTS:
            raise AnnotationError(f"unknown part {sample.split!r}", where=where, fix="Use train, val or test.")
        if sample.label is None or sample.box is None:
            continue
        if sample.label not in names:
            raise AnnotationError(f"class {sample.label!r} is not among the {len(names)} class names", where=where)
        judged = judge_box(sample.box.xyxy, sample.image_size)
        if isinstance(judged, Problem):
            raise AnnotationError(judged.reason, where=where)
        if judged[0].xyxy != sample.box.xyxy:
            raise AnnotationError("the box reaches over the picture's edge", where=where, fix="Clip it first.")


def by_part(samples: Sequence[Sample]) -> dict[str | None, list[Sample]]:
    """The samples of each part that there is, in the order train, val, test, none."""
    parts = {part: [s for s in samples if s.split == part] for part in (*PARTS, None)}
    return {part: members for part, members in parts.items() if members}


def in_images(part: str | None, divided: bool) -> str:
    """The folder of layouts that name pictures in their annotations: one for all parts, as picture names are unique."""
    return "images"


def number_text(value: float) -> str:
    """The shortest text that reads as the same float; "10", not "10.0", for tools that read boxes with int()."""
    return repr(plain_number(value))


def plain_number(value: float) -> int | float:
    """An int where that says the same."""
    return int(value) if float(value).is_integer() else float(value)


def write_text(path: Path, text: str) -> None:
    """UTF-8 with plain line ends. The folder's owner flushes and renames the whole (`files.atomic_folder`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # our readers, as most, take one mark at the start of a file for the encoding's
    path.write_bytes(("\ufeff" + text if text.startswith("\ufeff") else text).encode())
