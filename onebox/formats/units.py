"""Pixels or fractions, where a file does not say which. Takes the boxes of one file; says whether they all look like
fractions of the picture; never changes a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from onebox.formats.records import RawPicture

#: Share of the boxes that must look like fractions: one wild box must not turn the rest into boxes of half a pixel.
_SHARE_01 = 0.9
_LARGEST_01 = 1.5


def are_01(boxes: Sequence[tuple[float, float, float, float]]) -> bool:
    """Whether nearly all boxes lie within 0-1.5 and something stands behind a decimal point."""
    boxes = [box for box in boxes if all(map(math.isfinite, box))]
    within = [box for box in boxes if all(abs(v) <= _LARGEST_01 for v in box)]
    fractional = any(not v.is_integer() for box in within for v in box)
    return fractional and len(within) >= _SHARE_01 * len(boxes)


def mark_fractions(records: Sequence[RawPicture]) -> bool:
    """Marks the records of one file as fractions where their boxes are; says whether it did."""
    if not are_01([raw.box for record in records for raw in record.objects]):
        return False
    for record in records:
        record.is_01 = True
    return True
