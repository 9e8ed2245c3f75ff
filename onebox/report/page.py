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
from onebox.report.facts import RunFacts
from onebox.report.gallery import galleries
from onebox.report.plots import Plot, iou_histogram, learning_curves, success_curve

# What keeps any page below 5 MB, with the letters of one value: rows of a list, classes of a confusion matrix.
_MOST_ROWS = 300
_MOST_CONFUSED = 20


def write_report(
    path: Path, *, title: str, run: RunFacts, history: Sequence[Mapping[str, Any]], evaluation: Evaluation | None
) -> None:
    """Writes the page to `path`, whole or not at all; a page already there is replaced.

    `history`: one mapping per epoch (see `plots.learning_curves`), empty for a bare evaluation; `evaluation` None for
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
        judged=_judged(evaluation) if evaluation else None,
        skipped=_capped(run.data.skipped),
        class_table=_class_table(run.data.class_counts),
        most_rows=_MOST_ROWS,
    )


def _judged(evaluation: Evaluation) -> dict[str, Any]:
    """Everything the page says of the scores."""
    metrics, records = evaluation.metrics, evaluation.records
    confusion = _confusion(metrics)
    classes = sorted(metrics.per_class.items(), key=lambda item: _worst_first(item[1]))
    return {
        "metrics": metrics,
        "rows": _scoreboard(metrics),
        "plots": _overlap_plots(metrics, records),
        "classes": _capped([(name, c) for name, c in classes if c["n"]]),
        "empty_classes": sum(1 for _, c in classes if not c["n"]),
        "confusion": confusion,
        "mixed_up": _mixed_up(metrics, most=5 if confusion else 10),
        "groups": galleries(records),
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


def _confusion(metrics: Metrics) -> list[dict[str, Any]]:
    """Rows for the matrix, each cell with its share of the row; empty where there are too many classes to read."""
    if not 2 <= len(metrics.class_names) <= _MOST_CONFUSED:
        return []
    rows: list[dict[str, Any]] = []
    for i, counts in enumerate(metrics.confusion):
        total = sum(counts)
        cells = [{"n": n, "share": n / total if total else 0.0, "right": i == j} for j, n in enumerate(counts)]
        rows.append({"label": metrics.class_names[i], "cells": cells, "n": total})
    return rows


def _mixed_up(metrics: Metrics, most: int) -> list[tuple[str, str, int]]:
    """The commonest mistakes: (true class, answer, pictures)."""
    names = metrics.class_names
    wrong = [(n, i, j) for i, row in enumerate(metrics.confusion) for j, n in enumerate(row) if n and i != j]
    wrong.sort(key=lambda item: (-item[0], item[1], item[2]))
    return [(names[i], names[j], n) for n, i, j in wrong[:most]]


def _class_table(class_counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Uses ("train", "val") as columns, classes as rows in the order in which they first come up."""
    uses = [use for use, counts in class_counts.items() if counts]
    names = list(dict.fromkeys(name for use in uses for name in class_counts[use]))
    rows = [(name, [class_counts[use].get(name, 0) for use in uses]) for name in names]
    return {"uses": uses, "rows": _capped(rows)}


def _capped(rows: Sequence[Any]) -> dict[str, Any]:
    return {"rows": list(rows[:_MOST_ROWS]), "total": len(rows), "more": max(0, len(rows) - _MOST_ROWS)}


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
