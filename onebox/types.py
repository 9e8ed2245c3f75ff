"""The nouns: `ImageSize`, `Box`, `Sample`. Plain frozen values with no behaviour beyond reading
themselves in the spellings people know; they never open a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

#: What to do with a picture that has several objects: stop, keep the largest, or leave the picture out.
Multiple: TypeAlias = Literal["error", "largest", "skip"]


class ImageSize(NamedTuple):
    """Width and height in pixels of the upright (EXIF-applied) picture."""

    width: int
    height: int


@dataclass(frozen=True, slots=True, init=False)
class Box:
    """One box: corner origin, float pixels of the upright picture, no +1.

    `x_max` and `y_max` are the coordinates of the right and bottom edge, not of the last pixel inside,
    so width is `x_max - x_min`. `image_size` is needed only for the 0-1 spellings.
    The short names read as in Ultralytics: `xywh` is centre x, centre y, width, height; `n` is 0-1.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    image_size: ImageSize | None = None

    def __init__(
        self, x_min: float, y_min: float, x_max: float, y_max: float, image_size: ImageSize | None = None
    ) -> None:
        # what a frozen dataclass does for itself, in half the time: data sets hold a million of these
        _set_x_min(self, x_min)
        _set_y_min(self, y_min)
        _set_x_max(self, x_max)
        _set_y_max(self, y_max)
        _set_image_size(self, image_size)

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) in pixels."""
        return (self.x_min, self.y_min, self.x_max, self.y_max)

    @property
    def xywh(self) -> tuple[float, float, float, float]:
        """(centre x, centre y, width, height) in pixels."""
        return (
            (self.x_min + self.x_max) / 2,
            (self.y_min + self.y_max) / 2,
            self.width,
            self.height,
        )

    @property
    def xyxyn(self) -> tuple[float, float, float, float]:
        """`xyxy` in 0-1. Raises ValueError where the box does not know its picture's size."""
        width, height = self._size()
        return (self.x_min / width, self.y_min / height, self.x_max / width, self.y_max / height)

    @property
    def xywhn(self) -> tuple[float, float, float, float]:
        """`xywh` in 0-1. Raises ValueError where the box does not know its picture's size."""
        width, height = self._size()
        cx, cy, w, h = self.xywh
        return (cx / width, cy / height, w / width, h / height)

    @property
    def width(self) -> float:
        """Pixels."""
        return self.x_max - self.x_min

    @property
    def height(self) -> float:
        """Pixels."""
        return self.y_max - self.y_min

    @property
    def area(self) -> float:
        """Square pixels; 0 for an inverted box."""
        return max(0.0, self.width) * max(0.0, self.height)

    def _size(self) -> ImageSize:
        if self.image_size is None:
            raise ValueError("this box does not know its picture's size; use the pixel spellings, or give image_size")
        return self.image_size


_set_x_min, _set_y_min, _set_x_max, _set_y_max, _set_image_size = (Box.__dict__[n].__set__ for n in Box.__slots__)


@dataclass(frozen=True, slots=True, init=False)
class Sample:
    """One picture of a data set and, where it has one, its object.

    `path` is the picture's file; `image_size` its upright size; `label` and `box` are both None for a picture
    without a label, both given otherwise (box inside the picture, positive area); `where` is the annotation's
    `file:line` (empty where there is none); `split` is "train", "val" or "test" where the layout says so.
    """

    path: str
    image_size: ImageSize
    label: str | None = None
    box: Box | None = None
    where: str = ""
    split: str | None = None

    def __init__(
        self,
        path: str,
        image_size: ImageSize,
        label: str | None = None,
        box: Box | None = None,
        where: str = "",
        split: str | None = None,
    ) -> None:
        _set_path(self, path)  # as in Box
        _set_size(self, image_size)
        _set_label(self, label)
        _set_box(self, box)
        _set_where(self, where)
        _set_split(self, split)


_set_path, _set_size, _set_label, _set_box, _set_where, _set_split = (
    Sample.__dict__[n].__set__ for n in Sample.__slots__
)
