"""Drawing: what is visible, what stays inside, and that no name or size can break it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onebox import draw
from onebox.draw import PREDICTION, TRUTH, contact_sheet, draw_box, draw_thumbnail
from onebox.types import Box, ImageSize


def changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    return (np.asarray(before.convert("RGB")) != np.asarray(after)).any(axis=2)


def of_colour(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(image) == colour).all(axis=2)


def test_the_line_lies_on_the_boxs_edges() -> None:
    drawn = draw_box(Image.new("RGB", (200, 160), "gray"), Box(40, 30, 150, 120), "")
    rows, columns = np.nonzero(of_colour(drawn, PREDICTION))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == pytest.approx((40, 30, 150, 120), abs=1)
    inside = of_colour(drawn, (128, 128, 128))[40:110, 50:140]
    assert inside.all(), "the object itself stays visible"


def test_the_given_picture_is_not_changed() -> None:
    image = Image.new("RGB", (80, 60), "white")
    before = image.tobytes()
    drawn = draw_box(image, Box(5, 5, 50, 50), "robin 93%", truth=Box(6, 6, 40, 40))
    assert image.tobytes() == before
    assert drawn.mode == "RGB"
    assert drawn.size == image.size
    assert drawn.tobytes() != before


@pytest.mark.parametrize("background", ["white", "black", PREDICTION, (16, 18, 22), "red"])
def test_the_frame_is_seen_on_any_background(background: str) -> None:
    """Somewhere across the line there is a contrast of at least 4.5 to 1 (WCAG 1.4.3)."""
    image = Image.new("RGB", (300, 200), background)
    drawn = np.asarray(draw_box(image, Box(60, 50, 240, 150), ""), dtype=np.float64) / 255
    linear = np.where(drawn <= 0.04045, drawn / 12.92, ((drawn + 0.055) / 1.055) ** 2.4)
    across = (linear @ [0.2126, 0.7152, 0.0722])[100, 50:70]
    assert (across.max() + 0.05) / (across.min() + 0.05) > 4.5


def test_the_truth_is_told_apart_by_colour_and_dashes() -> None:
    drawn = draw_box(Image.new("RGB", (400, 300), "gray"), Box(50, 40, 200, 200), "", truth=Box(220, 60, 380, 250))
    assert of_colour(drawn, PREDICTION)[:, 45:205].any()
    truth = of_colour(drawn, TRUTH)
    assert not truth[:, :210].any()
    along = truth[60 - 2 : 60 + 3, 230:370].any(axis=0)
    assert 0.3 < along.mean() < 0.7, "dashes and gaps"


@pytest.mark.parametrize("size", [(64, 64), (128, 96), (600, 40), (40, 600), (1000, 700), (3000, 2000)])
@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_the_tag_stays_inside_and_is_there(size: tuple[int, int], corner: tuple[int, int]) -> None:
    width, height = size
    x, y = corner[0] * width * 0.8, corner[1] * height * 0.8
    image = Image.new("RGB", size, "gray")
    box = Box(x, y, x + width * 0.2, y + height * 0.2)
    difference = changed(draw_box(image, box, ""), draw_box(image, box, "robin 93%"))
    rows, _ = np.nonzero(difference)
    assert len(rows) > 60, "the tag was drawn"
    assert np.ptp(rows) + 1 >= 11, "the tag has its full height"


def test_long_names_keep_their_score() -> None:
    image = Image.new("RGB", (120, 90), "gray")
    pen = draw.ImageDraw.Draw(image)
    text, _ = draw._shortened(pen, "a most uncommonly long class name 93%", 11, 110)
    assert text.endswith("93%")
    assert "..." in text
    assert pen.textlength(text, font=draw._built_in(11)) <= 110


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 500), (500, 1), (9, 9)])
def test_pictures_of_a_few_pixels(size: tuple[int, int]) -> None:
    assert draw_box(Image.new("RGB", size), Box(0, 0, *size), "robin 93%", truth=Box(0, 0, 1, 1)).size == size


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_modes_become_rgb(mode: str) -> None:
    assert draw_box(Image.new(mode, (50, 50)), Box(5, 5, 45, 45), "x").mode == "RGB"


@pytest.mark.parametrize(
    "name",
    ["", "Käfer", "жук", "甲虫", "🐞", "a\nb\tc", "\udcff odd", "x" * 5000, "שלום", "\x00", "e\u0301", "   ", "<b>"],
)
def test_any_name_can_be_drawn(name: str) -> None:
    image = Image.new("RGB", (160, 120), "gray")
    assert draw_box(image, Box(20, 30, 100, 90), f"{name} 93%").size == (160, 120)
    assert contact_sheet([(image, name, True)], 1, 100).width > 100


def test_letters_no_font_has_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "_SYSTEM_FONTS", ())
    assert draw._writable("Käfer 甲 9%", 14)[0] == "Kafer ? 9%"


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(*[st.floats(-200, 300)] * 4),
    st.text(max_size=12),
)
def test_no_box_breaks_the_drawing(size: tuple[int, int], edges: tuple[float, ...], text: str) -> None:
    box = Box(*edges)
    assert draw_box(Image.new("RGB", size), box, text, truth=box).size == size


def test_thumbnails_draw_at_their_own_size() -> None:
    full = ImageSize(1600, 800)
    reduced = Image.new("RGB", (400, 200), "gray")  # as decoded at a quarter
    thumb = draw_thumbnail(reduced, Box(400, 200, 1200, 600), px=200, size=full)
    assert thumb.size == (200, 100)
    rows, columns = np.nonzero(of_colour(thumb, PREDICTION))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == pytest.approx((50, 25, 150, 75), abs=1)
    assert draw_thumbnail(Image.new("RGB", (1, 900)), Box(0, 0, 1, 9), px=50).size == (1, 50)


def test_contact_sheet_layout() -> None:
    tiles = [(Image.new("RGB", (60, 40), "blue"), f"tile {i}", i % 2 == 0) for i in range(5)]
    sheet = contact_sheet(tiles, 3, 100, heading="Some")
    assert sheet.mode == "RGB"
    assert 310 < sheet.width < 340
    assert of_colour(sheet, (0, 0, 255)).sum() == 5 * 100 * 67
    assert of_colour(sheet, draw._GOOD).any()
    assert of_colour(sheet, draw._BAD).any()
    assert of_colour(sheet, TRUTH).any(), "the legend shows the truth's colour"
    assert not of_colour(contact_sheet(tiles, 3, 100, legend=False), TRUTH).any()
    assert contact_sheet(tiles, 99, 100).width < 600, "no empty columns"


@pytest.mark.parametrize(("n", "columns", "px"), [(0, 3, 100), (2, 0, 100), (2, 3, 0)])
def test_contact_sheet_refuses_nothing(n: int, columns: int, px: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([(Image.new("RGB", (9, 9)), "", True)] * n, columns, px)
