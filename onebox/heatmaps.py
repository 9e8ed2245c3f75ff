"""Maps laid over a picture, as one sheet with titles and a legend. Takes a Pillow picture, a box in its pixels and maps
of any resolution; gives a new RGB picture. Computes no map and opens no file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from onebox.boxes import Floats
from onebox.draw import PREDICTION, draw_box, write_text
from onebox.types import Box

#: Longer side of one picture of the sheet, pixels; three of them stand beside one another.
TILE_PX = 400
_COLUMNS = 3
_PAPER, _INK, _FAINT = (250, 250, 248), (33, 37, 41), (110, 116, 122)
_GAP, _TITLE, _CAPTION, _LEGEND = 18, 21, 16, 46
#: From nothing to most: black, violet, red, yellow. Lightness rises all the way, so that it reads in grey, too (eight
#: points of matplotlib's "inferno").
_STOPS = np.array(
    [(0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39),
     (252, 255, 164)],
    dtype=np.float64,
)  # fmt: skip
#: How much of the picture's own light is left where a map is empty, and how strongly the map covers it at its top.
_DIMMED, _COVER = 0.55, 0.85


class Panel(NamedTuple):
    """One map of the sheet: `title` ("class", or the name of an edge), one line of text, and `heat` (h, w), which is
    non-negative and covers the whole picture."""

    title: str
    caption: str
    heat: Floats


def draw_panels(image: Image.Image, box: Box, answer: str, panels: Sequence[Panel]) -> Image.Image:
    """The picture with its box and `answer`, then every panel: the map over the dimmed picture, with the box; of a
    panel called left, top, right or bottom that edge is drawn as a line. Below, a legend."""
    small, scaled = _shrunk(image, box)
    tiles: list[tuple[str, str, Image.Image]] = [("answer", answer, draw_box(small, scaled, ""))]
    grey = np.asarray(small.convert("L"), dtype=np.float64)[..., None].repeat(3, axis=2) * _DIMMED
    for panel in panels:
        overlay = Image.fromarray(_overlaid(grey, panel.heat))
        tiles.append((_title(panel.title), panel.caption, _marked(overlay, scaled, panel.title)))
    return _sheet(tiles, small.size)


def colours(values: Floats) -> npt.NDArray[np.float64]:
    """(...,) in 0-1 -> (..., 3) in 0-255."""
    at = np.clip(values, 0, 1) * (len(_STOPS) - 1)
    knots = np.arange(len(_STOPS))
    return np.stack([np.interp(at, knots, _STOPS[:, i]) for i in range(3)], axis=-1)


def _title(name: str) -> str:
    return "what the class head saw" if name == "class" else f"what the {name} edge saw"


def _shrunk(image: Image.Image, box: Box) -> tuple[Image.Image, Box]:
    """The picture so that its longer side is TILE_PX, and the box in its pixels."""
    scale = TILE_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    fx, fy = size[0] / image.width, size[1] / image.height
    return small, Box(box.x_min * fx, box.y_min * fy, box.x_max * fx, box.y_max * fy)


def _overlaid(grey: Floats, heat: Floats) -> npt.NDArray[np.uint8]:
    top = float(heat.max())
    if top <= 0:
        return grey.round().astype(np.uint8)
    height, width = grey.shape[:2]
    smooth = Image.fromarray((heat / top).astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    values = np.clip(np.asarray(smooth, dtype=np.float64), 0.0, 1.0)
    cover = (np.sqrt(values) * _COVER)[..., None]  # the root shows the faint parts, too
    return (grey * (1 - cover) + colours(values) * cover).round().astype(np.uint8)


def _marked(overlay: Image.Image, box: Box, title: str) -> Image.Image:
    """The box as a thin line; the edge in question as a thick one, in the colour of predictions."""
    draw = ImageDraw.Draw(overlay)
    corners = (round(box.x_min), round(box.y_min), max(round(box.x_min), round(box.x_max) - 1), round(box.y_max) - 1)
    x0, y0, x1, y1 = corners[0], corners[1], corners[2], max(corners[1], corners[3])
    draw.rectangle((x0, y0, x1, y1), outline=(255, 255, 255), width=1)
    ends = {"left": (x0, y0, x0, y1), "right": (x1, y0, x1, y1), "top": (x0, y0, x1, y0), "bottom": (x0, y1, x1, y1)}
    if title in ends:
        draw.line(ends[title], fill=(16, 18, 22), width=7)
        draw.line(ends[title], fill=PREDICTION, width=4)
    return overlay


def _sheet(tiles: Sequence[tuple[str, str, Image.Image]], size: tuple[int, int]) -> Image.Image:
    wide, tall = max(size[0], 220), size[1]  # room for the titles of a narrow picture
    head = round(_TITLE * 1.3) + round(_CAPTION * 1.5)
    rows = -(-len(tiles) // _COLUMNS)
    width = _GAP + _COLUMNS * (wide + _GAP)
    sheet = Image.new("RGB", (width, _GAP + rows * (head + tall + _GAP) + _LEGEND), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (title, caption, picture) in enumerate(tiles):
        x = _GAP + i % _COLUMNS * (wide + _GAP)
        y = _GAP + i // _COLUMNS * (head + tall + _GAP)
        write_text(draw, (x, y), title, px=_TITLE, fill=_INK, room=wide)
        write_text(draw, (x, y + round(_TITLE * 1.3)), caption, px=_CAPTION, fill=_FAINT, room=wide)
        sheet.paste(picture, (x, y + head))
    _legend(sheet, draw)
    return sheet


def _legend(sheet: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    y = sheet.height - _LEGEND + 4
    bar = colours(np.linspace(0, 1, 160))[None].repeat(14, axis=0).round().astype(np.uint8)
    text = "hiding this part changed nothing"
    write_text(draw, (_GAP, y), text, px=_CAPTION, fill=_FAINT, room=sheet.width)
    x = _GAP + round(draw.textlength(text, font_size=_CAPTION)) + 12
    sheet.paste(Image.fromarray(bar), (x, y + 3))
    write_text(draw, (x + 172, y), "changed the answer most", px=_CAPTION, fill=_FAINT, room=sheet.width)
