"""Parquet tables of pictures: pictures inside and beside, where they are unpacked to and that they go again, class
names, parts, the missing extra, damaged files. Pictures have 100x80 pixels."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.conversion import convert
from onebox.dataset import load_dataset
from onebox.errors import AnnotationError, DataError, LayoutError, MissingExtraError
from onebox.images import open_image
from tests.small_runs import python, untouched
from tests.small_sets import jpeg, load_or_explain, picture

BOX = [10.0, 20.0, 30.0, 40.0]
FEATURES = {
    "image": {"_type": "Image"},
    "objects": {
        "feature": {
            "bbox": {"feature": {"dtype": "float32", "_type": "Value"}, "length": 4, "_type": "Sequence"},
            "category": {"names": ["cat", "dog"], "_type": "ClassLabel"},
        },
        "_type": "Sequence",
    },
}


def row(name: str | None = "robin.jpg", category: Any = 0, content: bytes | None = None) -> dict[str, Any]:
    """As `datasets.Dataset.push_to_hub` stores a row of an object detection set."""
    inside = {"bytes": jpeg() if content is None else content, "path": name}
    return {"image": inside, "objects": {"bbox": [BOX], "category": [category]}}


def write(path: Path, rows: list[dict[str, Any]], features: object = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = pa.Table.from_pylist(rows)
    if features is not None:
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(made, path)
    return path


def test_pictures_inside_with_parts_and_names_of_the_schema(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write(tmp_path / f"data/{part}-00000-of-00001.parquet", [row(category=i) for i in (1, 0)], FEATURES)
    with untouched(tmp_path):
        data = load_dataset(tmp_path)
    assert data.layout == "parquet"
    assert [(data.relative_path(s), s.label, s.split) for s in data] == [
        ("data/test-00000-of-00001/0000000.jpg", "dog", "test"),
        ("data/test-00000-of-00001/0000001.jpg", "cat", "test"),
        ("data/train-00000-of-00001/0000000.jpg", "dog", "train"),
        ("data/train-00000-of-00001/0000001.jpg", "cat", "train"),
    ]
    assert data[1].where == f"{tmp_path}/data/test-00000-of-00001.parquet:2"
    assert data[0].box is not None
    assert data[0].box.xyxy == (10, 20, 40, 60)
    assert open_image(data[0].path)[1] == (100, 80)
    assert any("unpacked to a temporary folder for this run: 4 " in note for note in data.notes)
    assert "class names from the parquet schema" in data.notes


def test_loading_again_gives_the_same_and_a_changed_file_is_unpacked_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", [row(category=0), row(category=1)], FEATURES)
    data = load_dataset(path)
    assert load_dataset(path) == data
    write(path, [row(category=1)], FEATURES)
    assert [s.label for s in load_dataset(path)] == ["dog"]


def test_the_pictures_go_when_the_process_ends_and_the_split_stays_the_same(tmp_path: Path) -> None:
    write(tmp_path / "set/train.parquet", [row(category=i % 2) for i in range(8)], FEATURES)
    code = (
        "import os, sys, onebox\n"
        f"data = onebox.load_dataset({str(tmp_path / 'set')!r})\n"
        "first, second = data.split(0.5)\n"
        "print(data[0].path, os.stat(os.path.dirname(data[0].path)).st_uid == os.getuid(), sep='\\n')\n"
        "print(data.fingerprint(), [data.relative_path(s) for s in second])\n"
    )
    told = [python("-c", code).out.splitlines() for _ in range(2)]
    assert told[0][0] != told[1][0]
    assert [Path(lines[0]).exists() for lines in told] == [False, False]
    assert not any(Path(lines[0]).parents[1].exists() for lines in told)
    assert told[0][1:] == told[1][1:]


def test_they_can_be_converted(tmp_path: Path) -> None:
    write(tmp_path / "set/train.parquet", [row(category=1)], FEATURES)
    convert(tmp_path / "set", tmp_path / "out", "onebox")
    made = load_dataset(tmp_path / "out")
    assert [(s.label, s.box.xyxy if s.box else None) for s in made] == [("dog", (10, 20, 40, 60))]
    assert Path(made[0].path).read_bytes() == jpeg()


@pytest.mark.parametrize("name", ["../../evil.jpg", "/etc/passwd", "a\0b.jpg", "C:\\x.jpg", None, ""])
def test_no_file_is_called_as_the_data_say(tmp_path: Path, name: str | None) -> None:
    write(tmp_path / "train.parquet", [row(name=name)])
    (sample,) = load_dataset(tmp_path)
    assert Path(sample.path).name == "0000000.jpg"


def test_bytes_alone_and_flat_columns(tmp_path: Path) -> None:
    rows = [{"image": jpeg(), "bbox": BOX, "label": "cat"}, {"image": jpeg(), "bbox": None, "label": None}]
    write(tmp_path / "a.parquet", rows)
    data = load_dataset(tmp_path)
    assert [s.label for s in data] == ["cat", None]
    assert data.class_names == ("cat",)


def test_corners_in_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [{"image": jpeg(), "xmin": 10, "ymin": 20, "xmax": 40, "ymax": 60, "label": "cat"}])
    data = load_dataset(tmp_path)
    assert data[0].box is not None
    assert data[0].box.xyxy == (10, 20, 40, 60)
    assert not any("[x, y, width, height]" in note for note in data.notes)


def test_pictures_beside(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.jpg")
    rows = [{"image_path": name, "bbox": BOX, "label": "cat"} for name in ("images/a.jpg", "../a.jpg", "gone.jpg")]
    write(tmp_path / "a.parquet", rows)
    data = load_dataset(tmp_path)
    assert [s.path for s in data] == [str(tmp_path / "images/a.jpg")]
    assert sorted((s.code, s.where[-2:]) for s in data.skipped) == [("missing-picture", ":3"), ("refused-name", ":2")]


def test_rows_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    whole = jpeg()
    rows = [row(), row(content=whole[:30]), row(content=b""), {**row(), "image": None}]
    write(tmp_path / "a.parquet", rows)
    data = load_dataset(tmp_path)
    assert sorted((s.code, s.where[-2:]) for s in data.skipped) == [
        ("unreadable-annotation", ":4"),
        ("unreadable-picture", ":2"),
        ("unreadable-picture", ":3"),
    ]
    assert len(data) == 1


def test_without_pyarrow_the_command_to_install_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet", [row()])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r'pip install "onebox\[formats\]"'):
        load_dataset(tmp_path)


def test_without_room_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet", [row()])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"no room for .* set TMPDIR"):
        load_dataset(tmp_path)


def test_other_tables_are_not_taken_for_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    path = write(tmp_path / "a.parquet", [{"price": 3, "colour": "red"}])
    with pytest.raises(LayoutError, match="pictures but no annotations"):
        load_dataset(tmp_path)
    with pytest.raises(AnnotationError, match=r"a.parquet: no column of pictures found among: price, colour"):
        load_dataset(path)
    with pytest.raises(AnnotationError, match="no column of boxes"):
        load_dataset(write(tmp_path / "b.parquet", [{"image": jpeg(), "label": "cat"}]))


def test_a_file_that_is_none_is_explained(tmp_path: Path) -> None:
    for content in (b"", b"PAR1", b"PAR1PAR1", b"PAR1" + b"\xff" * 40 + b"PAR1", b"rubbish" * 30):
        path = tmp_path / "a.parquet"
        path.write_bytes(content)
        with pytest.raises(AnnotationError, match=r"a\.parquet: not a readable parquet file"):
            load_dataset(path)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(min_value=0), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 40))
def test_damaged_files_give_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int
) -> None:
    root = tmp_path_factory.getbasetemp() / "parquet"
    path = write(root / "a.parquet", [row(category=i) for i in (0, 1)], FEATURES)
    content = bytearray(path.read_bytes())
    for position, value in changes:
        content[position % len(content)] = value
    path.write_bytes(content[cut if cut % 7 == 0 else 0 :])
    load_or_explain(path)


def test_only_one_folder_per_process_is_made(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "train.parquet", [row()])
    roots = {Path(load_dataset(tmp_path / name)[0].path).parents[2] for name in ("a", "b")}
    assert len(roots) == 1
    assert oct(roots.pop().stat().st_mode)[-3:] == "700"
