"""Writes onebox's own `.jsonl` (the format stands in jsonl.py): pictures in `images/`, one line each in `labels.jsonl`,
the classes in order in its first line. Loses nothing of a sample.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onebox.formats.jsonl import VERSION
from onebox.formats.writing import Writer, in_images, plain_number, write_text
from onebox.types import Sample

_FILE = "labels.jsonl"


def _write(samples: Sequence[Sample], class_names: Sequence[str], out: Path) -> list[str]:
    rows: list[dict[str, Any]] = [{"onebox": VERSION, "classes": list(class_names)}, *map(_row, samples)]
    write_text(out / _FILE, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return [_FILE]


def _row(sample: Sample) -> dict[str, Any]:
    row: dict[str, Any] = {"picture": sample.path}
    if sample.box is not None:
        row |= {"label": sample.label, "box": [plain_number(value) for value in sample.box.xyxy]}
    elif sample.where:
        row["label"] = None  # no object; without the key, nobody has looked yet
    if sample.split is not None:
        row["split"] = sample.split
    return row | {"width": sample.image_size.width, "height": sample.image_size.height}


WRITER = Writer("onebox", in_images, _write)
