"""Cluttered grounds for the demo pictures, and the debris that lies on them. Takes a random generator and a size;
gives colour planes in 0-1. Never draws anything that could be taken for one of the classes.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from onebox.demo_data.objects import Plane
from onebox.demo_data.shapes import Rng

Colours: TypeAlias = npt.NDArray[np.float32]

_DEBRIS_SUPERSAMPLE = 2


def make_background(rng: Rng, width: int, height: int, clutter: float) -> Plane:
    """(height, width, 3) in 0-1. `clutter` 0-1 is the strength of what is drawn over a plain soft gradient."""
    colours = ground_colours(rng)
    calm = _mix(smooth_noise(rng, width, height, 2), colours[:2])
    busy = GROUNDS[rng.integers(len(GROUNDS))](rng, width, height, colours)
    return (calm + np.float32(clutter) * (busy - calm)).astype(np.float32)


#: Hue, saturation and value that grounds start from: sand, oak, walnut, clay, moss, sage, teal, denim, slate, night,
#: plum, rose, linen, ash, stone.
_GROUND_TONES = (
    (0.11, 0.35, 0.80),
    (0.09, 0.45, 0.68),
    (0.06, 0.42, 0.40),
    (0.03, 0.45, 0.62),
    (0.24, 0.38, 0.48),
    (0.34, 0.20, 0.68),
    (0.49, 0.38, 0.52),
    (0.59, 0.42, 0.56),
    (0.58, 0.16, 0.46),
    (0.63, 0.40, 0.30),
    (0.80, 0.22, 0.42),
    (0.98, 0.25, 0.75),
    (0.12, 0.12, 0.90),
    (0.60, 0.05, 0.82),
    (0.08, 0.08, 0.58),
)


def ground_colours(rng: Rng) -> Colours:
    """(4, 3) colours that go together: neighbouring hues, muted as grounds are."""
    hue, saturation, value = _GROUND_TONES[rng.integers(len(_GROUND_TONES))]
    hue, saturation = hue + rng.normal(0, 0.03), saturation * rng.uniform(0.7, 1.2)
    spread = rng.uniform(0.01, 0.06)
    rows = [
        colorsys.hsv_to_rgb(
            (hue + rng.normal(0, spread)) % 1.0,
            float(np.clip(saturation + rng.normal(0, 0.06), 0, 0.7)),
            float(np.clip(value + offset + rng.normal(0, 0.05), 0.12, 1.0)),
        )
        for offset in (0.0, 0.1, -0.16, -0.05)
    ]
    return np.array(rows, dtype=np.float32)


def smooth_noise(rng: Rng, width: int, height: int, cells: int) -> Plane:
    """(height, width) in about 0-1, soft hills some 1/cells of the picture wide."""
    coarse = rng.random((cells + 2, cells + 2), dtype=np.float32)
    fine = Image.fromarray(coarse).resize(
        (width, height), Image.Resampling.BICUBIC, box=(0.5, 0.5, cells + 1, cells + 1)
    )
    return np.asarray(fine, dtype=np.float32)


def _mix(amount: Plane, colours: Colours) -> Plane:
    """(h, w) in 0-1 to (h, w, 3): along a straight line from the first colour to the second."""
    return colours[0] + np.clip(amount, 0, 1)[..., None] * (colours[1] - colours[0])


def _grid(rng: Rng, width: int, height: int, turned: float = np.pi) -> tuple[Plane, Plane]:
    """Two (h, w) coordinates, 1 unit = the picture's longer side, turned by a random angle up to `turned`."""
    angle = rng.uniform(0, turned)
    x = np.arange(width, dtype=np.float32)[None, :] / max(width, height)
    y = np.arange(height, dtype=np.float32)[:, None] / max(width, height)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * c + y * s, y * c - x * s


def _clouds(rng: Rng, width: int, height: int, colours: Colours) -> Plane:
    layers = [smooth_noise(rng, width, height, cells) * k for cells, k in ((3, 1.0), (7, 0.6), (17, 0.4))]
    return _mix(layers[0] + layers[1] + layers[2] - 0.5, colours[1:3])


