"""How good a set of answers is. Takes arrays of truths and answers; gives one `Metrics` with bootstrap intervals, the
median-box baseline, per-class figures and the confusion matrix. Never touches pictures or models; numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onebox.boxes import Floats, as_boxes, centre_error, iou, to_pixels
from onebox.calibration import ece

Integers: TypeAlias = npt.NDArray[np.int64]

#: Headline figures in the order of the scoreboard: field name -> how it is called in print.
HEADLINES: dict[str, str] = {
    "joint_50": "class right and IoU > .5",
    "top1": "class right (top-1)",
    "top5": "class right (top-5)",
    "mean_iou": "mean IoU",
    "box_acc_30": "IoU > .3",
    "box_acc_50": "IoU > .5",
    "box_acc_70": "IoU > .7",
    "box_acc_75": "IoU > .75",
    "box_acc_90": "IoU > .9",
    "max_box_acc_v2": "mean of IoU > .3, .5, .7",
    "joint_top5_50": "top-5 right and IoU > .5",
    "centre_error": "centre error (of diagonal)",
}
#: "Always the median box" names one class and ranks none, so these have no baseline.
WITHOUT_BASELINE = frozenset({"top5", "joint_top5_50"})

# Resampled pictures held in memory at once (about 16 MB of indices).
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class Metrics:
    """The scoreboard of `n` judged pictures. Every figure is a mean over pictures, in 0-1; all but `centre_error` are
    better when larger. IoU is taken in pixels of the upright picture; every threshold is strict (IoU > t).

    `top5`: the true class is among the five most probable; with fewer than five classes it is 1 by construction.
    `max_box_acc_v2`: mean of box accuracy at IoU .3, .5 and .7 (Choe et al. 2020, arXiv 2007.04178; there the maximum
    over activation thresholds, here the one box the model gives). `joint_50`: top-1 right and IoU > .5;
    `joint_top5_50`: the same with top-5. `centre_error`: distance of the centres as a fraction of the diagonal, with
    both sides scaled to 0-1 first.

    `intervals`: name -> (low, high), 95 % percentile bootstrap over pictures. Where every picture agrees (a figure of
    exactly 0 or 1) the interval has no width: the bootstrap cannot see what it never drew.
    `baseline`: the headline figures of "always the median box, always the majority class" (those of WITHOUT_BASELINE
    left out), plus its `label` and `box_01`; empty where none was given.
    `per_class`: class -> `n`, `top1`, `mean_iou`, `joint_50` (None where n is 0). `confusion`: rows are true classes,
    columns are answers, counts, in the order of `class_names`.
    `unreadable` and `unlabelled`: pictures that were given but could not be judged; not part of `n`.
    `ece`: the expected calibration error of the probabilities (15 equal-width bins, Guo et al. 2017), 0-1, better when
    smaller. `coverage`: promise ("outer_box", "inner_box", "iou_at_least", "class_set", "joint") -> what was `asked`
    and what was `reached` on these pictures; empty for a model without calibration. Told from pictures without an
    object by `presence`: `presence_auroc`, and `false_accept_95`, the share of the `negatives` accepted where 95 % of
    the others are; None where no such pictures were given.
    """

    n: int
    top1: float
    top5: float
    mean_iou: float
    box_acc_30: float
    box_acc_50: float
    box_acc_70: float
    box_acc_75: float
    box_acc_90: float
    max_box_acc_v2: float
    joint_50: float
    joint_top5_50: float
    centre_error: float
    class_names: tuple[str, ...]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    baseline: dict[str, Any] = field(default_factory=dict)
    per_class: dict[str, dict[str, Any]] = field(default_factory=dict)
    confusion: tuple[tuple[int, ...], ...] = ()
    unreadable: int = 0
    unlabelled: int = 0
    ece: float | None = None
    coverage: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    presence_auroc: float | None = None
    false_accept_95: float | None = None
    negatives: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values under the field names; tuples become lists, floats keep full precision."""
        plain = asdict(self)
        plain["class_names"] = list(self.class_names)
        plain["intervals"] = {name: list(pair) for name, pair in self.intervals.items()}
        plain["confusion"] = [list(row) for row in self.confusion]
        return plain

    def headlines(self) -> dict[str, str]:
        """The figures worth printing (name -> text): HEADLINES, less top-5 where five classes or fewer make it idle."""
        idle = WITHOUT_BASELINE if len(self.class_names) <= 5 else frozenset[str]()
        return {name: text for name, text in HEADLINES.items() if name not in idle}

    def __str__(self) -> str:
        """The scoreboard as plain text: model, interval, baseline."""
        wide = max(len(text) for text in HEADLINES.values())
        lines = [f"{'':{wide}}  {'model':>6}  {'95 % interval':>15}  {'median box':>10}".rstrip()]
        for name, text in self.headlines().items():
            low_high = self.intervals.get(name)
            spread = f"{_short(low_high[0])} to {_short(low_high[1])}" if low_high else ""
            base = _short(self.baseline[name]) if name in self.baseline else "-"
            lines.append(f"{text:{wide}}  {_short(getattr(self, name)):>6}  {spread:>15}  {base:>10}")
        if self.ece is not None:
            lines.append(f"{'calibration error (ECE)':{wide}}  {_short(self.ece):>6}  {'':>15}  {'-':>10}")
        lines += self._trust()
        lines.append(f"{self.n:,} pictures judged{_left_out(self.unreadable, self.unlabelled)}")
        return "\n".join(lines)

    def _trust(self) -> list[str]:
        """Lines on coverage and presence, as far as they are known."""
        lines: list[str] = []
        for promise, text in (("outer_box", "outer box"), ("class_set", "class set"), ("iou_at_least", "IoU floor")):
            pairs = ", ".join(f"{p['asked']:g}: {_short(p['reached'])}" for p in self.coverage.get(promise, ()))
            lines += [f"{text} holds, asked: reached  {pairs}"] if pairs else []
        if self.presence_auroc is not None and self.false_accept_95 is not None:
            lines.append(
                f"presence against {self.negatives:,} pictures without an object: AUROC {_short(self.presence_auroc)}, "
                f"{self.false_accept_95:.1%} accepted where 95 % of the others are"
            )
        return lines


