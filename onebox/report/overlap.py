"""How well the boxes fit, as plots. Takes the IoU of every picture; gives the histogram and the success curve with the
area under it. Judges nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onebox.boxes import Floats
from onebox.report.plots import INK, SERIES, Plot, canvas, integers, legend, to_svg

_THRESHOLDS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True)
class Success:
    """One curve of `success_curves`: `name` is ours, never a user's; `ious` (N,) in 0-1, below 0 where a picture never
    passes."""

    name: str
    ious: Sequence[float]
    dashed: bool = False

    @property
    def area(self) -> float:
        """Under the curve from 0 to 1, exactly: the integral of P(IoU > t) over t is the mean of IoU, of those that can
        pass."""
        return float(np.clip(np.asarray(self.ious, dtype=np.float64), 0.0, 1.0).mean())

    def shares(self, thresholds: Floats) -> Floats:
        """(T,) -> (T,): the share of pictures with IoU above each threshold."""
        ordered = np.sort(np.asarray(self.ious, dtype=np.float64))
        return 1.0 - np.searchsorted(ordered, thresholds, side="right") / len(ordered)


def iou_histogram(ious: Sequence[float]) -> Plot:
    """(N,) IoU in 0-1 -> how often each occurs, in twentieths. Raises MissingExtraError."""
    values = np.asarray(ious, dtype=np.float64)
    counts, edges = np.histogram(values, bins=20, range=(0.0, 1.0))
    figure, axes = canvas()
    centres = (edges[:-1] + edges[1:]) / 2
    axes.bar(centres, counts, width=0.046, color=[SERIES[0] if c > 0.5 else SERIES[1] for c in centres])
    axes.axvline(float(values.mean()), color=INK, linewidth=1, linestyle=(0, (1, 2)))
    axes.set_xlim(0, 1)
    axes.set_xlabel("IoU")
    axes.set_ylabel("pictures")
    axes.yaxis.set_major_locator(integers())
    caption = (
        f"How well each box fits. The dotted line is the mean ({values.mean():.3f}); blue boxes miss (IoU up to .5)."
    )
    words = f"{int((values > 0.5).sum())} of {len(values)} boxes have IoU above 0.5; median {np.median(values):.3f}."
    return Plot("Box overlap", caption, to_svg(figure, axes, "iou-histogram"), words)


def success_curve(ious: Sequence[float], class_right: Sequence[bool], baseline: Sequence[float] | None) -> Plot:
    """Share of pictures with IoU above each threshold: of all, of those named right as well, and of the median box
    (`baseline`, its (N,) IoUs). Raises MissingExtraError."""
    values = np.asarray(ious, dtype=np.float64)
    curves = [
        Success("box", list(values)),
        Success("box and class", list(np.where(np.asarray(class_right, dtype=bool), values, -1.0))),
    ]
    if baseline is not None:
        curves.append(Success("always the median box", baseline, dashed=True))
    areas = ", ".join(f"{curve.name} {curve.area:.3f}" for curve in curves)
    return success_curves(
        curves,
        title="Success curve",
        caption=f"The share of pictures that pass as the demand on the box grows. Area under each: {areas}.",
        name="success",
    )


def success_curves(curves: Sequence[Success], *, title: str, caption: str, name: str) -> Plot:
    """One line for each, at most as many as there are SERIES. Raises MissingExtraError."""
    figure, axes = canvas()
    for colour, curve in zip(SERIES, curves, strict=False):
        style = "--" if curve.dashed else "-"
        axes.plot(_THRESHOLDS, curve.shares(_THRESHOLDS), color=colour, linewidth=2, linestyle=style, label=curve.name)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("IoU threshold")
    axes.set_ylabel("share of pictures")
    legend(axes)
    at = np.array([0.3, 0.5, 0.7, 0.9])
    words = "; ".join(
        f"{curve.name}: " + ", ".join(f"{share:.3f} above {t:g}" for t, share in zip(at, curve.shares(at), strict=True))
        for curve in curves
    )
    return Plot(title, caption, to_svg(figure, axes, name), words + ".")
