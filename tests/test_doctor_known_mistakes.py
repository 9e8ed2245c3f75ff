"""The mistakes known to be in the real sets: the doctor finds each by itself, with its code and its picture, and sets
without the mistake have no finding of its code."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from onebox.doctor import Checkup, Finding, check

pytestmark = pytest.mark.real


@cache
def checkup(folder: Path) -> Checkup:
    """Each set is examined once."""
    return check(folder)


def found(folder: Path, code: str) -> list[Finding]:
    return [f for f in checkup(folder).findings if f.code == code]


def names(folder: Path, code: str) -> set[str]:
    """Paths below the set of the pictures that have a finding of this code."""
    return {Path(f.picture).relative_to(folder).as_posix() for f in found(folder, code) if f.picture}


#: code -> the sets that have it. Every other set must have none.
SETS_WITH = {
    "ambiguous-picture": set[str](),
    "augmented-siblings": {"asl_yolo", "plates_voc", "toys_coco"},
    "bad-box": set[str](),
    "box-order": {"caltech22_mat"},
    "class-case": set[str](),
    "class-contradicts-name": {"neu_det"},
    "class-space": set[str](),
    "class-spelling": set[str](),
    "clipped-box": set[str](),
    "duplicate-classes": set[str](),
    "empty-box": {"caltech3_csv", "tiny_imagenet20"},
    "exact-duplicate": {"neu_det", "plates_voc", "raccoon", "toys_coco"},
    "filename-extension": {"plates_voc"},
    "filename-no-extension": {"neu_det"},
    "filename-other": {"plates_voc"},
    "inclusive-boxes": {"tiny_imagenet20"},
    "inverted-box": set[str](),
    "leaked-sibling": set[str](),
    "layouts-disagree": {"pets3", "pets37"},
    "mislabelled-picture": {"fruit_voc", "pets3"},
    "missing-id": {"tiny_vid"},
    "mixed-classes": {"fruit_voc", "neu_det", "toys_coco"},
    "mixed-numbers": {"toys_coco"},
    "mixed-units": set[str](),
    "no-annotation-file": {"pets3"},
    "no-header": {"caltech3_csv"},
    "no-names": {"asl_yolo"},
    "one-class": {"plates_voc", "raccoon"},
    "outlier-box": {"caltech22_mat", "plates_voc", "tiny_imagenet20"},
    "repeated-id": {"tiny_vid"},
    "repeated-names": {"caltech22_mat", "caltech3_csv", "tiny_vid"},
    "rotated-box": set[str](),
    "same-stem": {"plates_voc"},
    "several-objects": {"fruit_voc", "neu_det", "pets3", "plates_voc", "raccoon", "toys_coco"},
    "sliver-box": {"plates_voc", "tiny_imagenet20"},
    "tiny-class": set[str](),
    "unused-category": set[str](),
    "unused-parent": {"toys_coco"},
    "upper-case-extension": {"tiny_imagenet20", "tiny_vid"},
    "whole-picture-box": {"caltech22_mat", "neu_det", "pets3", "raccoon", "tiny_imagenet20"},
    "wrong-depth": {"neu_det"},
    "wrong-size": {"fruit_voc", "plates_voc"},
}
SETS = (
    *("asl_yolo", "caltech22_mat", "caltech3_csv", "fruit_voc", "neu_det", "pets3", "pets37", "plates_voc", "raccoon"),
    *("tiny_imagenet20", "tiny_vid", "toys_coco", "vegetables3"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_set_has_the_codes_of_its_mistakes_and_no_others(real_data: Path, name: str) -> None:
    counts = checkup(real_data / name).counts()
    assert {code for code in SETS_WITH if code in counts} == {code for code, sets in SETS_WITH.items() if name in sets}


def test_pets3(real_data: Path) -> None:
    folder = real_data / "pets3"
    assert names(folder, "mislabelled-picture") == {"images/Abyssinian_34.jpg", "images/Abyssinian_5.jpg"}
    messages = {Path(f.picture or "").stem: f.message for f in found(folder, "mislabelled-picture")}
    assert "GIF (palette)" in messages["Abyssinian_34"]
    assert "PNG (RGBA)" in messages["Abyssinian_5"]
    (several,) = found(folder, "several-objects")
    assert Path(several.picture or "").name == "Bengal_105.jpg"
    assert Path(several.file or "").name == "Bengal_105.xml"
    disagreeing = " ".join(f.message for f in found(folder, "layouts-disagree"))
    assert "voc knows 2 classes (cat, dog)" in disagreeing
    assert len(names(folder, "no-annotation-file")) == 304


def test_pets37(real_data: Path) -> None:
    messages = [f.message for f in found(real_data / "pets37", "layouts-disagree")]
    for layout in ("coco", "yolo"):
        assert any(m.startswith(f"{layout} knows 1 class (pet); csv, which is read, knows 37") for m in messages)


def test_raccoon(real_data: Path) -> None:
    folder = real_data / "raccoon"
    several = found(folder, "several-objects")
    assert len(several) == 16
    assert Counter(f.message.split()[0] for f in several) == {"2": 15, "3": 1}
    assert names(folder, "grey-picture") == {f"images/raccoon-{n}.jpg" for n in (150, 152, 161)}


def pair_overlaps(folder: Path) -> dict[frozenset[str], float]:
    """Stems of two copies whose boxes differ -> the IoU told."""
    overlaps: dict[frozenset[str], float] = {}
    for f in found(folder, "duplicate-boxes"):
        match = re.search(r"IoU ([\d.]+)", f.message)
        assert match is not None
        overlaps[frozenset(Path(path or "").stem for path in (f.picture, f.others[0]))] = float(match.group(1))
    return overlaps


def test_raccoons_that_are_boxed_twice(real_data: Path) -> None:
    told = pair_overlaps(real_data / "raccoon")
    # the figures of the pictures in their first size; here the boxes are rounded to pixels of smaller ones
    for one, other, overlap in ((11, 116, 0.943), (120, 83, 0.816), (52, 74, 0.823), (65, 98, 0.798)):
        assert told[frozenset((f"raccoon-{one}", f"raccoon-{other}"))] == pytest.approx(overlap, abs=0.01)


def test_identical_defects_and_plates(real_data: Path) -> None:
    assert frozenset(("patches_101", "patches_105")) in pair_overlaps(real_data / "neu_det")
    overlaps = pair_overlaps(real_data / "plates_voc").values()
    assert (min(overlaps), max(overlaps)) == (0.425, 0.986)


def test_renamed_copies_of_toys(real_data: Path) -> None:
    # each of the 41 pictures imgN.jpg is a copy of one with its full name
    copies = found(real_data / "toys_coco", "exact-duplicate")
    renamed = {Path(path).stem for f in copies for path in (f.picture or "", *f.others)}
    assert {f"img{n}" for n in range(41)} <= renamed


def test_siblings_of_signs(real_data: Path) -> None:
    (told,) = found(real_data / "asl_yolo", "augmented-siblings")
    assert "1512 pictures were made from 504 photos, mostly 3 from each" in told.message


def test_tiny_vid(real_data: Path) -> None:
    folder = real_data / "tiny_vid"
    repeated = {Path(f.file or "").name: f for f in found(folder, "repeated-id")}
    assert set(repeated) == {f"{name}_gt.txt" for name in ("bird", "car", "dog", "lizard", "turtle")}
    assert repeated["bird_gt.txt"].line == 182
    assert {Path(f.file or "").name for f in found(folder, "missing-id")} == {"bird_gt.txt", "car_gt.txt", "dog_gt.txt"}
    assert "948 pictures end in .JPEG" in found(folder, "upper-case-extension")[0].message


def test_tiny_imagenet(real_data: Path) -> None:
    folder = real_data / "tiny_imagenet20"
    assert len(found(folder, "inclusive-boxes")) == 1
    # counted with awk: 6 rows with xmin = xmax, 8 with ymin = ymax, 290 rows "0 0 63 63"
    assert Counter(f.message.split(":")[0] for f in found(folder, "empty-box")) == {
        "the box has no width": 6,
        "the box has no height": 8,
    }
    assert "train/n02395406/images/n02395406_101.JPEG" in names(folder, "empty-box")
    assert len(found(folder, "whole-picture-box")) == 290


def test_caltech3(real_data: Path) -> None:
    folder = real_data / "caltech3_csv"
    (empty,) = found(folder, "empty-box")
    assert (Path(empty.picture or "").parent.name, Path(empty.picture or "").name) == ("airplane", "image_0118.jpg")
    assert (Path(empty.file or "").name, empty.line) == ("airplane.csv", 31)
    assert {Path(f.file or "").stem for f in found(folder, "no-header")} == {"airplane", "face", "motorcycle"}
    assert "202 file names" in found(folder, "repeated-names")[0].message


def test_caltech22(real_data: Path) -> None:
    folder = real_data / "caltech22_mat"
    assert "ymin, ymax, xmin, xmax" in found(folder, "box-order")[0].message
    # seen: the box is around a bedpost, not around the fan
    assert names(folder, "outlier-box") == {"ceiling_fan/image_0033.jpg"}


def test_neu_det(real_data: Path) -> None:
    folder = real_data / "neu_det"
    assert len(found(folder, "filename-no-extension")) == 29
    assert "images/scratches_113.jpg" in names(folder, "class-contradicts-name")
    assert names(folder, "class-contradicts-name") <= names(folder, "mixed-classes")
    assert len(found(folder, "several-objects")) > 273 / 2
    assert len(found(folder, "wrong-depth")) == 273


def test_toys(real_data: Path) -> None:
    folder = real_data / "toys_coco"
    assert "category 0 ('objects')" in found(folder, "unused-parent")[0].message
    assert len(found(folder, "several-objects")) == 156


def test_fruit(real_data: Path) -> None:
    folder = real_data / "fruit_voc"
    wrong = found(folder, "wrong-size")
    assert len(wrong) == 37
    assert all("says 0x0" in f.message for f in wrong)
    assert names(folder, "mislabelled-picture") == names(folder, "wrong-size")
    modes = Counter(f.message.split("(")[1].split(")")[0] for f in found(folder, "mislabelled-picture"))
    assert modes == {"RGBA": 25, "RGB": 8, "palette": 4}
    assert "test/mixed_21.jpg" in names(folder, "mixed-classes")


def test_plates(real_data: Path) -> None:
    folder = real_data / "plates_voc"
    assert len(found(folder, "wrong-size")) == 549
    assert len(found(folder, "filename-extension")) == 182
    assert len(found(folder, "filename-other")) == 366
    assert names(folder, "same-stem") == {"images/Cars0.png"}
    assert names(folder, "sliver-box") >= {"images/Cars225_aug2.jpg", "images/Cars243_aug1.jpg"}


def test_asl(real_data: Path) -> None:
    assert "no data.yaml" in found(real_data / "asl_yolo", "no-names")[0].message


def test_vegetables_are_clean(real_data: Path) -> None:
    assert checkup(real_data / "vegetables3").counts().keys().isdisjoint(SETS_WITH)
