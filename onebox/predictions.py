"""`Prediction`: what a model says of one picture, what it can promise about it, and how people like to read it. Takes
numbers already computed; opens the picture again only when asked to draw or crop."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from onebox.boxes import Floats
from onebox.calibration import Calibration, tempered
from onebox.calibration.class_sets import class_set
from onebox.calibration.conformal import log_softmax
from onebox.calibration.edges import inner_boxes, iou_scales, outer_boxes
from onebox.draw import draw_box
from onebox.errors import CalibrationError
from onebox.images import ImageSource, open_image
from onebox.types import Box

#: Probabilities below this count as this: their logarithm is wanted.
_LEAST = 1e-300


@dataclass(frozen=True, slots=True)
class Prediction:
    """One picture's answer.

    `label` is the most probable of `class_names`; `score` its probability; `probabilities` (C,), sums to 1, after the
    calibration's temperature where there is one; `box` in pixels of the upright picture, inside it; `edge_sigmas` the
    model's own standard deviation of the (left, top, right, bottom) edge in pixels, NaN where the box head does not
    say; `path` is None for pictures given as bytes, arrays or Pillow images. `presence` is the probability that there
    is an object of the model's classes at all, `present` whether it reaches the model's threshold, both None where the
    model was not taught to tell. `calibration` is the model's, None where it has none. Two answers are equal where
    label, score, classes, box and path are.
    """

    label: str
    score: float
    probabilities: npt.NDArray[np.float64] = field(compare=False)  # an array has no single truth
    class_names: tuple[str, ...]
    box: Box
    edge_sigmas: tuple[float, float, float, float] = field(compare=False)  # NaN never equals itself
    path: str | None = None
    source: ImageSource | None = field(default=None, repr=False, compare=False)
    presence: float | None = field(default=None, compare=False)
    present: bool | None = field(default=None, compare=False)
    calibration: Calibration | None = field(default=None, repr=False, compare=False)

    @property
    def named(self) -> str:
        """The label and, where there is more than one class, its probability: of a single class that is always 1, which
        would read as if the box were sure."""
        return f"{self.label} {self.score:.0%}" if len(self.class_names) > 1 else self.label

    @property
    def caption(self) -> str:
        """What is written at the box: `named`, or that no object is there."""
        return "no object of its classes" if self.present is False else self.named

    def outer_box(self, coverage: float) -> Box:
        """A box that holds the whole true box with probability `coverage` (0-1) or more, all four edges together; cut
        at the picture's border.

        That holds in the mean over pictures like those the model was calibrated on, not for one picture or one class
        (split conformal prediction; `onebox.calibration.edges` has the formula and its sources). Raises
        CalibrationError where the model has no calibration, or one on too few pictures.
        """
        return self._outer(self._calibrated().bound("outer_box", coverage))

    def inner_box(self, coverage: float) -> Box | None:
        """A box that lies within the true box with probability `coverage` or more; None where no box can be promised.
        Else as `outer_box`."""
        boxes, there = inner_boxes(*self._box_01(), self._calibrated().bound("inner_box", coverage))
        return self._in_pixels(boxes) if there[0] else None

    def iou_at_least(self, coverage: float) -> float:
        """What the IoU of `box` with the true box is not below, with probability `coverage` or more; 0-1. Raises as
        `outer_box`."""
        bound = self._calibrated().bound("iou_at_least", coverage)
        return float(np.clip(1.0 - bound * iou_scales(*self._box_01())[0], 0.0, 1.0))

    def class_set(self, coverage: float) -> tuple[str, ...]:
        """Classes among which the true one is, with probability `coverage` or more; most probable first, `label` always
        among them. Raises as `outer_box`."""
        return self._classes(self._calibrated().bound("class_set", coverage))

    def joint(self, coverage: float) -> tuple[tuple[str, ...], Box]:
        """A class set and an outer box that are both right with probability `coverage` or more. Raises as `outer_box`,
        and needs about three times as many calibration pictures."""
        of_box, of_class = self._calibrated().joint_bounds(coverage)
        return self._classes(of_class), self._outer(of_box)

    def to_dict(self, coverage: float | None = None) -> dict[str, Any]:
        """Plain JSON values: path, label, score, box (x_min, y_min, x_max, y_max), probabilities, edge_sigmas,
        image_size (width, height).

        With a `coverage` also presence, present, coverage, outer_box and class_set. Raises as `outer_box`.
        """
        size = self.box.image_size
        sigmas = [None if np.isnan(s) else round(s, 3) for s in self.edge_sigmas]
        plain: dict[str, Any] = {
            "path": self.path,
            "label": self.label,
            "score": round(self.score, 6),
            "box": [round(v, 3) for v in self.box.xyxy],
            "probabilities": {n: round(float(p), 6) for n, p in zip(self.class_names, self.probabilities, strict=True)},
            "edge_sigmas": sigmas,
            "image_size": list(size) if size else None,
        }
        if coverage is None:
            return plain
        return plain | {
            "presence": None if self.presence is None else round(self.presence, 6),
            "present": self.present,
            "coverage": coverage,
            "outer_box": [round(v, 3) for v in self.outer_box(coverage).xyxy],
            "class_set": list(self.class_set(coverage)),
        }

    def plot(self, coverage: float | None = None) -> Image.Image:
        """The upright picture with the box and label drawn on it, and with a `coverage` the outer box, dashed. Raises
        PictureError if it cannot be opened again; else as `outer_box`."""
        image, _ = open_image(self._source())
        outer = self.outer_box(coverage) if coverage is not None else None
        return draw_box(image, self.box, self.caption, outer=outer)

    def crop(self, margin: float = 0.0) -> Image.Image:
        """The object cut out, with `margin` (a fraction of its width and height) around it, at least 1x1 pixel."""
        image, _ = open_image(self._source())
        b = self.box
        dx, dy = b.width * margin, b.height * margin
        left = int(np.clip(np.floor(b.x_min - dx), 0, image.width - 1))
        top = int(np.clip(np.floor(b.y_min - dy), 0, image.height - 1))
        right = int(np.clip(np.ceil(b.x_max + dx), left + 1, image.width))
        bottom = int(np.clip(np.ceil(b.y_max + dy), top + 1, image.height))
        return image.crop((left, top, right, bottom))

    def raw_log_probabilities(self) -> Floats:
        """(C,): the logarithms of the probabilities as they were before the temperature."""
        temperature = self.calibration.temperature if self.calibration is not None else 1.0
        log_p = np.log(np.maximum(self.probabilities, _LEAST))
        return log_softmax(temperature * log_p[None, :])[0]

    def calibrated(self, calibration: Calibration) -> Prediction:
        """The same answer of the same model under another calibration."""
        p = tempered(self.raw_log_probabilities()[None, :], calibration.temperature)[0]
        return replace(self, probabilities=p, score=float(p.max()), calibration=calibration)

    def _calibrated(self) -> Calibration:
        if self.calibration is None:
            raise no_calibration()
        return self.calibration

    def _box_01(self) -> tuple[Floats, Floats]:
        width, height = self.box.image_size or (1, 1)
        sides = np.array([width, height, width, height], dtype=np.float64)
        return np.array([self.box.xyxy]) / sides, np.array([self.edge_sigmas]) / sides

    def _in_pixels(self, boxes_01: Floats) -> Box:
        width, height = self.box.image_size or (1, 1)
        x_min, y_min, x_max, y_max = (float(v) for v in boxes_01[0] * [width, height, width, height])
        return Box(x_min, y_min, x_max, y_max, image_size=self.box.image_size)

    def _outer(self, bound: float) -> Box:
        return self._in_pixels(outer_boxes(*self._box_01(), bound))

    def _classes(self, bound: float) -> tuple[str, ...]:
        return tuple(self.class_names[c] for c in class_set(self.raw_log_probabilities(), bound))

    def _source(self) -> ImageSource:
        source = self.source if self.source is not None else self.path
        if source is None:
            raise ValueError("this prediction no longer knows its picture")
        return source


def no_calibration() -> CalibrationError:
    """What is said where a model without calibration is asked for a promise."""
    return CalibrationError(
        "this model carries no calibration, so it can promise no coverage",
        fix="Make a calibrated one: onebox calibrate MODEL DATA, with pictures it was not trained on.",
    )
