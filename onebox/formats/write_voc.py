"""Writes Pascal VOC as the devkit has it: `JPEGImages/`, one XML per picture in `Annotations/`, the parts as lists in
`ImageSets/Main/`. A picture without a label has an XML without objects. Corners are written as onebox holds them
(0-based, edges, floats), not shifted to the 1-based pixels of the 2007 challenge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

from onebox.errors import DataError
from onebox.formats.class_list import write_class_list
from onebox.formats.writing import Writer, by_part, number_text, write_text
from onebox.types import Sample

#: XML 1.0, section 2.2; control characters and lone surrogates are refused before.
_NOT_XML = re.compile("[\ufffe\uffff]")


def _write(samples: Sequence[Sample], class_names: Sequence[str], out: Path) -> list[str]:
    for name in class_names:
        if _NOT_XML.search(name):
            raise DataError(f"XML cannot hold the class name {name!r}", fix="Rename the class, or choose another --to.")
    files: list[str] = []
    for sample in samples:
        files.append(f"Annotations/{_stem(sample)}.xml")
        write_text(out / files[-1], _xml(sample))
    for part, members in _lists(samples).items():
        files.append(f"ImageSets/Main/{part}.txt")
        write_text(out / files[-1], "".join(f"{_stem(s)}\n" for s in members))
    return [*files, write_class_list(out, class_names)]


def _xml(sample: Sample) -> str:
    width, height = sample.image_size
    lines = [
        "<annotation>",
        f"\t<folder>{PurePosixPath(sample.path).parent.name}</folder>",
        f"\t<filename>{escape(PurePosixPath(sample.path).name)}</filename>",
        f"\t<size><width>{width}</width><height>{height}</height></size>",
        "\t<segmented>0</segmented>",
    ]
    if sample.label is not None and sample.box is not None:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), sample.box.xyxy, strict=True)
        box = "".join(f"<{tag}>{number_text(value)}</{tag}>" for tag, value in corners)
        lines += [
            "\t<object>",
            f"\t\t<name>{escape(sample.label)}</name>",
            "\t\t<truncated>0</truncated>",
            "\t\t<difficult>0</difficult>",
            f"\t\t<bndbox>{box}</bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _lists(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """`trainval` alone for an undivided set; beside `train` and `val` it is their union, as in the devkit."""
    parts = by_part(samples)
    if set(parts) == {None}:
        return {"trainval": list(samples)}
    lists = {part: members for part, members in parts.items() if part is not None}
    if {"train", "val"} <= lists.keys():
        lists["trainval"] = [s for s in samples if s.split in {"train", "val"}]
    return lists


def _stem(sample: Sample) -> str:
    return PurePosixPath(sample.path).stem


def _folder(part: str | None, divided: bool) -> str:
    return "JPEGImages"


# a line of ImageSets may go on behind a space (the devkit's class lists do), so readers, ours too, cut it there
WRITER = Writer("voc", _folder, _write, awkward=re.compile(" "))
