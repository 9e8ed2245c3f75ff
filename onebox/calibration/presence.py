"""Is there one of the model's objects in the picture at all? Takes the raw outputs of the graph as arrays; gives
scores, one probability made of them, and the threshold that refuses no more than a chosen share of pictures with an
object. Never looks at pictures, never chooses the negatives: who fits brings them.

    features = presence_features(logits, sigmas_01, presence_logits)     # (N, 4), raw outputs, before any temperature
    presence = fit_presence(features_of_held_out_pictures, features_of_negatives, false_reject=0.05)
    manifest.calibration["presence"] = presence.to_dict()
    presence.probability(features) >= presence.threshold                 # what `Prediction.present` says
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onebox.boxes import Floats
from onebox.calibration.conformal import checked_float, checked_int, damaged, log_softmax
from onebox.errors import CalibrationError

#: Columns of `presence_features`; in each, larger means more surely present.
FEATURES = ("presence_logit", "max_softmax", "energy", "sharpness")
#: Largest log-odds of the winning class that count: beyond, float32 logits say nothing more.
_MAX_LOG_ODDS = 15.0
_FOLDS = 5
_STEPS = 100


@dataclass(frozen=True, slots=True)
class Presence:
    """How a model tells pictures with an object from others.

    `threshold` (0-1): present where the probability reaches it. `false_reject`: of pictures with an object, at most
    this share is refused, in the mean over calibration sets. `weights` by name of FEATURES, and `bias`, give the
    log-odds. `pictures` and `negatives` are the numbers it was fitted on.
    """

    threshold: float
    false_reject: float
    weights: dict[str, float]
    bias: float
    pictures: int
    negatives: int

    def probability(self, features: npt.ArrayLike) -> Floats:
        """(N, 4) as `presence_features` gives them -> (N,) in 0-1. NaN where a score it needs is missing."""
        x = np.asarray(features, dtype=np.float64)
        odds = np.full(len(x), self.bias)
        for name, weight in self.weights.items():
            odds = odds + weight * x[:, FEATURES.index(name)]
        return _sigmoid(odds)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values under the field names."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Presence:
        """Reads `to_dict` back. Raises ModelError where a value is missing or impossible."""
        weights = raw.get("weights")
        if not isinstance(weights, Mapping) or not weights or not set(weights) <= set(FEATURES):
            raise damaged("presence weights")
        return cls(
            threshold=checked_float(raw, "threshold", 0.0, 1.0),
            false_reject=checked_float(raw, "false_reject", 0.0, 1.0),
            weights={str(name): checked_float(weights, name) for name in weights},
            bias=checked_float(raw, "bias"),
            pictures=checked_int(raw, "pictures"),
            negatives=checked_int(raw, "negatives"),
        )


def presence_features(
    logits: npt.ArrayLike, sigmas_01: npt.ArrayLike, presence_logits: npt.ArrayLike | None = None
) -> Floats:
    """Raw outputs -> (N, 4), the columns of FEATURES; a column the model cannot give is NaN.

    `logits` (N, C); `sigmas_01` (N, 4), NaN from a box head that does not say; `presence_logits` (N,) or None.
    The log-odds of the maximum softmax (Hendrycks and Gimpel 2017, arXiv 1610.02136), the negative free energy
    logsumexp(logits) at temperature 1 (Liu et al. 2020, arXiv 2010.03759, eq. 4), and -log of the mean edge sigma.
    """
    z = np.asarray(logits, dtype=np.float64)
    log_p = log_softmax(z)
    top = log_p.max(axis=1)
    rest = np.log(np.maximum(-np.expm1(top), np.exp(-_MAX_LOG_ODDS - 1)))
    odds = np.clip(top - rest, -_MAX_LOG_ODDS, _MAX_LOG_ODDS)
    energy = z.max(axis=1) - top  # logsumexp: log p_max = z_max - logsumexp
    sharpness = -np.log(np.maximum(np.asarray(sigmas_01, dtype=np.float64).mean(axis=1), 1e-6))
    given = np.full(len(z), np.nan) if presence_logits is None else np.asarray(presence_logits, dtype=np.float64)
    return np.stack([given, odds, energy, sharpness], axis=1)


def fit_presence(
    present: npt.ArrayLike, absent: npt.ArrayLike, *, false_reject: float = 0.05, seed: int = 0
) -> Presence:
    """The probability and the threshold, from features of held-out pictures with an object (N, 4) and of negatives
    (M, 4); none of them may be what the network was trained on.

    The first usable column alone is compared with the logistic combination of all of them, weights not below 0 (so
    that no score can ever speak against what it measures), by AUROC in five folds; the combination is taken where its
    mean is better by more than the standard error of the difference over folds. The threshold is the k-th smallest
    probability of `present`, k = floor((N + 1) false_reject) (split conformal, Angelopoulos and Bates 2021, arXiv
    2107.07511, section 1), so a new picture with an object is refused with at most that probability. The combination
    is fitted on the same pictures as the threshold: its few weights bias this by far less than 1 / sqrt(N).
    Raises CalibrationError where there is no picture of either kind, or too few for `false_reject`.
    """
    x_in, x_out = (np.asarray(x, dtype=np.float64).reshape(-1, len(FEATURES)) for x in (present, absent))
    if not len(x_in) or not len(x_out):
        raise CalibrationError("telling presence needs pictures with an object and pictures without one")
    k = int(np.floor((len(x_in) + 1) * false_reject + 1e-9))
    if k < 1:
        raise CalibrationError(
            f"a false-reject rate of {false_reject:g} needs {int(np.ceil(1 / false_reject - 1e-9)) - 1} held-out "
            f"pictures, and there are {len(x_in)}",
            fix="Hold out more pictures, or allow more false rejects.",
        )
    usable = [i for i in range(len(FEATURES)) if _usable(x_in[:, i], x_out[:, i])]
    if not usable:
        raise CalibrationError("no score tells pictures with an object from the others: all are the same or not finite")
    columns = _chosen_columns(x_in, x_out, usable, seed)
    weights, bias = _logistic(x_in[:, columns], x_out[:, columns])
    kept = {FEATURES[c]: float(w) for c, w in zip(columns, weights, strict=True) if w > 0} or {
        FEATURES[columns[0]]: 0.0
    }
    rounded = Presence(0.0, false_reject, {n: float(f"{w:.8g}") for n, w in kept.items()}, bias, len(x_in), len(x_out))
    threshold = np.sort(rounded.probability(x_in))[k - 1]
    return Presence(float(threshold), false_reject, rounded.weights, bias, len(x_in), len(x_out))


def auroc(present: npt.ArrayLike, absent: npt.ArrayLike) -> float:
    """Area under the ROC curve: the share of pairs in which the present picture scores higher, ties counting half
    (Mann and Whitney 1947). Raises ValueError for none of either kind."""
    a, b = np.asarray(present, dtype=np.float64), np.sort(np.asarray(absent, dtype=np.float64))
    if not len(a) or not len(b):
        raise ValueError("the AUROC needs scores of both kinds")
    below, up_to = np.searchsorted(b, a, side="left"), np.searchsorted(b, a, side="right")
    return float((below + up_to).sum() / (2 * len(a) * len(b)))


def false_accept_at(present: npt.ArrayLike, absent: npt.ArrayLike, recall: float = 0.95) -> float:
    """The share of `absent` accepted at the highest threshold that still accepts the share `recall` of `present`."""
    a, b = np.sort(np.asarray(present, dtype=np.float64))[::-1], np.asarray(absent, dtype=np.float64)
    if not len(a) or not len(b):
        raise ValueError("the false-accept rate needs scores of both kinds")
    threshold = a[max(1, int(np.ceil(recall * len(a) - 1e-9))) - 1]
    return float((b >= threshold).mean())


def _usable(a: Floats, b: Floats) -> bool:
    both = np.concatenate([a, b])
    return bool(np.isfinite(both).all() and np.ptp(both) > 0)


def _chosen_columns(x_in: Floats, x_out: Floats, usable: list[int], seed: int) -> list[int]:
    alone = usable[:1]
    if len(usable) == 1 or min(len(x_in), len(x_out)) < 2 * _FOLDS:
        return alone
    rng = np.random.default_rng(seed)
    fold_in, fold_out = (rng.permutation(len(x)) % _FOLDS for x in (x_in, x_out))
    gains: list[float] = []
    for fold in range(_FOLDS):
        weights, _ = _logistic(x_in[fold_in != fold][:, usable], x_out[fold_out != fold][:, usable])
        test_in, test_out = x_in[fold_in == fold], x_out[fold_out == fold]
        combined = auroc(test_in[:, usable] @ weights, test_out[:, usable] @ weights)
        gains.append(combined - auroc(test_in[:, alone[0]], test_out[:, alone[0]]))
    error = float(np.std(gains, ddof=1)) / np.sqrt(_FOLDS)
    return usable if float(np.mean(gains)) > error else alone


def _logistic(x_in: Floats, x_out: Floats) -> tuple[Floats, float]:
    """Ridge logistic regression with weights >= 0, both kinds weighing the same: columns standardised, projected
    Newton steps (Bertsekas 1982), a column leaving where its weight would fall below 0. Gives (weights, bias)."""
    x = np.concatenate([x_in, x_out])
    y = np.concatenate([np.ones(len(x_in)), np.zeros(len(x_out))])
    share = np.where(y > 0, 0.5 / len(x_in), 0.5 / len(x_out))
    mean, spread = x.mean(axis=0), x.std(axis=0)
    table = np.concatenate([(x - mean) / spread, np.ones((len(x), 1))], axis=1)
    ridge = np.full(table.shape[1], 1e-3)
    ridge[-1] = 1e-9
    w = np.zeros(table.shape[1])
    free = np.ones(len(w), dtype=bool)
    for _ in range(_STEPS):
        p = _sigmoid(table @ w)
        gradient = table.T @ (share * (p - y)) + ridge * w
        free = (w > 0) | (gradient < 0)
        free[-1] = True
        hessian = (table * (share * p * (1 - p))[:, None]).T @ table + np.diag(ridge)
        step = np.zeros_like(w)
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        moved = w - step / max(1.0, float(np.abs(step).max()))  # no step longer than one standard deviation
        moved[:-1] = np.maximum(moved[:-1], 0.0)
        if float(np.abs(moved - w).max()) < 1e-10:
            break
        w = moved
    weights = w[:-1] / spread
    return weights, float(f"{w[-1] - float((weights * mean).sum()):.8g}")


def _sigmoid(z: Floats) -> Floats:
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        return np.exp(-np.logaddexp(0.0, -z))
