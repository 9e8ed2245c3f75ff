"""Which picture to label next. Takes what a model said of every picture and a coarse look at each; gives an order, the
most useful first: uncertain ones, unlike what is labelled already and unlike each other. Reads no file; without a model
it gives a shuffled order, the same every time, and so it does with one that has seen few labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: With fewer labels than this the order stays the shuffled one, even with a model: what a model of few labels is unsure
#: of is not yet what it lacks. Measured on two sets (docs/log.md, 2026-11-23 and 2026-11-28).
ASK_FROM = 200
#: Pictures picked one by one for being unlike each other; behind them uncertainty alone decides. A person trains again
#: before labelling that many.
PICKED = 256
#: Side of the coarse look at a picture, pixels.
LOOK = 4


def shuffled(names: Sequence[str]) -> list[int]:
    """Positions in an order that looks random and depends on the names alone: file names often begin with the class,
    and the first pictures labelled must not all be of one."""
    return sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode("utf-8", "surrogateescape")).digest())


def uncertainty(probabilities: Floats, boxes_01: Floats, sigmas_01: Floats) -> Floats:
    """How unsure the model is of each picture, 0 to 1: the mean of two ranks, one for the class, one for the box.

    The class by its margin, the two largest probabilities' difference (Scheffer et al. 2001). The box by the standard
    deviation of its edges, each as a share of the box's side; NaN where the box head does not say, and then the class
    decides alone. Ranks, because the two have no common scale. `probabilities` (N, C), `boxes_01` and `sigmas_01`
    (N, 4) as fractions of the picture's sides.
    """
    count = len(probabilities)
    if not count:
        return np.zeros(0)
    margins = np.ones(count)
    if probabilities.shape[1] > 1:
        ordered = np.sort(probabilities, axis=1)
        margins = ordered[:, -1] - ordered[:, -2]
    sides = np.maximum(boxes_01[:, 2:] - boxes_01[:, :2], 1e-3)
    spread = (sigmas_01 / np.tile(sides, 2)).mean(axis=1)
    ranks = [_ranks(-margins)]
    if np.isfinite(spread).all():
        ranks.append(_ranks(spread))
    return np.mean(ranks, axis=0)


def features(looks: Floats, probabilities: Floats, boxes_01: Floats) -> Floats:
    """What makes two pictures alike, (N, D): colours in a coarse grid, class probabilities, the box. Each of the three
    is scaled to the same mean distance between pictures. `looks` (N, ...) are pixels of any scale."""
    blocks = [looks.reshape(len(looks), -1), np.sqrt(probabilities), boxes_01]
    return np.concatenate([_scaled(np.asarray(block, dtype=np.float64)) for block in blocks], axis=1)


def most_useful_first(unsure: Floats, points: Floats, labelled: npt.NDArray[np.bool_]) -> list[int]:
    """Positions of all pictures not `labelled`, the most useful first.

    Greedy: the next one has the largest product of `unsure` (N,) and the distance of its `points` (N, D) to the nearest
    picture that is labelled or picked already: k-centre (Sener and Savarese 2018), weighted with uncertainty.
    `benchmarks/labelling.py` compares it with a random order.
    """
    open_ = np.flatnonzero(~labelled)
    if not len(open_):
        return []
    nearest = _distance_to_nearest(points[open_], points[labelled])
    weight = unsure[open_] + 1e-9
    picked: list[int] = []
    free = np.ones(len(open_), dtype=bool)
    for _ in range(min(PICKED, len(open_))):
        at = int(np.argmax(np.where(free, weight * nearest, -1.0)))
        free[at] = False
        picked.append(int(open_[at]))
        nearest = np.minimum(nearest, np.linalg.norm(points[open_] - points[open_[at]], axis=1))
    rest: Indices = open_[free]
    return [*picked, *(int(i) for i in rest[np.argsort(-unsure[rest], kind="stable")])]


def _distance_to_nearest(points: Floats, others: Floats) -> Floats:
    """(N,) distances to the nearest of `others`; to the middle of all where there are none."""
    if not len(others):
        return np.linalg.norm(points - points.mean(axis=0), axis=1) + 1e-9
    nearest = np.full(len(points), np.inf)
    for other in others:
        nearest = np.minimum(nearest, np.linalg.norm(points - other, axis=1))
    return nearest


def _ranks(values: Floats) -> Floats:
    """0 for the smallest to 1 for the largest; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    middle = last - (counts - 1) / 2
    return middle[inverse] / max(len(values) - 1, 1)


def _scaled(block: Floats) -> Floats:
    """Centred, and divided so that the root mean square distance between two rows is 1; zeros where all are equal."""
    centred = block - block.mean(axis=0)
    spread = float(np.sqrt(2 * (centred**2).sum(axis=1).mean())) if len(block) else 0.0
    return centred / spread if spread > 0 else centred
