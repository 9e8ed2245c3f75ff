"""A prediction drawn on its picture, for an answer. Takes predictions, gives JPEG data addresses or PNG bytes of at
most `LONGEST` pixels a side; nothing of the file but its pixels goes in (no EXIF, no place, no name)."""

from __future__ import annotations

import io

from PIL import Image

from onebox.draw import draw_box
from onebox.images import open_image
from onebox.pages import data_uri
from onebox.predictions import Prediction
from onebox.types import Box

LONGEST = 1024


def drawn_jpeg(prediction: Prediction, coverage: float | None) -> str:
    """As a `data:` address, with a `coverage` also the box that holds the object. Raises PictureError where the picture
    cannot be opened again, CalibrationError where the model cannot promise this."""
    return data_uri(_drawn(prediction, coverage))


def drawn_png(prediction: Prediction, coverage: float | None) -> bytes:
    """As a file; else as `drawn_jpeg`."""
    sink = io.BytesIO()
    _drawn(prediction, coverage).save(sink, "PNG", compress_level=3)
    return sink.getvalue()


def _drawn(prediction: Prediction, coverage: float | None) -> Image.Image:
    if prediction.source is None:
        raise ValueError("this prediction no longer knows its picture")
    image, (width, height) = open_image(prediction.source, at_least=LONGEST)
    scale = min(1.0, LONGEST / max(width, height))
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = image.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)

    def placed(box: Box) -> Box:
        across, down = target[0] / width, target[1] / height
        return Box(box.x_min * across, box.y_min * down, box.x_max * across, box.y_max * down)

    outer = placed(prediction.outer_box(coverage)) if coverage is not None else None
    return draw_box(small, placed(prediction.box), prediction.caption, outer=outer)
