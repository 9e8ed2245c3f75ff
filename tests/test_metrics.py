"""The scoreboard: hand-computed cases, scikit-learn and torchvision as referees, intervals, the baseline."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.metrics import HEADLINES, Metrics, compute_metrics, learn_baseline

NAMES = ("ant", "bee", "cat")


def by_hand(**changes: Any) -> Metrics:
    """Four pictures, three classes; IoU 1, 0.5 exactly, 1/3, 0; the second is misnamed."""
    given_values: dict[str, Any] = {
        "class_names": NAMES,
        "true_labels": [0, 1, 2, 2],
        "true_boxes_01": [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]],
        "probabilities": [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.2, 0.1, 0.7]],
        "boxes_01": [[0, 0, 1, 1], [0, 0, 1, 0.5], [0.25, 0, 0.75, 0.5], [0.5, 0.5, 1, 1]],
        "sizes": [[100, 50], [64, 64], [200, 100], [31, 17]],
        "baseline": {"label": "cat", "box_01": [0, 0, 0.5, 0.5]},
    }
    return compute_metrics(**{**given_values, **changes})


def crowd(n: int = 400, classes: int = 8, seed: int = 3) -> dict[str, Any]:
    """Noisy answers to many pictures."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 1, (n, 2, 2)), axis=1).reshape(n, 4)
    labels = rng.integers(0, classes, n)
    scores = rng.uniform(0, 1, (n, classes))
    scores[np.arange(n), labels] += 0.4
    return {
        "class_names": [f"c{i}" for i in range(classes)],
        "true_labels": labels,
        "true_boxes_01": corners,
        "probabilities": scores / scores.sum(axis=1, keepdims=True),
        "boxes_01": np.sort((corners + rng.normal(0, 0.05, corners.shape)).reshape(n, 2, 2), axis=1).reshape(n, 4),
        "sizes": rng.integers(10, 900, (n, 2)),
    }


def test_every_figure_by_hand() -> None:
    m = by_hand()
    assert m.n == 4
    assert m.top1 == 0.75
    assert m.top5 == 1.0
    assert m.mean_iou == pytest.approx((1 + 0.5 + 1 / 3 + 0) / 4)
    assert (m.box_acc_30, m.box_acc_50, m.box_acc_70, m.box_acc_75, m.box_acc_90) == (0.75, 0.25, 0.25, 0.25, 0.25)
    assert m.max_box_acc_v2 == pytest.approx((0.75 + 0.25 + 0.25) / 3)
    assert m.joint_50 == 0.25
    assert m.joint_top5_50 == 0.25
    assert m.centre_error == pytest.approx((0 + 0.25 + 0.25 + np.hypot(0.5, 0.5)) / 4 / np.sqrt(2))


def test_thresholds_are_strict() -> None:
    half = by_hand(boxes_01=[[0, 0, 1, 0.5]] * 2 + [[0, 0, 0.5, 0.25]] * 2)
    assert half.mean_iou == 0.5
    assert half.box_acc_50 == 0
    assert half.box_acc_30 == 1


def test_per_class_and_confusion_by_hand() -> None:
    m = by_hand()
    assert m.confusion == ((1, 0, 0), (1, 0, 0), (0, 0, 2))
    assert m.per_class["ant"] == {"n": 1, "top1": 1.0, "mean_iou": 1.0, "joint_50": 1.0}
    assert m.per_class["cat"]["mean_iou"] == pytest.approx(1 / 6)
    empty = by_hand(class_names=(*NAMES, "dog"), probabilities=np.eye(4)[[0, 0, 2, 2]])
    assert empty.per_class["dog"] == {"n": 0, "top1": None, "mean_iou": None, "joint_50": None}


def test_baseline_by_hand() -> None:
    base = by_hand().baseline
    assert base["label"] == "cat"
    assert base["top1"] == 0.5
    assert base["mean_iou"] == pytest.approx((0.25 + 0.25 + 1 + 1) / 4)
    assert base["joint_50"] == 0.5
    assert set(HEADLINES) - set(base) == {"top5", "joint_top5_50"}
    assert by_hand(baseline=None).baseline == by_hand(baseline={}).baseline == {}


def test_learn_baseline_takes_the_median_edge_and_the_majority() -> None:
    boxes = [[0, 0, 1, 1], [0.1, 0.2, 0.5, 0.6], [0.3, 0.1, 0.9, 0.7]]
    assert learn_baseline([2, 1, 2], boxes, NAMES) == {"label": "cat", "box_01": [0.1, 0.1, 0.9, 0.7]}
    assert learn_baseline([2, 1], boxes[:2], NAMES)["label"] == "bee", "of equals the earlier"
    with pytest.raises(ValueError, match="nothing to judge"):
        learn_baseline([], [], NAMES)


def test_scikit_learn_agrees() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    c = crowd()
    m = compute_metrics(**c)
    labels, scores = c["true_labels"], c["probabilities"]
    assert m.top1 == pytest.approx(sk.accuracy_score(labels, scores.argmax(axis=1)))
    assert m.top5 == pytest.approx(sk.top_k_accuracy_score(labels, scores, k=5, labels=range(8)))
    assert np.array_equal(m.confusion, sk.confusion_matrix(labels, scores.argmax(axis=1), labels=range(8)))
    recalls = sk.recall_score(labels, scores.argmax(axis=1), average=None)
    assert [m.per_class[f"c{i}"]["top1"] for i in range(8)] == pytest.approx(list(recalls))


