"""The bound on scores, by hand and by its properties; what is kept of many scores; sets and boxes that grow with the
coverage; and the coverage itself, by a statistical criterion with a control that must fail it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onebox.calibration import (
    PROMISES,
    Calibration,
    Judged,
    Scores,
    conditional_coverage,
    coverage_curve,
    fit_calibration,
    tempered,
)
from onebox.calibration.class_sets import class_scores, class_set, rank_scores
from onebox.calibration.conformal import KEPT, kept_ranks, log_softmax, rank_for
from onebox.calibration.edges import inner_boxes, inner_scores, iou_scores, outer_boxes, outer_scores
from onebox.calibration.fitted import joint_ranks
from onebox.errors import CalibrationError, ModelError

COVERAGES = st.floats(0.05, 0.95)


def made_up(n: int, seed: int, *, spread: float = 1.0, classes: int = 4) -> Judged:
    """Answers whose edge errors are `spread` times what their sigmas say, and whose classes are often right."""
    rng = np.random.default_rng(seed)
    true = np.sort(rng.uniform(0.1, 0.9, (n, 2, 2)), axis=1).reshape(n, 4)
    true[:, 2:] = np.minimum(true[:, 2:] + 0.1, 1.0)
    sigmas = rng.uniform(0.005, 0.05, (n, 4))
    boxes = np.clip(true + spread * sigmas * rng.standard_normal((n, 4)), 0, 1)
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    labels = rng.integers(0, classes, n)
    logits = rng.standard_normal((n, classes)) + 2.5 * spread**-1 * np.eye(classes)[labels]
    return Judged(logits, labels, boxes, sigmas, true)


@pytest.mark.parametrize(
    ("n", "coverage", "rank"),
    [(9, 0.9, 9), (10, 0.9, 10), (19, 0.95, 19), (99, 0.9, 90), (29, 0.9, 27), (100, 0.8, 81), (4, 0.01, 1)],
)
def test_the_rank_by_hand(n: int, coverage: float, rank: int) -> None:
    # ceil((n + 1) coverage): 10 * .9 = 9; 11 * .9 = 9.9 -> 10; 20 * .95 = 19; 100 * .9 = 90; 30 * .9 = 27 (not 28);
    # 101 * .8 = 80.8 -> 81
    assert rank_for(coverage, n) == rank
    assert Scores.of(np.arange(n, 0, -1)).bound(coverage) == rank


@pytest.mark.parametrize(("n", "coverage", "needed"), [(8, 0.9, 9), (18, 0.95, 19), (98, 0.99, 99), (1, 0.8, 4)])
def test_a_coverage_out_of_reach_is_refused_with_the_number_needed(n: int, coverage: float, needed: int) -> None:
    with pytest.raises(
        CalibrationError, match=rf"needs at least {needed} calibration pictures, and this model has {n}"
    ):
        Scores.of(np.arange(n)).bound(coverage)
    Scores.of(np.arange(needed)).bound(coverage)


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 90.0, math.nan])
def test_what_is_no_probability_is_refused(coverage: float) -> None:
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        Scores.of(np.arange(50)).bound(coverage)


def test_of_many_scores_the_largest_are_kept_and_the_others_bounded_from_above() -> None:
    n = 5000
    scores = np.random.default_rng(0).standard_normal(n)
    kept, ordered = Scores.of(scores), np.sort(scores)
    assert len(kept.values) == KEPT == len(np.unique(kept_ranks(n)))
    for rank in (1, 2, 777, 2500, 4499, 4501, 4999, 5000):
        assert kept.at_rank(rank) >= ordered[rank - 1]
    assert kept.at_rank(4750) == pytest.approx(ordered[4749], rel=1e-5)
    assert kept.at_rank(2500) - ordered[2499] < 0.02
    assert len(Scores.of(scores[:900]).values) == 900


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_rounding_goes_up_and_files_give_back_what_they_got(values: list[float]) -> None:
    kept = Scores.of(values)
    ordered = np.sort(values)
    assert (kept.values >= ordered).all()
    assert np.allclose(kept.values, ordered, rtol=2e-5, atol=0)
    again = Scores.from_list(json.loads(json.dumps(kept.to_list())), len(values), "scores")
    assert np.array_equal(again.values, kept.values)


def test_an_infinite_score_survives_json() -> None:
    kept = Scores.of([1.0, math.inf])
    again = Scores.from_list(json.loads(json.dumps(kept.to_list())), 2, "scores")
    assert again.at_rank(2) == math.inf


def test_scores_of_boxes_by_hand() -> None:
    box, sigma = [[0.3, 0.3, 0.7, 0.7]], [[0.1, 0.1, 0.1, 0.05]]
    true = [[0.25, 0.32, 0.6, 0.8]]
    # outward: left .05 / .1, top -.02 / .1, right -.1 / .1, bottom .1 / .05 = 2; inward the same with the other sign
    assert outer_scores(box, sigma, true)[0] == pytest.approx(2.0)
    assert inner_scores(box, sigma, true)[0] == pytest.approx(1.0)
    assert outer_boxes(box, sigma, 2.0)[0] == pytest.approx([0.1, 0.1, 0.9, 0.8])
    assert inner_boxes(box, sigma, 1.0)[0][0] == pytest.approx([0.4, 0.4, 0.6, 0.65])
    # overlap .3 * .38 = .114, union .16 + .168 - .114 = .214; expected (.2 + .15) / .4 = .875
    assert iou_scores(box, sigma, true)[0] == pytest.approx((1 - 0.114 / 0.214) / 0.875)


def test_without_sigmas_errors_are_measured_in_sides() -> None:
    box, none = [[0.2, 0.2, 0.6, 0.4]], [[math.nan] * 4]
    true = [[0.1, 0.2, 0.6, 0.45]]
    assert outer_scores(box, none, true)[0] == pytest.approx(max(0.1 / 0.4, 0.05 / 0.2))
    assert outer_boxes(box, none, 0.5)[0] == pytest.approx([0.0, 0.1, 0.8, 0.5])


def test_class_sets_by_hand() -> None:
    p = np.array([0.1, 0.6, 0.25, 0.05])
    order, scores = rank_scores(np.log([p]))
    assert order[0].tolist() == [1, 2, 0, 3]
    assert scores[0] == pytest.approx([0.0, 0.6, 0.85, 0.95])
    assert class_scores(np.log([p, p]), [1, 0]) == pytest.approx([0.0, 0.85])
    assert class_set(np.log(p), 0.0) == (1,)
    assert class_set(np.log(p), 0.7) == (1, 2)
    assert class_set(np.log(p), 1.0) == (1, 2, 0, 3)
    assert class_set(np.log(p), -1.0) == (1,)
    many = rank_scores(np.log([np.full(8, 1 / 8)]))[1][0]
    assert many == pytest.approx([k / 8 + 0.01 * max(0, k - 4) for k in range(8)])


@given(
    hnp.arrays(np.float64, (4,), elements=st.floats(0.001, 0.4)), st.floats(-3, 10), st.floats(0, 5), st.integers(0, 99)
)
def test_boxes_are_nested_and_inside_the_picture(sigmas: np.ndarray, bound: float, more: float, seed: int) -> None:
    x0, y0, x1, y1 = np.random.default_rng(seed).uniform(0, 1, 4)
    box = np.array([[min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]])
    smaller, larger = (outer_boxes(box, sigmas[None], b)[0] for b in (bound, bound + more))
    assert (larger[:2] <= smaller[:2] + 1e-12).all()
    assert (larger[2:] >= smaller[2:] - 1e-12).all()
    assert (smaller[2:] >= smaller[:2] - 1e-12).all()
    assert smaller.min() >= 0
    assert smaller.max() <= 1
    (inner,), (there,) = inner_boxes(box, sigmas[None], bound)
    (deeper,), (still,) = inner_boxes(box, sigmas[None], bound + more)
    assert there or not still
    if there and still:
        assert (deeper[:2] >= inner[:2] - 1e-12).all()
        assert (deeper[2:] <= inner[2:] + 1e-12).all()


@given(hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(-30, 30)), st.floats(-0.5, 1.5), st.floats(0, 1))
def test_class_sets_are_nested_never_empty_and_begin_with_the_best(
    logits: np.ndarray, bound: float, more: float
) -> None:
    log_p = log_softmax(logits[None])[0]
    small, large = class_set(log_p, bound), class_set(log_p, bound + more)
    assert large[: len(small)] == small
    assert small[0] == int(log_p.argmax())
    assert len(set(large)) == len(large) <= len(logits)


@given(hnp.arrays(np.float64, (3, 5), elements=st.floats(-40, 40).map(lambda v: round(v, 3))), st.floats(0.05, 20))
def test_a_temperature_never_changes_the_answer(logits: np.ndarray, temperature: float) -> None:
    p = tempered(logits, temperature)
    assert (p.argmax(axis=1) == logits.argmax(axis=1)).all()
    assert p.sum(axis=1) == pytest.approx(np.ones(3))


@given(COVERAGES, COVERAGES)
def test_more_coverage_never_asks_for_less(a: float, b: float) -> None:
    calibration, fresh = fit_calibration(made_up(120, 0), source="calibration"), made_up(50, 1)
    low, high = sorted((a, b))
    for promise in PROMISES[:-1]:
        assert calibration.bound(promise, low) <= calibration.bound(promise, high)
    kept_low, kept_high = calibration.kept(fresh, low), calibration.kept(fresh, high)
    assert not any((kept_low[p] & ~kept_high[p]).any() for p in kept_high if p in kept_low)


def test_joint_ranks_by_hand() -> None:
    # ranks of a: 1 2 3 4; of b: 3 1 1 4 (two equal smallest, both of rank 1, then 3)
    assert joint_ranks([0.1, 0.2, 0.3, 0.4], [5, 1, 1, 9]).tolist() == [3, 2, 3, 4]


def test_the_joint_promise_says_how_many_pictures_it_needs() -> None:
    with pytest.raises(CalibrationError, match="needs at least 29 calibration pictures, and this model has 12"):
        fit_calibration(made_up(12, 0), source="calibration").joint_bounds(0.9)
    fit_calibration(made_up(29, 0), source="calibration").joint_bounds(0.9)


def mean_coverages(calibrate_on: float, *, splits: int = 120, n: int = 99) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Promise -> mean coverage and its standard error at .95, .9 and .8, each of `splits` times calibrated on `n` fresh
    pictures with edge errors of `calibrate_on` sigmas, and put to 200 fresh ones with errors of one sigma."""
    reached: dict[str, list[list[float]]] = {promise: [] for promise in PROMISES}
    for seed in range(splits):
        calibration = fit_calibration(made_up(n, 2 * seed, spread=calibrate_on), source="calibration")
        curves = coverage_curve(calibration, made_up(200, 2 * seed + 1), (0.95, 0.9, 0.8))
        for promise, pairs in curves.items():
            reached[promise].append([share for _, share in pairs])
    found = {promise: np.array(shares) for promise, shares in reached.items()}
    return {p: (x.mean(axis=0), x.std(axis=0, ddof=1) / math.sqrt(splits)) for p, x in found.items()}


