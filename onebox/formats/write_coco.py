"""Writes COCO JSON: pictures in `images/`, `annotations/instances_PART.json` for each part. Every record stands on a
line of its own, and every file lists all classes with the same ids. A picture without a label is an image without
annotations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from onebox.formats.writing import Writer, by_part, in_images, plain_number, write_text
from onebox.types import Box, Sample


def _write(samples: Sequence[Sample], class_names: Sequence[str], out: Path) -> list[str]:
    files: list[str] = []
    for part, members in by_part(samples).items():
        files.append(f"annotations/instances{f'_{part}' if part else ''}.json")
        write_text(out / files[-1], _document(members, class_names))
    return files


def _document(samples: Sequence[Sample], class_names: Sequence[str]) -> str:
    # ids from 1, as COCO's own: several tools keep 0 for the background
    ids = {name: i for i, name in enumerate(class_names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, sample in enumerate(samples, start=1):
        width, height = sample.image_size
        name = PurePosixPath(sample.path).name
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        if sample.label is not None and sample.box is not None:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[sample.label],
                    "bbox": _bbox(sample.box),
                    "area": plain_number(sample.box.area),
                    "iscrowd": 0,
                    "segmentation": [],
                }
            )
    categories = [{"id": i, "name": name, "supercategory": ""} for name, i in ids.items()]
    lists = {"images": images, "annotations": annotations, "categories": categories}
    return "{\n" + ",\n".join(_list(title, records) for title, records in lists.items()) + "\n}\n"


def _list(title: str, records: Sequence[dict[str, Any]]) -> str:
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    return f'"{title}": [\n{lines}\n]'


def _bbox(box: Box) -> list[int | float]:
    """[x, y, width, height], such that x + width is the right edge to the last bit where any float does that (where
    none does, to the last but one), and y + height the bottom."""
    width, height = _extent(box.x_min, box.x_max), _extent(box.y_min, box.y_max)
    return [plain_number(value) for value in (box.x_min, box.y_min, width, height)]


def _extent(low: float, high: float) -> float:
    extent = high - low
    while low + extent < high:
        extent = math.nextafter(extent, math.inf)
    while low + extent > high:
        extent = math.nextafter(extent, 0.0)
    return extent


WRITER = Writer("coco", in_images, _write)
