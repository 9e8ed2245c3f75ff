"""`Prediction`: what a model says of one picture, and how people like to read it. Takes numbers already computed;
opens the picture again only when asked to draw or crop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from onebox.draw import draw_box
from onebox.images import ImageSource, open_image
from onebox.types import Box


@dataclass(frozen=True, slots=True)
class Prediction:
    """One picture's answer.

    `label` is the most probable of `class_names`; `score` its probability; `probabilities` (C,), sums to 1;
    `box` in pixels of the upright picture, inside it; `edge_sigmas` the model's own standard deviation of the
    (left, top, right, bottom) edge in pixels, NaN where the box head does not say; `path` is None for pictures
    given as bytes, arrays or Pillow images. Two answers are equal where label, score, classes, box and path are.
    """

    label: str
    score: float
    probabilities: npt.NDArray[np.float64] = field(compare=False)  # an array has no single truth
    class_names: tuple[str, ...]
    box: Box
    edge_sigmas: tuple[float, float, float, float] = field(compare=False)  # NaN never equals itself
    path: str | None = None
    source: ImageSource | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: path, label, score, box (x_min, y_min, x_max, y_max), probabilities, edge_sigmas,
        image_size (width, height)."""
        size = self.box.image_size
        sigmas = [None if np.isnan(s) else round(s, 3) for s in self.edge_sigmas]
        return {
            "path": self.path,
            "label": self.label,
            "score": round(self.score, 6),
            "box": [round(v, 3) for v in self.box.xyxy],
            "probabilities": {n: round(float(p), 6) for n, p in zip(self.class_names, self.probabilities, strict=True)},
            "edge_sigmas": sigmas,
            "image_size": list(size) if size else None,
        }

    def plot(self) -> Image.Image:
        """The upright picture with the box and label drawn on it. Raises PictureError if it cannot be opened again."""
        image, _ = open_image(self._source())
        return draw_box(image, self.box, f"{self.label} {self.score:.0%}")

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

    def _source(self) -> ImageSource:
        source = self.source if self.source is not None else self.path
        if source is None:
            raise ValueError("this prediction no longer knows its picture")
        return source
