"""From polygons to a lit, coloured, posed object with soft edges. Takes `Part`s, a pose and a palette; gives colour
and coverage for a rectangle of the picture. Never looks at the background and never chooses a place.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from onebox.demo_data.shapes import Part, Points, Rng

#: One value, or one colour, for every pixel of a rectangle: (h, w) or (h, w, 3), float32 for speed.
Plane: TypeAlias = npt.NDArray[np.floating[Any]]

#: Polygons are drawn this many times larger, then averaged down: 9 samples a pixel.
SUPERSAMPLE = 3


@dataclass(frozen=True, slots=True)
class Pose:
    """`matrix` (3, 3): object coordinates to picture pixels; `width`, `height`: the rectangle in pixels that holds
    the object, its top left corner at the origin."""

    matrix: npt.NDArray[np.float64]
    width: int
    height: int


def make_pose(rng: Rng, parts: Sequence[Part], side: float, rotation: float) -> Pose:
    """Turned by up to `rotation` degrees either way, mirrored half of the time, stretched, sheared, tilted a
    little; then scaled so that the longer side of the object is `side` pixels."""
    angle = np.radians(rng.uniform(-rotation, rotation))
    c, s = np.cos(angle), np.sin(angle)
    stretch = np.exp(rng.uniform(-0.14, 0.14))
    mirror = rng.choice([-1.0, 1.0])
    shear = rng.uniform(-0.15, 0.15)
    linear = np.array([[c, -s], [s, c]]) @ np.array([[mirror * stretch, shear], [0.0, 1 / stretch]])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[2, :2] = rng.uniform(-0.14, 0.14, 2)  # perspective: the far side up to 1.3 times smaller
    points = project(matrix, np.concatenate([p.points for p in parts if p.role != "hole"]))
    low, high = points.min(axis=0), points.max(axis=0)
    scale = side / float((high - low).max())
    place = np.diag([scale, scale, 1.0])
    place[:2, 2] = 1.0 - low * scale
    width, height = np.ceil((high - low) * scale).astype(int) + 2
    return Pose(place @ matrix, int(width), int(height))


def project(matrix: npt.NDArray[np.float64], points: Points) -> Points:
    """(N, 2) through a (3, 3) homography."""
    homogeneous = points @ matrix[:, :2].T + matrix[:, 2]
    return homogeneous[:, :2] / homogeneous[:, 2:]


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours (3,) in 0-1 by role, and the second colour of the body's texture."""

    colours: dict[str, npt.NDArray[np.float64]]
    texture: npt.NDArray[np.float64]


#: Pleasant paints from light to dark; each is then shifted a little in hue, strength and brightness. Even random hues
#: would give mostly neon green and magenta, which is where the RGB cube is widest.
_PAINTS = (
    *("f4e9d8", "f6cf5c", "f2a541", "ef7b45", "e4572e", "c8323c", "a4243b", "e27d94", "c45bab"),
    *("8a4fa3", "5c4b9b", "3f5fa8", "2f7fc1", "58b0e0", "9ad4e6", "2aa6a0", "1f7a73", "3f9b57"),
    *("7db548", "b8c94a", "8c9a5b", "9c6b3f", "6b4226", "8d99a6", "d7dde2", "44546a", "2b2d42"),
)


def make_palette(rng: Rng) -> Palette:
    """Any paint for any class, so that no class can be told by its colour."""
    body, accent = (_paint(rng, _PAINTS[rng.integers(len(_PAINTS))]) for _ in range(2))
    if np.linalg.norm(accent - body) < 0.35:  # two parts of nearly one colour would hide the shape
        accent = body * 0.55 if body.mean() > 0.5 else 1 - (1 - body) * 0.5
    # On a nearly white body the light parts (spots, veins, rims) are the darker ones, or they would not be seen.
    pale = body.min() > 0.72
    light = body * rng.uniform(0.62, 0.75) if pale else 0.3 * body + 0.7 * rng.uniform(0.9, 1.0, 3)
    dark = body * rng.uniform(0.4, 0.55)
    texture = np.clip(body * rng.choice([0.65, 0.75, 1.35]) + rng.uniform(-0.05, 0.05, 3), 0.0, 1.0)
    return Palette({"body": body, "accent": accent, "light": light, "dark": dark, "line": dark * 0.45}, texture)


def _paint(rng: Rng, code: str) -> npt.NDArray[np.float64]:
    hue, saturation, value = colorsys.rgb_to_hsv(*(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)))
    hue, saturation = (hue + rng.normal(0, 0.02)) % 1.0, min(saturation * rng.uniform(0.8, 1.15), 1.0)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, min(value * rng.uniform(0.82, 1.12), 1.0)))


