"""onebox's own JSON Lines: every field, exact floats and names, parts, damaged lines, newer versions, random input.
What the writer makes of a data set is in the tests of the writers. Pictures have 100x80 pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.errors import AnnotationError, OneboxError
from onebox.formats import jsonl
from onebox.formats.json_records import iter_records
from onebox.formats.pictures import Pictures
from onebox.formats.tree import scan
from tests.small_sets import jpeg, load_or_explain, picture, text

HEADER = {"onebox": 1, "classes": ["dog", "cat"]}


def row(name: str = "a.jpg", **changes: Any) -> dict[str, Any]:
    return {"picture": name, "label": "cat", "box": [10, 20, 40, 60.5], **changes}


def write(folder: Path, *rows: Any, name: str = "labels.jsonl") -> Path:
    return text(folder / name, "".join(json.dumps(one) + "\n" for one in rows))


def test_every_field(tmp_path: Path) -> None:
    for name in "abcd":
        picture(tmp_path / "images" / f"{name}.jpg")
    path = write(
        tmp_path,
        HEADER,
        row("images/a.jpg", split="train", width=100, height=90, sigma=[1, 2, 3, 4]),
        row("images/b.jpg", label="dog", split="val"),
        {"picture": "images/c.jpg", "label": None, "box": None, "split": "train"},
        {"picture": "images/d.jpg", "split": None},
    )
    for given_path in (tmp_path, path):
        data = load_dataset(given_path)
        assert data.layout == "onebox"
        assert data.class_names == ("dog", "cat")
        assert [(s.label, s.split, s.where[-2:]) for s in data] == [
            ("cat", "train", ":2"),
            ("dog", "val", ":3"),
            (None, "train", ":4"),
            (None, None, ""),  # listed, but nobody has said what it holds
        ]
        assert [s.path for s in data.without_object] == [str(tmp_path / "images" / "c.jpg")]
        assert data[0].box is not None
        assert data[0].box.xyxy == (10, 20, 40, 60.5)
        assert any('"label": null' in note and "1" in note for note in data.notes)
    tree = scan(str(tmp_path))
    assert jsonl.read(tree, ["labels.jsonl"], Pictures(tree)).pictures[0].declared[1:3] == (100, 90)


def test_several_lines_are_several_objects(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    path = write(tmp_path, row(), row(label="dog", box=[1, 1, 90, 70]))
    with pytest.raises(AnnotationError, match="2 objects"):
        load_dataset(path)
    assert [s.label for s in load_dataset(path, multiple="largest")] == ["dog"]


def test_the_file_s_name_is_the_part_where_a_line_names_none(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    write(tmp_path, row("a.jpg"), row("c.jpg", split="test"), name="train.jsonl")
    write(tmp_path, row("b.jpg"), name="val.jsonl")
    assert [s.split for s in load_dataset(tmp_path)] == ["train", "val", "test"]


def test_names_are_taken_to_the_letter_before_they_are_looked_for(tmp_path: Path) -> None:
    names = ["a.jpg", "A.JPG", "train/a.jpg", "x/a.jpg", " b.jpg", "c\u2028d.jpg", "e\\f.jpg", "g\n.jpg", "ä.jpg"]
    for i, name in enumerate(names):
        picture(tmp_path / name, width=100 + i)
    write(tmp_path, *(row(name, split="train") for name in names))
    data = load_dataset(tmp_path)
    assert {str(Path(s.path).relative_to(tmp_path)): s.image_size.width for s in data.labelled} == {
        name: 100 + i for i, name in enumerate(names)
    }
    (tmp_path / "train/a.jpg").rename(tmp_path / "moved.jpg")
    write(tmp_path, row("somewhere/moved.png"))
    assert [Path(s.path).name for s in load_dataset(tmp_path).labelled] == ["moved.jpg"]


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "x/../a.jpg", "C:\\a.jpg", "https://host/a.jpg", "..\\a.jpg"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    """Even to pictures that lie beside the file's folder, and are known."""
    picture(tmp_path / "images/a.jpg")
    picture(tmp_path / "images/b.jpg")
    for written in (name, "../images/a.jpg"):
        write(tmp_path / "labels", row("b.jpg"), row(written))
        assert [s.code for s in load_dataset(tmp_path / "labels").skipped] == ["refused-name"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 100, exclude_max=True), min_size=2, max_size=2, unique=True), st.floats(1e-300, 79.9))