def _wood(rng: Rng, width: int, height: int, colours: Colours) -> Plane:
    u, v = _grid(rng, width, height)
    planks = rng.uniform(2.5, 6)
    plank = np.floor(v * planks + 20).astype(np.int64) % 64
    shift = rng.random(64, dtype=np.float32)[plank]
    warp = smooth_noise(rng, width, height, 4)
    along = v * rng.uniform(45, 80) + shift * 40 + warp * rng.uniform(2, 5) + u * rng.uniform(-4, 4)
    rings = 0.5 * np.sin(along) + 0.3 * np.sin(2.31 * along + 3 * warp) + 0.25 * np.sin(0.37 * along)
    seam = np.abs((v * planks) % 1 - 0.5) > 0.48
    return _mix(0.5 + 0.32 * rings + 0.7 * (shift - 0.5), colours[1:3]) * (1 - np.float32(0.45) * seam[..., None])


def _tiles(rng: Rng, width: int, height: int, colours: Colours) -> Plane:
    u, v = _grid(rng, width, height)
    across, aspect = rng.uniform(4, 8), float(rng.choice([1.0, 1.0, 2.0]))
    row = np.floor(v * across * aspect + 30)
    column = np.floor(u * across + 30 + (row % 2) * (0.5 if aspect > 1 else 0.0))
    fu, fv = u * across + 30 + (row % 2) * (0.5 if aspect > 1 else 0.0) - column, v * across * aspect + 30 - row
    value = rng.random((64, 64), dtype=np.float32)[row.astype(np.int64) % 64, column.astype(np.int64) % 64]
    joint = np.minimum(np.minimum(fu, 1 - fu), np.minimum(fv, 1 - fv) / aspect) < 0.045
    return np.where(joint[..., None], colours[3] * 0.7, _mix(value, colours[1:3]))


def _plaid(rng: Rng, width: int, height: int, colours: Colours) -> Plane:
    u, v = _grid(rng, width, height)
    f = rng.uniform(4, 8)
    a, b = np.sin(2 * np.pi * f * u) > rng.uniform(-0.3, 0.6), np.sin(2 * np.pi * f * v) > rng.uniform(-0.3, 0.6)
    thread = 0.06 * np.sin(2 * np.pi * 60 * (u + v))
    return _mix(0.15 + np.float32(0.35) * a + np.float32(0.35) * b + thread, colours[[1, 2]])


def _bokeh(rng: Rng, width: int, height: int, colours: Colours) -> Plane:
    image = Image.fromarray((_mix(smooth_noise(rng, width, height, 3), colours[[2, 3]]) * 255).astype(np.uint8))
    pen = ImageDraw.Draw(image, "RGBA")
    for _ in range(int(rng.integers(18, 40))):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.03, 0.13) * min(width, height)
        red, green, blue = (int(v) for v in np.clip(colours[rng.integers(4)] * 255 + rng.normal(0, 22), 0, 255))
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(red, green, blue, int(rng.integers(50, 150))))
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def _blades(rng: Rng, width: int, height: int, colours: Colours) -> Plane:
    image = Image.fromarray((_mix(smooth_noise(rng, width, height, 5), colours[[2, 3]]) * 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    count, heading = int(rng.integers(140, 260)), rng.uniform(0, np.pi)
    x, y = rng.uniform(-10, width + 10, count), rng.uniform(-10, height + 10, count)
    angle, length = heading + rng.normal(0, 0.35, count), rng.uniform(8, 34, count)
    shade = (
        np.clip(colours[rng.integers(0, 4, count)] * 255 + rng.normal(0, 16, (count, 1)), 0, 255).astype(int).tolist()
    )
    dx, dy = np.cos(angle) * length, np.sin(angle) * length
    for i in range(count):
        pen.line((x[i], y[i], x[i] + dx[i], y[i] + dy[i]), fill=tuple(shade[i]), width=1 + i % 3)
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def _pebbles(rng: Rng, width: int, height: int, colours: Colours) -> Plane:
    image = Image.new("RGB", (width, height), tuple(int(v) for v in colours[2] * 150))
    pen = ImageDraw.Draw(image)
    step = rng.uniform(13, 24)
    for cy in np.arange(0, height + step, step):
        for cx in np.arange(0, width + step, step):
            x, y = cx + rng.uniform(-0.35, 0.35) * step, cy + rng.uniform(-0.35, 0.35) * step
            a, b = rng.uniform(0.4, 0.62, 2) * step
            shade = np.clip(colours[rng.integers(4)] * 255 + rng.normal(0, 14), 0, 255).astype(int)
            pen.ellipse((x - a, y - b, x + a, y + b), fill=tuple((shade * 0.72).astype(int).tolist()))
            pen.ellipse((x - 0.85 * a, y - 0.9 * b, x + 0.7 * a, y + 0.7 * b), fill=tuple(shade.tolist()))
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def _waves(rng: Rng, width: int, height: int, colours: Colours) -> Plane:
    u, v = _grid(rng, width, height)
    f = rng.uniform(6, 14)
    swell = np.sin(2 * np.pi * (f * v + rng.uniform(0.2, 0.7) * np.sin(2 * np.pi * rng.uniform(1.5, 4) * u)))
    return _mix(0.5 + 0.5 * swell * smooth_noise(rng, width, height, 3), colours[1:3])


GROUNDS: tuple[Callable[[Rng, int, int, Colours], Plane], ...] = (
    _clouds,
    _wood,
    _tiles,
    _plaid,
    _bokeh,
    _blades,
    _pebbles,
    _waves,
)


def make_debris(rng: Rng, width: int, height: int, count: int, size: float) -> tuple[Plane, Plane]:
    """`count` loose things (shards, discs, sticks, arcs, crosses, dots), each up to `size` of the shorter side, with
    a soft shadow. Gives colour (h, w, 3) and opacity (h, w), both 0-1."""
    scale = _DEBRIS_SUPERSAMPLE
    layer = Image.new("RGBA", (width * scale, height * scale))
    pen = ImageDraw.Draw(layer)
    things: list[tuple[list[float], tuple[int, int, int]]] = []
    for _ in range(count):
        red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.25, 0.95))
        r = rng.uniform(0.35, 1.0) * size / 2 * min(width, height) * scale
        place = (rng.uniform(0, width * scale), rng.uniform(0, height * scale))
        colour = (round(255 * red), round(255 * green), round(255 * blue))
        things.extend(((corners + place).ravel().tolist(), colour) for corners in _debris_corners(rng, r))
    for corners, _ in things:  # all shadows first: the pen replaces what it covers
        pen.polygon([v + 2 * scale for v in corners], fill=(0, 0, 0, 70))
    for corners, colour in things:
        pen.polygon(corners, fill=(*colour, 255))
    small = np.asarray(layer.reduce(scale), dtype=np.float32) / np.float32(255)
    return small[..., :3], small[..., 3]


