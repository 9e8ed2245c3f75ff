"""Writes Create ML JSON: one `_annotations.createml.json` in the same folder as its pictures, a folder for each part.
Boxes are centre and size in pixels, Create ML's defaults; a box reads back within a billionth of a pixel, for a centre
and a size cannot hold every pair of edges. A picture without a label has an empty list.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from onebox.errors import DataError
from onebox.formats.class_list import write_class_list
from onebox.formats.units import are_01
from onebox.formats.writing import REST, Writer, by_part, plain_number, write_text
from onebox.types import Sample

_FILE = "_annotations.createml.json"


def _write(samples: Sequence[Sample], class_names: Sequence[str], out: Path) -> list[str]:
    files: list[str] = []
    for members in by_part(samples).values():
        if are_01([s.box.xyxy for s in members if s.box is not None]):
            raise DataError(
                "nearly all boxes lie within 1.5 pixels of the corner: in Create ML they would read as fractions",
                fix="Choose another --to.",
            )
        files.append(str(PurePosixPath(members[0].path).parent / _FILE))
        # a reader that looks at the beginning of a file must see a label there
        ordered = sorted(members, key=lambda s: s.label is None)
        lines = ",\n".join(json.dumps(_entry(sample), ensure_ascii=False) for sample in ordered)
        write_text(out / files[-1], f"[\n{lines}\n]\n")
    return [*files, write_class_list(out, class_names)]


def _entry(sample: Sample) -> dict[str, Any]:
    objects: list[dict[str, Any]] = []
    if sample.label is not None and sample.box is not None:
        coordinates = dict(zip(("x", "y", "width", "height"), map(plain_number, sample.box.xywh), strict=True))
        objects.append({"label": sample.label, "coordinates": coordinates})
    return {"image": PurePosixPath(sample.path).name, "annotations": objects}


def _folder(part: str | None, divided: bool) -> str:
    return part or REST if divided else ""


WRITER = Writer("createml", _folder, _write)