def test_floats_are_read_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, xs: list[float], y: float
) -> None:
    root = tmp_path_factory.getbasetemp() / "exact"
    root.mkdir(exist_ok=True)
    (root / "a.jpg").write_bytes(jpeg())
    box = [min(xs), y, max(xs), 80.0]
    tree = scan(str(root))
    path = write(root, HEADER, row(box=box))
    (record,) = jsonl.read(scan(str(root)), [path.name], Pictures(tree)).pictures
    assert [v.hex() for v in record.objects[0].box] == [v.hex() for v in box]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"picture": "b.jpg", "label": "cat"}', "bad-box"),
        ('{"picture": "b.jpg", "box": [1, 2, 30, 40]}', "no-class"),
        ('{"picture": "b.jpg", "label": "", "box": [1, 2, 30, 40]}', "no-class"),
        ('{"picture": "b.jpg", "label": {"a": 1}, "box": [1, 2, 30, 40]}', "no-class"),
        ('{"picture": "b.jpg", "label": "cat", "box": [1, 2, 30]}', "bad-box"),
        ('{"picture": "b.jpg", "label": "cat", "box": [1, 2, NaN, 40]}', "bad-box"),
        ('{"picture": "b.jpg", "label": "cat", "box": {"x": 1}}', "bad-box"),
        ('{"picture": "gone.jpg", "label": "cat", "box": [1, 2, 30, 40]}', "missing-picture"),
        ('{"picture": 3, "label": "cat", "box": [1, 2, 30, 40]}', "unreadable-annotation"),
        ('{"picture": "b.jpg", "label": "cat", "bo', "unreadable-annotation"),
        ("[1, 2]", "unreadable-annotation"),
        ("[" * 20_000, "unreadable-annotation"),
        ('{"picture": ' + "9" * 5000 + "}", "unreadable-annotation"),
    ],
)
def test_a_line_that_cannot_be_used_is_told_and_the_others_count(tmp_path: Path, line: str, code: str) -> None:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    text(tmp_path / "labels.jsonl", f"{json.dumps(HEADER)}\r\n{json.dumps(row())}\r\n\r\n{line}")
    data = load_dataset(tmp_path)
    assert [(s.code, s.where) for s in data.skipped] == [(code, f"{tmp_path}/labels.jsonl:4")]
    assert [s.label for s in data.labelled] == ["cat"]


def test_parts_that_are_none_are_passed_over_and_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path, row(split="fold 3"))
    data = load_dataset(tmp_path)
    assert data[0].split is None
    assert "labels.jsonl: parts other than train, val and test passed over: fold 3" in data.notes


@pytest.mark.parametrize("version", [2, 0, "1", True, None, 1.5])
def test_another_version_is_not_guessed_at(tmp_path: Path, version: object) -> None:
    picture(tmp_path / "a.jpg")
    with pytest.raises(AnnotationError, match=r"labels.jsonl:1: version .* is not known here.*Update onebox"):
        load_dataset(write(tmp_path, {"onebox": version}, row()))


def test_other_json_lines_are_not_ours(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    path = write(tmp_path, {"picture": "a.jpg", "question": "what?"}, {"text": "hello"})
    assert jsonl.detect(scan(str(tmp_path))) == []
    with pytest.raises(AnnotationError, match='no line with a "picture"'):
        load_dataset(write(tmp_path, {"text": "hello"}, name=path.name), layout="onebox")


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)
rows = st.dictionaries(st.sampled_from(["picture", "label", "box", "split", "width", "onebox", "classes"]), values)


@settings(max_examples=100, deadline=None)
@given(st.lists(rows, max_size=4), st.booleans())
def test_random_lines_give_no_traceback(tmp_path_factory: pytest.TempPathFactory, written: Any, sound: bool) -> None:
    root = tmp_path_factory.getbasetemp() / "onebox"
    root.mkdir(exist_ok=True)
    (root / "a.jpg").write_bytes(jpeg())
    made = [{"picture": "a.jpg", **one} for one in written]
    load_or_explain(write(root, *([HEADER, row()] if sound else []), *made), layout="onebox")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_random_text_gives_no_traceback(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    path = tmp_path_factory.getbasetemp() / "onebox.jsonl"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(OneboxError):
        load_dataset(path, layout="onebox")


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=4)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    ),
    st.sampled_from([None, 0, 1, 3]),
)
def test_records_one_by_one_are_those_of_the_whole(value: object, indent: int | None) -> None:
    """`iter_records`, on which several readers rest, against the json module, and every record against its line."""
    content = json.dumps(value, indent=indent)
    if not isinstance(value, (dict, list)):
        with pytest.raises(AnnotationError, match="neither a list nor a dictionary"):
            list(iter_records(content, "a.json"))
        return
    records = list(iter_records(content, "a.json"))
    found = {r.key: r.value for r in records} if isinstance(value, dict) else [r.value for r in records]
    assert found == value
    lines = content.split("\n")
    for record in records:
        assert record.text.split("\n")[0] in lines[record.line - 1]
