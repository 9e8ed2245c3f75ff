"""Create ML JSON as read: old and new keys, units, lines, damaged files, random input. (Written and read again: see the
tests of the writers.) Pictures have 100x80 pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.errors import AnnotationError
from tests.small_sets import jpeg, load_or_explain, picture, text


def annotation(
    label: str = "cat", x: float = 25, y: float = 40, width: float = 30, height: float = 40
) -> dict[str, Any]:
    """Centre and size; as corners (10, 20, 40, 60)."""
    return {"label": label, "coordinates": {"y": y, "x": x, "height": height, "width": width}}


def write(path: Path, content: object, indent: int | None = None) -> Path:
    return text(path, json.dumps(content, indent=indent))


@pytest.mark.parametrize(("name_key", "list_key"), [("image", "annotations"), ("imagefilename", "annotation")])
@pytest.mark.parametrize("image", ["a.jpg", "images/a.jpg"])
def test_old_and_new_keys(tmp_path: Path, name_key: str, list_key: str, image: str) -> None:
    picture(tmp_path / image)
    path = write(tmp_path / "annotations.json", [{name_key: "a.jpg", list_key: [annotation()]}])
    for given_path in (tmp_path, path):
        data = load_dataset(given_path)
        assert data.layout == "createml"
        assert data[0].label == "cat"
        assert data[0].box is not None
        assert data[0].box.xyxy == (10, 20, 40, 60)


def test_roboflow_folders_are_parts(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        picture(tmp_path / part / "same.jpg")
        write(tmp_path / part / "_annotations.createml.json", [{"image": "same.jpg", "annotations": [annotation()]}])
    data = load_dataset(tmp_path)
    assert sorted((Path(s.path).parent.name, s.split) for s in data) == [
        ("test", "test"), ("train", "train"), ("valid", "val")
    ]  # fmt: skip


def test_normalised_numbers_are_fractions_and_that_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.json", [{"image": "a.jpg", "annotations": [annotation("cat", 0.25, 0.5, 0.25, 0.5)]}])
    data = load_dataset(tmp_path)
    assert data[0].box is not None
    assert data[0].box.xyxy == (12.5, 20, 37.5, 60)
    assert "a.json: boxes are fractions of the picture (all within 0-1)" in data.notes


def test_every_object_has_its_line_and_an_empty_entry_is_a_picture_without_one(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    entries = [
        {"image": "a.jpg", "annotations": [annotation()]},
        {"image": "b.jpg", "annotations": []},
        {"image": "c.jpg", "annotations": [annotation("dog")]},
    ]
    path = write(tmp_path / "a.json", entries, indent=1)
    lines = path.read_text().splitlines()
    data = load_dataset(tmp_path)
    assert [s.label for s in data] == ["cat", None, "dog"]
    for sample in data.labelled:
        assert '"coordinates"' in lines[int(sample.where.rpartition(":")[2]) - 1]
    assert '"b.jpg"' in "".join(lines[int(data[1].where.rpartition(":")[2]) - 1 :][:2])


def test_entries_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    for name in "abcd":
        picture(tmp_path / f"{name}.jpg")
    write(
        tmp_path / "x.json",
        [
            {"image": "a.jpg", "annotations": [annotation()]},
            {"annotations": [annotation()]},
            {"image": "b.jpg", "annotations": [{"label": "cat"}]},
            {"image": "c.jpg", "annotations": [{**annotation(), "label": ""}]},
            {"image": "../d.jpg", "annotations": [annotation()]},
            {"image": "d.jpg", "annotations": [annotation(x=float("inf"))]},
        ],
    )
    codes = sorted(s.code for s in load_dataset(tmp_path).skipped)
    assert codes == ["bad-box", "bad-box", "no-class", "refused-name", "unreadable-annotation"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"image": "a.jpg",\n"annotations": [', r"a.json:2: not valid JSON"),
        ('[{"image": "a.jpg"}\n{"image": "a.jpg"}]', r"a.json:2: not valid JSON"),
        ('[{"image": "a.jpg"},\n]', r"a.json:\d: not valid JSON"),
        ('[{"image": "a.jpg"}] x', r"a.json:1: not valid JSON"),
        ("3", r"a.json:1: neither a list nor a dictionary"),
        ("", r"a.json:1: not valid JSON"),
        ("[" * 100_000, r"a.json: not usable JSON \(nested too deep\)"),
        ("[" + "9" * 5000 + "]", r"a.json: not usable JSON \(a number is too long\)"),
    ],
)
def test_a_file_that_is_none_stops_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        load_dataset(text(tmp_path / "a.json", content), layout="createml")


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.just("a.jpg")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["label", "coordinates", "x", "y", "width", "height"]), inner, max_size=4),
    ),
    max_leaves=8,
)
entries = st.dictionaries(st.sampled_from(["image", "annotations", "imagefilename", "annotation"]), values)


@settings(max_examples=100, deadline=None)
@given(st.lists(entries, max_size=4), st.booleans())
def test_random_entries_give_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, random_entries: Any, sound: bool
) -> None:
    root = tmp_path_factory.getbasetemp() / "createml"
    root.mkdir(exist_ok=True)
    (root / "a.jpg").write_bytes(jpeg())
    good = [{"image": "a.jpg", "annotations": [annotation()]}] if sound else []
    write(root / "a.json", [*good, *random_entries])
    load_or_explain(root)
    load_or_explain(root / "a.json", layout="createml")
