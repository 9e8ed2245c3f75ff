"""One demo picture: ground, debris, one object, light, camera. Takes (seed, index, class name), gives the picture, the
object's mask and its exact box. A pure function: no generator state, no files, no clock.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from onebox.demo_data.backgrounds import make_background, make_debris, smooth_noise
from onebox.demo_data.objects import Palette, Plane, make_palette, make_pose, render_object
from onebox.demo_data.shapes import CLASS_NAMES, SHAPES, Part, Rng
from onebox.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard the pictures are. The defaults are what `onebox demo` trains on.

    `clutter` 0-1: strength of the ground's pattern over a plain gradient. `distractors`: mean number of loose things
    around the object. `noise`: greatest standard deviation of sensor noise, of 1. `blur`: greatest radius of the
    out-of-focus blur, pixels. `min_scale`, `max_scale`: the object's longer side as a fraction of the picture's
    shorter one, drawn uniformly. `rotation`: degrees either way. `truncated`: share of objects cut by the border, by
    a tenth of their side at most. `contrast`: least distance of the object's main colour from nearly all of the
    ground around it, 0 (none) to 1 (black on white).
    """

    clutter: float = 0.7
    distractors: float = 4.0
    noise: float = 0.035
    blur: float = 0.9
    min_scale: float = 0.35
    max_scale: float = 0.8
    rotation: float = 25.0
    truncated: float = 0.06
    contrast: float = 0.25


@dataclass(frozen=True, slots=True)
class Scene:
    """`image` RGB; `box` (x_min, y_min, x_max, y_max) in pixels, tight around `mask` (height, width), true where the
    object covers more than half of a pixel (its shadow does not count; debris in front of it does not uncover it)."""

    image: Image.Image
    box: tuple[float, float, float, float]
    mask: npt.NDArray[np.bool_]


#: A bell curve in 256 equally likely steps: a random byte is ten times quicker to draw than a normal number.
_NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], dtype=np.float32)

#: The picture's sides are drawn from this range of pixels, each on its own, so that aspects vary up to 1.6.
SIZES = (160, 260)


def draw_scene(
    seed: int,
    index: int,
    class_name: str,
    *,
    size: tuple[int, int] = SIZES,
    difficulty: Difficulty | None = None,
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """One RGB picture and its box (x_min, y_min, x_max, y_max) in pixels; always the same for the same arguments.

    `seed` and `index` are 0 or more; `size` is the range of the picture's sides in pixels. Raises ConfigError for an
    unknown class or an impossible size.
    """
    scene = compose_scene(seed, index, class_name, size=size, difficulty=difficulty)
    return scene.image, scene.box


def compose_scene(
    seed: int,
    index: int,
    class_name: str,
    *,
    size: tuple[int, int] = SIZES,
    difficulty: Difficulty | None = None,
) -> Scene:
    """`draw_scene` with the mask. The class only changes the object: the same index has the same size and ground for
    every class, so nothing but the object tells the class."""
    if class_name not in SHAPES:
        raise ConfigError(f"unknown demo class {class_name!r}", fix=f"Take one of {', '.join(CLASS_NAMES)}.")
    if not 64 <= size[0] <= size[1]:
        raise ConfigError(f"impossible range of picture sizes {size}", fix="Give (least, greatest), 64 pixels or more.")
    hard = difficulty or Difficulty()
    ground_rng, object_rng, camera_rng = (np.random.default_rng((seed, index, stage)) for stage in range(3))
    width, height = (int(v) for v in ground_rng.integers(size[0], size[1] + 1, 2))
    picture = make_background(ground_rng, width, height, hard.clutter)
    count = int(ground_rng.poisson(hard.distractors))
    picture = _over(picture, *make_debris(ground_rng, width, height, count, 0.16))
    angle = ground_rng.uniform(0, 2 * np.pi)
    light = (float(np.cos(angle)), float(np.sin(angle)))

    parts = SHAPES[class_name](object_rng)
    place, colour, patch = _place_object(object_rng, parts, picture, light, hard)
    coverage = np.zeros((height, width), np.float32)
    coverage[place] = patch
    mask = coverage > 0.5
    picture *= (1 - _shadow(object_rng, coverage, light))[..., None]
    picture[place] = _over(picture[place], colour, patch)
    picture = _occlude(camera_rng, picture, mask, hard)
    picture *= _illumination(camera_rng, width, height, light)[..., None]
    return Scene(_photograph(camera_rng, picture, hard), tight_box(mask), mask)


def tight_box(mask: npt.NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The smallest box around the true pixels of (h, w); right and bottom are edges, one past the last pixel."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _place_object(
    rng: Rng, parts: list[Part], picture: Plane, light: tuple[float, float], hard: Difficulty
) -> tuple[tuple[slice, slice], Plane, Plane]:
    """Poses, places, colours and renders: the rows and columns taken, colour (h, w, 3) and coverage (h, w)."""
    height, width = picture.shape[:2]
    pose = make_pose(rng, parts, rng.uniform(hard.min_scale, hard.max_scale) * min(width, height), hard.rotation)
    left = int(rng.integers(0, max(width - pose.width, 0) + 1))
    top = int(rng.integers(0, max(height - pose.height, 0) + 1))
    if rng.random() < hard.truncated:
        cut = round(rng.uniform(0.04, 0.1) * (pose.width if rng.random() < 0.5 else pose.height))
        edge = rng.integers(4)
        left = (-cut, left, width - pose.width + cut, left)[edge]
        top = (top, -cut, top, height - pose.height + cut)[edge]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + pose.width, width), min(top + pose.height, height)
    palette = _contrasting_palette(rng, parts, picture[y0:y1, x0:x1], hard.contrast)
    colour, coverage = render_object(rng, parts, pose, palette, light)
    inside = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    return (slice(y0, y1), slice(x0, x1)), colour[inside], coverage[inside]


