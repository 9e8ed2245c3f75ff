"""JSON layouts side by side: no file is taken for another tool's, and each is found among the others. One small data
set of every JSON, CSV and parquet layout with the words that others go by mixed in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onebox.dataset import load_dataset
from onebox.formats.table import LAYOUTS, found_layouts
from onebox.formats.tree import scan
from tests.small_sets import picture, text
from tests.test_formats_coco import document
from tests.test_formats_createml import annotation
from tests.test_formats_huggingface import row as huggingface_row
from tests.test_formats_jsonl import row as jsonl_row
from tests.test_formats_labelme import document as labelme_document
from tests.test_formats_labelme import shape
from tests.test_formats_labelstudio import annotation as labelstudio_annotation
from tests.test_formats_labelstudio import region, task
from tests.test_formats_parquet import row as parquet_row
from tests.test_formats_parquet import write as write_parquet
from tests.test_formats_via import RECT, csv_text, entry, export, project
from tests.test_formats_via import region as via_region

#: Words of other layouts, as a tool's own extra fields may hold them.
ODD = {"images": ["a.jpg"], "file_name": "a.jpg", "image_id": 3, "label": "x", "coordinates": {"width": 1}}


def as_json(name: str, content: object) -> Callable[[Path], object]:
    return lambda folder: text(folder / name, json.dumps(content))


MADE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "coco": ("coco", as_json("a.json", {"info": ODD, **document(["a.jpg"])})),
    "labelstudio": (
        "labelstudio",
        as_json("a.json", [{**task("a.jpg", labelstudio_annotation(region())), "data": {"image": "a.jpg", **ODD}}]),
    ),
    "createml": ("createml", as_json("a.json", [{"image": "a.jpg", "image_id": 3, "annotations": [annotation()]}])),
    "labelme": (
        "labelme",
        as_json("a.json", labelme_document("a.jpg", shape(), flags={"image_id": True, "label": True, "regions": True})),
    ),
    "VIA export": ("via", as_json("a.json", export({**entry("a.jpg", via_region()), "image_id": 3}))),
    "VIA project": ("via", as_json("a.json", project(entry("a.jpg", via_region())))),
    "VIA table": ("via", lambda folder: text(folder / "a.csv", csv_text([("a.jpg", RECT, {"class": "cat"})]))),
    "onebox": ("onebox", as_json("a.jsonl", {**jsonl_row(), "file_name": "a.jpg", "objects": {}})),
    "huggingface": ("huggingface", as_json("metadata.jsonl", {**huggingface_row(), "image_id": 3})),
    "parquet": ("parquet", lambda folder: write_parquet(folder / "a.parquet", [parquet_row(category="cat")])),
}


@pytest.mark.parametrize("which", MADE)
def test_exactly_one_layout_claims_a_file(tmp_path: Path, which: str) -> None:
    layout, write = MADE[which]
    picture(tmp_path / "a.jpg")
    write(tmp_path)
    assert [row.name for row, _ in found_layouts(scan(str(tmp_path)))] == [layout]
    data = load_dataset(tmp_path)
    assert (data.layout, [s.label for s in data]) == (layout, ["cat"])


@pytest.mark.parametrize("which", MADE)
def test_a_single_file_is_read_by_the_same_layout(tmp_path: Path, which: str) -> None:
    layout, write = MADE[which]
    picture(tmp_path / "a.jpg")
    write(tmp_path)
    (path,) = (p for p in tmp_path.iterdir() if p.suffix != ".jpg")
    assert load_dataset(path).layout == layout


@pytest.mark.parametrize(
    "content",
    [
        {"categories": ["cat"]},
        [],
        {},
        [1, 2],
        {"name": "package", "version": "1.0"},
        [{"image": "a.jpg", "text": "hello"}],
        {"a.jpg": {"x": 1}},
        [{"data": {"text": "hello"}, "annotations": []}],
        {"shapes": 3},
    ],
)
def test_other_json_is_nobodys(tmp_path: Path, content: Any) -> None:
    text(tmp_path / "a.json", json.dumps(content))
    assert [row.name for row in LAYOUTS if row.detect(scan(str(tmp_path)))] == []


def test_damaged_heads_are_nobodys(tmp_path: Path) -> None:
    for name in ("a.json", "a.jsonl", "metadata.jsonl", "metadata.csv", "a.csv", "a.parquet", "metadata.parquet"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00[{\x80" + bytes(range(256)) * 40)
    assert [row.name for row in LAYOUTS if row.detect(scan(str(tmp_path)))] == []
