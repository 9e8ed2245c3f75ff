"""The doctor on boxes: places, shapes, units, EXIF turns, off-by-ones, outliers; every figure by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from onebox.doctor.boxes import of_boxes
from onebox.doctor.entries import Entry, Source, Thing
from onebox.doctor.findings import Finding
from onebox.doctor.pictures import PictureFacts
from onebox.types import ImageSize

SIZE = ImageSize(100, 80)


def fact(path: str, stored: ImageSize = SIZE, orientation: int = 1) -> PictureFacts:
    upright = ImageSize(stored.height, stored.width) if orientation >= 5 else stored
    return PictureFacts(path, ".jpg", stored=stored, upright=upright, orientation=orientation)


def findings(
    *boxes: tuple[float, float, float, float], is_01: bool = False, stored: ImageSize = SIZE, orientation: int = 1
) -> list[Finding]:
    """Of a set with one picture for each box, all of one class."""
    entries = [
        Entry(f"{i}.jpg", f"{i}.jpg", f"a.csv:{i + 1}", [Thing("cat", box, f"a.csv:{i + 1}")], is_01=is_01)
        for i, box in enumerate(boxes)
    ]
    facts = {str(e.path): fact(str(e.path), stored, orientation) for e in entries}
    return of_boxes([Source("csv", ("a.csv",), tuple(entries))], facts)


@pytest.mark.parametrize(
    ("box", "code"),
    [
        ((10, 10, 50, 50), None),
        ((2, 0, 99, 79), None),
        ((0, 0, 99, 79), "whole-picture-box"),
        ((50, 10, 10, 50), "inverted-box"),
        ((10, 50, 50, 10), "inverted-box"),
        ((10, 10, 10, 50), "empty-box"),
        ((10, 10, 50, 10), "empty-box"),
        ((120, 10, 150, 50), "box-outside"),
        ((90, 10, 150, 50), "box-outside"),  # a sixth of it is inside
        ((-5, 10, 50, 50), "clipped-box"),
        ((60, 10, 120, 50), "clipped-box"),  # two thirds of it are inside
        ((0.1, 0.2, 0.5, 0.6), "mixed-units"),
        ((0, 0, 100, 80), "whole-picture-box"),
    ],
)
def test_one_box(box: tuple[float, float, float, float], code: str | None) -> None:
    found = findings(box)
    assert [f.code for f in found] == ([code] if code else [])
    assert all((f.picture, f.file, f.line) == ("0.jpg", "a.csv", 1) for f in found)


def test_pixels_among_fractions() -> None:
    assert findings((0.1, 0.1, 0.5, 0.5), (0.2, 0.2, 0.6, 0.6), is_01=True) == []
    (found,) = findings((0.1, 0.1, 0.5, 0.5), (10, 10, 50, 50), is_01=True)
    assert (found.code, found.picture) == ("mixed-units", "1.jpg")
    assert found.fix


def test_fractions_a_little_over_the_edge_are_no_pixels() -> None:
    assert [f.code for f in findings((0.5, 0.5, 1.1, 1.1), is_01=True)] == ["clipped-box"]


def test_what_can_be_put_right_says_so() -> None:
    assert findings((50, 10, 10, 50))[0].fix
    assert findings((500, 10, 300, 50))[0].fix == ""
    assert findings((-5, 10, 50, 50))[0].fix
    assert findings((10, 10, 10, 50))[0].fix == ""


def test_a_sliver_is_one_only_among_thicker_boxes() -> None:
    thick = [(10, 10, 50, 50 + i) for i in range(5)]
    assert [(f.code, f.picture) for f in findings(*thick, (0, 10, 1, 50))] == [("sliver-box", "5.jpg")]
    assert findings(*[(10, 10 + i, 11, 50) for i in range(5)]) == []


def test_boxes_on_the_picture_as_stored() -> None:
    # stored 100x80, EXIF 6: upright 80x100
    (found,) = findings((85, 10, 95, 50), orientation=6)
    assert (found.code, found.confidence) == ("rotated-box", 0.95)
    assert found.fix
    assert findings((10, 10, 50, 50), orientation=6) == []
    assert findings((10, 85, 50, 95), orientation=6) == []
    assert findings((10, 10, 50, 50), orientation=3) == []


def test_one_box_that_does_not_fit_upright_betrays_the_others() -> None:
    found = {f.picture: f for f in findings((85, 10, 95, 50), (10, 10, 50, 50), orientation=6)}
    assert found["0.jpg"].confidence > found["1.jpg"].confidence
    assert {f.code for f in found.values()} == {"rotated-box"}
    assert found["1.jpg"].fix == ""
    # a box that fits only the upright picture clears them, but for the one that cannot be
    assert [f.picture for f in findings((85, 10, 95, 50), (10, 85, 50, 95), (10, 10, 50, 50), orientation=6)] == [
        "0.jpg"
    ]


def touching(first: int, last: int) -> list[tuple[float, float, float, float]]:
    """40 boxes, of which 20 stand on `first` and 20 on `last`; the others stay clear of all edges."""
    boxes: list[tuple[float, float, float, float]] = []
    for i in range(20):
        boxes.append((first, 20 + i, 40 + i, 60))
        boxes.append((20 + i, 20 + i, last, 60))
    return boxes


@pytest.mark.parametrize(
    ("first", "last", "codes"),
    [
        (0, 100, []),  # the convention of onebox
        (1, 100, ["one-based-boxes"]),
        (0, 99, ["inclusive-boxes"]),
        (7, 90, []),  # a margin, as of pictures that were padded: nothing is known
    ],
)
def test_off_by_one_is_seen_in_the_edges(first: int, last: int, codes: list[str]) -> None:
    found = findings(*touching(first, last))
    assert [f.code for f in found] == codes
    assert all(0.5 < f.confidence < 1 and f.picture is None for f in found)


def test_off_by_one_needs_many_boxes() -> None:
    assert findings(*touching(1, 100)[:20]) == []


def test_an_outlier_in_a_class_of_like_boxes() -> None:
    like = [(20 + i % 5, 20, 60 + i % 7, 60) for i in range(50)]
    assert findings(*like) == []
    (found,) = findings(*like, (20, 20, 24, 60))
    assert (found.code, found.picture) == ("outlier-box", "50.jpg")
    assert "taller" in found.message or "covers" in found.message
    # in a small class nothing is known
    assert findings(*like[:20], (20, 20, 24, 60)) == []


def test_a_box_three_times_as_large_is_no_outlier() -> None:
    like = [(40, 30, 60 + i % 3, 50) for i in range(50)]
    assert findings(*like, (30, 20, 65, 55)) == []


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-200, 200).map(float)


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=40), st.booleans(), st.integers(1, 8))
def test_any_numbers_give_findings_and_no_traceback(
    boxes: list[tuple[float, float, float, float]], is_01: bool, orientation: int
) -> None:
    for found in findings(*boxes, is_01=is_01, orientation=orientation):
        assert 0 <= found.confidence <= 1
        assert "\n" not in found.message


@given(st.integers(0, 97), st.integers(0, 77), st.integers(1, 100), st.integers(1, 80))
def test_a_box_inside_its_picture_is_no_error(x: int, y: int, width: int, height: int) -> None:
    box = (x, y, min(100, x + width), min(80, y + height))
    assert not [f for f in findings(box) if f.level == "error"]


def test_a_real_picture_on_its_side(tmp_path: Path) -> None:
    from onebox.doctor import check
    from tests.small_sets import text

    rows: list[str] = []
    for i in range(6):
        image = Image.new("RGB", (100, 80), (i * 40, 90, 90))
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / f"{i}.jpg", exif=exif)
        rows.append(f"{i}.jpg,cat,60,{10 + i},95,50")
    text(tmp_path / "a.csv", "\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows, ""]))
    assert check(tmp_path).counts()["rotated-box"] == 6
