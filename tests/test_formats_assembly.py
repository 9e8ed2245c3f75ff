"""The shared assembly: what is a usable box, what is clipped, what is left out; and that nothing else gets through."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.errors import OneboxError
from onebox.formats.assembly import LEAST_AREA_KEPT, assemble, judge_box
from onebox.formats.pictures import Pictures
from onebox.formats.records import Problem, RawPicture, Reading, clean_label, raw_object, to_number
from onebox.formats.tree import scan
from onebox.types import Box, ImageSize
from tests.small_sets import jpeg, picture, table, text, voc_xml

SIZE = ImageSize(100, 80)
numbers = st.one_of(
    st.floats(),
    st.integers(),
    st.floats(-50, 150),
    st.text(max_size=5),
    st.none(),
    st.booleans(),
    st.sampled_from(["1e999", "-inf", "nan", "1_0", "٣", " 7 ", "0x10"]),
)


def assert_inside(box: Box) -> None:
    assert all(math.isfinite(v) for v in box.xyxy)
    assert 0 <= box.x_min < box.x_max <= SIZE.width
    assert 0 <= box.y_min < box.y_max <= SIZE.height


@given(st.lists(numbers, min_size=3, max_size=5), st.sampled_from(["xyxy", "xywh", "cxcywh"]), st.booleans())
def test_no_values_make_an_unsound_box(values: list[object], order: str, is_01: bool) -> None:
    raw = raw_object("x", values, "f:1", order=order)
    judged = raw.problem or judge_box(raw.box, SIZE, is_01=is_01)
    if not isinstance(judged, Problem):
        assert_inside(judged[0])


@given(st.tuples(*[st.floats(-1e4, 1e4)] * 4))
def test_a_box_is_kept_as_it_is_when_it_lies_inside(corners: tuple[float, float, float, float]) -> None:
    judged = judge_box(corners, SIZE)
    x_min, y_min, x_max, y_max = corners
    if isinstance(judged, Problem):
        assert not (0 <= x_min < x_max <= 100 and 0 <= y_min < y_max <= 80) or (x_max - x_min) * (y_max - y_min) == 0
    elif not judged[1]:
        assert all(abs(a - b) <= 0.01 for a, b in zip(judged[0].xyxy, corners, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(numbers, min_size=4, max_size=4)), max_size=8))
def test_no_records_make_an_unsound_data_set(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, list[object]]]
) -> None:
    root = tmp_path_factory.getbasetemp() / "assembly"
    for i in range(3):
        (root / f"{i}.jpg").parent.mkdir(exist_ok=True)
        (root / f"{i}.jpg").write_bytes(jpeg())
    reading = Reading()
    for i, values in rows:
        name = f"{i}.jpg"
        path = name if i < 3 else None
        reading.pictures.append(RawPicture(name, path, "f:1", [raw_object("x", values, "f:1")]))
    for multiple in ("largest", "skip"):
        made = assemble(reading, Pictures(scan(str(root))), multiple=multiple)
        for sample in made.samples:
            if sample.box is not None:
                assert_inside(sample.box)
        assert len({s.path for s in made.samples}) == len(made.samples)


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ((10, 10, 5, 20), "inverted"),
        ((10, 20, 15, 10), "inverted"),
        ((10, 10, 10, 20), "no area"),
        ((200, 10, 220, 20), "outside"),
        ((-30, 10, 10, 20), "75% of the box lies outside"),
        ((float("nan"), 1, 2, 3), "finite"),
        ((0, 0, float("inf"), 3), "finite"),
        ((-1e300, -1e300, 1e300, 1e300), "boundless"),
        ((0, 0, 100.0, 1e6), "outside"),
    ],
)
def test_bad_boxes_say_why(corners: tuple[float, float, float, float], reason: str) -> None:
    judged = judge_box(corners, SIZE)
    assert isinstance(judged, Problem)
    assert reason in judged.reason
    assert judged.code == "bad-box"


def test_overhang_is_clipped_up_to_half_of_the_area() -> None:
    judged = judge_box((-10, 10, 10, 20), SIZE)
    assert not isinstance(judged, Problem)
    assert judged == (Box(0, 10, 10, 20, SIZE), True)
    assert LEAST_AREA_KEPT == 0.5
    rounding = judge_box((-0.005, 0, 100.005, 80), SIZE)
    assert not isinstance(rounding, Problem)
    assert rounding == (Box(0, 0, 100, 80, SIZE), False)
    fractions = judge_box((0.5, 0.25, 1, 1), SIZE, is_01=True)
    assert fractions == (Box(50, 20, 100, 80, SIZE), False)


def test_clips_are_counted_in_one_note_and_remarked(tmp_path: Path) -> None:
    table(tmp_path, ["a.jpg,x,50,50,110,79", "b.jpg,x,1,1,9,9", "c.jpg,x,-5,1,20,9"])
    data = load_dataset(tmp_path)
    assert "2 boxes reached over the picture's edge and clipped to it" in data.notes
    assert [(Path(r.path).name, r.code) for r in data.remarks] == [("a.jpg", "clipped-box"), ("c.jpg", "clipped-box")]


def test_multiple(tmp_path: Path) -> None:
    rows = ["a.jpg,x,1,1,9,9", "a.jpg,y,1,1,50,50", "a.jpg,x,2,2,9,9", "b.jpg,x,1,1,9,9", "c.jpg,x,1,1,2,2"]
    table(tmp_path, [*rows, "c.jpg,x,1,1,2,2", "d.jpg,y,1,1,9,9", "d.jpg,y,20,20,1,1"])
    with pytest.raises(OneboxError, match=r"a\.csv:3: 3 objects in .*a\.jpg.*2 pictures of 4.*--multiple largest"):
        load_dataset(tmp_path)
    largest = load_dataset(tmp_path, multiple="largest")
    assert [(Path(s.path).name, s.label) for s in largest] == [("a.jpg", "y"), ("b.jpg", "x"), ("c.jpg", "x")]
    assert largest[0].where.endswith("a.csv:3")
    # which object of d.jpg is the largest cannot be known, as one of its boxes is wrong
    assert [(Path(s.path).name, s.code) for s in largest.skipped] == [("d.jpg", "bad-box")]
    assert any("1 object written twice" in note for note in largest.notes)
    skip = load_dataset(tmp_path, multiple="skip")
    assert [Path(s.path).name for s in skip] == ["b.jpg", "c.jpg"]
    assert [s.code for s in skip.skipped] == ["several-objects", "several-objects"]


def test_boxes_follow_exif_upright_size(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 80)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.csv").write_text("filename,class,xmin,ymin,xmax,ymax\na.jpg,x,1,1,70,99\n")
    sample = load_dataset(tmp_path)[0]
    assert sample.image_size == ImageSize(80, 100)
    assert sample.box is not None
    assert sample.box.xyxy == (1, 1, 70, 99)


def test_labels_and_numbers_are_read_strictly() -> None:
    assert clean_label("  Maine\n\tCoon\x00 ") == "Maine Coon"
    assert clean_label(None) == ""
    assert clean_label("\ud800x").encode()
    assert clean_label(3) == "3"
    assert to_number("1e2") == 100
    assert to_number(10**400) == math.inf
    for value in (True, None, "", "1_0", "٣", [], "0x10"):
        assert math.isnan(to_number(value))


def test_a_class_of_white_space_is_no_class(tmp_path: Path) -> None:
    table(tmp_path, ["a.jpg, ,1,1,9,9", "b.jpg,x,1,1,9,9"])
    data = load_dataset(tmp_path)
    assert [s.code for s in data.skipped] == ["no-class"]


def test_parts_need_one_another(tmp_path: Path) -> None:
    for folder in ("annotations", "val_annotations"):
        text(tmp_path / folder / f"{folder}.xml", voc_xml(("x", 1, 1, 9, 9)))
        picture(tmp_path / "images" / f"{folder}.jpg")
    # what is not set apart is for training
    assert [s.split for s in load_dataset(tmp_path)] == ["train", "val"]
    (tmp_path / "annotations" / "annotations.xml").unlink()
    alone = load_dataset(tmp_path)
    assert alone.parts() == ()
    assert any("one undivided set" in note for note in alone.notes)
