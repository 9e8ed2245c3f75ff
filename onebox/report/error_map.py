"""Where a model goes wrong: by place in the picture, by size and by shape of the object. Takes judged records; gives
groups of pictures with the share that is right and its interval. Draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onebox.evaluation import Record

#: The picture is cut into so many rows and columns.
CELLS = 5
#: 97.5 % quantile of the normal distribution: two-sided 95 % intervals.
_Z = 1.959963984540054

# Lower bounds, each with how the group is called. Objects of the same share of the picture look alike to the model,
# which sees every picture stretched to one size.
_SIZES = (
    (0.0, "up to 1 %"),
    (0.01, "1 to 5 %"),
    (0.05, "5 to 10 %"),
    (0.1, "10 to 25 %"),
    (0.25, "25 to 50 %"),
    (0.5, "over 50 %"),
)
_SHAPES = (
    (0.0, "very tall (over 3:1)"),
    (1 / 3, "tall (over 3:2)"),
    (2 / 3, "about square"),
    (3 / 2, "wide (over 3:2)"),
    (3.0, "very wide (over 3:1)"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the pictures: `n` of them, the share `right` (class right and IoU > .5) with its 95 % interval `low` to
    `high` (Wilson 1927), and their `mean_iou`. All None where n is 0."""

    name: str
    n: int
    right: float | None
    low: float | None
    high: float | None
    mean_iou: float | None


@dataclass(frozen=True, slots=True)
class ErrorMap:
    """`places`: CELLS rows from the top down, each of CELLS parts from left to right, by the centre of the true box;
    `sizes`: by its share of the picture's area; `shapes`: by its width over its height in pixels. Sizes and shapes that
    no picture has are left out."""

    places: tuple[tuple[Part, ...], ...]
    sizes: tuple[Part, ...]
    shapes: tuple[Part, ...]


def error_map(records: Sequence[Record]) -> ErrorMap:
    """Sorts the records by their true boxes. Raises ValueError for none."""
    if not records:
        raise ValueError("there is nothing to map: 0 pictures")
    centres = [_centre(record) for record in records]
    places = [
        tuple(
            _part("", [r for r, c in zip(records, centres, strict=True) if c == (row, column)])
            for column in range(CELLS)
        )
        for row in range(CELLS)
    ]
    return ErrorMap(tuple(places), _grouped(records, _SIZES, _share), _grouped(records, _SHAPES, _shape))


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22, p. 209): unlike the bootstrap it has
    width where every picture agrees, and holds for a handful of pictures."""
    share, z2 = right / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _part(name: str, records: Sequence[Record]) -> Part:
    n = len(records)
    if not n:
        return Part(name, 0, None, None, None, None)
    right = sum(record.right for record in records)
    low, high = wilson(right, n)
    return Part(name, n, right / n, low, high, sum(record.iou for record in records) / n)


def _grouped(
    records: Sequence[Record], groups: Sequence[tuple[float, str]], value: Callable[[Record], float]
) -> tuple[Part, ...]:
    """A record belongs to the last group whose lower bound it is above; the first holds the rest."""
    members: list[list[Record]] = [[] for _ in groups]
    for record in records:
        v = value(record)
        members[max(sum(v > bound for bound, _ in groups) - 1, 0)].append(record)
    parts = [_part(name, chosen) for (_, name), chosen in zip(groups, members, strict=True)]
    return tuple(part for part in parts if part.n)


def _centre(record: Record) -> tuple[int, int]:
    x_min, y_min, x_max, y_max = record.box.xyxyn
    row, column = (min(CELLS - 1, max(0, int(CELLS * (a + b) / 2))) for a, b in ((y_min, y_max), (x_min, x_max)))
    return row, column


def _share(record: Record) -> float:
    x_min, y_min, x_max, y_max = record.box.xyxyn
    return (x_max - x_min) * (y_max - y_min)


def _shape(record: Record) -> float:
    return record.box.width / record.box.height if record.box.height > 0 else math.inf
