"""Layouts that name the class in a file's or a folder's name: one text file per class, class-named folders with a
table. Small files made like the real ones, the real ones, damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from onebox.dataset import load_dataset
from onebox.errors import AnnotationError
from onebox.formats import class_text
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    AMBIGUOUS_PICTURE,
    BAD_BOX,
    MISSING_ID,
    MISSING_PICTURE,
    NO_CLASS,
    REFUSED_NAME,
    REPEATED_ID,
    UNREADABLE_ANNOTATION,
)
from onebox.formats.tree import scan
from tests.small_sets import picture, text

# ---- one text file per class


def make_class_text(root: Path) -> Path:
    """Two classes; number 3 of the cats stands twice, number 4 has no picture, picture 5 no line."""
    text(root / "cat_gt.txt", "1 10 20 30 40\n2 0 0 100 80\n3 1 2 30 40\n3 5 6 70 80\n4 1 1 9 9\n")
    text(root / "dog_gt.txt", "1 11 21 31 41\n2 5 5 50 50\n2 5 5 50 50\n")
    for name in ("cat/000001", "cat/000002", "cat/000003", "cat/000005", "dog/000001", "dog/000002"):
        picture(root / f"{name}.JPEG")
    return root


def test_class_text(tmp_path: Path) -> None:
    make_class_text(tmp_path)
    data = load_dataset(tmp_path)
    assert data.layout == "class_text"
    assert [(data.relative_path(s), s.label, s.box and s.box.xyxy) for s in data] == [
        ("cat/000001.JPEG", "cat", (10, 20, 30, 40)),
        ("cat/000002.JPEG", "cat", (0, 0, 100, 80)),
        ("cat/000005.JPEG", None, None),
        ("dog/000001.JPEG", "dog", (11, 21, 31, 41)),
        ("dog/000002.JPEG", "dog", (5, 5, 50, 50)),
    ]
    assert [(s.code, s.where.rpartition(":")[2]) for s in data.skipped] == [
        (AMBIGUOUS_PICTURE, "3"),
        (MISSING_PICTURE, "5"),
    ]
    assert "the number 3 stands in 2 lines with 2 different boxes" in data.skipped[0].reason
    tree = scan(str(tmp_path))
    reading = class_text.read(tree, class_text.detect(tree), Pictures(tree))
    assert [(r.code, r.where.rpartition("/")[2]) for r in reading.remarks] == [
        (REPEATED_ID, "cat_gt.txt:4"),
        (MISSING_ID, "cat_gt.txt:1"),
        (REPEATED_ID, "dog_gt.txt:3"),
    ]


def test_class_text_one_file_names_and_damage(tmp_path: Path) -> None:
    text(
        tmp_path / "cat_gt.txt", "a.jpg 1 2 30 40\n7 1 2 30\n../x 1 2 30 40\n8 9 2 3 40\n8.5 1 2 3 4\n0009 1 2 3 inf\n"
    )
    for name in ("cat/a.jpg", "cat/8.jpg", "cat/08.png", "cat/9.jpg", "dog/7.jpg"):
        picture(tmp_path / name)
    data = load_dataset(tmp_path / "cat_gt.txt", layout="class_text")
    assert [s.label for s in data] == ["cat"]
    assert sorted((s.where.rpartition(":")[2], s.code) for s in data.skipped) == [
        ("2", UNREADABLE_ANNOTATION),
        ("3", REFUSED_NAME),
        ("4", AMBIGUOUS_PICTURE),
        ("5", MISSING_PICTURE),
        ("6", BAD_BOX),
    ]


@pytest.mark.real
def test_class_text_real(real_data: Path) -> None:
    root = real_data / "tiny_vid"
    assert load_dataset(root).layout == "csv", "the tables at its root stay the choice"
    data = load_dataset(root, layout="class_text")
    assert data.counts() == dict.fromkeys(("bird", "car", "dog", "lizard", "turtle"), 180)
    assert data.unlabelled_count == 45
    assert sorted((s.code, Path(s.where).name) for s in data.skipped) == [
        (AMBIGUOUS_PICTURE, "bird_gt.txt:181"),
        (AMBIGUOUS_PICTURE, "car_gt.txt:181"),
        (AMBIGUOUS_PICTURE, "dog_gt.txt:181"),
        (MISSING_PICTURE, "lizard_gt.txt:181"),
        (MISSING_PICTURE, "turtle_gt.txt:181"),
    ]
    same = load_dataset(root).labelled
    assert [(s.path, s.label, s.box) for s in data.labelled] == [(s.path, s.label, s.box) for s in same]


# ---- class-named folders and a table without classes

BARE = "filename,xmin,ymin,xmax,ymax\n"


@pytest.mark.parametrize(
    ("files", "pictures"),
    [
        ({"boxes.csv": f"{BARE}cat/1.jpg,1,2,30,40\ndog/1.jpg,5,6,70,80\n"}, ("cat/1.jpg", "dog/1.jpg")),
        ({"boxes.csv": "cat/1.jpg,1,2,30,40\ndog/1.jpg,5,6,70,80\n"}, ("cat/1.jpg", "dog/1.jpg")),
        ({"boxes.csv": "filename;x;y;w;h\na.jpg;1;2;29;38\nb.jpg;5;6;65;74\n"}, ("cat/a.jpg", "dog/b.jpg")),
        ({"boxes.txt": "cat/1.jpg 1 2 30 40\ndog/1.jpg\t5\t6\t70\t80\n"}, ("cat/1.jpg", "dog/1.jpg")),
        (
            {"boxes.txt": "name xmin ymin xmax ymax\na b.jpg 1 2 30 40\nc.png, 5, 6, 70, 80\n"},
            ("cat/a b.jpg", "dog/c.png"),
        ),
        ({"cat.csv": f"{BARE}1.jpg,1,2,30,40\n", "dog.csv": f"{BARE}1.jpg,5,6,70,80\n"}, ("cat/1.jpg", "dog/1.jpg")),
        (
            {"cat/boxes.csv": f"{BARE}1.jpg,1,2,30,40\n", "dog/boxes.csv": f"{BARE}1.jpg,5,6,70,80\n"},
            ("cat/images/1.jpg", "dog/images/1.jpg"),
        ),
        (
            {"boxes.csv": f"{BARE}1.jpg,0.01,0.025,0.3,0.5\n2.jpg,0.05,0.075,0.7,1\n"},
            ("train/cat/1.jpg", "train/dog/2.jpg"),
        ),
    ],
)
def test_class_folders(tmp_path: Path, files: dict[str, str], pictures: tuple[str, str]) -> None:
    for name, content in files.items():
        text(tmp_path / name, content)
    for name in pictures:
        picture(tmp_path / name)
    data = load_dataset(tmp_path)
    assert data.layout == "class_folders"
    assert [(data.relative_path(s), s.label) for s in data] == [(pictures[0], "cat"), (pictures[1], "dog")]
    assert data[0].box is not None
    assert data[0].box.xyxy == pytest.approx((1, 2, 30, 40))
    assert data[1].box is not None
    assert data[1].box.xyxy == pytest.approx((5, 6, 70, 80))


def test_a_class_column_is_worth_more(tmp_path: Path) -> None:
    text(tmp_path / "boxes.csv", f"{BARE}cat/1.jpg,1,2,30,40\ndog/1.jpg,5,6,70,80\n")
    text(tmp_path / "labels.csv", "filename,class,xmin,ymin,xmax,ymax\ncat/1.jpg,tabby,1,2,30,40\n")
    for name in ("cat/1.jpg", "dog/1.jpg"):
        picture(tmp_path / name)
    assert (load_dataset(tmp_path).layout, load_dataset(tmp_path).class_names) == ("csv", ("tabby",))


def test_folders_that_are_no_classes(tmp_path: Path) -> None:
    text(tmp_path / "boxes.csv", f"{BARE}1.jpg,1,2,30,40\n")
    picture(tmp_path / "images" / "train" / "1.jpg")
    with pytest.raises(AnnotationError, match="no class column found"):
        load_dataset(tmp_path)


def test_class_folders_what_is_wrong(tmp_path: Path) -> None:
    rows = ["cat/1.jpg 1 2 30 40", "dog/1.jpg 1 2 30", "2.jpg 1 2 30 40", "cat/../../x.jpg 1 2 3 4"]
    file = text(tmp_path / "boxes.txt", "\n".join([*rows, "3.jpg 9 2 3 4", "no.jpg 1 2 3 4", "7 1 2 3 4", ""]))
    for name in ("cat/1.jpg", "dog/1.jpg", "2.jpg", "dog/3.jpg"):
        picture(tmp_path / name)
    data = load_dataset(tmp_path)
    assert [s.label for s in data.labelled] == ["cat"]
    assert sorted((s.where.rpartition(":")[2], s.code) for s in data.skipped) == [
        ("2", UNREADABLE_ANNOTATION),
        ("3", NO_CLASS),
        ("4", REFUSED_NAME),
        ("5", BAD_BOX),
        ("6", MISSING_PICTURE),
        ("7", UNREADABLE_ANNOTATION),
    ]
    assert [s.label for s in load_dataset(file).labelled] == ["cat"]
    with pytest.raises(AnnotationError, match=r"notes\.txt:1: no line with a picture's name and four numbers"):
        load_dataset(text(tmp_path / "notes.txt", "hello\n"))


@pytest.mark.real
def test_class_folders_with_a_table_each_real(real_data: Path) -> None:
    """Their tables have a class column, so the csv reader's."""
    data = load_dataset(real_data / "caltech3_csv")
    assert (data.layout, len(data), len(data.class_names)) == ("csv", 513, 3)
    assert [Path(s.where).name for s in data.skipped] == ["airplane.csv:31"]
