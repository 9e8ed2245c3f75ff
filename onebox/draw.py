"""Boxes, labels and contact sheets on pictures. Takes Pillow pictures and boxes in their pixels; gives new RGB ones.
Never changes the picture it was given, never opens a file but a font; Pillow only.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from onebox.types import Box, ImageSize

Colour: TypeAlias = tuple[int, int, int]
Font: TypeAlias = "ImageFont.FreeTypeFont | ImageFont.ImageFont"
Rect: TypeAlias = tuple[int, int, int, int]

#: Orange and sky blue stay apart under every common colour blindness; the truth is dashed besides.
PREDICTION: Colour = (255, 159, 28)
TRUTH: Colour = (86, 200, 255)
_DARK: Colour = (16, 18, 22)
_LIGHT: Colour = (255, 255, 255)
_PAPER: Colour = (250, 250, 248)
_MAT: Colour = (232, 233, 231)
_INK: Colour = (33, 37, 41)
_GOOD: Colour = (24, 135, 84)
_BAD: Colour = (200, 45, 60)

# Pillow's built-in face knows ASCII only. Names with other letters get the first of these that has them all; Pillow
# looks the file names up in the system's font folders.
_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    "Arial.ttf",
    "arial.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "PingFang.ttc",
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
    "wqy-microhei.ttc",
)


def draw_box(
    image: Image.Image,
    box: Box,
    text: str,
    *,
    colour: Colour = PREDICTION,
    truth: Box | None = None,
    outer: Box | None = None,
) -> Image.Image:
    """A new RGB picture with `box` in `colour`, a tag saying `text` (none where empty), and below it `truth` dashed and
    `outer`, the box that holds the truth with a stated probability, thin and dashed in `colour`.

    Boxes are in pixels of `image`; whatever lies outside is drawn at the border. Lines and letters scale with the
    picture and carry a dark rim, so they read on any background. The tag stays inside the picture: above the box,
    else below it, else in its upper part. Text too long for the picture is shortened; where not even a few letters
    fit (pictures of a few pixels) the tag is left out.
    """
    canvas = image.convert("RGB")
    if canvas is image:
        canvas = image.copy()
    draw = ImageDraw.Draw(canvas)
    line = _line_width(canvas.size)
    if truth is not None:
        _frame(draw, _place(truth, canvas.size, line), TRUTH, line, dashed=True)
    if outer is not None:
        thin = max(1, line // 2)
        _frame(draw, _place(outer, canvas.size, thin), colour, thin, dashed=True)
    frame = _place(box, canvas.size, line)
    _frame(draw, frame, colour, line, dashed=False)
    if text:
        _tag(draw, canvas.size, frame, _printable(text), colour, line)
    return canvas


def draw_thumbnail(
    image: Image.Image,
    box: Box | None,
    text: str = "",
    *,
    px: int,
    size: ImageSize | None = None,
    truth: Box | None = None,
) -> Image.Image:
    """`image` scaled so that its longer side is `px`, then drawn on as by `draw_box`: lines stay crisp at that size.
    Without a box it is scaled only.

    `size` is the size in which the boxes are measured, where `image` was decoded at a reduced scale.
    """
    width, height = size or image.size
    scale = px / max(width, height)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = image.convert("RGB").resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if box is None:
        return small
    factor = (target[0] / width, target[1] / height)
    return draw_box(small, _scaled(box, factor), text, truth=_scaled(truth, factor) if truth else None)


def contact_sheet(
    tiles: Sequence[tuple[Image.Image, str, bool]],
    columns: int = 6,
    tile_px: int = 240,
    *,
    heading: str = "",
    legend: bool = True,
) -> Image.Image:
    """One picture of many: each tile is (picture, title, whether it is good), shown in a square of `tile_px` with its
    title and a tick or cross below. Pictures already at `tile_px` (see `draw_thumbnail`) are pasted as they are.

    `legend` adds the line that explains the two frames. Raises ValueError for no tiles, or columns or sizes below 1.
    """
    if not tiles or columns < 1 or tile_px < 1:
        raise ValueError("a contact sheet needs at least one tile, one column and one pixel a tile")
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    gap = max(4, tile_px // 20)
    letter = max(10, tile_px // 15)
    caption = round(letter * 1.9)
    top = gap + (round(letter * 2.4) if heading or legend else 0)
    sheet = Image.new("RGB", (gap + columns * (tile_px + gap), top + rows * (tile_px + caption + gap)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if heading or legend:
        _head(draw, sheet.width, gap, letter, heading, legend=legend)
    for i, (picture, title, good) in enumerate(tiles):
        x = gap + i % columns * (tile_px + gap)
        y = top + i // columns * (tile_px + caption + gap)
        draw.rectangle((x, y, x + tile_px - 1, y + tile_px - 1), fill=_MAT)
        shown = _fitted(picture, tile_px)
        sheet.paste(shown, (x + (tile_px - shown.width) // 2, y + (tile_px - shown.height) // 2))
        mark = round(letter * 1.15)
        _mark(sheet, (x, y + tile_px + (caption - mark) // 2), mark, good=good)
        text, font = _shortened(draw, _printable(title), letter, tile_px - mark - gap // 2)
        draw.text((x + mark + gap // 2, y + tile_px + caption // 2), text, fill=_INK, font=font, anchor="lm")
    return sheet


def write_text(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, *, px: int, fill: Colour, room: int) -> None:
    """One line of text from `at` (left, top of its letters) on, shortened where it is wider than `room` pixels."""
    shown, font = _shortened(draw, _printable(text), px, room)
    draw.text(at, shown, fill=fill, font=font, anchor="la")


def _line_width(size: tuple[int, int]) -> int:
    return max(1 if min(size) < 48 else 2, round(min(size) / 200))


def _rim(line: int) -> int:
    return max(1, round(line * 0.4))


def _scaled(box: Box, factor: tuple[float, float]) -> Box:
    fx, fy = factor
    return Box(box.x_min * fx, box.y_min * fy, box.x_max * fx, box.y_max * fy)


def _place(box: Box, size: tuple[int, int], line: int) -> Rect:
    """The frame's outer pixels (inclusive), the line centred on the box's edges but never outside the picture."""
    width, height = size
    reach = line // 2 + _rim(line)
    x0, x1 = _span(box.x_min, box.x_max, width, reach)
    y0, y1 = _span(box.y_min, box.y_max, height, reach)
    return x0, y0, x1, y1


def _span(low: float, high: float, length: int, reach: int) -> tuple[int, int]:
    low, high = sorted((min(max(low, 0.0), length), min(max(high, 0.0), length)))
    first, last = round(low) - reach, round(high) - 1 + reach
    first, last = max(first, 0), min(last, length - 1)
    return (first, last) if first <= last else (max(0, last), max(0, last))


def _frame(draw: ImageDraw.ImageDraw, rect: Rect, colour: Colour, line: int, *, dashed: bool) -> None:
    rim = _rim(line)
    draw.rectangle(rect, outline=_against(colour), width=line + 2 * rim)
    x0, y0, x1, y1 = rect[0] + rim, rect[1] + rim, rect[2] - rim, rect[3] - rim
    if x1 < x0 or y1 < y0:
        return
    if not dashed:
        draw.rectangle((x0, y0, x1, y1), outline=colour, width=line)
        return
    dash = line * 4
    for start, end in _dashes(x0, x1, dash):
        draw.rectangle((start, y0, end, min(y0 + line - 1, y1)), fill=colour)
        draw.rectangle((start, max(y1 - line + 1, y0), end, y1), fill=colour)
    for start, end in _dashes(y0, y1, dash):
        draw.rectangle((x0, start, min(x0 + line - 1, x1), end), fill=colour)
        draw.rectangle((max(x1 - line + 1, x0), start, x1, end), fill=colour)


def _dashes(first: int, last: int, dash: int) -> list[tuple[int, int]]:
    """Dashes and gaps of about equal length; an odd number of pieces, so that both corners are drawn."""
    length = last - first + 1
    pieces = max(1, round(length / dash)) | 1
    cuts = [first + length * i / pieces for i in range(pieces + 1)]
    return [(round(cuts[i]), max(round(cuts[i]), round(cuts[i + 1]) - 1)) for i in range(0, pieces, 2)]


def _tag(draw: ImageDraw.ImageDraw, size: tuple[int, int], frame: Rect, text: str, colour: Colour, line: int) -> None:
    width, height = size
    letter = max(11, round(min(size) / 23))
    pad = max(2, letter // 4)
    if draw.textlength(text, font=_writable(text, letter)[1]) > width - 2 * pad:
        letter = max(9, round(letter * 0.75))
    text, font = _shortened(draw, text, letter, width - 2 * pad)
    tall = letter + 2 * pad
    if not text or tall > height:
        return
    wide = round(draw.textlength(text, font=font)) + 2 * pad
    x0, y0, _, y1 = frame
    x = min(x0, width - wide)
    if y0 - tall >= 0:
        y = y0 - tall
    elif y1 + 1 + tall <= height:
        y = y1 + 1
    else:
        y = min(y0, height - tall)
    rim = _rim(line)
    draw.rectangle((x, y, x + wide - 1, y + tall - 1), fill=_against(colour))
    draw.rectangle((x + rim, y + rim, x + wide - 1 - rim, y + tall - 1 - rim), fill=colour)
    draw.text((x + pad, y + tall / 2), text, fill=_against(colour), font=font, anchor="lm")


def _head(draw: ImageDraw.ImageDraw, width: int, gap: int, letter: int, heading: str, *, legend: bool) -> None:
    """The sheet's first line: the heading at the left, the legend at the right where there is room for it."""
    middle = gap + round(letter * 1.2)
    keys = (("predicted", PREDICTION, False), ("truth", TRUTH, True)) if legend else ()
    x = width - gap
    icon, line = round(letter * 1.4), max(2, letter // 7)
    font = _built_in(letter)
    for name, colour, dashed in reversed(keys):
        x -= round(draw.textlength(name, font=font))
        draw.text((x, middle), name, fill=_INK, font=font, anchor="lm")
        x -= icon + gap // 2
        high = round(letter * 0.5)
        _frame(draw, (x, middle - high, x + icon, middle + high), colour, line, dashed=dashed)
        x -= 2 * gap
    text, font = _shortened(draw, _printable(heading), round(letter * 1.2), max(0, x - gap))
    draw.text((gap, middle), text, fill=_INK, font=font, anchor="lm")


def _mark(sheet: Image.Image, at: tuple[int, int], px: int, *, good: bool) -> None:
    """A tick or a cross on a disc, drawn four times as large and scaled down for smooth edges."""
    big = px * 4
    icon = Image.new("RGB", (big, big), _PAPER)
    draw = ImageDraw.Draw(icon)
    draw.ellipse((0, 0, big - 1, big - 1), fill=_GOOD if good else _BAD)
    stroke = max(2, big // 9)
    if good:
        strokes = [[(0.26, 0.53), (0.43, 0.70), (0.74, 0.34)]]
    else:
        strokes = [[(0.31, 0.31), (0.69, 0.69)], [(0.69, 0.31), (0.31, 0.69)]]
    for points in strokes:
        draw.line([(x * big, y * big) for x, y in points], fill=_LIGHT, width=stroke, joint="curve")
    sheet.paste(icon.resize((px, px), Image.Resampling.LANCZOS), at)


def _fitted(picture: Image.Image, px: int) -> Image.Image:
    if max(picture.size) == px and picture.mode == "RGB":
        return picture
    scale = px / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _against(colour: Colour) -> Colour:
    """Near-black or white, whichever stands out more (Rec. 709 luma)."""
    r, g, b = colour
    return _DARK if 0.2126 * r + 0.7152 * g + 0.0722 * b > 110 else _LIGHT


def _printable(text: str) -> str:
    """One line without control characters; halves of surrogate pairs (odd file names) become '?'."""
    kept = "".join(" " if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in text)
    return " ".join(kept.encode("utf-8", "replace").decode("utf-8").split())


def _shortened(draw: ImageDraw.ImageDraw, text: str, letter: int, room: int) -> tuple[str, Font]:
    """`text` cut to `room` pixels with three dots before its last words (scores stand there). Empty where nothing
    useful fits."""
    text, font = _writable(text, letter)
    if draw.textlength(text, font=font) <= room:
        return text, font
    space = text.find(" ", max(1, len(text) - 16))
    head, tail = (text[:space], text[space:]) if space > 0 else (text, "")
    # Halving, not letter by letter: class names come from users and may be absurdly long.
    low, high = 0, len(head)
    while low < high:
        middle = (low + high + 1) // 2
        if draw.textlength(f"{head[:middle].rstrip()}...{tail}", font=font) <= room:
            low = middle
        else:
            high = middle - 1
    return (f"{head[:low].rstrip()}...{tail}" if low else ""), font


def _writable(text: str, px: int) -> tuple[str, Font]:
    """`text` and a font for it: Pillow's own face for ASCII, else the system font that lacks the fewest of its letters.
    Letters no font has lose their accents or become '?'."""
    own = _built_in(px)
    if text.isascii():
        return text, own
    best, lacking = own, {c for c in text if not c.isascii()}
    for name in _SYSTEM_FONTS:
        font = _system(name, px)
        missing = _missing(font, text) if font else lacking
        if font and len(missing) < len(lacking):
            best, lacking = font, missing
        if not lacking:
            break
    return "".join(_ascii(c) if c in lacking else c for c in text), best


@functools.lru_cache(maxsize=64)
def _built_in(px: int) -> Font:
    return ImageFont.load_default(size=px)


@functools.lru_cache(maxsize=256)
def _system(name: str, px: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, px)
    except OSError:
        return None


def _missing(font: ImageFont.FreeTypeFont, text: str) -> set[str]:
    """The letters drawn as the face's "missing" glyph, which is that of U+FFFF: no character by definition."""
    nothing = _glyph(font, "\uffff")
    return {c for c in text if not c.isspace() and _glyph(font, c) == nothing}


def _glyph(font: ImageFont.FreeTypeFont, letter: str) -> bytes:
    side = round(font.size * 2)
    canvas = Image.new("L", (side, side))
    ImageDraw.Draw(canvas).text((0, 0), letter, fill=255, font=font)
    return canvas.tobytes()


def _ascii(letter: str) -> str:
    return "".join(
        c if c.isascii() else "?" for c in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(c)
    )
