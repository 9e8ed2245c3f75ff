"""The label file of `onebox label`: every acknowledged label on the disk, stale changes refused, lines of others kept
byte for byte, labels of other layouts read and left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from onebox.dataset import load_dataset
from onebox.errors import AnnotationError, ConfigError, RunFolderError
from onebox.labelling.rows import EMPTY, OPEN, Mark, Rows
from onebox.labelling.store import StaleError, Store
from tests.small_runs import COLOURS, coloured_set, untouched
from tests.small_sets import picture, table, text


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        picture(tmp_path / name)
    return tmp_path


def lines(folder: Path, name: str = "labels.jsonl") -> list[str]:
    return (folder / name).read_text("utf-8").splitlines()


CAT = Mark("cat", (1.0, 2.0, 30.5, 40.0))


def test_a_label_is_one_line_that_training_reads(tmp_path: Path) -> None:
    store = Store(str(folder_of(tmp_path, "a.jpg", "sub/b.jpg", "c.jpg")), ["cat", "dog"])
    assert store.put("a.jpg", CAT, 0).revision == 1
    store.put("sub/b.jpg", EMPTY, 0)
    assert lines(tmp_path) == [
        '{"onebox": 1, "classes": ["cat", "dog"]}',
        '{"picture": "a.jpg", "label": "cat", "box": [1, 2, 30.5, 40], "width": 100, "height": 80}',
        '{"picture": "sub/b.jpg", "label": null, "width": 100, "height": 80}',
    ]
    data = load_dataset(tmp_path)
    assert data.layout == "onebox"
    assert [(Path(s.path).name, s.label, s.box and s.box.xyxy) for s in data] == [
        ("a.jpg", "cat", CAT.box),
        ("c.jpg", None, None),
        ("b.jpg", None, None),
    ]
    assert any("without an object" in note for note in data.notes)
    again = Store(str(tmp_path))
    assert again.marks() == {"a.jpg": CAT, "sub/b.jpg": EMPTY}
    assert again.classes == ("cat", "dog")


def test_undo_leaves_no_trace(tmp_path: Path) -> None:
    store = Store(str(folder_of(tmp_path, "a.jpg", "b.jpg")), ["cat"])
    store.put("a.jpg", CAT, 0)
    before = (tmp_path / "labels.jsonl").read_bytes()
    store.put("b.jpg", EMPTY, 0)
    store.put("a.jpg", EMPTY, 1)
    store.put("a.jpg", CAT, 2)
    store.put("b.jpg", OPEN, 1)
    assert (tmp_path / "labels.jsonl").read_bytes() == before


def test_two_tabs_cannot_overwrite_each_other(tmp_path: Path) -> None:
    store = Store(str(folder_of(tmp_path, "a.jpg")), ["cat"])
    store.put("a.jpg", CAT, 0)
    with pytest.raises(StaleError) as refused:
        store.put("a.jpg", EMPTY, 0)
    assert (refused.value.mark, refused.value.revision) == (CAT, 1)
    assert store.get("a.jpg").mark == CAT


def test_another_program_s_change_counts_and_is_not_overwritten(tmp_path: Path) -> None:
    store = Store(str(folder_of(tmp_path, "a.jpg", "b.jpg")), ["cat"])
    store.put("a.jpg", CAT, 0)
    with (tmp_path / "labels.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"picture": "b.jpg", "label": "owl", "box": [1, 1, 9, 9]}\n')
    with pytest.raises(StaleError):
        store.put("b.jpg", EMPTY, 0)
    store.put("a.jpg", EMPTY, 1)
    assert store.get("b.jpg").mark == Mark("owl", (1, 1, 9, 9))
    assert "owl" in lines(tmp_path)[0]
    assert '{"picture": "b.jpg", "label": "owl", "box": [1, 1, 9, 9]}' in lines(tmp_path)


def test_a_file_damaged_in_the_middle_is_said_with_its_line_and_nothing_is_lost(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    raw = [
        b'{"onebox": 1, "classes": ["cat"], "by": "hand"}\r',
        b'{"picture":"a.jpg","label":"cat","box":[1,2,30.50,4e1],"note":"kept"}',
        b'{"picture": "b.jpg", "label": "ca',
        b"\xff\xfe not text",
        b'{"picture": "gone.jpg", "label": "cat", "box": [1, 2, 3, 4]}',
        b'{"picture": "b.jpg", "label": "cat", "box": [9, 2, 3, 4]}',
        b"",
        b'{"picture": "c.jpg"}',
    ]
    (tmp_path / "labels.jsonl").write_bytes(b"\n".join(raw))
    store = Store(str(tmp_path))
    assert [line.split(":")[1] for line in store.damaged] == ["3", "4", "5", "6"]
    assert "no such picture: gone.jpg" in store.damaged[2]
    assert store.marks() == {"a.jpg": CAT}
    store.put("c.jpg", EMPTY, 0)
    after = (tmp_path / "labels.jsonl").read_bytes().split(b"\n")
    assert after[:7] == raw[:7]
    assert json.loads(after[7]) == {"picture": "c.jpg", "label": None, "width": 100, "height": 80}
    store.put("b.jpg", CAT, 0)  # its own damaged line 6 is mended, line 3 cannot be told to be its
    after = (tmp_path / "labels.jsonl").read_bytes().split(b"\n")
    assert after[2:5] == raw[2:5]
    assert json.loads(after[5])["box"] == [1, 2, 30.5, 40]
    store.put("a.jpg", EMPTY, 0)
    assert json.loads((tmp_path / "labels.jsonl").read_bytes().split(b"\n")[1])["note"] == "kept"


def test_several_objects_of_a_picture_are_asked_about(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.jpg")
    rows = [
        '{"picture": "a.jpg", "label": "cat", "box": [1, 1, 5, 5]}',
        '{"picture": "a.jpg", "label": "dog", "box": [1, 1, 50, 50]}',
    ]
    text(tmp_path / "labels.jsonl", "\n".join([*rows, ""]))
    store = Store(str(tmp_path))
    assert store.get("a.jpg").mark == Mark("dog", (1, 1, 50, 50))
    assert store.doubts == {"a.jpg": "2 objects in the label file; saving keeps one"}
    store.put("a.jpg", CAT, 0)
    assert len(lines(tmp_path)) == 2
    store.put("a.jpg", Mark("dog", (1, 1, 50, 50)), 1)  # undo: both lines are back
    assert lines(tmp_path)[1:] == rows


@pytest.mark.parametrize("name", ["a.csv", "b.csv"])
def test_labels_of_another_layout_are_taken_over_and_left_alone(tmp_path: Path, name: str) -> None:
    table(tmp_path, ["a.jpg,cat,1,2,30,40", "b.jpg,dog,5,5,50,60", "c.jpg,dog,5,5,500,600"], name=name)
    picture(tmp_path / "d.jpg")
    with untouched(tmp_path):
        store = Store(str(tmp_path))
        assert store.marks()["b.jpg"] == Mark("dog", (5, 5, 50, 60))
        assert "of the box lies outside" in store.doubts["c.jpg"]
        assert set(store.classes) == {"cat", "dog"}
    original = (tmp_path / name).read_bytes()
    store.put("d.jpg", CAT, 0)
    assert (tmp_path / name).read_bytes() == original
    data = load_dataset(tmp_path)
    assert data.layout == "onebox"
    assert {Path(s.path).name: s.label for s in data} == {"a.jpg": "cat", "b.jpg": "dog", "c.jpg": None, "d.jpg": "cat"}


def test_the_parts_of_another_layout_stay(tmp_path: Path) -> None:
    table(tmp_path, ["a.jpg,cat,1,2,30,40"], name="train.csv")
    table(tmp_path, ["b.jpg,cat,1,2,30,40"], name="test.csv")
    store = Store(str(tmp_path))
    store.put("b.jpg", Mark("cat", (3, 3, 9, 9)), 0)
    data = load_dataset(tmp_path)
    assert {Path(s.path).name: s.split for s in data} == {"a.jpg": "train", "b.jpg": "test"}


def test_boxes_are_in_upright_pixels_and_inside_the_picture(tmp_path: Path) -> None:
    turned = Image.new("RGB", (120, 60))
    exif = turned.getexif()
    exif[0x0112] = 6  # stored lying down: upright it is 60 wide and 120 high
    turned.save(tmp_path / "a.jpg", exif=exif)
    store = Store(str(tmp_path), ["cat"])
    store.put("a.jpg", Mark("cat", (10, 20, 60.4, 120.0)), 0)
    row = json.loads(lines(tmp_path)[1])
    assert (row["width"], row["height"], row["box"]) == (60, 120, [10, 20, 60, 120])
    for box in ((70.0, 5.0, 110.0, 50.0), (1.0, 1.0, 1.5, 50.0), (5.0, 5.0, float("nan"), 9.0), (9.0, 9.0, 5.0, 20.0)):
        with pytest.raises(ConfigError):
            store.put("a.jpg", Mark("cat", box), 1)
    with pytest.raises(ConfigError, match="no class 'dog'"):
        store.put("a.jpg", Mark("dog", (1, 1, 9, 9)), 1)
    with pytest.raises(KeyError):
        store.put("../a.jpg", EMPTY, 0)
    assert len(lines(tmp_path)) == 2


def test_classes_can_be_added_but_not_anything(tmp_path: Path) -> None:
    store = Store(str(folder_of(tmp_path, "a.jpg")), ["cat"])
    assert store.add_class("sea lion") == "sea lion"
    assert store.add_class("cat") == "cat"
    assert Store(str(tmp_path)).classes == ("cat", "sea lion")
    for name in ("", "   ", "x" * 101):
        with pytest.raises(ConfigError):
            store.add_class(name)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("labels.jsonl", '{"image": "a.jpg", "text": "a cat"}\n', ConfigError),
        ("labels.jsonl", '{"onebox": 2}\n', AnnotationError),
        ("other.jsonl", '{"onebox": 9}\n', AnnotationError),
    ],
)
def test_a_file_that_is_not_ours_is_not_touched(
    tmp_path: Path, name: str, content: str, error: type[Exception]
) -> None:
    folder_of(tmp_path, "a.jpg")
    text(tmp_path / name, content)
    with untouched(tmp_path), pytest.raises(error):
        Store(str(tmp_path))


def test_several_label_files_are_refused_and_one_of_another_name_is_used(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.jpg")
    text(tmp_path / "mine.jsonl", '{"onebox": 1, "classes": ["cat"]}\n')
    assert Store(str(tmp_path)).file.name == "mine.jsonl"
    text(tmp_path / "yours.jsonl", '{"onebox": 1, "classes": ["cat"]}\n')
    with pytest.raises(ConfigError, match="several label files"):
        Store(str(tmp_path))


def test_a_label_that_cannot_be_written_is_not_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(folder_of(tmp_path, "a.jpg")), ["cat"])
    store.put("a.jpg", CAT, 0)

    def full(*_: object) -> None:
        raise RunFolderError("the disk is full")

    monkeypatch.setattr("onebox.labelling.store.write_atomic", full)
    with pytest.raises(RunFolderError):
        store.put("a.jpg", EMPTY, 1)
    assert store.get("a.jpg").mark == CAT
    assert store.get("a.jpg").revision == 1
    monkeypatch.undo()
    store.put("a.jpg", EMPTY, 1)
    assert Store(str(tmp_path)).marks() == {"a.jpg": EMPTY}


def test_file_names_that_are_no_text_can_be_labelled(tmp_path: Path) -> None:
    odd = tmp_path / b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    picture(odd)
    Store(str(tmp_path), ["cat"]).put(odd.name, CAT, 0)
    assert Store(str(tmp_path)).marks() == {odd.name: CAT}
    assert [s.label for s in load_dataset(tmp_path)] == ["cat"]


NAMES = st.text(min_size=1, max_size=8).filter(lambda s: s.strip() and "\n" not in s)
MARKS = st.one_of(
    st.just(OPEN),
    st.just(EMPTY),
    st.builds(
        lambda label, x, y, w, h: Mark(label, (x, y, x + w, y + h)),
        st.sampled_from(["cat", "dog", "Ü"]),
        *[st.integers(0, 400).map(lambda v: v / 4)] * 2,
        *[st.integers(4, 400).map(lambda v: v / 4)] * 2,
    ),
)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c/d", "é"]), MARKS), max_size=12))
def test_what_was_said_last_is_what_is_read(changes: list[tuple[str, Mark]]) -> None:
    rows = Rows(b"", lambda name: name, "labels.jsonl")
    for name in ("cat", "dog", "Ü"):
        rows.add_class(name)
    expected: dict[str, Mark] = {}
    for name, mark in changes:
        rows.set_mark(name, mark, {"width": 900, "height": 900})
        expected[name] = mark
        raw = rows.to_bytes()
    raw = rows.to_bytes()
    again = Rows(raw, lambda name: name, "labels.jsonl")
    assert again.marks() == {name: mark for name, mark in expected.items() if mark != OPEN}
    assert again.damaged == []
    assert again.to_bytes() == raw


def test_the_file_of_a_real_set_is_the_one_convert_writes(tmp_path: Path) -> None:
    """Labelling everything by hand and converting give the same data set."""
    truth = load_dataset(coloured_set(tmp_path / "set", count=8))
    (tmp_path / "set" / "labels.csv").unlink()
    store = Store(str(tmp_path / "set"), list(COLOURS))
    for sample in truth:
        assert sample.box is not None
        store.put(Path(sample.path).name, Mark(sample.label, sample.box.xyxy), 0)
    labelled = load_dataset(tmp_path / "set")
    assert [(s.label, s.box) for s in labelled] == [(s.label, s.box) for s in truth]
