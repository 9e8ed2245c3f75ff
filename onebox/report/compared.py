"""The page of `onebox compare`: runs side by side, their curves laid over each other, and the pictures on which they
disagree most. Takes a `Comparison`; gives one HTML file without scripts that loads nothing. Judges nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from onebox.comparison import COMPARED, OVER_PICTURES, Comparison
from onebox.draw import PREDICTION, Colour, draw_box, draw_thumbnail
from onebox.errors import PictureError
from onebox.evaluation_file import Answer
from onebox.images import open_image
from onebox.pages import data_uri, render_page, write_page
from onebox.report.making import now
from onebox.report.overlap import Success, success_curves
from onebox.report.plots import SERIES, Plot, canvas, in_words, legend, log_axis, number, to_svg, whole_epochs
from onebox.types import Box, ImageSize

THUMB_PX = 260
#: Pictures on the page, shared among the runs: what keeps it below 5 MB.
MOST_PICTURES = 24
_MOST_CLASSES, _MOST_SETTINGS = 60, 60
#: One colour for each run, in plots (as --series-1 ...) and on pictures; after Okabe and Ito 2008.
COLOURS: tuple[Colour, ...] = (
    PREDICTION,
    (214, 93, 177),
    (0, 190, 130),
    (240, 228, 66),
    (150, 120, 255),
    (235, 90, 60),
)


@dataclass(frozen=True, slots=True)
class Said:
    """What one run said of a picture."""

    letter: str
    answer: str
    score: float
    iou: float
    right: bool
    class_right: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture with all runs' boxes; `uri` is empty where it could not be opened again, and `problem` says why."""

    name: str
    truth: str
    said: tuple[Said, ...]
    uri: str = ""
    width: int = THUMB_PX
    height: int = THUMB_PX
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """A difference as drawn: percent of the drawing's width, 50 being none."""

    low: float
    middle: float
    high: float


def write_comparison_page(path: Path, comparison: Comparison) -> None:
    """Writes it whole or not at all. Raises MissingExtraError without matplotlib, RunFolderError."""
    write_page(path, render_comparison_page(comparison))


def render_comparison_page(comparison: Comparison) -> str:
    """The page as text, at most 5 MB."""
    rows = _rows(comparison)
    settings = list(comparison.settings)
    return render_page(
        "report",
        "compared.html",
        styles="compared.css",
        comparison=comparison,
        colours=COLOURS,
        rows=rows,
        reach=_reach(comparison),
        plots=_plots(comparison),
        groups=_disagreements(comparison),
        classes=_classes(comparison),
        settings=settings[:_MOST_SETTINGS],
        more_settings=max(0, len(settings) - _MOST_SETTINGS),
        over_pictures=OVER_PICTURES,
        finished=now(),
    )


def _rows(comparison: Comparison) -> list[dict[str, Any]]:
    reach = _reach(comparison)

    def gap(low: float, middle: float, high: float) -> Gap:
        return Gap(*(round(50 + 50 * value / reach, 2) for value in (low, middle, high)))

    return [
        {
            "name": name,
            "text": text,
            "values": [figures[name] for figures in comparison.figures],
            "differences": [
                (run.letter, d[name], gap(d[name].low, d[name].mean, d[name].high))
                for run, d in zip(comparison.runs[1:], comparison.differences[1:], strict=True)
            ],
        }
        for name, text in COMPARED.items()
    ]


def _reach(comparison: Comparison) -> float:
    """The largest end of any interval: the half width of the drawings."""
    ends = [abs(end) for each in comparison.differences for d in each.values() for end in (d.low, d.high)]
    return max(0.02, *ends)


def _plots(comparison: Comparison) -> list[Plot]:
    names = ", ".join(run.letter for run in comparison.runs)
    plots = [
        _over_epochs(comparison, "val_joint_50", "Validation: class right and IoU > .5", (0.0, 1.0)),
        _over_epochs(comparison, "val_mean_iou", "Validation: mean IoU", (0.0, 1.0)),
        _over_epochs(comparison, "loss_class", "Class loss", None),
        _over_epochs(comparison, "loss_box", "Box loss", None),
        _over_epochs(comparison, "grad_ratio", "Ratio of the gradient norms, box over class", None),
    ]
    success = [
        Success(run.letter, [a.iou for a in each])
        for run, each in zip(comparison.runs, comparison.answers, strict=True)
    ]
    joint = [
        Success(run.letter, [a.iou if a.class_right else -1.0 for a in each])
        for run, each in zip(comparison.runs, comparison.answers, strict=True)
    ]
    areas = [", ".join(f"{curve.name} {curve.area:.3f}" for curve in curves) for curves in (success, joint)]
    return [
        success_curves(
            joint,
            title="Success curve, class and box",
            caption=f"The share of pictures named right whose IoU passes the threshold: {names}. Areas: {areas[1]}.",
            name="success-joint",
        ),
        success_curves(
            success,
            title="Success curve, box",
            caption=f"The share of pictures whose IoU passes the threshold. Areas: {areas[0]}.",
            name="success-box",
        ),
        *(plot for plot in plots if plot is not None),
    ]


