"""The nouns: every spelling of a box, and what a box without a picture size can say."""

from __future__ import annotations

import dataclasses

import pytest

from onebox.types import Box, ImageSize, Sample


def test_box_spellings_by_hand() -> None:
    box = Box(10, 20, 50, 40, ImageSize(100, 80))
    assert box.xyxy == (10, 20, 50, 40)
    assert box.xywh == (30, 30, 40, 20)
    assert box.xyxyn == (0.1, 0.25, 0.5, 0.5)
    assert box.xywhn == (0.3, 0.375, 0.4, 0.25)
    assert (box.width, box.height, box.area) == (40, 20, 800)


def test_the_whole_picture_is_zero_to_one() -> None:
    box = Box(0, 0, 7, 5, ImageSize(7, 5))
    assert box.xyxyn == (0, 0, 1, 1)
    assert box.xywhn == (0.5, 0.5, 1, 1)
    assert box.area == 35


@pytest.mark.parametrize("box", [Box(5, 0, 1, 4), Box(0, 4, 5, 1), Box(5, 4, 1, 1), Box(2, 2, 2, 9)])
def test_area_of_an_inverted_or_flat_box_is_zero(box: Box) -> None:
    assert box.area == 0


@pytest.mark.parametrize("spelling", ["xyxyn", "xywhn"])
def test_a_box_without_a_picture_size_says_so(spelling: str) -> None:
    with pytest.raises(ValueError, match="does not know its picture's size"):
        getattr(Box(0, 0, 1, 1), spelling)


def test_values_are_frozen_hashable_and_comparable() -> None:
    box = Box(1, 2, 3, 4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        box.x_min = 0  # type: ignore[misc]
    assert box == Box(1, 2, 3, 4) != Box(1, 2, 3, 4, ImageSize(9, 9))
    assert len({box, Box(1, 2, 3, 4)}) == 1
    sample = Sample("a.jpg", ImageSize(4, 4))
    assert sample.label is None
    assert sample.box is None
    assert sample == Sample("a.jpg", ImageSize(4, 4))


def test_image_size_is_width_then_height() -> None:
    width, height = ImageSize(640, 480)
    assert (width, height) == (640, 480) == ImageSize(width=640, height=480)