def learn_baseline(labels: npt.ArrayLike, boxes_01: npt.ArrayLike, class_names: Sequence[str]) -> dict[str, Any]:
    """What "always the median box" says: `label`, the majority class (the earlier of equals), and `box_01`, the median
    of each edge over the training boxes.

    `labels`: (N,) indices into `class_names`; `boxes_01`: (N, 4). Raises ValueError for none, or for bad indices.
    """
    boxes = as_boxes(boxes_01)
    indices = _as_labels(labels, len(boxes), len(class_names), "labels")
    counts = np.bincount(indices, minlength=len(class_names))
    return {
        "label": class_names[int(counts.argmax())],
        "box_01": [float(edge) for edge in np.median(boxes, axis=0)],
    }


def compute_metrics(
    *,
    class_names: Sequence[str],
    true_labels: npt.ArrayLike,
    true_boxes_01: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    boxes_01: npt.ArrayLike,
    sizes: npt.ArrayLike,
    baseline: Mapping[str, Any] | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Metrics:
    """Judges N answers over C classes.

    `true_labels` (N,) indices into `class_names`; `true_boxes_01`, `boxes_01` (N, 4); `probabilities` (N, C), any
    monotone score does (equal scores rank in class order, as argmax does); `sizes` (N, 2) width and height in pixels;
    `baseline` is what `learn_baseline` gave (None or empty: no baseline). `resamples=0` leaves the intervals out.
    The intervals depend on `seed` and on nothing else. Raises ValueError for no pictures, mismatched shapes,
    labels out of range and values that are not finite.
    """
    true_boxes, boxes = as_boxes(true_boxes_01), as_boxes(boxes_01)
    scores, size = np.asarray(probabilities, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    n, n_classes = len(true_boxes), len(class_names)
    labels = _as_labels(true_labels, n, n_classes, "true_labels")
    for name, array, shape in (
        ("boxes_01", boxes, (n, 4)),
        ("probabilities", scores, (n, n_classes)),
        ("sizes", size, (n, 2)),
    ):
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
    for name, array in (("true_boxes_01", true_boxes), ("boxes_01", boxes), ("probabilities", scores), ("sizes", size)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")

    rank = _rank_of_true(scores, labels)
    values = _per_picture(rank, true_boxes, boxes, size)
    figures: dict[str, Any] = {name: float(column.mean()) for name, column in values.items()}
    answers = scores.argmax(axis=1).astype(np.int64)
    return Metrics(
        n=n,
        **figures,
        class_names=tuple(class_names),
        intervals=bootstrap_means(values, seed=seed, resamples=resamples),
        baseline=_judge_baseline(baseline, class_names, labels, true_boxes, size) if baseline else {},
        per_class=_per_class(class_names, labels, values),
        confusion=_confusion(labels, answers, n_classes),
        ece=ece(scores, labels) if ((scores >= 0) & (scores <= 1 + 1e-9)).all() else None,
    )


def _as_labels(labels: npt.ArrayLike, n: int, n_classes: int, name: str) -> Integers:
    array = np.asarray(labels)
    if n == 0:
        raise ValueError("there is nothing to judge: 0 pictures")
    if array.shape != (n,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be {n} integers, not {array.dtype} of shape {array.shape}")
    if array.min() < 0 or array.max() >= n_classes:
        raise ValueError(f"{name} must lie in 0 to {n_classes - 1}")
    return array.astype(np.int64)


def _rank_of_true(scores: Floats, labels: Integers) -> Integers:
    """(N, C), (N,) -> (N,): how many classes are ranked before the true one; 0 is top-1, as argmax sees it."""
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1])[None, :] < labels[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(axis=1).astype(np.int64)


def _per_picture(rank: Integers, true_boxes_01: Floats, boxes_01: Floats, sizes: Floats) -> dict[str, Floats]:
    """Every headline figure as (N,) values whose mean is the figure."""
    overlap = iou(to_pixels(true_boxes_01, sizes), to_pixels(boxes_01, sizes))
    above = {t: (overlap > t / 100).astype(np.float64) for t in (30, 50, 70, 75, 90)}
    top1, top5 = (rank < 1).astype(np.float64), (rank < 5).astype(np.float64)
    return {
        "top1": top1,
        "top5": top5,
        "mean_iou": overlap,
        **{f"box_acc_{t}": hit for t, hit in above.items()},
        "max_box_acc_v2": (above[30] + above[50] + above[70]) / 3,
        "joint_50": top1 * above[50],
        "joint_top5_50": top5 * above[50],
        "centre_error": centre_error(true_boxes_01, boxes_01),
    }


def bootstrap_means(values: Mapping[str, Floats], *, seed: int, resamples: int) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of the means (Efron 1979): pictures are drawn with replacement, all figures together.

    Counts of draws times values is one matrix product; chunks keep memory flat however many pictures there are.
    """
    if resamples < 1:
        return {}
    table = np.stack(list(values.values()), axis=1)
    n = len(table)
    rng = np.random.default_rng(seed)
    means: list[Floats] = []
    rows_at_once = max(1, _CHUNK // n)
    for start in range(0, resamples, rows_at_once):
        rows = min(rows_at_once, resamples - start)
        drawn = rng.integers(0, n, size=(rows, n)) + np.arange(rows)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        means.append(counts @ table / n)
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(values)}


def _judge_baseline(
    baseline: Mapping[str, Any], class_names: Sequence[str], labels: Integers, true_boxes_01: Floats, sizes: Floats
) -> dict[str, Any]:
    if baseline["label"] not in class_names:
        raise ValueError(f"the baseline's class {baseline['label']!r} is not one of the model's")
    majority = list(class_names).index(baseline["label"])
    box = as_boxes([baseline["box_01"]])
    rank = np.where(labels == majority, 0, len(class_names)).astype(np.int64)
    values = _per_picture(rank, true_boxes_01, np.repeat(box, len(labels), axis=0), sizes)
    figures = {name: float(v.mean()) for name, v in values.items() if name not in WITHOUT_BASELINE}
    return {"label": baseline["label"], "box_01": [float(edge) for edge in box[0]], **figures}


def _per_class(class_names: Sequence[str], labels: Integers, values: Mapping[str, Floats]) -> dict[str, dict[str, Any]]:
    counts = np.bincount(labels, minlength=len(class_names))
    names = ("top1", "mean_iou", "joint_50")
    sums = {name: np.bincount(labels, weights=values[name], minlength=len(class_names)) for name in names}
    return {
        label: {
            "n": int(counts[i]),
            **{name: float(sums[name][i] / counts[i]) if counts[i] else None for name in names},
        }
        for i, label in enumerate(class_names)
    }


def _confusion(labels: Integers, answers: Integers, n_classes: int) -> tuple[tuple[int, ...], ...]:
    counts = np.bincount(labels * n_classes + answers, minlength=n_classes * n_classes)
    return tuple(tuple(int(v) for v in row) for row in counts.reshape(n_classes, n_classes))


def _short(value: float) -> str:
    return f"{value:.3f}"


def _left_out(unreadable: int, unlabelled: int) -> str:
    parts = [
        f"{count:,} {what}"
        for count, what in ((unreadable, "could not be read"), (unlabelled, "without a label"))
        if count
    ]
    return f"; left out: {', '.join(parts)}" if parts else ""