def rasterize(parts: Sequence[Part], pose: Pose, palette: Palette) -> tuple[Plane, Plane, Plane, Plane]:
    """Flat colour (h, w, 3), coverage (h, w), share of body (h, w), height (h, w); all 0-1."""
    size = (pose.width * SUPERSAMPLE, pose.height * SUPERSAMPLE)
    paint, facts = Image.new("RGB", size), Image.new("RGB", size)  # facts: coverage, body, height
    pen, marker = ImageDraw.Draw(paint), ImageDraw.Draw(facts)
    for part in parts:
        corners = (project(pose.matrix, part.points) * SUPERSAMPLE).ravel().tolist()
        if part.role == "hole":
            pen.polygon(corners, fill=(0, 0, 0))
            marker.polygon(corners, fill=(0, 0, 0))
            continue
        red, green, blue = (round(v) for v in (palette.colours[part.role] * 255).tolist())
        pen.polygon(corners, fill=(red, green, blue))
        marker.polygon(corners, fill=(255, 255 if part.role == "body" else 0, round(60 + 195 * part.height)))
    colour = np.asarray(paint.reduce(SUPERSAMPLE), dtype=np.float32) / np.float32(255)
    known = np.asarray(facts.reduce(SUPERSAMPLE), dtype=np.float32) / np.float32(255)
    coverage = known[..., 0]
    # Empty samples are black, so the average is the colour times the coverage: divide it out again.
    colour = np.minimum(colour / np.maximum(coverage, np.float32(1 / 255))[..., None], 1)
    return colour, coverage, known[..., 1], known[..., 2]


def render_object(
    rng: Rng, parts: Sequence[Part], pose: Pose, palette: Palette, light: tuple[float, float]
) -> tuple[Plane, Plane]:
    """Colour (h, w, 3) and coverage (h, w) in 0-1 of the rectangle that `pose` speaks of. `light` is the unit vector
    on the screen towards the light."""
    colour, coverage, body, height = rasterize(parts, pose, palette)
    amount = (body * texture(rng, pose))[..., None]
    colour = colour * (1 - amount) + np.asarray(palette.texture, dtype=np.float32) * amount
    side = max(pose.width, pose.height)
    rounded = box_blur(box_blur(coverage, max(1, side // 22)), max(1, side // 14))
    sy, sx = np.gradient(rounded)
    ey, ex = np.gradient(box_blur(height, 1))
    # The gradient points inwards: an edge facing the light has its gradient away from it.
    slope = -(sx * light[0] + sy * light[1]) * np.float32(side * rng.uniform(0.05, 0.09))
    edge = -(ex * light[0] + ey * light[1]) * np.float32(rng.uniform(0.7, 1.3))
    y = np.linspace(-1, 1, pose.height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, pose.width, dtype=np.float32)[None, :]
    across = (x * light[0] + y * light[1]) * np.float32(rng.uniform(0.06, 0.2))
    shade = np.clip(1 + slope + edge + across, 0.4, 1.6)
    gloss = np.float32(rng.uniform(0.0, 0.5)) * np.exp(
        -(((x - 0.4 * light[0]) ** 2 + (y - 0.4 * light[1]) ** 2) / 0.12)
    )
    lit = colour * shade[..., None]
    lit = lit + (1 - lit) * (gloss * body * 0.6)[..., None]
    return np.clip(lit, 0, 1), coverage


def texture(rng: Rng, pose: Pose) -> Plane:
    """How much of the second colour, (h, w) in 0-1; drawn in object coordinates, so that it turns with the object."""
    kind = rng.integers(6)
    strength = np.float32(rng.uniform(0.45, 0.9))
    u, v = _object_coordinates(pose)
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(3.5, 7.0)
    c, s = np.float32(np.cos(angle) * frequency), np.float32(np.sin(angle) * frequency)
    a, b = u * c + v * s, v * c - u * s
    if kind == 0:
        pattern = np.zeros_like(u)
    elif kind == 1:  # stripes
        pattern = _step(np.sin(np.pi * a))
    elif kind == 2:  # dots
        pattern = _step(0.3 - np.hypot(a % 1 - 0.5, b % 1 - 0.5), 12)
    elif kind == 3:  # speckle
        coarse = rng.random((pose.height // 2 + 1, pose.width // 2 + 1), dtype=np.float32)
        pattern = np.repeat(np.repeat(coarse, 2, 0), 2, 1)[: pose.height, : pose.width] * 0.8
    elif kind == 4:  # gradient
        pattern = np.clip(0.5 + 0.6 * a / np.float32(frequency), 0, 1)
    else:  # checks
        pattern = _step(np.sin(np.pi * a) * np.sin(np.pi * b), 6)
    return (pattern * strength).astype(np.float32)


def _step(x: Plane, steepness: float = 4) -> Plane:
    return np.clip(x * steepness + 0.5, 0, 1)


def _object_coordinates(pose: Pose) -> tuple[Plane, Plane]:
    m = np.linalg.inv(pose.matrix).astype(np.float32)
    x = np.arange(pose.width, dtype=np.float32)[None, :] + np.float32(0.5)
    y = np.arange(pose.height, dtype=np.float32)[:, None] + np.float32(0.5)
    w = m[2, 0] * x + m[2, 1] * y + m[2, 2]
    return (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / w, (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / w


def box_blur(plane: Plane, radius: int) -> Plane:
    """(h, w) averaged over a (2 radius + 1) square, zero outside. Float all the way: 8 bits show steps when lit."""
    n = 2 * radius + 1
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(plane, pad), axis=axis)
        high, low = (slice(n, None), slice(None, -n))
        plane = (total[high] - total[low]) / n if axis == 0 else (total[:, high] - total[:, low]) / n
    return plane.astype(np.float32)
