"""The report's plots as inline SVG. Takes numbers; gives `Plot`s whose colours are CSS variables of the page, so that
one drawing serves light, dark and print. Never draws text that comes from a user, never touches pyplot.
"""

from __future__ import annotations

import io
import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onebox.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

# Matplotlib wants real colours; these stand for the page's CSS variables until the drawing is text.
_INK, _GRID = "#010203", "#010204"
SERIES = ("#0102a1", "#0102a2", "#0102a3")
_CSS = {
    _INK: "currentColor",
    _GRID: "var(--grid)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, start=1)},
}
# rc_context swaps global settings for the moment of drawing; two threads must not do so at once.
_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing: `title` and `caption` are plain text, `svg` is trusted markup; `summary` says in words what the
    drawing shows, for those who do not see it."""

    title: str
    caption: str
    svg: str
    summary: str = ""


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
            "Held-out pictures after each epoch; the dotted line marks the epoch that was kept.",
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
        figure, axes = _figure()
        for colour, (text, ys) in zip(SERIES, series.items(), strict=False):
            dot = "o" if len(self.rows) < 3 else None
            axes.plot(self.epochs, ys, color=colour, linewidth=2, marker=dot, markersize=4, label=text)
        finite = [y for ys in series.values() for y in ys if math.isfinite(y)]
        if min(finite) > 0 and max(finite) / min(finite) >= log_from_ratio:
            _log_axis(axes, finite if level is None else [*finite, level])
        elif limits is not None:
            axes.set_ylim(*limits)
        else:
            axes.set_ylim(bottom=min(0.0, *finite) if len(finite) > 1 else None)
        if level is not None:
            axes.axhline(level, color=_INK, linewidth=0.8, linestyle=(0, (2, 2)), alpha=0.6)
        best = [e for e, row in zip(self.epochs, self.rows, strict=True) if row.get("best") is True]
        if mark_best and best:
            axes.axvline(best[-1], color=_INK, linewidth=1, linestyle=(0, (1, 2)))
        _whole_epochs(axes, self.epochs)
        axes.set_xlabel("epoch")
        if len(series) > 1:
            _legend(axes)
        return Plot(title, caption, _svg(figure, axes, "-".join(columns)), _in_words(series))


def iou_histogram(ious: Sequence[float]) -> Plot:
    """(N,) IoU in 0-1 -> how often each occurs, in twentieths. Raises MissingExtraError."""
    values = np.asarray(ious, dtype=np.float64)
    counts, edges = np.histogram(values, bins=20, range=(0.0, 1.0))
    figure, axes = _figure()
    centres = (edges[:-1] + edges[1:]) / 2
    axes.bar(centres, counts, width=0.046, color=[SERIES[0] if c > 0.5 else SERIES[1] for c in centres])
    axes.axvline(float(values.mean()), color=_INK, linewidth=1, linestyle=(0, (1, 2)))
    axes.set_xlim(0, 1)
    axes.set_xlabel("IoU")
    axes.set_ylabel("pictures")
    axes.yaxis.set_major_locator(_integers())
    caption = (
        f"How well each box fits. The dotted line is the mean ({values.mean():.3f}); blue boxes miss (IoU up to .5)."
    )
    words = f"{int((values > 0.5).sum())} of {len(values)} boxes have IoU above 0.5; median {np.median(values):.3f}."
    return Plot("Box overlap", caption, _svg(figure, axes, "iou-histogram"), words)


def success_curve(ious: Sequence[float], class_right: Sequence[bool], baseline: Sequence[float] | None) -> Plot:
    """Share of pictures with IoU above each threshold: of all, of those named right as well, and of the median box
    (`baseline`, its (N,) IoUs). Raises MissingExtraError."""
    values = np.asarray(ious, dtype=np.float64)
    joint = np.where(np.asarray(class_right, dtype=bool), values, -1.0)
    thresholds = np.linspace(0, 1, 101)
    figure, axes = _figure()
    drawn = [("box", values, "-"), ("box and class", joint, "-")]
    if baseline is not None:
        drawn.append(("always the median box", np.asarray(baseline, dtype=np.float64), "--"))
    for colour, (text, v, style) in zip(SERIES, drawn, strict=False):
        share = (v[None, :] > thresholds[:, None]).mean(axis=1)
        axes.plot(thresholds, share, color=colour, linewidth=2, linestyle=style, label=text)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("IoU threshold")
    axes.set_ylabel("share of pictures")
    _legend(axes)
    words = "; ".join(f"IoU above {t}: {float((values > t).mean()):.3f}" for t in (0.3, 0.5, 0.7, 0.9))
    caption = "The share of pictures that pass as the demand on the box grows. The area under “box” is the mean IoU."
    return Plot("Success curve", caption, _svg(figure, axes, "success"), words)


def number(value: object, otherwise: float) -> float:
    """A finite number as float, anything else (None, text, NaN, infinity) as `otherwise`."""
    if isinstance(value, (int, float, np.number)) and math.isfinite(float(value)):
        return float(value)
    return otherwise


def _figure() -> tuple[Figure, Axes]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(
            "the report's plots need matplotlib, which is not installed", fix='Install it: pip install "onebox[train]"'
        ) from None
    figure = Figure(figsize=(5.0, 2.9), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def _whole_epochs(axes: Axes, epochs: Sequence[float]) -> None:
    axes.xaxis.set_major_locator(_integers())
    if min(epochs) == max(epochs):
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)


def _integers() -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=7, integer=True, min_n_ticks=1)


def _log_axis(axes: Axes, values: Sequence[float]) -> None:
    """A log axis around `values`, at least a factor of 5 wide so that some of 1, 2, 5 are on it, in plain figures."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    middle = math.sqrt(min(values) * max(values))
    half = max(math.sqrt(max(values) / min(values)) * 1.15, math.sqrt(5.0))
    axes.set_yscale("log")
    axes.set_ylim(middle / half, middle * half)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if half < 10 else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))


def _plain(value: float, _position: int | None) -> str:
    return f"{value:g}"


def _legend(axes: Axes) -> None:
    # Above the drawing, where it can never lie on a curve.
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=_INK,
        handlelength=1.4,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def _svg(figure: Figure, axes: Axes, name: str) -> str:
    """The figure as a <svg> element: ids made unique by `name`, sentinel colours made CSS variables."""
    import matplotlib

    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=_INK, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_GRID)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(_INK)
        label.set_fontsize(9)
    sink = io.StringIO()
    with _LOCK, matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(sink, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", text)
    text = text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    for colour, css in _CSS.items():
        text = text.replace(colour, css)
    return text


def _in_words(series: Mapping[str, Sequence[float]]) -> str:
    parts: list[str] = []
    for text, ys in series.items():
        finite = [y for y in ys if math.isfinite(y)]
        parts.append(f"{text} from {finite[0]:.4g} to {finite[-1]:.4g}")
    return "; ".join(parts) + "."
