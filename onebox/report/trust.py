"""How far a model's own numbers can be trusted, as plots: calibration, what remains when the unsure are handed on,
coverage of the promises, presence. Takes an evaluation; gives `Plot`s of what the model has and nothing for what it has
not. Fits nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onebox.boxes import Floats
from onebox.calibration import PROMISES, Calibration, coverage_curve, reliability, risk_coverage
from onebox.evaluation import Evaluation, Record, judged
from onebox.metrics import Metrics
from onebox.report.plots import INK, SERIES, Plot, canvas, integers, legend, to_svg

_PROMISES = {
    "outer_box": "outer box",
    "inner_box": "inner box",
    "iou_at_least": "IoU floor",
    "class_set": "class set",
    "joint": "box and class",
}
#: Pictures in a bin of the reliability diagram below which its dot says little.
_FEW = 5


def trust_plots(evaluation: Evaluation) -> list[Plot]:
    """Raises MissingExtraError."""
    records, metrics = evaluation.records, evaluation.metrics
    calibration = records[0].prediction.calibration
    plots = [_reliability(records, metrics), _risk(records)]
    if calibration is not None and (plot := _coverage(records, calibration)) is not None:
        plots.append(plot)
    presence = [r.prediction.presence for r in records if r.prediction.presence is not None]
    if presence:
        plots.append(_presence(presence, records, metrics))
    return plots


def trust_note(evaluation: Evaluation, *, fitted_here: bool) -> str:
    """Where the calibration came from, in a sentence or two. `fitted_here`: on the pictures of this evaluation."""
    calibration = evaluation.records[0].prediction.calibration
    if calibration is None:
        return "The model is not calibrated (`onebox calibrate` does that): its probabilities are those of the network."
    note = (
        f"Calibrated on {calibration.pictures:,} pictures ({calibration.source}): temperature"
        f" {calibration.temperature:.3g}, expected calibration error there {calibration.ece_before:.3f} before and"
        f" {calibration.ece_after:.3f} after."
    )
    if fitted_here:
        note += (
            " They are the pictures of this report, so the plots here flatter: `onebox evaluate` on others does not."
        )
    return note


def _reliability(records: Sequence[Record], metrics: Metrics) -> Plot:
    names = {name: i for i, name in enumerate(records[0].prediction.class_names)}
    probabilities = np.stack([r.prediction.probabilities for r in records])
    found = reliability(probabilities, np.array([names[r.label] for r in records]))
    figure, axes = canvas()
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 2)), alpha=0.6)
    some = found.count > 0
    area = 12 + 180 * found.count[some] / found.count.max()
    axes.vlines(found.confidence[some], found.confidence[some], found.accuracy[some], color=SERIES[1], linewidth=1)
    axes.scatter(found.confidence[some], found.accuracy[some], s=area, color=SERIES[0], linewidths=0, zorder=3)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlabel("probability of the answer")
    axes.set_ylabel("share right")
    pairs = [
        f"{c:.2f} sure: {a:.2f} right"
        for c, a, n in zip(found.confidence, found.accuracy, found.count, strict=True)
        if n >= _FEW
    ]
    return Plot(
        "Is it as sure as it is right?",
        "Class only. Dots on the dotted line: right as often as the probability says; below it, too sure. Larger dots:"
        f" more pictures. Expected calibration error {metrics.ece if metrics.ece is not None else found.ece:.3f}.",
        to_svg(figure, axes, "reliability"),
        "; ".join(pairs) + ".",
    )


def _risk(records: Sequence[Record]) -> Plot:
    score = np.array([r.prediction.score for r in records])
    curves = {
        "class": risk_coverage(score, np.array([r.class_right for r in records])),
        "class and box": risk_coverage(score, np.array([r.right for r in records])),
    }
    figure, axes = canvas()
    # the first few pictures say nothing: one mistake among three is no third
    first = min(len(records) - 1, max(0, len(records) // 50))
    lowest = 1.0
    for colour, (name, curve) in zip(SERIES, curves.items(), strict=False):
        x, y = _thinned(curve.answered[first:], curve.accuracy[first:])
        axes.plot(x, y, color=colour, linewidth=2, label=name)
        lowest = min(lowest, float(y.min()))
    axes.set_xlim(0, 1)
    axes.set_ylim(max(0.0, lowest - 0.05), 1.005)
    axes.set_xlabel("share answered, surest first")
    axes.set_ylabel("share of them right")
    legend(axes)
    at = (0.5, 0.8, 0.9, 1.0)
    words = "; ".join(
        f"{name}: " + ", ".join(f"{np.interp(t, c.answered, c.accuracy):.3f} of the surest {t:.0%}" for t in at)
        for name, c in curves.items()
    )
    areas = ", ".join(f"{name} {curve.aurc:.3f}" for name, curve in curves.items())
    return Plot(
        "If the unsure are left to a person",
        f"The share right among those answered, the surest first. Mean error over the curve (AURC): {areas}.",
        to_svg(figure, axes, "risk-coverage"),
        words + ".",
    )


def _coverage(records: Sequence[Record], calibration: Calibration) -> Plot | None:
    curves = coverage_curve(calibration, judged(records))
    figure, axes = canvas()
    lines: list[str] = []
    lowest = 1.0
    for colour, promise in zip(SERIES, PROMISES, strict=False):
        pairs = curves.get(promise, [])
        if not pairs:
            continue
        asked, reached = (np.array(column) for column in zip(*pairs, strict=True))
        axes.plot(
            asked, reached, color=colour, linewidth=2, label=_PROMISES[promise], marker="o" if len(pairs) < 3 else None
        )
        lines.append(f"{_PROMISES[promise]}: {reached[-1]:.3f} reached where {asked[-1]:g} was asked")
        lowest = min(lowest, float(asked.min()), float(reached.min()))
    if not lines:
        return None
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 2)), alpha=0.6)
    axes.set_xlim(max(0.0, lowest - 0.02), 1.0)
    axes.set_ylim(max(0.0, lowest - 0.02), 1.01)
    axes.set_xlabel("coverage asked for")
    axes.set_ylabel("reached here")
    legend(axes)
    return Plot(
        "Are its promises kept?",
        "The share of pictures for which a promise held, beside what was asked; on or above the dotted line it did.",
        to_svg(figure, axes, "coverage"),
        "; ".join(lines) + ".",
    )


def _presence(presence: Sequence[float], records: Sequence[Record], metrics: Metrics) -> Plot:
    values = np.array(presence, dtype=np.float64)
    accepted = sum(r.prediction.present is True for r in records)
    refused = [r.prediction.presence for r in records if r.prediction.present is False]
    figure, axes = canvas()
    counts, edges = np.histogram(values, bins=20, range=(0.0, 1.0))
    axes.bar((edges[:-1] + edges[1:]) / 2, counts, width=0.046, color=SERIES[0])
    lows = [r.prediction.presence for r in records if r.prediction.present and r.prediction.presence is not None]
    if refused and lows:  # the threshold lies between the two
        axes.axvline(
            (max(v for v in refused if v is not None) + min(lows)) / 2, color=INK, linewidth=1, linestyle=(0, (1, 2))
        )
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability that there is an object")
    axes.set_ylabel("pictures with one")
    axes.yaxis.set_major_locator(integers())
    caption = f"{accepted:,} of {len(values):,} pictures with an object are taken for such."
    if metrics.presence_auroc is not None and metrics.false_accept_95 is not None:
        caption += (
            f" Against {metrics.negatives:,} pictures without one: AUROC {metrics.presence_auroc:.3f};"
            f" {metrics.false_accept_95:.1%} of them accepted where 95 % of the others are."
        )
    return Plot("Is there an object at all?", caption, to_svg(figure, axes, "presence"), caption)


def _thinned(x: Floats, y: Floats, most: int = 400) -> tuple[Floats, Floats]:
    """At most so many points: what a drawing 5 inches wide can show."""
    if len(x) <= most:
        return x, y
    at = np.unique(np.linspace(0, len(x) - 1, most).round().astype(np.int64))
    return x[at], y[at]
