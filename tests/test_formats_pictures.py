"""Which picture a name means: folders, extensions, ambiguity, refusals; and what the folder scan lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebox.formats.pictures import Pictures, safe_parts
from onebox.formats.records import Problem
from onebox.formats.tree import decode, scan, split_of_file, split_of_folder
from tests.small_sets import picture, text


def pictures(root: Path, *names: str) -> Pictures:
    for name in names:
        picture(root / name)
    return Pictures(scan(str(root)))


def test_names_are_found_with_wrong_case_missing_extension_and_other_folders(tmp_path: Path) -> None:
    p = pictures(tmp_path, "images/Cat1.JPG", "images/dog.v2.png")
    for name in ("Cat1.JPG", "cat1.jpg", "Cat1", "cat1.png", "train2017/cat1.jpg", "./cat1", "x\\y\\cat1.jpg"):
        assert p.find(name, near="annotations") == "images/Cat1.JPG"
    assert p.find("dog.v2", near="") == "images/dog.v2.png"
    missing = p.find("cow.jpg", near="")
    assert isinstance(missing, Problem)
    assert missing.code == "missing-picture"


def test_the_named_folder_is_binding_where_it_exists(tmp_path: Path) -> None:
    p = pictures(tmp_path, "car/1.jpg", "bird/1.jpg", "bird/2.jpg")
    assert p.find("car/1.jpg", near="") == "car/1.jpg"
    assert p.find("data/bird/1.jpg", near="") == "bird/1.jpg"
    # bird/2.jpg is another picture
    assert isinstance(p.find("car/2.jpg", near=""), Problem)
    assert isinstance(p.find("2.jpg", near="", label="car"), Problem)
    assert p.find("2.jpg", near="", label="fish") == "bird/2.jpg"
    assert p.find("1.jpg", near="", label="Bird") == "bird/1.jpg"


def test_two_equal_candidates_are_never_guessed(tmp_path: Path) -> None:
    p = pictures(tmp_path, "a/1.jpg", "b/1.jpg")
    found = p.find("1.jpg", near="")
    assert isinstance(found, Problem)
    assert found.code == "ambiguous-picture"
    assert "a/1.jpg, b/1.jpg" in found.reason
    assert p.find("1.jpg", near="a") == "a/1.jpg"
    assert p.find("1.jpg", near="", hint="b") == "b/1.jpg"


def test_nearness_parts_and_masks_decide(tmp_path: Path) -> None:
    p = pictures(
        tmp_path,
        "train/images/1.jpg",
        "test/images/1.jpg",
        "JPEGImages/v.jpg",
        "SegmentationClass/v.png",
        "Masks/1.png",
    )
    assert p.find("1.jpg", near="test") == "test/images/1.jpg"
    assert p.find("1", near="annotations", split="train") == "train/images/1.jpg"
    assert p.find("v", near="Annotations") == "JPEGImages/v.jpg"


def test_accents_composed_or_not_are_one_name(tmp_path: Path) -> None:
    p = pictures(tmp_path, "e\u0301mu.jpg")
    assert p.find("\u00e9mu.jpg", near="") == "e\u0301mu.jpg"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../a.jpg", "leads out"),
        ("a/..\\b.jpg", "leads out"),
        ("a/.. /b.jpg", "leads out"),
        ("/a.jpg", "absolute"),
        ("\\\\host\\a.jpg", "absolute"),
        ("c:/a.jpg", "drive"),
        ("C:a.jpg", "drive"),
        ("https://a/b.jpg", "address"),
        ("a\x00.jpg", "control"),
        ("a\n.jpg", "control"),
        ("a" * 4097, "4097 characters"),
    ],
)
def test_unsafe_names_are_refused(name: str, reason: str) -> None:
    refused = safe_parts(name)
    assert isinstance(refused, Problem)
    assert refused.code == "refused-name"
    assert reason in refused.reason


@given(st.text(max_size=30))
def test_what_is_accepted_stays_below_the_root(name: str) -> None:
    parts = safe_parts(name)
    if not isinstance(parts, Problem):
        assert parts
        assert all(part not in {"", ".", ".."} and "/" not in part and "\\" not in part for part in parts)


def test_pictures_beside_an_annotation_folder(tmp_path: Path) -> None:
    picture(tmp_path / "val_images" / "a.jpg")
    picture(tmp_path / "thumbnail_images" / "a.jpg")
    picture(tmp_path / "elsewhere" / "b.jpg")
    text(tmp_path / "annotations" / "xmls" / "a.xml", "")
    for folder, up in (("annotations", "../"), ("annotations/xmls", "../../")):
        p = Pictures(scan(str(tmp_path / folder)))
        assert p.paths == [f"{up}val_images/a.jpg"]
        assert p.find("a", near="") == f"{up}val_images/a.jpg"


def test_scan_follows_links_inside_only(tmp_path: Path) -> None:
    root = tmp_path / "root"
    picture(root / "real" / "a.jpg")
    picture(tmp_path / "out.jpg")
    (root / "inside.jpg").symlink_to(root / "real" / "a.jpg")
    (root / "outside.jpg").symlink_to(tmp_path / "out.jpg")
    (root / "loop").symlink_to(root)
    (root / "broken.jpg").symlink_to(root / "nothing.jpg")
    tree = scan(str(root))
    assert tree.files == ("inside.jpg", "real/a.jpg")
    assert tree.links_out == 1


def test_part_names_in_folders_and_files() -> None:
    for folder, part in {
        "train": "train",
        "Training_images": "train",
        "a/valid/images": "val",
        "val2017": "val",
        "test_labels": "test",
        "images/test": "test",
        "test tube": None,
        "latest": None,
        "contest_images": None,
        "": None,
    }.items():
        assert split_of_folder(folder) == part, folder
    for file, part in {
        "train.csv": "train",
        "birds_val.csv": "val",
        "train_labels.csv": "train",
        "annotations/instances_val2017.json": "val",
        "valid/_annotations.coco.json": "val",
        "labels.csv": None,
        "train_test.csv": None,
        "contest.csv": None,
    }.items():
        assert split_of_file(file) == part, file


def test_decode_takes_the_encodings_people_have() -> None:
    assert decode("é".encode()) == ("é", None)
    assert decode("é".encode("utf-8-sig")) == ("é", None)
    assert decode("é".encode("utf-16")) == ("é", None)
    assert decode("é".encode("cp1252")) == ("é", "Windows-1252")
