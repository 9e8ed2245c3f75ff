"""Findings from all boxes of a set together: pixels counted from 1 or to the last pixel inside, and boxes unlike the
others of their class. Takes measured boxes; gives findings that say how sure they are. Opens nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onebox.doctor.entries import Entry, Source, Thing
from onebox.doctor.findings import Finding, finding_at
from onebox.types import ImageSize

#: Off-by-ones are looked for in sets of at least this many boxes, nearly all of whole numbers.
_FEWEST_BOXES, _LEAST_SHARE_WHOLE = 30, 0.95
#: So many edges must stand on the first or last value, ...
_FEWEST_AT_EDGE = 10
#: ... so many times as many as on each of the next two values: objects cut by the picture's edge heap up there.
_HEAP = 3.0
#: The value that a set counted otherwise would have may occur in this share of the heap (a slip of the hand).
_SLIPS = 0.02
#: An outlier is told in classes of this many boxes, this many robust standard deviations from the median.
_FEWEST_OF_CLASS, _FAR = 40, 8.0
#: Standard deviations below these (log of area, log of aspect, centre) are taken as these: in a class of nearly equal
#: boxes, a box of another tenth is no outlier.
_LEAST_SPREAD = (0.25, 0.15, 0.05, 0.05)
#: MAD to standard deviation of a normal distribution.
_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class Measured:
    """One sound box in its picture: `box` in pixels, cut at the edge; `written` as in the file, in pixels."""

    path: str
    where: str
    label: str
    box: tuple[float, float, float, float]
    written: tuple[float, float, float, float]
    size: ImageSize

    @classmethod
    def of(cls, entry: Entry, thing: Thing, size: ImageSize) -> Measured:
        """From an object as written. Its box must overlap the picture."""
        x_min, y_min, x_max, y_max = written = entry.pixels(thing, size)
        box = (max(x_min, 0.0), max(y_min, 0.0), min(x_max, float(size.width)), min(y_max, float(size.height)))
        return cls(entry.path or "", thing.where, thing.label, box, written, size)

    @property
    def thinness(self) -> float:
        """The shorter of width and height, as shares of the picture's."""
        x_min, y_min, x_max, y_max = self.box
        return min((x_max - x_min) / self.size.width, (y_max - y_min) / self.size.height)

    @property
    def area(self) -> float:
        """Square pixels."""
        x_min, y_min, x_max, y_max = self.box
        return (x_max - x_min) * (y_max - y_min)

    @property
    def touches_edge(self) -> bool:
        """Whether the picture's edge cuts it."""
        x_min, y_min, x_max, y_max = self.box
        return x_min <= 0 or y_min <= 0 or x_max >= self.size.width or y_max >= self.size.height


def off_by_one(source: Source, boxes: Sequence[Measured]) -> Iterator[Finding]:
    """Whether pixels are counted from 1, or boxes end on the last pixel inside: where objects are cut by the picture's
    edge, their boxes heap up on the first and on the last value that the tool could write."""
    if len(boxes) < _FEWEST_BOXES or any(entry.is_01 for entry in source.entries):
        return
    written = np.array([one.written for one in boxes])
    if (written == np.round(written)).all(axis=1).mean() < _LEAST_SHARE_WHOLE:
        return
    sizes = np.array([one.size for one in boxes], dtype=np.float64)
    first = [int((written[:, :2] == value).sum()) for value in range(4)]
    last = [int((sizes - written[:, 2:] == short).sum()) for short in range(4)]
    where = source.files[0] if source.files else boxes[0].where
    if _heap(first, at=1) and last[0] + last[1] > 0:
        message = (
            f"no box starts at 0, {first[1]} edges stand at 1 ({first[2]} at 2): pixels counted from 1, "
            "or a tool that writes 1 for 0"
        )
        if first[0]:
            message = message.replace("no box starts", f"{first[0]} edges stand")
        yield finding_at("one-based-boxes", None, where, message, confidence=_confidence(first, 1))
    elif _heap(last, at=1) and first[0] >= _FEWEST_AT_EDGE:
        message = (
            f"{last[1]} edges stand on the last pixel inside, {last[0]} on the picture's edge: boxes name the last "
            "pixel inside, one pixel too small"
        )
        yield finding_at("inclusive-boxes", None, where, message, confidence=_confidence(last, 1))


def outliers(boxes: Sequence[Measured]) -> Iterator[Finding]:
    """Boxes far from the median of their class in size, shape or place, by the median absolute deviation."""
    by_class: dict[str, list[Measured]] = defaultdict(list)
    for one in boxes:
        by_class[one.label].append(one)
    for label, members in sorted(by_class.items()):
        if len(members) < _FEWEST_OF_CLASS:
            continue
        features = _features(members)
        middle = np.median(features, axis=0)
        spread = np.maximum(_MAD * np.median(np.abs(features - middle), axis=0), _LEAST_SPREAD)
        far = np.abs(features - middle) / spread
        for i in np.flatnonzero(far.max(axis=1) >= _FAR):
            which = int(far[i].argmax())
            larger = bool(features[i, which] > middle[which])
            words = _words(which, larger, float(features[i, which]), float(middle[which]))
            message = f"unlike the {len(members)} boxes of {label!r}: {words}"
            confidence = min(0.9, 0.4 + 0.05 * float(far[i, which] - _FAR))
            yield finding_at("outlier-box", members[i].path, members[i].where, message, confidence=round(confidence, 2))


def _features(members: Sequence[Measured]) -> npt.NDArray[np.float64]:
    """(N, 4): log of the share of the picture, log of width by height, centre in 0-1."""
    box = np.array([one.box for one in members])
    size = np.array([one.size for one in members], dtype=np.float64)
    width, height = (box[:, 2:] - box[:, :2]).T
    centre = (box[:, :2] + box[:, 2:]) / 2 / size
    return np.stack([np.log(width * height / size.prod(axis=1)), np.log(width / height), *centre.T], axis=1)


def _words(which: int, larger: bool, value: float, middle: float) -> str:
    if which == 0:
        return f"it covers {np.exp(value):.1%} of the picture, the usual one {np.exp(middle):.1%}"
    if which == 1:
        kind = "wider" if larger else "taller"
        return f"it is {kind} than they are: width by height {np.exp(value):.2g}, usually {np.exp(middle):.2g}"
    side = (("left", "right"), ("top", "bottom"))[which - 2][larger]
    return f"it lies further to the {side} ({value:.0%}, usually {middle:.0%})"


def _heap(counts: Sequence[int], at: int) -> bool:
    """Whether one value stands out from those after it, and the one before it hardly occurs."""
    peak = counts[at]
    after = counts[at + 1 : at + 3]
    return peak >= _FEWEST_AT_EDGE and peak >= _HEAP * max(1, *after) and counts[at - 1] <= _SLIPS * peak


def _confidence(counts: Sequence[int], at: int) -> float:
    """Rising with the number of edges in the heap: 0.6 at the fewest, 0.95 at a hundred."""
    return round(min(0.95, 0.6 + 0.35 * (counts[at] - _FEWEST_AT_EDGE) / 90), 2)
