"""Box arithmetic on numpy arrays, and THE box convention of the whole project. Nothing here knows
of pictures, labels or models.

The convention: a box is `(x_min, y_min, x_max, y_max)`, floats, pixels of the upright (EXIF-applied) picture,
origin at the top left corner of the top left pixel, `x_max - x_min` is the width (no +1). An array of them is
`boxes`, shape (N, 4). Anything else carries its name: `boxes_01` is the same order divided by (W, H, W, H);
`boxes_cxcywh` is centre x, centre y, width, height; `boxes_cxcywh_01` is both.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]


def as_boxes(boxes: npt.ArrayLike) -> Floats:
    """Any array-like of boxes as float64 (N, 4). Raises ValueError for another shape."""
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), not {array.shape}")
    return array


def area(boxes: npt.ArrayLike) -> Floats:
    """(N, 4) -> (N,), square units of the input; inverted boxes count 0."""
    b = as_boxes(boxes)
    return np.clip(b[:, 2] - b[:, 0], 0, None) * np.clip(b[:, 3] - b[:, 1], 0, None)


def iou(boxes_a: npt.ArrayLike, boxes_b: npt.ArrayLike) -> Floats:
    """Intersection over union of row i of `boxes_a` with row i of `boxes_b`: (N, 4), (N, 4) -> (N,) in 0-1.

    Two boxes of zero area have IoU 0. Raises ValueError where the shapes differ.
    """
    a, b = as_boxes(boxes_a), as_boxes(boxes_b)
    if a.shape != b.shape:
        raise ValueError(f"iou() pairs rows: shapes {a.shape} and {b.shape} differ")
    top_left = np.maximum(a[:, :2], b[:, :2])
    bottom_right = np.minimum(a[:, 2:], b[:, 2:])
    overlap = np.prod(np.clip(bottom_right - top_left, 0, None), axis=1)
    union = area(a) + area(b) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def xyxy_to_cxcywh(boxes: npt.ArrayLike) -> Floats:
    """(x_min, y_min, x_max, y_max) -> (centre x, centre y, width, height), same units."""
    b = as_boxes(boxes)
    return np.stack([(b[:, 0] + b[:, 2]) / 2, (b[:, 1] + b[:, 3]) / 2, b[:, 2] - b[:, 0], b[:, 3] - b[:, 1]], axis=1)


def cxcywh_to_xyxy(boxes_cxcywh: npt.ArrayLike) -> Floats:
    """(centre x, centre y, width, height) -> (x_min, y_min, x_max, y_max), same units."""
    b = as_boxes(boxes_cxcywh)
    half = b[:, 2:] / 2
    return np.concatenate([b[:, :2] - half, b[:, :2] + half], axis=1)


def to_01(boxes: npt.ArrayLike, sizes: npt.ArrayLike) -> Floats:
    """Pixels -> 0-1. `sizes` is (N, 2) or (2,): width, height."""
    return as_boxes(boxes) / _scale(sizes)


def to_pixels(boxes_01: npt.ArrayLike, sizes: npt.ArrayLike) -> Floats:
    """0-1 -> pixels. `sizes` is (N, 2) or (2,): width, height."""
    return as_boxes(boxes_01) * _scale(sizes)


def clip(boxes: npt.ArrayLike, sizes: npt.ArrayLike) -> Floats:
    """Cuts boxes at the picture's border. `sizes` is (N, 2) or (2,): width, height."""
    return np.clip(as_boxes(boxes), 0.0, _scale(sizes))


def centre_error(boxes_a_01: npt.ArrayLike, boxes_b_01: npt.ArrayLike) -> Floats:
    """Distance between the centres of rows, 0-1 boxes in, (N,) out as a fraction of the picture's diagonal."""
    a, b = xyxy_to_cxcywh(boxes_a_01), xyxy_to_cxcywh(boxes_b_01)
    return np.linalg.norm(a[:, :2] - b[:, :2], axis=1) / np.sqrt(2.0)


def _scale(sizes: npt.ArrayLike) -> Floats:
    size = np.atleast_2d(np.asarray(sizes, dtype=np.float64))
    return np.concatenate([size, size], axis=1)
