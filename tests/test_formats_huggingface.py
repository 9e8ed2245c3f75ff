"""Hugging Face image folders: metadata as JSON Lines, CSV and parquet, spellings of boxes and classes, class names,
lines, damaged files, random input. Pictures have 100x80 pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.errors import AnnotationError, OneboxError
from onebox.formats.row_objects import find_class_names
from tests.small_sets import jpeg, load_or_explain, picture, text

BOX = [10.0, 20.0, 30.0, 40.0]
CARD = """---
license: mit
dataset_info:
  features:
  - name: image
    dtype: image
  - name: objects
    sequence:
    - name: bbox
      sequence: float32
      length: 4
    - name: category
      dtype:
        class_label:
          names:
            '0': cat
            '1': dog
            '10': newt
            '2': eel
            '3': fox
            '4': gnu
            '5': hen
            '6': ibex
            '7': jay
            '8': kiwi
            '9': lynx
---
# Pets
"""


def write(folder: Path, *rows: Any, name: str = "metadata.jsonl") -> Path:
    return text(folder / name, "".join(json.dumps(row) + "\n" for row in rows))


def row(name: str = "a.jpg", **changes: Any) -> dict[str, Any]:
    return {"file_name": name, "objects": {"bbox": [BOX], "category": ["cat"]}, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"objects": {"bbox": [BOX], "categories": ["cat"], "area": [1200], "id": [1]}},
        {"objects": {"bbox": [BOX], "label": ["cat"]}},
        {"objects": [{"bbox": BOX, "category": "cat"}]},
        {"objects": None, "bbox": BOX, "label": "cat"},
        {"objects": None, "bbox": [BOX], "labels": ["cat"]},
        {"objects": None, "bboxes": [BOX], "category": "cat"},
        {"objects": {"bbox": [{"xmin": 10, "ymin": 20, "xmax": 40, "ymax": 60}], "category": ["cat"]}},
        {"objects": None, "xmin": 10, "ymin": 20, "xmax": 40, "ymax": 60, "label": "cat"},
        {"objects": {"bbox": [[0.1, 0.25, 0.3, 0.5]], "category": ["cat"]}},
    ],
)
def test_spellings(tmp_path: Path, changes: Any) -> None:
    picture(tmp_path / "a.jpg")
    path = write(tmp_path, row(**changes))
    for given_path in (tmp_path, path):
        data = load_dataset(given_path)
        assert data.layout == "huggingface"
        assert data[0].label == "cat"
        assert data[0].box is not None
        assert data[0].box.xyxy == pytest.approx((10, 20, 40, 60))
    listed = "xmin" not in json.dumps(changes)
    assert any("[x, y, width, height]" in note for note in data.notes) == listed


def test_parts_lines_names_and_pictures_without_an_object(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("a.jpg", "sub/a.jpg", "b.jpg"):
            picture(tmp_path / part / name)
        write(
            tmp_path / part,
            row(),
            row("sub/a.jpg", objects={"bbox": [], "category": []}),
            row("b.jpg", width=100, height=80),
        )
    data = load_dataset(tmp_path)
    assert [(str(Path(s.path).relative_to(tmp_path)), s.label, s.split, s.where[-2:]) for s in data] == [
        ("test/a.jpg", "cat", "test", ":1"),
        ("test/b.jpg", "cat", "test", ":3"),
        ("test/sub/a.jpg", None, "test", ":2"),
        ("train/a.jpg", "cat", "train", ":1"),
        ("train/b.jpg", "cat", "train", ":3"),
        ("train/sub/a.jpg", None, "train", ":2"),
    ]


def test_numbers_are_named_by_the_dataset_card(tmp_path: Path) -> None:
    """Its keys stand in the order of their texts: 0, 1, 10, 2."""
    for i in range(3):
        picture(tmp_path / "train" / f"{i}.jpg")
    rows = [row(f"{i}.jpg", objects={"bbox": [BOX], "category": [c]}) for i, c in enumerate([10, 2, 1])]
    write(tmp_path / "train", *rows)
    assert [s.label for s in load_dataset(tmp_path)] == ["10", "2", "1"]
    text(tmp_path / "README.md", CARD)
    data = load_dataset(tmp_path)
    assert [s.label for s in data] == ["newt", "eel", "dog"]
    assert data.class_names == ("dog", "eel", "newt")
    assert "class names from README.md" in data.notes


def test_numbers_are_named_by_dataset_infos(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path, row(objects={"bbox": [BOX], "category": [1]}))
    features = {
        "objects": {"feature": {"category": {"num_classes": 2, "names": ["cat", "dog"], "_type": "ClassLabel"}}}
    }
    text(tmp_path / "dataset_infos.json", json.dumps({"default": {"features": features}}))
    assert load_dataset(tmp_path)[0].label == "dog"


@pytest.mark.parametrize(
    "card",
    [
        "---\na: &a [*a]\nb: {*a : 1\n---\n",
        "---\n" + "[" * 5000,
        "no front matter",
        "---\nx: !!python/object/apply:os.system [exit]\n---\n",
        "---\na: &a {names: [x], feature: *a}\n---\n",
    ],
)
def test_a_damaged_card_names_nothing(tmp_path: Path, card: str) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path, row(objects={"bbox": [BOX], "category": [1]}))
    text(tmp_path / "README.md", card)
    assert load_dataset(tmp_path)[0].label == "1"


def test_a_description_that_repeats_itself_takes_no_time() -> None:
    """Sixty levels, each holding the one below twice: 2^60 parts to whoever walks them all."""
    level: dict[str, Any] = {"label": {"_type": "ClassLabel", "names": ["cat"]}}
    for _ in range(60):
        level = {"a": level, "b": level}
    assert find_class_names(level) == {"label": ["cat"]}


@pytest.mark.parametrize("spelled", ["json", "python"])
def test_csv_with_boxes_in_a_cell(tmp_path: Path, spelled: str) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    objects = {"bbox": [BOX], "category": ["cat"]}
    cell = json.dumps(objects).replace('"', '""') if spelled == "json" else str(objects)
    text(tmp_path / "metadata.csv", f'file_name,objects\na.jpg,"{cell}"\nb.jpg,\n')
    data = load_dataset(tmp_path)
    assert data.layout == "huggingface"
    assert [(s.label, s.where.rpartition(":")[2]) for s in data] == [("cat", "2"), (None, "3")]
    assert data[0].box is not None
    assert data[0].box.xyxy == (10, 20, 40, 60)


def test_csv_with_boxes_in_four_columns_is_a_table(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    text(tmp_path / "metadata.csv", "file_name,label,xmin,ymin,xmax,ymax\na.jpg,cat,10,20,40,60\n")
    assert load_dataset(tmp_path).layout == "csv"


def test_parquet(tmp_path: Path) -> None:
    picture(tmp_path / "train/a.jpg")
    pq.write_table(pa.Table.from_pylist([row()]), tmp_path / "train/metadata.parquet")
    data = load_dataset(tmp_path)
    assert data.layout == "huggingface"
    assert [(s.label, s.where) for s in data] == [("cat", f"{tmp_path}/train/metadata.parquet:1")]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"objects": {"bbox": [BOX, BOX], "category": ["cat"]}}, "unreadable-annotation"),
        ({"objects": {"bbox": [BOX]}}, "no-class"),
        ({"objects": {"bbox": [BOX[:3]], "category": ["cat"]}}, "bad-box"),
        ({"objects": {"bbox": [[1, 2, None, 4]], "category": ["cat"]}}, "bad-box"),
        ({"objects": {"bbox": ["10 20 30 40"], "category": ["cat"]}}, "bad-box"),
        ({"file_name": "../a.jpg"}, "refused-name"),
        ({"file_name": None}, "unreadable-annotation"),
        ({"file_name": "gone.jpg"}, "missing-picture"),
    ],
)
def test_rows_that_cannot_be_used_are_left_out_with_their_line(tmp_path: Path, changes: Any, code: str) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    write(tmp_path, row("b.jpg"), row(**changes))
    (skipped,) = load_dataset(tmp_path).skipped
    assert (skipped.code, skipped.where) == (code, f"{tmp_path}/metadata.jsonl:2")


def test_a_damaged_line_is_told_and_the_others_count(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    text(tmp_path / "metadata.jsonl", json.dumps(row()) + '\n{"file_name": "b.jpg", \n')
    data = load_dataset(tmp_path)
    assert [(s.code, s.where.rpartition(":")[2]) for s in data.skipped] == [("unreadable-annotation", "2")]
    assert [s.label for s in data.labelled] == ["cat"]


def test_a_file_without_any_row_is_explained(tmp_path: Path) -> None:
    for name, content in (("a.jsonl", "[]\n"), ("a.csv", "b,c\n1,2\n")):
        with pytest.raises(AnnotationError, match=f"{name}:1: no row with a file_name"):
            load_dataset(text(tmp_path / name, content), layout="huggingface")


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.just(1.0)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["bbox", "category", "xmin", "ymin", "xmax", "ymax"]), inner, max_size=4),
    ),
    max_leaves=8,
)
KEYS = ["objects", "bbox", "label", "category", "labels", "x", "y", "w", "h", "split", "width"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), values), max_size=4), st.booleans(), st.booleans())
def test_random_rows_give_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, sound: bool, as_csv: bool
) -> None:
    root = tmp_path_factory.getbasetemp() / ("huggingface_csv" if as_csv else "huggingface")
    root.mkdir(exist_ok=True)
    (root / "a.jpg").write_bytes(jpeg())
    made = [row(), *rows] if sound else rows
    made = [{"file_name": "a.jpg", **one} for one in made]
    if as_csv:
        cells = [",".join('"' + json.dumps(one.get(key)).replace('"', '""') + '"' for key in KEYS) for one in made]
        content = "\n".join([",".join(["file_name", *KEYS]), *(f"a.jpg,{cell}" for cell in cells), ""])
        load_or_explain(text(root / "metadata.csv", content), layout="huggingface")
    else:
        load_or_explain(write(root, *made), layout="huggingface")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_random_text_gives_no_traceback(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    for ending in ("jsonl", "csv"):
        path = tmp_path_factory.getbasetemp() / f"huggingface.{ending}"
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        with pytest.raises(OneboxError):
            load_dataset(path, layout="huggingface")
