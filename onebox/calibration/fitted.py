"""`Calibration`: what a model file keeps of the pictures it was calibrated on. Takes judged pictures as arrays; gives
the temperature and the scores with which any coverage can be promised afterwards. Never sees a picture, and never
decides which pictures it is given: they must not be those the network was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onebox.boxes import Floats
from onebox.calibration import class_sets, edges
from onebox.calibration.conformal import (
    Scores,
    checked_coverage,
    checked_float,
    checked_int,
    damaged,
    log_softmax,
    rank_for,
    too_few,
)
from onebox.calibration.temperature import ece, fit_temperature, tempered
from onebox.errors import CalibrationError

#: The fewest pictures worth calibrating on: a coverage of 0.9 is within their reach.
FEWEST = 9
#: What is promised, in the order of the report.
PROMISES = ("outer_box", "inner_box", "iou_at_least", "class_set", "joint")


@dataclass(frozen=True, slots=True)
class Judged:
    """N answers beside their truths. `logits` (N, C) as the graph gives them, or logarithms of its probabilities, but
    before any temperature; `labels` (N,) the true classes; `boxes_01`, `true_boxes_01` (N, 4) clipped to the picture;
    `sigmas_01` (N, 4), NaN where the box head does not say."""

    logits: Floats
    labels: npt.NDArray[np.int64]
    boxes_01: Floats
    sigmas_01: Floats
    true_boxes_01: Floats

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.ArrayLike) -> Judged:
        """The answers of some rows."""
        i = np.asarray(rows)
        return Judged(self.logits[i], self.labels[i], self.boxes_01[i], self.sigmas_01[i], self.true_boxes_01[i])

    @property
    def boxes(self) -> tuple[Floats, Floats, Floats]:
        """What the scores of boxes are made of."""
        return self.boxes_01, self.sigmas_01, self.true_boxes_01


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one model can promise.

    `temperature` divides the logits; `ece_before` and `ece_after` are the expected calibration errors on the `pictures`
    calibration pictures, which came from `source` ("validation", "calibration" or "out-of-fold"). `scores` by promise:
    `outer_box`, `inner_box`, `iou_at_least`, `class_set` the nonconformity scores, `joint` the ranks of `joint_ranks`.
    The scores of classes are those of the probabilities before the temperature, which is fitted on the same pictures:
    so the promise of a class set is exact.
    """

    temperature: float
    ece_before: float
    ece_after: float
    pictures: int
    source: str
    scores: dict[str, Scores]

    def bound(self, promise: str, coverage: float) -> float:
        """The largest score allowed by `promise` (one of PROMISES but "joint"). Raises CalibrationError."""
        return self.scores[promise].bound(coverage)

    def joint_bounds(self, coverage: float) -> tuple[float, float]:
        """The bounds (outer box, class set) that hold together with probability `coverage`: see `joint_ranks`.
        Raises CalibrationError."""
        checked_coverage(coverage)
        needed = math.ceil((2 + coverage) / (1 - coverage) - 1e-9)
        n = self.pictures
        try:
            rank = int(self.scores["joint"].at_rank(rank_for(coverage, n))) + 1
        except CalibrationError:
            raise too_few(coverage, n, needed=needed) from None
        if rank > n:
            raise too_few(coverage, n, needed=needed)
        return self.scores["outer_box"].at_rank(rank), self.scores["class_set"].at_rank(rank)

    def kept(self, judged: Judged, coverage: float) -> dict[str, npt.NDArray[np.bool_]]:
        """For each of PROMISES, (N,) whether it was kept. Promises out of reach of the calibration are left out."""
        outer, classes = edges.outer_scores(*judged.boxes), class_sets.class_scores(_log_p(judged), judged.labels)
        inner, overlap = edges.inner_scores(*judged.boxes), edges.iou_scores(*judged.boxes)
        told: dict[str, npt.NDArray[np.bool_]] = {}
        try:
            bounds = {promise: self.bound(promise, coverage) for promise in PROMISES if promise != "joint"}
            told["outer_box"] = outer <= bounds["outer_box"]
            there = edges.inner_boxes(judged.boxes_01, judged.sigmas_01, bounds["inner_box"])[1]
            told["inner_box"] = (inner <= bounds["inner_box"]) | ~there  # no box lies within any box
            told["iou_at_least"] = overlap <= bounds["iou_at_least"]
            told["class_set"] = classes <= bounds["class_set"]
            of_box, of_class = self.joint_bounds(coverage)
            told["joint"] = (outer <= of_box) & (classes <= of_class)
        except CalibrationError:
            checked_coverage(coverage)
        return told

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, what stands in the manifest."""
        return {
            "temperature": self.temperature,
            "ece_before": self.ece_before,
            "ece_after": self.ece_after,
            "pictures": self.pictures,
            "source": self.source,
            "scores": {promise: self.scores[promise].to_list() for promise in PROMISES},
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Calibration:
        """Reads `to_dict` back. Raises ModelError where a value is missing or impossible."""
        n, source, scores = checked_int(raw, "pictures"), raw.get("source"), raw.get("scores")
        if not isinstance(source, str) or not isinstance(scores, Mapping):
            raise damaged("source" if not isinstance(source, str) else "scores")
        read = {p: Scores.from_list(scores.get(p), n, p) for p in PROMISES}  # pyright: ignore[reportUnknownMemberType]
        ranks = read["joint"].values
        if ranks[0] < 1 or ranks[-1] > n or (ranks % 1).any():
            raise damaged("joint")
        temperature = checked_float(raw, "temperature", 1e-3, 1e3)
        before, after = checked_float(raw, "ece_before", 0.0, 1.0), checked_float(raw, "ece_after", 0.0, 1.0)
        return cls(temperature, before, after, n, source, read)


def fit_calibration(judged: Judged, *, source: str) -> Calibration:
    """The calibration of a model on pictures it was not trained on. Raises CalibrationError for fewer than FEWEST."""
    n = len(judged)
    if n < FEWEST:
        raise CalibrationError(
            f"calibrating needs at least {FEWEST} labelled pictures that the model was not trained on, and there "
            f"{'is' if n == 1 else 'are'} {n}",
            fix="Give more pictures, or calibrate with --folds, which uses the training pictures.",
        )
    log_p = _log_p(judged)
    temperature = fit_temperature(log_p, judged.labels)
    outer, classes = edges.outer_scores(*judged.boxes), class_sets.class_scores(log_p, judged.labels)
    return Calibration(
        temperature=temperature,
        ece_before=round(ece(np.exp(log_p), judged.labels), 6),
        ece_after=round(ece(tempered(log_p, temperature), judged.labels), 6),
        pictures=n,
        source=source,
        scores={
            "outer_box": Scores.of(outer),
            "inner_box": Scores.of(edges.inner_scores(*judged.boxes)),
            "iou_at_least": Scores.of(edges.iou_scores(*judged.boxes)),
            "class_set": Scores.of(classes),
            "joint": Scores.of(joint_ranks(outer, classes)),
        },
    )


def joint_ranks(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Two scores of each of n pictures as one, (n,): the larger of its two ranks, a rank being 1 + the number of
    smaller scores.

    With it one bound serves both. Were the new picture ranked among all n + 1, these numbers would be exchangeable, and
    with k = ceil((n + 1) coverage) the new one would be at most the k-th smallest with probability `coverage`. Ranks
    among the n are lower by at most 1, so the bound Q + 1 on the ranks among n + 1, Q the k-th smallest among the n, is
    on the safe side; it says: neither score exceeds its (Q + 1)-th smallest.
    """
    pair = [np.asarray(x, dtype=np.float64) for x in (a, b)]
    ranks = [1 + np.searchsorted(np.sort(x), x, side="left") for x in pair]
    return np.maximum(*ranks).astype(np.int64)


def _log_p(judged: Judged) -> Floats:
    return log_softmax(judged.logits)