def _over_epochs(comparison: Comparison, key: str, title: str, limits: tuple[float, float] | None) -> Plot | None:
    """One line for each run that logged `key`; None where none did."""
    series: dict[str, list[float]] = {}
    figure, axes = canvas()
    epochs: list[float] = []
    for colour, run in zip(SERIES, comparison.runs, strict=False):
        ys = [number(row.get(key), math.nan) for row in run.history]
        if not any(map(math.isfinite, ys)):
            continue
        xs = [number(row.get("epoch"), i + 1) for i, row in enumerate(run.history)]
        axes.plot(
            xs, ys, color=colour, linewidth=2, marker="o" if len(ys) < 3 else None, markersize=4, label=run.letter
        )
        series[run.letter] = ys
        epochs += xs
    if not series:
        return None
    finite = [y for ys in series.values() for y in ys if math.isfinite(y)]
    if limits is not None:
        axes.set_ylim(*limits)
    elif min(finite) > 0 and max(finite) / min(finite) >= 30:
        log_axis(axes, finite)
    else:
        axes.set_ylim(bottom=min(0.0, *finite, 0.0))
    whole_epochs(axes, epochs)
    axes.set_xlabel("epoch")
    legend(axes)
    return Plot(title, "Over epochs.", to_svg(figure, axes, key), in_words(series))


def _classes(comparison: Comparison) -> dict[str, Any]:
    """Joint score per class for every run, where the runs differ most first."""
    names: dict[str, list[int]] = {}
    for i, answer in enumerate(comparison.answers[0]):
        names.setdefault(answer.label, []).append(i)
    rows = [
        (name, len(where), [sum(each[i].right for i in where) / len(where) for each in comparison.answers])
        for name, where in names.items()
    ]
    rows.sort(key=lambda row: (-(max(row[2]) - min(row[2])), row[0]))
    return {"rows": rows[:_MOST_CLASSES], "more": max(0, len(rows) - _MOST_CLASSES)}


def _disagreements(comparison: Comparison) -> list[dict[str, Any]]:
    """For each run beside the first: the pictures on which it is better by most, and those on which it is worse, by IoU
    where the class is right and 0 where it is not. No picture twice."""
    per_group = max(1, MOST_PICTURES // (2 * (len(comparison.runs) - 1)))
    taken: set[int] = set()
    groups: list[dict[str, Any]] = []
    first = comparison.answers[0]
    for run, answers in zip(comparison.runs[1:], comparison.answers[1:], strict=True):
        gaps = [_fit(other) - _fit(own) for own, other in zip(first, answers, strict=True)]
        for sign, better, worse in ((-1, run.letter, "A"), (1, "A", run.letter)):
            order = sorted(range(len(gaps)), key=lambda i: (sign * gaps[i], comparison.paths[i]))
            chosen = [i for i in order if sign * gaps[i] < 0 and i not in taken][:per_group]
            taken.update(chosen)
            if chosen:
                shown = [_shown(comparison, i) for i in chosen]
                groups.append({"title": f"{better} better than {worse}", "pictures": shown})
    return groups


def _fit(answer: Answer) -> float:
    return answer.iou if answer.class_right else 0.0


def _shown(comparison: Comparison, i: int) -> Shown:
    answers = [each[i] for each in comparison.answers]
    said = tuple(
        Said(run.letter, a.answer, a.score, a.iou, a.right, a.class_right)
        for run, a in zip(comparison.runs, answers, strict=True)
    )
    name, truth = PurePosixPath(comparison.paths[i]).name, answers[0].label
    roots = [str(run.evaluation.data.get("root", "")) for run in comparison.runs]
    problem = ""
    for root in dict.fromkeys(roots):
        try:
            picture = _draw(Path(root, comparison.paths[i]), answers)
        except (PictureError, ValueError, OSError) as error:
            problem = error.what if isinstance(error, PictureError) else "not a usable path"
            continue
        return Shown(name, truth, said, data_uri(picture), picture.width, picture.height)
    return Shown(name, truth, said, problem=problem)


def _draw(path: Path, answers: Sequence[Answer]) -> Image.Image:
    """The truth dashed, and each run's box in its colour. Raises PictureError, ValueError."""
    image, size = open_image(path, at_least=THUMB_PX)
    small = draw_thumbnail(image, None, px=THUMB_PX, size=size)
    truth = _scaled(answers[0].box, answers[0].size, small.size)
    for colour, answer in zip(COLOURS, answers, strict=False):
        small = draw_box(small, _scaled(answer.answer_box, answer.size, small.size), "", colour=colour, truth=truth)
        truth = None
    return small


def _scaled(box: tuple[float, float, float, float], size: tuple[int, int], to: tuple[int, int]) -> Box:
    fx, fy = to[0] / max(1, size[0]), to[1] / max(1, size[1])
    return Box(box[0] * fx, box[1] * fy, box[2] * fx, box[3] * fy, ImageSize(*to))