def _debris_corners(rng: Rng, r: float) -> list[npt.NDArray[np.float64]]:
    """Polygons around the origin of one thing of radius `r`."""
    kind, turn = rng.integers(6), rng.uniform(0, 2 * np.pi)
    if kind == 0:  # a shard: 3 to 6 corners, uneven
        n = int(rng.integers(3, 7))
        t = turn + np.arange(n) * 2 * np.pi / n + rng.uniform(-0.25, 0.25, n)
        return [np.stack([np.cos(t), np.sin(t)], 1) * (r * rng.uniform(0.6, 1.0, (n, 1)))]
    if kind == 1:  # a disc or half of one
        t = turn + np.linspace(0, rng.choice([np.pi, 2 * np.pi]), 25)
        return [np.stack([np.cos(t), rng.uniform(0.6, 1.0) * np.sin(t)], 1) * (0.75 * r)]
    if kind == 2:  # a stick
        return [_bar(turn, rng.uniform(1.0, 2.2) * r, rng.uniform(0.08, 0.2) * r)]
    if kind == 3:  # an arc
        t = turn + np.linspace(0, rng.uniform(1.2, 3.4), 21)
        ray = np.stack([np.cos(t), np.sin(t)], 1)
        return [np.concatenate([ray * r, (ray * (r * rng.uniform(0.7, 0.85)))[::-1]])]
    if kind == 4:  # a cross
        return [_bar(turn, r, 0.22 * r), _bar(turn + np.pi / 2, r, 0.22 * r)]
    t = np.linspace(0, 2 * np.pi, 13)  # a handful of dots
    dot = np.stack([np.cos(t), np.sin(t)], 1) * (0.17 * r)
    return [dot + rng.uniform(-0.8, 0.8, 2) * r for _ in range(int(rng.integers(3, 7)))]


def _bar(angle: float, half_length: float, half_width: float) -> npt.NDArray[np.float64]:
    along = np.array([np.cos(angle), np.sin(angle)]) * half_length
    beside = np.array([-np.sin(angle), np.cos(angle)]) * half_width
    return np.array([along + beside, along - beside, -along - beside, -along + beside])