def within(mean: np.ndarray, error: np.ndarray, n: int = 99, *, upper: bool = True) -> bool:
    """The criterion: in [1 - a, 1 - a + 1 / (n + 1)], give or take four standard errors."""
    asked = np.array([0.95, 0.9, 0.8])
    low, high = asked - 4 * error, asked + 1 / (n + 1) + 4 * error
    return bool((mean >= low).all() and (not upper or (mean <= high).all()))


def test_coverage_is_what_was_asked_and_the_control_fails() -> None:
    good, control = mean_coverages(1.0), mean_coverages(0.6)
    for promise in ("outer_box", "iou_at_least"):
        assert within(*good[promise]), (promise, good[promise])
    for promise in PROMISES:  # sets never empty, ranks on the safe side: more than asked at times, never less
        assert within(*good[promise], upper=False), (promise, good[promise])
    assert within(*good["joint"], n=99 // 4), good["joint"]  # and not much more
    for promise in ("outer_box", "iou_at_least", "joint"):
        assert not within(*control[promise], upper=False), (promise, control[promise])


def test_the_mean_coverage_is_made_of_that_of_its_groups() -> None:
    calibration, fresh = fit_calibration(made_up(60, 0), source="calibration"), made_up(50, 1)
    groups = conditional_coverage(calibration, fresh, ["a", "b", "c", "d"], 0.8)
    total = float(calibration.kept(fresh, 0.8)["outer_box"].mean())
    for part in (groups[:4], groups[4:7], groups[7:]):  # classes, sizes, distances from the centre
        assert sum(g.count for g in part) == 50
        assert sum(g.count * g.reached for g in part) / 50 == pytest.approx(total)
    assert [g.name for g in groups[4:]] == [
        "small objects", "middle-sized objects", "large objects",
        "near the centre", "further out", "far from the centre",
    ]  # fmt: skip
    assert [g.count for g in groups[4:7]] == [17, 17, 16]
    for promise in ("outer_box", "joint"):
        with pytest.raises(CalibrationError, match="calibration pictures"):
            conditional_coverage(calibration, fresh, ["a", "b", "c", "d"], 0.99, promise=promise)


def test_too_few_pictures_are_refused_before_anything_is_fitted() -> None:
    with pytest.raises(CalibrationError, match=r"at least 9 labelled pictures .* there are 8"):
        fit_calibration(made_up(8, 0), source="calibration")


def test_a_calibration_survives_json_and_a_damaged_one_is_refused() -> None:
    calibration = fit_calibration(made_up(40, 0), source="validation")
    plain = json.loads(json.dumps(calibration.to_dict()))
    again = Calibration.from_dict(plain)
    assert again.to_dict() == calibration.to_dict()
    assert again.joint_bounds(0.8) == calibration.joint_bounds(0.8)
    scores = plain["scores"]
    for wrong in (
        {"temperature": 0},
        {"temperature": "1"},
        {"temperature": math.inf},
        {"temperature": None},
        {"ece_before": 1.5},
        {"ece_after": True},
        {"pictures": 39},
        {"pictures": 40.0},
        {"pictures": 10**30},
        {"source": 3},
        {"scores": []},
        {"scores": {k: v for k, v in scores.items() if k != "joint"}},
        {"scores": scores | {"outer_box": scores["outer_box"][::-1]}},
        {"scores": scores | {"inner_box": [*scores["inner_box"][:-1], None]}},
        {"scores": scores | {"class_set": [*scores["class_set"][:-1], math.nan]}},
        {"scores": scores | {"joint": [v + 0.5 for v in scores["joint"]]}},
        {"scores": scores | {"joint": [*scores["joint"][:-1], 41]}},
        {"scores": scores | {"iou_at_least": "all"}},
    ):
        with pytest.raises(ModelError, match="calibration inside is damaged"):
            Calibration.from_dict(plain | wrong)
