"""Nonconformity of boxes: by how many of its own expected errors is a predicted box wrong? Takes arrays of boxes and
the model's edge sigmas, all in 0-1; gives scores, and the boxes that a bound on the scores stands for. Chooses no
bound.

Scores of boxes: de Grancey et al. 2022 (arXiv 2203.05220, "box-wise" sets) and Andeol et al. 2023 (PMLR 204) take the
largest of the four edge errors, so that all edges hold jointly, with one constant margin; here each error is measured
in the edge's own sigma, as locally weighted conformal regression does (Lei et al. 2018, section 5.2; for boxes Timans
et al. 2024, arXiv 2403.07263).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onebox.boxes import Floats, as_boxes, iou

#: An error is outward where the truth lies left of, above, right of, below the predicted edge.
_OUTWARD = np.array([1.0, 1.0, -1.0, -1.0])
#: No edge is taken to be surer than this share of the picture, no box smaller than that.
_SHARPEST, _SMALLEST = 1e-3, 0.02


def scales(boxes_01: npt.ArrayLike, sigmas_01: npt.ArrayLike) -> Floats:
    """The expected error of each edge, (N, 4) in 0-1: its sigma; where the box head gives none, the box's own width
    (left, right) and height (top, bottom)."""
    b, s = as_boxes(boxes_01), as_boxes(sigmas_01)
    sides = np.maximum(b[:, 2:] - b[:, :2], _SMALLEST)
    return np.where(np.isfinite(s), np.maximum(s, _SHARPEST), np.concatenate([sides, sides], axis=1))


def outer_scores(boxes_01: npt.ArrayLike, sigmas_01: npt.ArrayLike, true_boxes_01: npt.ArrayLike) -> Floats:
    """The largest outward error of the four edges over its scale, (N,): how far the box must grow to hold the truth."""
    return (_outward(boxes_01, true_boxes_01) / scales(boxes_01, sigmas_01)).max(axis=1)


def inner_scores(boxes_01: npt.ArrayLike, sigmas_01: npt.ArrayLike, true_boxes_01: npt.ArrayLike) -> Floats:
    """The largest inward error over its scale, (N,): how far the box must shrink to lie within the truth."""
    return (-_outward(boxes_01, true_boxes_01) / scales(boxes_01, sigmas_01)).max(axis=1)


def iou_scores(boxes_01: npt.ArrayLike, sigmas_01: npt.ArrayLike, true_boxes_01: npt.ArrayLike) -> Floats:
    """1 - IoU over `iou_scales`, (N,)."""
    return (1.0 - iou(boxes_01, true_boxes_01)) / iou_scales(boxes_01, sigmas_01)


def iou_scales(boxes_01: npt.ArrayLike, sigmas_01: npt.ArrayLike) -> Floats:
    """What 1 - IoU is expected to be, up to a factor, (N,): to first order a small shift of an edge costs its share of
    the side, so the expected shifts of left and right over the width plus those of top and bottom over the height."""
    b, s = as_boxes(boxes_01), scales(boxes_01, sigmas_01)
    sides = np.maximum(b[:, 2:] - b[:, :2], _SMALLEST)
    return (s[:, 0] + s[:, 2]) / sides[:, 0] + (s[:, 1] + s[:, 3]) / sides[:, 1]


def outer_boxes(boxes_01: npt.ArrayLike, sigmas_01: npt.ArrayLike, bound: float) -> Floats:
    """The boxes (N, 4) that hold every truth whose outer score is at most `bound`, cut at the picture's border. For a
    negative bound (the boxes are too large as they are) a side shrinks to nothing at most."""
    b, s = as_boxes(boxes_01), scales(boxes_01, sigmas_01)
    return np.clip(b - _OUTWARD * s * _not_crossing(b, s, bound), 0.0, 1.0)


def inner_boxes(
    boxes_01: npt.ArrayLike, sigmas_01: npt.ArrayLike, bound: float
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The boxes (N, 4) that lie within every truth whose inner score is at most `bound`, and (N,) whether there is one:
    where the bound eats up a side there is none, and the row means nothing."""
    b, s = as_boxes(boxes_01), scales(boxes_01, sigmas_01)
    shrunk = np.clip(b + _OUTWARD * s * bound, 0.0, 1.0) if np.isfinite(bound) else np.zeros_like(b)
    return shrunk, np.asarray((shrunk[:, 2:] > shrunk[:, :2]).all(axis=1))


def _outward(boxes_01: npt.ArrayLike, true_boxes_01: npt.ArrayLike) -> Floats:
    return (as_boxes(boxes_01) - as_boxes(true_boxes_01)) * _OUTWARD


def _not_crossing(boxes: Floats, margins: Floats, bound: float) -> Floats:
    """The bound for each edge, raised where opposite edges would pass each other: (N, 4)."""
    meeting = -(boxes[:, 2:] - boxes[:, :2]) / (margins[:, :2] + margins[:, 2:])
    per_axis = np.maximum(bound, meeting)
    return np.concatenate([per_axis, per_axis], axis=1)
