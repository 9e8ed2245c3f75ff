"""The learning curves as plots. Takes one mapping per epoch; gives `Plot`s of losses, scores and the two branches'
gradients. Leaves out whatever was not logged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from onebox.report.plots import INK, SERIES, Plot, canvas, in_words, legend, log_axis, number, to_svg, whole_epochs


def learning_curves(history: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """Losses, validation scores, gradient norms, their ratio and cosine over epochs. Rows may lack any key; a curve
    without a single finite value is left out, and so is a plot without curves. Raises MissingExtraError."""
    curves = _Curves(history)
    plots = [
        curves.plot(
            "Losses",
            "Mean over each epoch, before weighting.",
            {"loss_class": "class", "loss_box": "box"},
            log_from_ratio=30,
        ),
        curves.plot(
            "Validation",
            "Held-out pictures after each epoch"
            + (" until they taught, too" if curves.ends_early("val_joint_50") else "")
            + "; the dotted line marks the epoch that was kept.",
            {"val_joint_50": "class right and IoU > .5", "val_mean_iou": "mean IoU", "val_top1": "class right"},
            limits=(0.0, 1.0),
            mark_best=True,
        ),
        curves.plot(
            "Gradient norms at the trunk's output",
            "What each branch asks of the shared trunk. Of the same scale, neither drowns the other.",
            {"grad_class": "class", "grad_box": "box"},
            log_from_ratio=1,
        ),
        curves.plot(
            "Ratio of the two gradient norms",
            "1 means the same scale." + curves.box_weight(),
            {"grad_ratio": "ratio"},
            log_from_ratio=1,
            level=1.0,
        ),
        curves.plot(
            "Cosine of the two gradients",
            "Above 0 the branches pull the trunk the same way, below 0 against each other.",
            {"grad_cosine": "cosine"},
            limits=(-1.0, 1.0),
            level=0.0,
        ),
    ]
    return [plot for plot in plots if plot is not None]


class _Curves:
    """The history as columns, and the one way to draw some of them over epochs."""

    def __init__(self, history: Sequence[Mapping[str, Any]]) -> None:
        self.rows = list(history)
        self.epochs = [number(row.get("epoch"), i + 1) for i, row in enumerate(self.rows)]

    def column(self, key: str) -> list[float]:
        return [number(row.get(key), math.nan) for row in self.rows]

    def ends_early(self, key: str) -> bool:
        """Is there something in the first row, and nothing in the last?"""
        values = self.column(key)
        return bool(values) and math.isfinite(values[0]) and not math.isfinite(values[-1])

    def box_weight(self) -> str:
        weights = [w for w in self.column("box_weight") if math.isfinite(w)]
        return f" Box weight at the end: {weights[-1]:.4g}." if weights else ""

    def plot(
        self,
        title: str,
        caption: str,
        columns: Mapping[str, str],
        *,
        limits: tuple[float, float] | None = None,
        log_from_ratio: float = math.inf,
        level: float | None = None,
        mark_best: bool = False,
    ) -> Plot | None:
        """`log_from_ratio`: a log axis where largest / smallest positive value reaches this; `level`: a reference."""
        series = {text: self.column(key) for key, text in columns.items()}
        series = {text: ys for text, ys in series.items() if any(map(math.isfinite, ys))}
        if not series:
            return None
        figure, axes = canvas()
        for colour, (text, ys) in zip(SERIES, series.items(), strict=False):
            dot = "o" if len(self.rows) < 3 else None
            axes.plot(self.epochs, ys, color=colour, linewidth=2, marker=dot, markersize=4, label=text)
        finite = [y for ys in series.values() for y in ys if math.isfinite(y)]
        if min(finite) > 0 and max(finite) / min(finite) >= log_from_ratio:
            log_axis(axes, finite if level is None else [*finite, level])
        elif limits is not None:
            axes.set_ylim(*limits)
        else:
            axes.set_ylim(bottom=min(0.0, *finite) if len(finite) > 1 else None)
        if level is not None:
            axes.axhline(level, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), alpha=0.6)
        best = [e for e, row in zip(self.epochs, self.rows, strict=True) if row.get("best") is True]
        if mark_best and best:
            axes.axvline(best[-1], color=INK, linewidth=1, linestyle=(0, (1, 2)))
        whole_epochs(axes, self.epochs)
        axes.set_xlabel("epoch")
        if len(series) > 1:
            legend(axes)
        return Plot(title, caption, to_svg(figure, axes, "-".join(columns)), in_words(series))
