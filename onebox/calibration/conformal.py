"""Split conformal prediction, apart from what is predicted. Takes nonconformity scores of calibration pictures; gives
the bound that a new picture's score stays below with the asked probability, and keeps enough of the scores to answer
for any probability. Also the few checks with which calibrations are read from files. Knows nothing of boxes or classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onebox.boxes import Floats
from onebox.errors import CalibrationError, ModelError

#: Scores kept of one kind; of more, the largest half of these and an even choice of the others.
KEPT = 1000
#: Significant digits of a kept score, which is rounded up.
DIGITS = 6
#: More pictures than that were never calibrated on: the number is damaged.
_MOST = 10**9


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of `n` calibration pictures, as order statistics: `values` (K,), ascending, has those of rank
    `kept_ranks(n)`; all of them up to KEPT pictures."""

    n: int
    values: Floats

    @classmethod
    def of(cls, scores: npt.ArrayLike) -> Scores:
        """(n,) scores, infinite ones allowed. Raises ValueError for NaN."""
        array = np.sort(np.asarray(scores, dtype=np.float64))
        if np.isnan(array).any():
            raise ValueError("a nonconformity score is not a number")
        return cls(len(array), _rounded_up(array[kept_ranks(len(array)) - 1]))

    def at_rank(self, k: int) -> float:
        """The k-th smallest score, or where it was not kept the next larger that was; 1 <= k <= n."""
        return float(self.values[np.searchsorted(kept_ranks(self.n), k)])

    def bound(self, coverage: float) -> float:
        """What the score of a new picture does not exceed with probability `coverage` or more: the k-th smallest,
        k = ceil((n + 1) coverage) (Angelopoulos and Bates 2021, arXiv 2107.07511, section 1). Where scores are
        distinct the probability is below coverage + 1 / (n + 1), before rounding and thinning.

        Raises CalibrationError where the n pictures are too few for it.
        """
        return self.at_rank(rank_for(coverage, self.n))

    def to_list(self) -> list[float]:
        """Plain numbers; an infinite score, which JSON lacks, as 1e308."""
        return [float(v) for v in np.clip(self.values, -1e308, 1e308)]

    @classmethod
    def from_list(cls, raw: Any, n: int, what: str) -> Scores:
        """Reads `to_list` back. Raises ModelError where it cannot be the scores of n pictures."""
        if not isinstance(raw, list) or len(raw) != len(kept_ranks(n)):  # pyright: ignore[reportUnknownArgumentType]
            raise damaged(what)
        values = np.array([_number(v, what) for v in raw])  # pyright: ignore[reportUnknownVariableType]
        if not (np.diff(values) >= 0).all():
            raise damaged(what)
        return cls(n, np.where(values >= 1e308, np.inf, values))


def kept_ranks(n: int) -> npt.NDArray[np.int64]:
    """Which of n order statistics are kept, ascending, the largest always."""
    if n <= KEPT:
        return np.arange(1, n + 1)
    half = KEPT // 2
    low = np.linspace(1, n - half, KEPT - half).astype(np.int64)
    return np.concatenate([low, np.arange(n - half + 1, n + 1)])


def rank_for(coverage: float, n: int) -> int:
    """ceil((n + 1) coverage), at least 1. Raises CalibrationError for a coverage that is none, or out of n's reach."""
    checked_coverage(coverage)
    k = max(1, math.ceil((n + 1) * coverage - 1e-9))  # 0.9 * 30 is a little more than 27 in floating point
    if k > n:
        raise too_few(coverage, n, needed=math.ceil(coverage / (1 - coverage) - 1e-9))
    return k


def checked_coverage(coverage: float) -> None:
    """Raises CalibrationError for anything but a probability between 0 and 1, both excluded."""
    if not 0 < coverage < 1:
        raise CalibrationError(f"a coverage lies between 0 and 1, and {coverage:g} does not", fix="Ask for 0.9, say.")


def too_few(coverage: float, n: int, *, needed: int) -> CalibrationError:
    """The refusal of a coverage that n calibration pictures cannot promise."""
    return CalibrationError(
        f"a coverage of {coverage:g} needs at least {needed:,} calibration pictures, and this model has {n:,}",
        fix="Ask for less, or calibrate with more pictures: onebox calibrate.",
    )


def log_softmax(logits: npt.ArrayLike) -> Floats:
    """(N, C) -> (N, C), natural logarithms of probabilities."""
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def damaged(what: str) -> ModelError:
    """The error of a calibration that was not written by onebox, or was cut."""
    return ModelError(f"the calibration inside is damaged ({what})", fix="Calibrate again: onebox calibrate.")


def checked_float(raw: Mapping[str, Any], key: str, low: float = -math.inf, high: float = math.inf) -> float:
    """`raw[key]` as a finite number from `low` to `high`. Raises ModelError."""
    value = _number(raw.get(key), key)
    if not low <= value <= high or not math.isfinite(value):
        raise damaged(key)
    return value


def checked_int(raw: Mapping[str, Any], key: str, low: int = 1) -> int:
    """`raw[key]` as a whole number not below `low`. Raises ModelError."""
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= _MOST:
        raise damaged(key)
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise damaged(what)
    return float(value)


def _rounded_up(values: Iterable[float]) -> Floats:
    return np.array([_up(float(v)) for v in values], dtype=np.float64)


def _up(value: float) -> float:
    if value == 0 or not math.isfinite(value):
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - DIGITS + 1)
    rounded = float(f"{value:.{DIGITS}g}")
    return rounded if rounded >= value else float(f"{rounded + step:.{DIGITS}g}")
