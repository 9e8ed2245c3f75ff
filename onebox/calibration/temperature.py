"""Probabilities that mean what they say. Takes logits and true classes; gives the one temperature under which the
probabilities fit held-out pictures best, and how far they are from the truth before and after. The order of the classes
never changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onebox.boxes import Floats
from onebox.calibration.conformal import log_softmax

#: Equal-width bins of the expected calibration error, as in Guo et al. 2017.
BINS = 15
#: The temperatures that are looked at.
_LOWEST, _HIGHEST = 0.05, 20.0
#: Standard deviation of the normal prior on log temperature; chosen by how well temperatures fitted to some held-out
#: pictures suit the others (`python -m benchmarks.calibration`, docs/log.md, 2026-11-28).
PRIOR = 0.5


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often the model is right when it says so. `edges` (bins + 1,) of the score; per bin the mean `confidence`,
    the `accuracy` (both NaN where empty) and the `count`; `ece` is the expected calibration error."""

    edges: Floats
    confidence: Floats
    accuracy: Floats
    count: npt.NDArray[np.int64]
    ece: float


def tempered(logits: npt.ArrayLike, temperature: float) -> Floats:
    """(N, C) logits, or logarithms of probabilities -> (N, C) probabilities, softmax(logits / temperature)."""
    return np.exp(log_softmax(np.asarray(logits, dtype=np.float64) / temperature))


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike, *, prior: float = PRIOR) -> float:
    """The temperature of least negative log-likelihood on (N, C) logits and (N,) true classes (Guo et al. 2017, arXiv
    1706.04599, section 4.2), from 0.05 to 20.

    Half of (log temperature / `prior`)^2 is added to the sum over pictures: a normal prior on log temperature. Beside a
    hundred pictures of which some are wrong it weighs little; a few that are all right must not promise certainty.
    """
    z = np.asarray(logits, dtype=np.float64)
    own = np.asarray(labels, dtype=np.int64)
    rows = np.arange(len(z))
    if not len(z) or z.shape[1] < 2:
        return 1.0

    def cost(log_t: float) -> float:
        return float(-log_softmax(z / np.exp(log_t))[rows, own].sum()) + 0.5 * (log_t / prior) ** 2

    # a coarse look, then golden sections: the sum is convex in 1 / temperature, the prior nearly flat
    grid = np.linspace(np.log(_LOWEST), np.log(_HIGHEST), 25)
    best = int(np.argmin([cost(float(t)) for t in grid]))
    low, high = float(grid[max(0, best - 1)]), float(grid[min(len(grid) - 1, best + 1)])
    golden = (np.sqrt(5.0) - 1) / 2
    while high - low > 1e-5:
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if cost(a) < cost(b) else (a, high)
    return float(f"{np.exp((low + high) / 2):.6g}")


def reliability(probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int = BINS) -> Reliability:
    """The score of the most probable class in equal-width bins against how often it is right; the expected calibration
    error is the mean gap, weighed by count (Guo et al. 2017, eq. 3). `probabilities` (N, C), `labels` (N,).

    A score on an edge belongs to the bin below it. Raises ValueError for no pictures.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if not len(p):
        raise ValueError("there is nothing to bin: 0 pictures")
    confidence, right = p.max(axis=1), (p.argmax(axis=1) == np.asarray(labels)).astype(np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, weights=values, minlength=bins) for values in (confidence, right))
    with np.errstate(invalid="ignore"):
        mean_confidence, accuracy = (total / count for total in sums)
    gaps = np.abs(mean_confidence - accuracy)[count > 0] * count[count > 0]
    return Reliability(edges, mean_confidence, accuracy, count, float(gaps.sum() / len(p)))


def ece(probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int = BINS) -> float:
    """The expected calibration error of `reliability`, 0-1."""
    return reliability(probabilities, labels, bins).ece
