"""Points of the curves that say whether a model's numbers can be trusted. Takes judged answers as arrays; gives arrays,
ready to be drawn. Draws nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onebox.boxes import Floats
from onebox.calibration.fitted import PROMISES, Calibration, Judged

#: The coverages that a report and `onebox evaluate` ask for.
LEVELS = (0.8, 0.9, 0.95)
_CURVE = (*(round(0.5 + 0.02 * i, 2) for i in range(25)), 0.99)


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """What happens when the unsure are handed to a person. `answered` (N,): the share of pictures the model keeps, most
    confident first; `accuracy` (N,) among those; `aurc`: the mean of 1 - accuracy (Geifman and El-Yaniv 2017)."""

    answered: Floats
    accuracy: Floats
    aurc: float


def risk_coverage(confidence: npt.ArrayLike, right: npt.ArrayLike) -> RiskCoverage:
    """`confidence` (N,), any scale; `right` (N,) bool. Pictures of equal confidence share the mean of their group, so
    that the curve does not depend on their order. Raises ValueError for no pictures."""
    score, good = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if not len(score):
        raise ValueError("there is nothing to rank: 0 pictures")
    _, group = np.unique(-score, return_inverse=True)
    shared = (np.bincount(group, weights=good) / np.bincount(group))[group]
    order = np.argsort(-score, kind="stable")
    kept = np.arange(1, len(score) + 1)
    accuracy = np.cumsum(shared[order]) / kept
    return RiskCoverage(kept / len(score), accuracy, float((1 - accuracy).mean()))


def coverage_curve(
    calibration: Calibration, judged: Judged, levels: Sequence[float] | None = None
) -> dict[str, list[tuple[float, float]]]:
    """For each of PROMISES the pairs (asked, reached): the share of `judged` pictures for which it was kept. Coverages
    out of the calibration's reach are left out; `levels` from 0.5 to 0.99 where not given."""
    curves: dict[str, list[tuple[float, float]]] = {promise: [] for promise in PROMISES}
    for level in _CURVE if levels is None else levels:
        for promise, kept in calibration.kept(judged, level).items():
            curves[promise].append((level, float(kept.mean())))
    return curves


@dataclass(frozen=True, slots=True)
class Group:
    """The pictures of one kind: `name`, how many, and the share of them for which the promise was kept."""

    name: str
    count: int
    reached: float


def conditional_coverage(
    calibration: Calibration, judged: Judged, class_names: Sequence[str], level: float, *, promise: str = "outer_box"
) -> list[Group]:
    """A promise is kept in the mean over all pictures; here is what that mean is made of: the share kept by true class,
    and by thirds of the true box's size (square root of its share of the picture) and of its centre's distance from the
    picture's. Groups without a picture are left out. Raises CalibrationError for a level out of reach."""
    if promise != "joint":
        calibration.bound(promise, level)
    else:
        calibration.joint_bounds(level)
    kept = calibration.kept(judged, level)[promise]
    groups = {f"class {name}": judged.labels == i for i, name in enumerate(class_names)} | position_groups(judged)
    return [Group(name, int(g.sum()), float(kept[g].mean())) for name, g in groups.items() if g.any()]


def position_groups(judged: Judged) -> dict[str, npt.NDArray[np.bool_]]:
    """Thirds of the pictures, by rank, of the true boxes' size and distance from the centre: name -> (N,)."""
    sides = judged.true_boxes_01[:, 2:] - judged.true_boxes_01[:, :2]
    centres = (judged.true_boxes_01[:, 2:] + judged.true_boxes_01[:, :2]) / 2
    groups: dict[str, npt.NDArray[np.bool_]] = {}
    for values, names in (
        (np.sqrt(sides.prod(axis=1)), ("small objects", "middle-sized objects", "large objects")),
        (np.linalg.norm(centres - 0.5, axis=1), ("near the centre", "further out", "far from the centre")),
    ):
        third = thirds(values)
        groups |= {name: third == i for i, name in enumerate(names)}
    return groups


def thirds(values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """0, 1 or 2 for each of (N,) values, by rank."""
    ranks = np.argsort(np.argsort(np.asarray(values), kind="stable"), kind="stable")
    return ranks * 3 // max(1, len(ranks))
