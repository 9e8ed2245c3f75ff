"""From facts to the page. Takes a run's facts, its history and its evaluation; gives one HTML file without scripts that
loads nothing. Every word that may come from a user passes Jinja's escaping; only our own CSS and plots are trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onebox.boxes import iou, to_pixels
from onebox.evaluation import Evaluation, Record
from onebox.metrics import Metrics
from onebox.pages import render_page, write_page
from onebox.report.confusion import confusion, mixed_up
from onebox.report.curves import learning_curves
from onebox.report.error_map import error_map, wilson
from onebox.report.facts import RunFacts
from onebox.report.gallery import galleries
from onebox.report.overlap import iou_histogram, success_curve
from onebox.report.plots import Plot
from onebox.report.trust import trust_note, trust_plots

# What keeps any page below 5 MB, with the letters of one value: rows of a list.
_MOST_ROWS = 300


def write_report(
    path: Path, *, title: str, run: RunFacts, history: Sequence[Mapping[str, Any]], evaluation: Evaluation | None
) -> None:
    """Writes the page to `path`, whole or not at all; a page already there is replaced.

    `history`: one mapping per epoch (see `curves.learning_curves`), empty for a bare evaluation; `evaluation` None for
    a run that could not be judged. Raises MissingExtraError without matplotlib, RunFolderError where the file cannot
    be written.
    """
    write_page(path, render_report(title=title, run=run, history=history, evaluation=evaluation))


def render_report(
    *, title: str, run: RunFacts, history: Sequence[Mapping[str, Any]], evaluation: Evaluation | None
) -> str:
    """The page as text; arguments as in `write_report`."""
    return render_page(
        "report",
        "page.html",
        title=title,
        run=run,
        took=_duration(run.seconds),
        curves=learning_curves(history),
        epochs=len(history),
        judged=_judged(evaluation, fitted_here=run.fitted_here) if evaluation else None,
        skipped=_capped(run.data.skipped),
        notes=_capped(run.data.notes),
        class_table=_class_table(run.data.class_counts),
    )


def _judged(evaluation: Evaluation, *, fitted_here: bool) -> dict[str, Any]:
    """Everything the page says of the scores."""
    metrics, records = evaluation.metrics, evaluation.records
    matrix = confusion(metrics)
    classes = sorted(metrics.per_class.items(), key=lambda item: _worst_first(item[1]))
    return {
        "metrics": metrics,
        "rows": _scoreboard(metrics),
        "plots": _overlap_plots(metrics, records),
        "classes": _capped([(name, c, *_interval(c)) for name, c in classes if c["n"]]),
        "empty_classes": sum(1 for _, c in classes if not c["n"]),
        "confusion": matrix,
        "mixed_up": mixed_up(metrics, most=5 if matrix and not matrix.dense else 10),
        "errors": error_map(records),
        "groups": galleries(records),
        "trust": trust_plots(evaluation),
        "trust_note": trust_note(evaluation, fitted_here=fitted_here),
        "unreadable": _capped(evaluation.unreadable),
        "unlabelled": evaluation.unlabelled,
    }


def _scoreboard(metrics: Metrics) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, text in metrics.headlines().items():
        low, high = metrics.intervals.get(name, (None, None))
        rows.append(
            {
                "name": name,
                "text": text,
                "value": getattr(metrics, name),
                "low": low,
                "high": high,
                "base": metrics.baseline.get(name),
                "bar": name != "centre_error",
            }
        )
    return rows


def _overlap_plots(metrics: Metrics, records: Sequence[Record]) -> list[Plot]:
    ious = [r.iou for r in records]
    base: Sequence[float] | None = None
    if metrics.baseline:
        truths = [r.box.xyxy for r in records]
        sizes = [r.box.image_size or (1, 1) for r in records]
        median = np.repeat([metrics.baseline["box_01"]], len(records), axis=0)
        base = [float(v) for v in iou(truths, to_pixels(median, sizes))]
    return [iou_histogram(ious), success_curve(ious, [r.class_right for r in records], base)]


def _class_table(class_counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Uses ("train", "val") as columns, classes as rows in the order in which they first come up."""
    uses = [use for use, counts in class_counts.items() if counts]
    names = list(dict.fromkeys(name for use in uses for name in class_counts[use]))
    rows = [(name, [class_counts[use].get(name, 0) for use in uses]) for name in names]
    return {"uses": uses, "rows": _capped(rows)}


def _capped(rows: Sequence[Any]) -> dict[str, Any]:
    return {"rows": list(rows[:_MOST_ROWS]), "total": len(rows), "more": max(0, len(rows) - _MOST_ROWS)}


def _interval(figures: Mapping[str, Any]) -> tuple[float, float]:
    return wilson(round(figures["joint_50"] * figures["n"]), figures["n"])


def _worst_first(figures: Mapping[str, Any]) -> tuple[float, float]:
    if not figures["n"]:
        return (2.0, 0.0)
    return (figures["joint_50"], figures["mean_iou"])


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
