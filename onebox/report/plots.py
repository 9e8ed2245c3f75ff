"""How a plot is drawn: a matplotlib figure in, inline SVG out, whose colours are CSS variables of the page, so that one
drawing serves light, dark and print. Decides nothing about what is drawn, never touches pyplot, and is never given text
that comes from a user.
"""

from __future__ import annotations

import io
import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onebox.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

# Matplotlib wants real colours; these stand for the page's CSS variables until the drawing is text.
INK, _GRID = "#010203", "#010204"
SERIES = ("#0102a1", "#0102a2", "#0102a3", "#0102a4", "#0102a5", "#0102a6")
_CSS = {
    INK: "currentColor",
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


def number(value: object, otherwise: float) -> float:
    """A finite number as float, anything else (None, text, NaN, infinity) as `otherwise`."""
    if isinstance(value, (int, float, np.number)) and math.isfinite(float(value)):
        return float(value)
    return otherwise


def canvas(height: float = 2.9) -> tuple[Figure, Axes]:
    """An empty drawing, 5 by `height` inches, transparent. Raises MissingExtraError without matplotlib."""
    need_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def need_matplotlib() -> None:
    """Raises MissingExtraError where it is not installed; to be asked before anything long begins."""
    try:
        import matplotlib.figure  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise MissingExtraError(
            "the report's plots need matplotlib, which is not installed", fix='Install it: pip install "onebox[report]"'
        ) from None


def whole_epochs(axes: Axes, epochs: Sequence[float]) -> None:
    """Whole numbers along x, and some width for a single epoch."""
    axes.xaxis.set_major_locator(integers())
    if min(epochs) == max(epochs):
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)


def integers() -> MaxNLocator:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=7, integer=True, min_n_ticks=1)


def log_axis(axes: Axes, values: Sequence[float]) -> None:
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


def legend(axes: Axes) -> None:
    """Above the drawing, where it can never lie on a curve."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=1.4,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def to_svg(figure: Figure, axes: Axes, name: str) -> str:
    """The figure as a <svg> element: ids made unique by `name`, sentinel colours made CSS variables."""
    import matplotlib

    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_GRID)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
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


def in_words(series: Mapping[str, Sequence[float]]) -> str:
    """First and last finite value of each series, for those who do not see the drawing."""
    parts: list[str] = []
    for text, ys in series.items():
        finite = [y for y in ys if math.isfinite(y)]
        parts.append(f"{text} from {finite[0]:.4g} to {finite[-1]:.4g}")
    return "; ".join(parts) + "."
