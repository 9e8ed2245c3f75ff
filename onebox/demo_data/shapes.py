"""The eight kinds of object of the demo set, as lists of polygons. Takes a random generator, gives `Part`s in
object coordinates (about -1 to 1, y down), each with a role that a palette turns into a colour later. Never knows
of pixels, poses or colours, so that a class can be told by its shape alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Points: TypeAlias = npt.NDArray[np.float64]
Role: TypeAlias = Literal["body", "accent", "light", "dark", "line", "hole"]
Rng: TypeAlias = np.random.Generator


@dataclass(frozen=True, slots=True)
class Part:
    """One polygon. `points` (N, 2) x, y in object coordinates; a "hole" cuts through every part before it;
    `height` in 0-1 is how far it stands out of the object (drawn as a lit edge)."""

    points: Points
    role: Role
    height: float = 0.5


def ellipse(cx: float, cy: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Points:
    """(37, 2) points on an arc; degrees, clockwise on the screen, 0 is to the right."""
    t = np.radians(np.linspace(start, stop, 37))
    return np.stack([cx + rx * np.cos(t), cy + ry * np.sin(t)], axis=1)


def smooth(corners: Sequence[tuple[float, float]], closed: bool = True, steps: int = 8) -> Points:
    """A Catmull-Rom curve through the corners: (len * steps, 2)."""
    p = np.asarray(corners, dtype=np.float64)
    ends = (p[-1:], p[:2]) if closed else (2 * p[:1] - p[1:2], 2 * p[-1:] - p[-2:-1])
    q = np.concatenate([ends[0], p, ends[1]])
    a, b, c, d = q[:-3, None], q[1:-2, None], q[2:-1, None], q[3:, None]
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[None, :, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    flat = curve.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, p[-1:]])


def stroke(path: npt.ArrayLike, width: float, end_width: float | None = None) -> Points:
    """The outline of a thick line along `path` (N, 2), tapering linearly to `end_width`; (2N, 2)."""
    p = np.asarray(path, dtype=np.float64)
    direction = np.gradient(p, axis=0)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    half = np.linspace(width, width if end_width is None else end_width, len(p))[:, None] / 2
    return np.concatenate([p + normal * half, (p - normal * half)[::-1]])


def turned(points: Points, degrees: float) -> Points:
    """Rotated about the origin, clockwise on the screen."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return points @ np.array([[c, s], [-s, c]])


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Points:
    """(4, 2) corners."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def fish(rng: Rng) -> list[Part]:
    """Side view, mouth to the left."""
    fat, fork = rng.uniform(0.85, 1.25), rng.uniform(0.05, 0.3)
    back, belly = -0.42 * fat, 0.40 * fat
    outline = [(-0.97, 0.02), (-0.86, -0.14), (-0.55, 0.8 * back), (-0.1, back), (0.35, 0.62 * back), (0.7, -0.1)]
    outline += [(0.7, 0.1), (0.35, 0.62 * belly), (-0.1, belly), (-0.55, 0.82 * belly), (-0.86, 0.16)]
    spread = rng.uniform(0.4, 0.55)
    tail = smooth([(0.62, 0.0), (0.8, -0.2), (1.08, -spread), (1.1 - fork, 0.0), (1.08, spread), (0.8, 0.2)])
    crest = rng.uniform(0.2, 0.42)
    dorsal = smooth([(-0.45, 0.8 * back), (-0.2, back - crest), (0.2, 0.8 * back - 0.8 * crest), (0.45, 0.4 * back)])
    ventral = smooth([(-0.15, 0.9 * belly), (0.12, belly + 0.3), (0.28, 0.7 * belly)])
    pectoral = smooth([(-0.32, 0.08), (-0.02, 0.02), (0.08, 0.2), (-0.14, 0.22)])
    parts = [Part(tail, "accent", 0.35), Part(dorsal, "accent", 0.3), Part(ventral, "accent", 0.3)]
    for y in (-0.5, -0.25, 0.0, 0.25, 0.5):  # the rays of the tail
        parts.append(Part(stroke([(0.76, 0.3 * y * spread), (1.0, 1.4 * y * spread)], 0.025), "dark", 0.3))
    parts.append(Part(smooth(outline), "body", 0.7))
    parts.append(Part(stroke(ellipse(-0.78, 0.0, 0.32, 0.36 * fat, -48, 48), 0.04), "dark", 0.5))
    parts.append(Part(pectoral, "accent", 0.9))
    parts.append(Part(stroke(ellipse(-0.97, 0.02, 0.2, 0.1, 10, 70), 0.03), "line", 0.5))
    eye = rng.uniform(0.085, 0.125)
    parts.append(Part(ellipse(-0.66, -0.1, eye, eye), "light", 0.9))
    parts.append(Part(ellipse(-0.675, -0.1, 0.55 * eye, 0.55 * eye), "line", 0.9))
    return parts


def key(rng: Rng) -> list[Part]:
    """Bow to the left, teeth down at the right end; three kinds of bow."""
    bow, width = rng.integers(3), rng.uniform(0.17, 0.23)
    bottom, r = width / 2, rng.uniform(0.36, 0.46)
    parts = [Part(rectangle(-0.5, -width / 2, 1.0, bottom), "body", 0.6)]
    teeth = int(rng.integers(2, 5))
    edges = np.linspace(0.45, 1.0, 2 * teeth)
    for left, right in zip(edges[::2], edges[1::2], strict=True):
        parts.append(Part(rectangle(left, 0.0, right, bottom + rng.uniform(0.14, 0.34)), "body", 0.6))
    parts.append(Part(stroke([(-0.05, 0.0), (1.0, 0.0)], 0.04), "dark", 0.45))
    if bow == 0:
        parts.append(Part(ellipse(-0.62, 0, r, r), "body", 0.8))
        parts.append(Part(stroke(ellipse(-0.62, 0, 0.8 * r, 0.8 * r), 0.05), "accent", 0.6))
        parts.append(Part(ellipse(-0.62, 0, 0.52 * r, 0.52 * r), "hole"))
    elif bow == 1:  # a trefoil
        lobes = [(-0.48, -0.27), (-0.48, 0.27), (-0.86, 0.0)]
        parts.extend(Part(ellipse(x, y, 0.27, 0.27), "body", 0.8) for x, y in lobes)
        parts.append(Part(ellipse(-0.6, 0, 0.15, 0.15), "accent", 0.9))
        parts.extend(Part(ellipse(x, y, 0.13, 0.13), "hole") for x, y in lobes)
    else:  # a rounded plate with a slot
        plate = [(-0.98, -0.3), (-0.9, -0.42), (-0.36, -0.42), (-0.26, -0.3)]
        parts.append(Part(smooth([*plate, *[(x, -y) for x, y in plate[::-1]]]), "body", 0.8))
        parts.append(Part(rectangle(-0.66, -0.3, -0.38, 0.3), "accent", 0.6))
        parts.append(Part(ellipse(-0.8, 0, 0.09, 0.22), "hole"))
    parts.append(Part(rectangle(-0.2, -width * 0.85, -0.08, width * 0.85), "accent", 0.9))
    return parts


def leaf(rng: Rng) -> list[Part]:
    """Stalk to the right, tip to the left; toothed or lobed edge."""
    lobed = rng.random() < 0.4
    t = np.linspace(0.0, 1.0, 121)
    x = -1.0 + 1.55 * t
    half = rng.uniform(0.42, 0.58) * np.sin(np.pi * t ** rng.uniform(0.85, 1.25)) ** rng.uniform(0.75, 1.0)
    if lobed:
        half *= 0.78 + 0.36 * np.abs(np.sin(np.pi * t * rng.integers(4, 6)))
    else:
        teeth = rng.integers(9, 16)
        half *= 1.0 + rng.uniform(0.04, 0.12) * (1.0 - (t * teeth) % 1.0)
    bend = rng.uniform(-0.16, 0.16)
    spine = bend * np.sin(np.pi * t)
    outline = np.concatenate([np.stack([x, spine - half], 1), np.stack([x, spine + half], 1)[::-1]])
    stalk = smooth([(0.5, 0.0), (0.75, -0.3 * bend), (1.05, rng.uniform(-0.12, 0.12))], closed=False)
    parts = [Part(stroke(stalk, 0.09, 0.06), "dark", 0.6), Part(outline, "body", 0.5)]
    veins = int(rng.integers(4, 7))
    for at in np.linspace(0.22, 0.86, veins):
        i, j = round(120 * at), round(120 * max(at - 0.16, 0.02))
        for side in (-1, 1):
            tip = (x[j], spine[j] + side * 0.78 * half[j])
            parts.append(Part(stroke([(x[i], spine[i]), tip], 0.035, 0.012), "light", 0.4))
    parts.append(Part(stroke(np.stack([x, spine], 1)[4:], 0.02, 0.07), "light", 0.7))
    return parts


def lightbulb(rng: Rng) -> list[Part]:
    """Glass up, screw base down."""
    r, neck = rng.uniform(0.54, 0.66), rng.uniform(0.22, 0.27)
    side = [(r, -0.38), (0.9 * r, -0.06), (0.62 * r, 0.18), (neck, 0.42)]
    top = [(-0.72 * r, -0.38 - 0.7 * r), (0.0, -0.38 - r), (0.72 * r, -0.38 - 0.7 * r)]
    glass = smooth([*top, *side, *[(-x, y) for x, y in side[::-1]]])
    parts = [Part(glass, "body", 0.8)]
    for s in (-1, 1):
        parts.append(Part(stroke([(0.07 * s, 0.4), (0.2 * s, -0.3)], 0.04), "line", 0.5))
    zigzag = [(x, -0.3 + (-0.12 if i % 2 else 0.0)) for i, x in enumerate(np.linspace(-0.2, 0.2, 7))]
    parts.append(Part(stroke(zigzag, 0.045), "line", 0.5))
    shine = ellipse(0, -0.38, 0.76 * r, 0.76 * r, 190, 245)
    parts.append(Part(stroke(shine, 0.09, 0.05), "light", 0.8))
    bottom = rng.uniform(0.82, 0.92)
    screw = [(-neck, 0.38), (neck, 0.38), (0.95 * neck, bottom - 0.06), (0.6 * neck, bottom), (-0.6 * neck, bottom)]
    parts.append(Part(np.array([*screw, (-0.95 * neck, bottom - 0.06)]), "accent", 0.7))
    for y in np.linspace(0.47, bottom - 0.12, 3):
        parts.append(Part(stroke([(-1.08 * neck, y + 0.03), (1.08 * neck, y - 0.03)], 0.06), "dark", 0.9))
    parts.append(Part(ellipse(0, bottom, 0.55 * neck, 0.09), "line", 0.6))
    return parts


def mug(rng: Rng) -> list[Part]:
    """Seen from slightly above, handle to the right."""
    top, bottom, tall = rng.uniform(0.56, 0.7), 0.0, rng.uniform(0.62, 0.78)
    bottom, lip = top * rng.uniform(0.78, 1.02), rng.uniform(0.13, 0.22)
    reach = rng.uniform(0.4, 0.55)
    ear = [(0.9 * top, -0.55 * tall), (top + 0.75 * reach, -0.52 * tall), (top + reach, 0.0)]
    ear += [(bottom + 0.6 * reach, 0.48 * tall), (0.9 * bottom, 0.62 * tall)]
    base = ellipse(0, tall, bottom, 0.8 * lip, 0, 180)
    wall = np.concatenate([[(-top, -tall), (top, -tall)], base])
    parts = [Part(stroke(smooth(ear, closed=False), rng.uniform(0.15, 0.21)), "body", 0.45), Part(wall, "body", 0.7)]
    if rng.random() < 0.7:  # a band around the wall
        a, b = np.sort(rng.uniform(-0.5, 0.75, 2)) + np.array([-0.06, 0.06])
        upper, lower = (top + (bottom - top) * (v + 1) / 2 for v in (a, b))
        band = [ellipse(0, a * tall, upper, lip, 0, 180), ellipse(0, b * tall, lower, 0.85 * lip, 180, 0)]
        parts.append(Part(np.concatenate(band), "accent", 0.7))
    parts.append(Part(ellipse(0, -tall, top, lip), "light", 0.9))
    parts.append(Part(ellipse(0, -tall + 0.01, 0.88 * top, 0.82 * lip), "dark", 0.3))
    parts.append(
        Part(ellipse(0, -tall + 0.05, 0.8 * top, 0.62 * lip), "line" if rng.random() < 0.5 else "accent", 0.25)
    )
    return parts


def mushroom(rng: Rng) -> list[Part]:
    """Cap up, with spots; gills under the rim; a stem that widens."""
    cap, wide = rng.uniform(0.6, 0.95), rng.uniform(0.8, 0.95)
    waist, foot = rng.uniform(0.16, 0.24), rng.uniform(0.24, 0.36)
    half = [(waist * 1.15, -0.05), (waist, 0.35), (foot, 0.78), (0.8 * foot, 0.92)]
    stem = smooth([*half, *[(-x, y) for x, y in half[::-1]]])
    parts = [Part(ellipse(0, -0.02, 0.9 * wide, 0.2), "dark", 0.3)]
    for x in np.linspace(-0.7, 0.7, 9) * wide:
        parts.append(Part(stroke([(0.3 * x, -0.05), (x, 0.12)], 0.025), "line", 0.3))
    parts.append(Part(stem, "light", 0.6))
    parts.append(Part(stroke(ellipse(0, 0.18, 1.5 * waist, 0.12, 10, 170), 0.09), "accent", 0.8))
    dome = np.concatenate([ellipse(0, -0.02, wide, cap, 180, 360), ellipse(0, -0.02, wide, 0.13, 0, 180)])
    parts.append(Part(dome, "body", 0.8))
    for i in range(int(rng.integers(4, 8))):  # spots on a sphere look flatter towards the rim
        angle, out = 2.4 * i + rng.uniform(-0.3, 0.3), 0.78 * np.sqrt((i + 0.4) / 7)
        x, y = out * np.cos(angle), out * np.sin(angle)
        size = rng.uniform(0.09, 0.15)
        parts.append(Part(ellipse(wide * x, -0.45 * cap + 0.42 * cap * y, size, size * 0.75), "light", 1.0))
    return parts


def scissors(rng: Rng) -> list[Part]:
    """Open by 20-55 degrees, points up, finger rings down."""
    opening, ring = rng.uniform(20, 55) / 2, rng.uniform(0.25, 0.31)
    blade = np.array([(-0.1, 0.14), (-0.115, -0.2), (-0.06, -0.7), (0.03, -1.05), (0.055, -0.5), (0.09, 0.1)])
    arm = smooth([(0.0, 0.0), (0.08, 0.24), (0.2, 0.42)], closed=False)
    parts: list[Part] = []
    for side in (1, -1):
        flip = np.array([side, 1.0])
        centre = (0.36, 0.42 + ring)
        pieces: list[tuple[Points, Role, float]] = [
            (blade, "body", 0.5 if side == 1 else 0.7),
            (stroke([(0.02, -0.95), (0.06, 0.0)], 0.025), "light", 0.6),
            (stroke(arm, 0.19, 0.15), "accent", 0.6),
            (ellipse(*centre, ring * 0.98, ring * 1.18), "accent", 0.8),
            (ellipse(*centre, ring * 0.58, ring * 0.76), "hole", 0.0),
        ]
        for points, role, height in pieces:
            parts.append(Part(turned(points, -opening) * flip, role, height))
    parts.append(Part(ellipse(0, 0, 0.075, 0.075), "dark", 1.0))
    parts.append(Part(stroke([(-0.05, -0.03), (0.05, 0.03)], 0.03), "light", 1.0))
    return parts


def umbrella(rng: Rng) -> list[Part]:
    """Open, panels in two colours, a hooked handle below."""
    panels, dome, sag = int(rng.integers(4, 7)), rng.uniform(0.62, 0.85), rng.uniform(0.1, 0.18)
    long = rng.uniform(0.6, 0.8)
    hook, side = rng.uniform(0.12, 0.18), rng.choice([-1.0, 1.0])
    shaft = [(0.0, -0.3), (0.0, 0.5 * long), (0.0, long)]
    bend = ellipse(side * hook, long, hook, hook, 180 if side > 0 else 0, 10 if side > 0 else 170)
    parts = [Part(stroke([(0.0, -0.1), (0.0, -dome - 0.16)], 0.09, 0.04), "dark", 0.6)]
    parts.append(Part(stroke(shaft, 0.07), "dark", 0.6))
    parts.append(Part(stroke(np.concatenate([[(0.0, long - 0.25)], bend]), 0.12), "accent", 0.8))
    # Ribs of a dome: panel corners equally spaced in angle look narrower at the sides.
    corners = np.sin(np.linspace(-np.pi / 2, np.pi / 2, panels + 1))
    t = np.linspace(0, np.pi / 2, 24)
    two_tone: Role = "accent" if rng.random() < 0.6 else "light"
    for i, (a, b) in enumerate(pairwise(corners)):
        left, right = (np.stack([c * np.sin(t), -dome * np.cos(t)], 1) for c in (a, b))
        u = np.linspace(0, 1, 14)[1:-1]
        scallop = np.stack([a + (b - a) * u, -sag * np.sin(np.pi * u) * (0.4 + b - a)], 1)
        panel = np.concatenate([left, scallop, right[::-1]])
        parts.append(Part(panel, "body" if i % 2 == 0 else two_tone, 0.75 if i % 2 == 0 else 0.6))
    for c in corners[1:-1]:
        parts.append(Part(stroke(np.stack([c * np.sin(t), -dome * np.cos(t)], 1), 0.022), "dark", 0.8))
    return parts


SHAPES: dict[str, Callable[[Rng], list[Part]]] = {
    "fish": fish,
    "key": key,
    "leaf": leaf,
    "lightbulb": lightbulb,
    "mug": mug,
    "mushroom": mushroom,
    "scissors": scissors,
    "umbrella": umbrella,
}

#: Sorted, as every data set's class names are.
CLASS_NAMES: tuple[str, ...] = tuple(SHAPES)
