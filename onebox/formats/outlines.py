"""Bounding boxes of the shapes that annotation tools draw beside rectangles: polygons, circles, ellipses. Takes numbers
as written, any type; gives corners (x_min, y_min, x_max, y_max) in the same unit, or four times NaN where the shape is
none, so that the box is refused; never raises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias, cast

from onebox.formats.records import NO_BOX, to_number

Corners: TypeAlias = tuple[float, float, float, float]


def around_points(points: object) -> Corners:
    """Of a list of [x, y] pairs."""
    listed = cast("list[object]", points) if isinstance(points, list) else []
    pairs = [cast("list[object]", p) if isinstance(p, list) else [] for p in listed]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        return NO_BOX
    return around_coordinates([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def around_coordinates(xs: Sequence[object], ys: Sequence[object]) -> Corners:
    """Of the horizontal and the vertical coordinates of some points."""
    # outlines have hundreds of points: numbers that need no conversion are told by their type
    x = [v if type(v) is float else to_number(v) for v in xs]
    y = [v if type(v) is float else to_number(v) for v in ys]
    # min() and max() pass over NaN silently; a sum keeps it
    sound = math.isfinite(sum(x)) and math.isfinite(sum(y))
    if not x or len(x) != len(y) or not (sound or all(map(math.isfinite, [*x, *y]))):
        return NO_BOX
    return (min(x), min(y), max(x), max(y))


def around_ellipse(
    cx: object, cy: object, rx: object, ry: object, angle: float = 0.0, *, aspect: float = 1.0
) -> Corners:
    """Of an ellipse around (cx, cy), turned by `angle` (radians); a circle has rx = ry. `aspect` is the picture's width
    over its height where the numbers are fractions of the sides, 1 where they are pixels."""
    x, y, a, b = to_number(cx), to_number(cy), to_number(rx), to_number(ry)
    if not all(map(math.isfinite, (x, y, a, b, angle))) or not 0 < aspect < math.inf:
        return NO_BOX
    # the extent of (a cos t, b sin t) turned: sqrt(a^2 cos^2 + b^2 sin^2) and its counterpart
    half_x = math.hypot(a * math.cos(angle), b / aspect * math.sin(angle))
    half_y = math.hypot(a * aspect * math.sin(angle), b * math.cos(angle))
    return (x - half_x, y - half_y, x + half_x, y + half_y)


def around_turned(box: tuple[float, float, float, float], angle: float, *, aspect: float = 1.0) -> Corners:
    """Of a rectangle (x, y, width, height) turned by `angle` (radians, clockwise) around its corner (x, y); `aspect` as
    for `around_ellipse`."""
    x, y, w, h = box
    if not all(map(math.isfinite, (*box, angle))) or not 0 < aspect < math.inf:
        return NO_BOX
    cos, sin = math.cos(angle), math.sin(angle)
    xs = [x + dx * cos - dy / aspect * sin for dx, dy in ((0.0, 0.0), (w, 0.0), (w, h), (0.0, h))]
    ys = [y + dx * aspect * sin + dy * cos for dx, dy in ((0.0, 0.0), (w, 0.0), (w, h), (0.0, h))]
    return around_coordinates(xs, ys)
