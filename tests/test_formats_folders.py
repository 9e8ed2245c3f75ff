"""Layouts that are whole folders of text files: CUB-200-2011 and Tiny ImageNet. Small files made like the real ones,
the real ones, damaged ones; random ones for all layouts of text files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.errors import DataError
from onebox.formats import cub, tiny_imagenet
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    AMBIGUOUS_PICTURE,
    BAD_BOX,
    INCLUSIVE_BOXES,
    MISSING_PICTURE,
    NO_CLASS,
    REFUSED_NAME,
    UNREADABLE_ANNOTATION,
)
from onebox.formats.tree import scan
from tests.small_sets import jpeg, load_or_explain, picture, text

# ---- CUB-200-2011

CUB_FILES = {
    "images.txt": "1 001.Albatross/A_01.jpg\n2 001.Albatross/A_02.jpg\n7 002.Auk/A_01.jpg\n",
    "classes.txt": "1 001.Albatross\n2 002.Auk\n3 003.Wren\n",
    "image_class_labels.txt": "1 1\n2 1\n7 2\n",
    "bounding_boxes.txt": "1 10.0 20.0 30.0 40.0\n2 0.0 0.0 100.0 80.0\n7 5.5 6.0 50.0 60.0\n",
    "train_test_split.txt": "1 1\n2 0\n7 1\n",
}


def make_cub(root: Path, **changed: str) -> Path:
    """The files above with some of them changed (by name, without ".txt"), and the pictures of `images.txt`."""
    for name, content in CUB_FILES.items():
        text(root / name, changed.get(name.removesuffix(".txt"), content))
    for name in ("001.Albatross/A_01.jpg", "001.Albatross/A_02.jpg", "002.Auk/A_01.jpg"):
        picture(root / "images" / name)
        picture(root / "segmentations" / name.replace(".jpg", ".png"))
    return root


def test_cub(tmp_path: Path) -> None:
    root = make_cub(tmp_path / "CUB_200_2011")
    text(root / "parts" / "part_locs.txt", "1 1 0.0 0.0 0\n1 2 1.0 0.0 0\n")
    text(tmp_path / "attributes.txt", "1 has_bill_shape::curved\n")
    data = load_dataset(tmp_path)
    assert data.layout == "cub"
    assert data.class_names == ("001.Albatross", "002.Auk")
    assert [(data.relative_path(s), s.label, s.split, s.box and s.box.xyxy) for s in data] == [
        ("CUB_200_2011/images/001.Albatross/A_01.jpg", "001.Albatross", "train", (10, 20, 40, 60)),
        ("CUB_200_2011/images/001.Albatross/A_02.jpg", "001.Albatross", "test", (0, 0, 100, 80)),
        ("CUB_200_2011/images/002.Auk/A_01.jpg", "002.Auk", "train", (5.5, 6, 55.5, 66)),
    ]
    assert data[2].where == f"{root / 'bounding_boxes.txt'}:3"
    assert "classes that no usable picture has, left out: 003.Wren" in data.notes


def test_cub_ids_are_any_word(tmp_path: Path) -> None:
    """As in NABirds, whose ids are UUIDs and whose class names hold spaces."""
    make_cub(
        tmp_path,
        images="0000139e-21dc 001.Albatross/A_01.jpg\n",
        classes="817 Oak Titmouse\n",
        image_class_labels="0000139e-21dc 817\n",
        bounding_boxes="0000139e-21dc 1 2 30 40\n",
        train_test_split="0000139e-21dc 1\n",
    )
    data = load_dataset(tmp_path)
    assert [(s.label, s.box and s.box.xyxy) for s in data.labelled] == [("Oak Titmouse", (1, 2, 31, 42))]


@pytest.mark.parametrize(
    ("changed", "code", "where", "reason"),
    [
        ({"bounding_boxes": "1 10 20 30 nan\n7 5 6 50 60\n"}, BAD_BOX, "bounding_boxes.txt:1", "not four finite"),
        ({"bounding_boxes": "1 10 20 30\n7 5 6 50 60\n"}, BAD_BOX, "bounding_boxes.txt:1", "numbers: 10, 20, 30"),
        ({"bounding_boxes": "1 10 20 -3 4\n7 5 6 50 60\n"}, BAD_BOX, "bounding_boxes.txt:1", "inverted"),
        (
            {"bounding_boxes": "7 5 6 50 60\n9 1 1 2 2\n"},
            UNREADABLE_ANNOTATION,
            "bounding_boxes.txt:2",
            "id 9 is not in",
        ),
        (
            {"image_class_labels": "1\n7 2\n"},
            UNREADABLE_ANNOTATION,
            "image_class_labels.txt:1",
            "needs an id and a value",
        ),
        ({"image_class_labels": "7 2\n"}, NO_CLASS, "bounding_boxes.txt:1", "id 1 has no class"),
        ({"images": "1 a/../../x.jpg\n7 002.Auk/A_01.jpg\n"}, REFUSED_NAME, "bounding_boxes.txt:1", "leads out"),
        (
            {"images": "1 001.Albatross/A_09.jpg\n7 002.Auk/A_01.jpg\n"},
            MISSING_PICTURE,
            "bounding_boxes.txt:1",
            "no such",
        ),
        (
            {"images": "1 001.Albatross/A_01.jpg\n1 001.Albatross/A_02.jpg\n7 002.Auk/A_01.jpg\n"},
            AMBIGUOUS_PICTURE,
            "images.txt:2",
            "id 1 stands for something else in",
        ),
    ],
)
def test_cub_what_is_wrong(tmp_path: Path, changed: dict[str, str], code: str, where: str, reason: str) -> None:
    data = load_dataset(make_cub(tmp_path, **changed))
    assert data.layout == "cub"
    assert "002.Auk" in data.class_names
    assert any(s.code == code and s.where.endswith(where) and reason in s.reason for s in data.skipped), data.skipped


@pytest.mark.real
def test_cub_without_pictures(real_data: Path) -> None:
    with pytest.raises(DataError, match=r"annotations \(cub\) but no pictures here or beside\. Put the pictures below"):
        load_dataset(real_data / "cub_annotations_only")


@pytest.mark.real
def test_cub_reads_the_official_files(real_data: Path) -> None:
    tree = scan(str(real_data / "cub_annotations_only"))
    reading = cub.read(tree, cub.detect(tree), Pictures(tree))
    assert len(reading.pictures) == 11788
    assert len(reading.class_order) == 200
    assert reading.skipped == []
    assert sum(record.split == "train" for record in reading.pictures) == 5994, "the official split"
    first = reading.pictures[0]
    assert [(o.label, o.box) for o in first.objects] == [("001.Black_footed_Albatross", (60.0, 27.0, 385.0, 331.0))]


# ---- Tiny ImageNet


def make_tiny(root: Path) -> Path:
    """Two classes with a training picture each, one validation picture; pictures of 64 by 64."""
    fish, slug = "n01443537", "n01945685"
    text(root / "wnids.txt", f"{slug}\n{fish}\n")
    text(root / "words.txt", f"n00001740\tentity\n{fish}\tgoldfish, Carassius auratus\n{slug}\tslug\n")
    text(root / "train" / fish / f"{fish}_boxes.txt", f"{fish}_0.JPEG\t0\t10\t63\t58\n{fish}_1.JPEG\t3\t4\t3\t20\n")
    text(root / "train" / slug / f"{slug}_boxes.txt", f"{slug}_0.JPEG\t0\t0\t63\t63\n")
    text(root / "val" / "val_annotations.txt", f"val_0.JPEG\t{slug}\t5\t6\t20\t30\n")
    for name in (f"{fish}/images/{fish}_0", f"{fish}/images/{fish}_1", f"{slug}/images/{slug}_0"):
        picture(root / "train" / f"{name}.JPEG", 64, 64)
    picture(root / "val" / "images" / "val_0.JPEG", 64, 64)
    picture(root / "test" / "images" / "test_0.JPEG", 64, 64)
    return root


def test_tiny_imagenet(tmp_path: Path) -> None:
    make_tiny(tmp_path)
    data = load_dataset(tmp_path)
    assert data.layout == "tiny_imagenet"
    assert data.class_names == ("slug", "goldfish"), "in the order of wnids.txt"
    assert [(Path(s.path).stem, s.label, s.split, s.box and s.box.xyxy) for s in data] == [
        ("n01443537_0", "goldfish", "train", (0, 10, 64, 59)),
        ("n01945685_0", "slug", "train", (0, 0, 64, 64)),
        ("val_0", "slug", "val", (5, 6, 21, 31)),
    ]
    assert [(s.code, s.reason) for s in data.skipped] == [(BAD_BOX, "the box has no area: (3, 4, 3, 20)")]
    assert any("first and last pixel inside" in note for note in data.notes)
    assert "also found" not in data.notes[0]


def test_tiny_imagenet_tells_the_doctor(tmp_path: Path) -> None:
    tree = scan(str(make_tiny(tmp_path)))
    reading = tiny_imagenet.read(tree, tiny_imagenet.detect(tree), Pictures(tree))
    assert [remark.code for remark in reading.remarks] == [INCLUSIVE_BOXES]


def test_tiny_imagenet_without_names_and_with_damage(tmp_path: Path) -> None:
    make_tiny(tmp_path)
    (tmp_path / "words.txt").unlink()
    lines = ["val_0.JPEG,n01945685,30,6,20,30", "val_0.JPEG", "val_1.JPEG,n01945685,1,2,3,4", "../x.JPEG,n1,1,2,3,4"]
    text(tmp_path / "val" / "val_annotations.txt", "\n".join(lines).replace(",", "\t"))
    data = load_dataset(tmp_path)
    assert data.class_names == ("n01443537", "n01945685")
    found = {(s.where.rpartition(":")[2], s.code) for s in data.skipped if "val_annotations" in s.where}
    assert found == {("1", BAD_BOX), ("2", UNREADABLE_ANNOTATION), ("3", MISSING_PICTURE), ("4", REFUSED_NAME)}
    assert any("inverted: (30, 6, 20, 30)" in s.reason for s in data.skipped), "as it is written"


@pytest.mark.real
def test_tiny_imagenet_real(real_data: Path) -> None:
    data = load_dataset(real_data / "tiny_imagenet20")
    assert data.layout == "tiny_imagenet"
    assert (len(data), len(data.skipped), len(data.class_names)) == (4986, 14, 20)
    assert {s.code for s in data.skipped} == {BAD_BOX}
    assert all("no area" in s.reason for s in data.skipped)
    assert len(data.part("train")) == 4000 - 10
    whole = [s for s in data.labelled if s.box is not None and s.box.xyxy == (0, 0, 64, 64)]
    assert len(whole) == 290
    assert data.class_names[:2] == ("goldfish", "black widow")


# ---- random text

words = st.sampled_from(
    [
        "1",
        "2",
        "000001",
        "cat",
        "cat/1.jpg",
        "1.jpg",
        "../x.jpg",
        "5",
        "30",
        "nan",
        "inf",
        "1e400",
        "-7",
        "63",
        "0.5",
        "\x00",
        "",
    ]
)
junk = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
separators = st.sampled_from([" ", "\t", ",", ";"])
lines = st.lists(
    st.one_of(junk, st.tuples(separators, st.lists(words, max_size=7)).map(lambda t: t[0].join(t[1]))), max_size=5
)
GOOD = {
    "images.txt": "1 cat/1.jpg\n",
    "bounding_boxes.txt": "1 5 5 20 20\n",
    "image_class_labels.txt": "1 1\n",
    "classes.txt": "1 cat\n",
    "train_test_split.txt": "1 1\n",
    "cat_gt.txt": "1 5 5 20 20\n",
    "boxes.txt": "1.jpg 5 5 20 20\n",
    "boxes.csv": "cat/1.jpg,5,5,20,20\n",
    "train/cat/cat_boxes.txt": "1.jpg\t5\t5\t20\t20\n",
    "words.txt": "cat\tcat, Felis catus\n",
}
SETS = [
    [*list(GOOD)[:5]],
    ["cat_gt.txt"],
    ["boxes.txt"],
    ["boxes.csv"],
    ["train/cat/cat_boxes.txt", "words.txt"],
]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SETS), st.data())
def test_random_text(tmp_path_factory: pytest.TempPathFactory, files: list[str], data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("folders")
    damaged = data.draw(st.sampled_from(files))
    for name in files:
        rows = data.draw(lines) if name == damaged else []
        text(root / name, "\n".join(data.draw(st.permutations([GOOD[name].strip(), *rows]))))
    for folder in ("cat", "dog", "train/cat/images") if "train/cat/cat_boxes.txt" in files else ("cat", "dog"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "1.jpg").write_bytes(jpeg())
    load_or_explain(root)