def _contrasting_palette(rng: Rng, parts: list[Part], ground: Plane, least: float) -> Palette:
    """The first of 24 random palettes whose large parts stand off the ground, else the one that does so best.

    Distance of colours: red, green, blue weighted 2 : 4 : 3 as in the common "redmean" rule of thumb. It is asked of
    the nearest tenth of the ground's pixels, not of their mean: a mean between two stripes is neither of them. The
    second colour is asked for two thirds of the first one's distance.
    """
    weights = np.sqrt(np.array([2.0, 4.0, 3.0]) / 9.0)
    pixels = ground[::9, ::9].reshape(1, -1, 3) * weights
    extent: dict[str, float] = dict.fromkeys(("body", "accent", "light"), 0.0)
    for part in parts:
        if part.role in extent:
            extent[part.role] += float(np.ptp(part.points, axis=0).prod())
    large = [role for role, area in extent.items() if area > 0.15 * sum(extent.values())]
    ask = np.array([1.0 if extent[role] == max(extent.values()) else 1.5 for role in large])
    best, best_distance = make_palette(rng), -1.0
    for _ in range(24):
        palette = make_palette(rng)
        colours = np.stack([palette.colours[role] for role in large])[:, None] * weights
        away = np.sort(((pixels - colours) ** 2).sum(axis=2), axis=1)
        distance = float((np.sqrt(away[:, away.shape[1] // 10]) * ask).min())
        if distance > best_distance:
            best, best_distance = palette, distance
        if distance >= least:
            break
    return best


def _over(picture: Plane, colour: Plane, opacity: Plane) -> Plane:
    return picture + (colour - picture) * opacity[..., None]


def _shadow(rng: Rng, coverage: Plane, light: tuple[float, float]) -> Plane:
    """Darkness 0-1 (h, w): the coverage, blurred and moved away from the light."""
    side = float(np.sqrt(coverage.sum())) + 8
    reach = rng.uniform(0.05, 0.16) * side
    soft = Image.fromarray((coverage * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5 * reach + 1))
    moved = np.roll(np.asarray(soft, dtype=np.float32), (round(-light[1] * reach), round(-light[0] * reach)), (0, 1))
    return moved * np.float32(rng.uniform(0.25, 0.55) / 255)


def _occlude(rng: Rng, picture: Plane, mask: npt.NDArray[np.bool_], hard: Difficulty) -> Plane:
    """A few loose things in front, left out where they would hide more than a twelfth of the object."""
    height, width = mask.shape
    count = int(rng.poisson(hard.distractors * 0.25))
    if count == 0:
        return picture
    colour, opacity = make_debris(rng, width, height, count, 0.1)
    if opacity[mask].sum() > mask.sum() / 12:
        return picture
    return _over(picture, colour, opacity)


def _illumination(rng: Rng, width: int, height: int, light: tuple[float, float]) -> Plane:
    """(h, w) about 1: brighter towards the light, uneven, darker in the corners."""
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope = (x * light[0] + y * light[1]) * np.float32(rng.uniform(0.03, 0.2))
    uneven = (smooth_noise(rng, width, height, 3) - 0.5) * np.float32(rng.uniform(0.0, 0.35))
    vignette = (x * x + y * y) * np.float32(rng.uniform(0.0, 0.14))
    return 1 + slope + uneven - vignette


def _photograph(rng: Rng, picture: Plane, hard: Difficulty) -> Image.Image:
    """Exposure, colour cast, blur, noise; every third picture has been through a coarser JPEG before."""
    gamma = rng.uniform(0.85, 1.2)
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.94, 1.06, 3)
    image = Image.fromarray((np.clip(picture * gain.astype(np.float32), 0, 1) * 255).astype(np.uint8))
    image = image.point([round(255 * (v / 255) ** gamma) for v in range(256)] * 3)
    radius = rng.uniform(0, hard.blur)
    if radius > 0.25:
        image = image.filter(ImageFilter.GaussianBlur(radius))
    deviation = rng.uniform(0.1, 1.0) * hard.noise * 255
    grain = (_NORMAL * np.float32(deviation))[rng.integers(0, 256, picture.shape, dtype=np.uint8)]
    image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
    if rng.random() < 1 / 3:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(45, 75)))
        image = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
    return image
