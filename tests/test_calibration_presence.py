"""Is there an object at all: scores by hand, areas under curves with scikit-learn as referee, the threshold's promise,
and what damaged files bring. Temperatures and calibration errors too, which need no boxes either."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from onebox.calibration import (
    FEATURES,
    Presence,
    auroc,
    ece,
    false_accept_at,
    fit_presence,
    fit_temperature,
    presence_features,
    reliability,
    risk_coverage,
    tempered,
)
from onebox.calibration.presence import _logistic  # the fit has a referee of its own
from onebox.errors import CalibrationError, ModelError

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40)


def features(n: int, seed: int, shift: float, *, logit: bool = True) -> np.ndarray:
    """Four scores, the last only noise; `shift` moves the others, in standard deviations."""
    x = np.random.default_rng(seed).standard_normal((n, 4)) + np.array([shift, shift, shift, 0.0])
    x[:, 0] = x[:, 0] if logit else np.nan
    return x


@given(SCORES, SCORES)
def test_the_area_under_the_curve_is_scikit_learn_s(present: list[float], absent: list[float]) -> None:
    truth = [1] * len(present) + [0] * len(absent)
    assert auroc(present, absent) == pytest.approx(roc_auc_score(truth, [*present, *absent]))


def test_false_accepts_by_hand() -> None:
    present = list(range(1, 21))  # 95 % of 20 are 19: the threshold is 2
    assert false_accept_at(present, [0, 1, 2, 3], 0.95) == 0.5
    assert false_accept_at(present, [0, 1], 0.95) == 0.0
    assert false_accept_at([1.0], [0.5, 1.0, 2.0], 0.95) == pytest.approx(2 / 3)


def test_scores_of_raw_outputs_by_hand() -> None:
    logits = np.log([[0.5, 0.3, 0.2]]) + 4.0
    (row,) = presence_features(logits, [[0.1, 0.2, 0.3, 0.2]], [1.5])
    assert row == pytest.approx([1.5, math.log(0.5 / 0.5), 4.0, -math.log(0.2)])
    (row,) = presence_features([[50.0, 0.0]], [[math.nan] * 4])
    assert row[:3] == pytest.approx([math.nan, 15.0, 50.0], nan_ok=True)
    assert np.isnan(row[3])
    assert len(FEATURES) == len(row)


def test_the_combination_is_taken_where_it_is_better_and_the_logit_alone_where_not() -> None:
    both = fit_presence(features(300, 0, 1.0), features(300, 1, 0.0))
    assert set(both.weights) >= {"presence_logit", "max_softmax", "energy"}
    new_in, new_out = features(2000, 2, 1.0), features(2000, 3, 0.0)
    combined = auroc(both.probability(new_in), both.probability(new_out))
    assert combined > auroc(new_in[:, 0], new_out[:, 0]) + 0.05
    x, y = features(300, 4, 0.0), features(300, 5, 0.0)
    x[:, 0] += 2.0
    assert set(fit_presence(x, y).weights) == {"presence_logit"}
    without = fit_presence(features(300, 6, 1.0, logit=False), features(300, 7, 0.0, logit=False))
    assert "presence_logit" not in without.weights
    assert not np.isnan(without.probability(features(5, 8, 0.0, logit=False))).any()
    assert np.isnan(both.probability(features(5, 8, 0.0, logit=False))).all()  # a graph that lacks what was fitted


def test_weights_are_never_negative_and_are_those_of_a_referee() -> None:
    from sklearn.linear_model import LogisticRegression

    inside, outside = features(200, 0, 1.0), features(100, 1, 0.0)
    outside[:, 3] += 1.0  # a score that speaks against what it measures gets no say
    weights, bias = _logistic(inside, outside)
    assert weights[3] == 0.0
    assert (weights >= 0).all()
    x, y = np.concatenate([inside, outside])[:, :3], np.array([1] * 200 + [0] * 100)
    spread = x.std(axis=0)
    # the same ridge: ours is 1e-3 / 2 |w|^2 beside a mean loss, theirs 1 / (2 C) |w|^2 beside a sum over 300 rows
    model = LogisticRegression(C=1 / (1e-3 * 300), class_weight="balanced", tol=1e-10, max_iter=1000)
    model.fit((x - x.mean(axis=0)) / spread, y)
    assert weights[:3] == pytest.approx(model.coef_[0] / spread, rel=1e-3)
    assert bias + float((weights[:3] * x.mean(axis=0)).sum()) == pytest.approx(float(model.intercept_[0]), abs=1e-3)


def test_the_threshold_refuses_no_more_than_was_said() -> None:
    refused = []
    for seed in range(60):
        fitted = fit_presence(features(99, 3 * seed, 1.0), features(99, 3 * seed + 1, 0.0), false_reject=0.1)
        refused.append(float((fitted.probability(features(500, 3 * seed + 2, 1.0)) < fitted.threshold).mean()))
    error = float(np.std(refused, ddof=1)) / math.sqrt(len(refused))
    assert np.mean(refused) <= 0.1 + 4 * error
    assert np.mean(refused) >= 0.1 - 1 / 100 - 0.02 - 4 * error  # .02: the weights saw the same pictures


def test_presence_cannot_be_fitted_to_nothing_or_to_too_few() -> None:
    some = features(30, 0, 1.0)
    for a, b in ((some, np.zeros((0, 4))), (np.zeros((0, 4)), some)):
        with pytest.raises(CalibrationError, match="pictures without one"):
            fit_presence(a, b)
    with pytest.raises(
        CalibrationError, match=r"a false-reject rate of 0\.01 needs 99 held-out pictures, and there are 30"
    ):
        fit_presence(some, some, false_reject=0.01)
    with pytest.raises(CalibrationError, match="no score tells"):
        fit_presence(np.full((30, 4), np.nan), np.full((30, 4), np.nan))


def test_presence_survives_json_and_a_damaged_one_is_refused() -> None:
    fitted = fit_presence(features(50, 0, 1.0), features(50, 1, 0.0))
    plain = json.loads(json.dumps(fitted.to_dict()))
    assert Presence.from_dict(plain) == fitted
    for wrong in (
        {"threshold": 1.5},
        {"threshold": None},
        {"weights": {}},
        {"weights": {"colour": 1.0}},
        {"weights": {"energy": math.nan}},
        {"weights": [1]},
        {"bias": math.inf},
        {"pictures": 0},
        {"negatives": "50"},
    ):
        with pytest.raises(ModelError, match="calibration inside is damaged"):
            Presence.from_dict(plain | wrong)


def test_the_calibration_error_by_hand() -> None:
    # ten bins: (.55 right), (.65 wrong, .65 right), (.95 right x2): gaps .45 * 1, .15 * 2, .05 * 2, over 5
    top = np.array([0.55, 0.65, 0.65, 0.95, 0.95])
    p = np.stack([top, 1 - top], axis=1)
    told = reliability(p, [0, 1, 0, 0, 0], bins=10)
    assert told.ece == pytest.approx((0.45 + 0.30 + 0.10) / 5)
    assert told.count.tolist() == [0, 0, 0, 0, 0, 1, 2, 0, 0, 2]
    assert told.accuracy[[5, 6, 9]] == pytest.approx([1.0, 0.5, 1.0])
    assert told.confidence[6] == pytest.approx(0.65)
    assert np.isnan(told.accuracy[0])
    assert ece([[1.0, 0.0]], [0]) == 0.0
    with pytest.raises(ValueError, match="0 pictures"):
        ece(np.zeros((0, 2)), [])


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 2.5])
def test_the_temperature_is_found_again(true_temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((4000, 5))
    p = tempered(logits, true_temperature)
    labels = (p.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1).clip(max=4)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(true_temperature, rel=0.08)
    assert ece(tempered(logits, found), labels) < 0.025


def test_the_temperature_is_where_scipy_finds_the_least_cost() -> None:
    from scipy.optimize import minimize_scalar

    rng = np.random.default_rng(1)
    logits, labels = 3 * rng.standard_normal((60, 3)), rng.integers(0, 3, 60)

    def cost(log_t: float) -> float:
        p = tempered(logits, math.exp(log_t))
        return float(-np.log(p[np.arange(60), labels]).sum() + 0.5 * (log_t / 0.5) ** 2)

    best = minimize_scalar(cost, bounds=(math.log(0.05), math.log(20)), method="bounded", options={"xatol": 1e-9})
    assert math.log(fit_temperature(logits, labels)) == pytest.approx(best.x, abs=1e-4)


def test_a_few_pictures_that_are_all_right_do_not_promise_certainty() -> None:
    logits = np.array([[2.0, 0.0]] * 10)
    assert 0.2 < fit_temperature(logits, [0] * 10) < 1.0
    assert fit_temperature(np.zeros((5, 1)), [0] * 5) == 1.0
    assert fit_temperature(np.zeros((0, 3)), []) == 1.0


def test_handing_over_the_unsure_by_hand() -> None:
    told = risk_coverage([0.9, 0.2, 0.8, 0.5], [True, False, True, False])
    assert told.answered.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert told.accuracy == pytest.approx([1.0, 1.0, 2 / 3, 0.5])
    assert told.aurc == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    # equals share their mean, whatever their order
    assert risk_coverage([1, 1, 0], [1, 0, 1]).accuracy == pytest.approx([0.5, 0.5, 2 / 3])
    with pytest.raises(ValueError, match="0 pictures"):
        risk_coverage([], [])