def test_torchvision_agrees() -> None:
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    c = crowd()
    scale = np.tile(c["sizes"], 2)
    theirs = ops.box_iou(*(torch.from_numpy(c[k] * scale) for k in ("true_boxes_01", "boxes_01"))).diagonal().numpy()
    right = c["probabilities"].argmax(axis=1) == c["true_labels"]
    m = compute_metrics(**c)
    assert m.mean_iou == pytest.approx(theirs.mean())
    for percent in (30, 50, 70, 75, 90):
        assert getattr(m, f"box_acc_{percent}") == pytest.approx((theirs > percent / 100).mean())
    assert m.joint_50 == pytest.approx((right & (theirs > 0.5)).mean())


def test_iou_does_not_depend_on_the_pictures_size() -> None:
    c = crowd(50)
    square = compute_metrics(**{**c, "sizes": np.full((50, 2), 100)})
    assert compute_metrics(**c).mean_iou == pytest.approx(square.mean_iou)


def test_equal_scores_rank_in_class_order_as_argmax_does() -> None:
    m = by_hand(probabilities=np.full((4, 3), 1 / 3))
    assert m.top1 == 0.25, "argmax of a tie is the first class"
    many = crowd(100, classes=12)
    flat = compute_metrics(**{**many, "probabilities": np.full((100, 12), 1 / 12)})
    assert flat.top5 == pytest.approx((many["true_labels"] < 5).mean())


def test_intervals_are_deterministic_and_hold_the_figure() -> None:
    c = crowd()
    m = compute_metrics(**c)
    assert m == compute_metrics(**c)
    assert m.intervals != compute_metrics(**c, seed=1).intervals
    for name in HEADLINES:
        low, high = m.intervals[name]
        assert low <= getattr(m, name) <= high
    assert compute_metrics(**c, resamples=0).intervals == {}


def test_intervals_match_the_normal_theory() -> None:
    """For a proportion over 400 pictures the bootstrap must give about p +- 1.96 sqrt(p(1-p)/n)."""
    m = compute_metrics(**crowd(), resamples=4000)
    half = 1.96 * np.sqrt(m.top1 * (1 - m.top1) / m.n)
    assert m.intervals["top1"] == pytest.approx((m.top1 - half, m.top1 + half), abs=0.006)


def test_intervals_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    c = crowd(60)
    whole = compute_metrics(**c).intervals
    monkeypatch.setattr("onebox.metrics._CHUNK", 500)
    assert compute_metrics(**c).intervals == whole


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 10_000))
def test_figures_keep_their_order_and_range(n: int, classes: int, seed: int) -> None:
    m = compute_metrics(**crowd(n, classes, seed), resamples=20)
    assert all(0 <= getattr(m, name) <= 1 for name in HEADLINES)
    assert m.box_acc_30 >= m.box_acc_50 >= m.box_acc_70 >= m.box_acc_75 >= m.box_acc_90
    assert m.joint_50 <= min(m.top1, m.box_acc_50)
    assert m.joint_50 <= m.joint_top5_50 <= m.top5
    assert sum(map(sum, m.confusion)) == n == sum(c["n"] for c in m.per_class.values())
    assert m.top1 == pytest.approx(sum(m.confusion[i][i] for i in range(classes)) / n)


def test_to_dict_is_json_with_the_promised_keys() -> None:
    plain = by_hand().to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert {"n", "top1", "mean_iou", "box_acc_50", "box_acc_75", "joint_50", "baseline", "intervals"} <= set(plain)
    assert plain["baseline"]["joint_50"] == 0.5
    assert plain["intervals"]["top1"] == list(by_hand().intervals["top1"])


def test_the_scoreboard_is_a_table() -> None:
    text = str(by_hand())
    lines = text.splitlines()
    assert "model" in lines[0]
    assert "median box" in lines[0]
    joint = next(line for line in lines if line.startswith("class right and IoU > .5"))
    assert joint.split()[-5:] == ["0.250", "0.000", "to", "0.750", "0.500"]
    assert lines[-1] == "4 pictures judged"
    assert "top-5" not in text, "idle with three classes"
    assert len({len(line) for line in lines[:-1]}) == 1, "columns line up"
    assert "top-5" in str(compute_metrics(**crowd()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"true_labels": [0, 1, 2, 3]}, "0 to 2"),
        ({"true_labels": [0, -1, 2, 2]}, "0 to 2"),
        ({"true_labels": [0, 1]}, "4 integers"),
        ({"true_labels": [0.0, 1, 2, 2]}, "4 integers"),
        ({"probabilities": np.full((4, 2), 0.5)}, "probabilities must have shape"),
        ({"boxes_01": [[0, 0, 1, 1]]}, "boxes_01 must have shape"),
        ({"sizes": [10, 10]}, "sizes must have shape"),
        ({"boxes_01": [[0, 0, 1, np.nan]] * 4}, "boxes_01 holds values that are not finite"),
        ({"probabilities": np.full((4, 3), np.inf)}, "not finite"),
        ({"true_labels": [], "true_boxes_01": []}, "0 pictures"),
        ({"baseline": {"label": "yak", "box_01": [0, 0, 1, 1]}}, "'yak'"),
    ],
)
def test_what_cannot_be_judged_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        by_hand(**changes)
