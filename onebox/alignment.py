"""Lays one small grey picture over another and says what remains different. Takes batches of square float pictures,
finds the scale and shift along x and y that fit each pair best, and measures the rest block by block. Knows nothing of
files, labels or data sets.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

#: The picture is compared in BLOCKS x BLOCKS blocks.
BLOCKS = 8
#: Variance (grey levels squared) that two encodings of one picture may differ by anywhere.
_NOISE = 16.0
#: A block speaks for a pair where its variance is this large; flat ones are alike in any two pictures.
_TELLING = 2 * _NOISE
#: Scales and shifts looked at: a crop of a tenth of each side and a little more.
_SCALES = (0.85, 1.18)
_SHIFT = 0.08
_LONGEST_STEP = 0.06
#: Pixels at the borders of both pictures that are not compared: blur and resampling have nothing beyond to read.
_MARGIN = 1.5
#: Colour differences (Cb, Cr) of one block: more than copies differ by, and less than a coloured picture has.
_COLOUR = 25.0
_GREY = 6.0


class Remains(NamedTuple):
    """What is left of pairs (N,) once laid over each other. `third` and `worst`: the third largest and the largest, of
    all blocks, of (mean squared residual / variance): 0 for the same picture, about 1 where a block shows something
    else. `gain`: contrast of the first against the second; `telling`: blocks that are not flat."""

    third: Floats
    worst: Floats
    gain: Floats
    telling: npt.NDArray[np.int64]


def blur(pictures: Floats) -> Floats:
    """(N, S, S) smoothed by (1, 2, 1) / 4 along both axes: below this, encodings of one picture differ."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4


def align(first: Floats, second: Floats, start: Floats, steps: int) -> Floats:
    """The placement (N, 4): scale x, shift x, scale y, shift y (shifts as fractions of the side) at which `second` lies
    on `first`, both (N, S, S), by Gauss-Newton steps from `start`, with contrast and brightness free. The best
    placement met is given, so more steps never do harm."""
    count, side, _ = first.shape
    along = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    placement, best = start.copy(), start.copy()
    least = np.full(count, np.inf, dtype=np.float32)
    for step in range(steps + 1):
        moved, overlap = _move(second, placement)
        along_x, along_y = _slopes(moved)
        columns = np.stack(
            [along_x * along, along_x, along_y * along[:, None], along_y, moved, np.ones_like(moved)], axis=1
        )
        columns = (columns * overlap[:, None]).reshape(count, 6, -1)
        wanted = (first * overlap).reshape(count, -1, 1)
        normal = columns @ columns.transpose(0, 2, 1)
        right = columns @ wanted
        light = np.linalg.solve(normal[:, 4:, 4:] + 1e-3 * np.eye(2, dtype=np.float32), right[:, 4:])
        error = ((wanted[:, :, 0] - (light.transpose(0, 2, 1) @ columns[:, 4:])[:, 0]) ** 2).sum(axis=1)
        error /= overlap.sum(axis=(1, 2))
        better = error < least
        least[better], best[better] = error[better], placement[better]
        if step == steps:
            break
        # a touch of damping: flat pictures have no slope to solve for
        damping = 1e-4 * np.trace(normal, axis1=1, axis2=2) / 6 + 1e-6
        found = np.linalg.solve(normal + damping[:, None, None] * np.eye(6, dtype=np.float32), right)[:, :, 0]
        contrast = np.where(np.abs(found[:, 4:5]) > 0.2, found[:, 4:5], 1.0)
        placement = placement + np.clip(found[:, :4] / contrast, -_LONGEST_STEP, _LONGEST_STEP)
        placement[:, 0::2] = placement[:, 0::2].clip(*_SCALES)
        placement[:, 1::2] = placement[:, 1::2].clip(-_SHIFT, _SHIFT)
    return best


def compare(first: Floats, second: Floats, placement: Floats) -> Remains:
    """What differs between `first` and `second` (N, S, S; S a multiple of BLOCKS) laid over it at `placement`."""
    count, side, _ = first.shape
    moved, _ = _move(second, placement)
    inside = _inside(placement[:, 2], placement[:, 3], side)[:, :, None]
    inside = inside * _inside(placement[:, 0], placement[:, 1], side)[:, None, :]
    a, b = _centred(first, inside), _centred(moved, inside)
    gain = (a * b).sum(axis=(1, 2)) / np.maximum((b * b).sum(axis=(1, 2)), 1e-6)
    share = _block_means(inside)
    compared = share >= 0.5
    share = np.maximum(share, 1e-3)
    variance = np.maximum(_variances(a, share), _variances(b, share) * gain[:, None, None] ** 2)
    residual = _block_means((a - gain[:, None, None] * b) ** 2) / share
    ratio = np.where(compared, residual / (variance + _NOISE), 0).reshape(count, -1)
    largest = -np.partition(-ratio, 2, axis=1)[:, :3]
    telling = (compared & (variance > _TELLING)).sum(axis=(1, 2))
    return Remains(largest.min(axis=1), largest.max(axis=1), gain, telling)


def inverse(placement: Floats) -> Floats:
    """The placement (N, 4) of the first pictures on the second ones."""
    scale, shift = placement[:, 0::2], placement[:, 1::2]
    return np.stack([1 / scale, -shift / scale], axis=2).reshape(-1, 4)


def same_colours(first: Floats, second: Floats, placement: Floats) -> npt.NDArray[np.bool_]:
    """Whether the colour differences of pairs, (N, 2, S, S) each, agree block by block, `second` laid on `first`; a
    grey picture agrees with any. (N,)"""
    farthest = np.zeros(len(first), dtype=np.float32)
    for plane in range(2):
        moved, _ = _move(second[:, plane], placement)
        off = np.abs(_block_means(first[:, plane]) - _block_means(moved)).reshape(len(first), -1)
        farthest = np.maximum(farthest, -np.partition(-off, 2, axis=1)[:, 2])
    strongest = [
        np.abs(_block_means(p.reshape(-1, *p.shape[2:]))).reshape(len(p), -1).max(axis=1) for p in (first, second)
    ]
    return (farthest <= _COLOUR) | (np.minimum(*strongest) <= _GREY)


def _move(pictures: Floats, placement: Floats) -> tuple[Floats, Floats]:
    """Pictures (N, S, S) sampled at scale * u + shift, bilinear, and where that lies inside them (1 or 0)."""
    side = pictures.shape[1]
    across, inside_x = _sampling(placement[:, 0], placement[:, 1], side)
    down, inside_y = _sampling(placement[:, 2], placement[:, 3], side)
    return down @ pictures @ across.transpose(0, 2, 1), inside_y[:, :, None] * inside_x[:, None, :]


def _sampling(scale: Floats, shift: Floats, side: int) -> tuple[Floats, Floats]:
    """Bilinear sampling along one axis as matrices (N, S, S), and which samples lie inside (N, S)."""
    at = _positions(scale, shift, side) - 0.5
    inside = ((at >= -0.5) & (at <= side - 0.5)).astype(np.float32)
    at = at.clip(0, side - 1)
    left = np.minimum(at.astype(np.int64), side - 2)
    right_share = (at - left).astype(np.float32)
    matrices = np.zeros((len(scale), side, side), dtype=np.float32)
    picture, row = np.arange(len(scale))[:, None], np.arange(side)[None]
    matrices[picture, row, left] = 1 - right_share
    matrices[picture, row, left + 1] += right_share
    return matrices, inside


def _positions(scale: Floats, shift: Floats, side: int) -> Floats:
    along = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    return (scale[:, None] * along + shift[:, None] + 0.5) * side


def _inside(scale: Floats, shift: Floats, side: int) -> Floats:
    """1 where a sample keeps the margin in both pictures, (N, S)."""
    at, own = _positions(scale, shift, side), np.arange(side) + 0.5
    kept = (at >= _MARGIN) & (at <= side - _MARGIN) & (own >= _MARGIN) & (own <= side - _MARGIN)
    return kept.astype(np.float32)


def _slopes(pictures: Floats) -> tuple[Floats, Floats]:
    """Central differences along x and y, per picture side."""
    side = pictures.shape[1]
    along_x, along_y = np.zeros_like(pictures), np.zeros_like(pictures)
    along_x[:, :, 1:-1] = (pictures[:, :, 2:] - pictures[:, :, :-2]) * (side / 2)
    along_y[:, 1:-1] = (pictures[:, 2:] - pictures[:, :-2]) * (side / 2)
    return along_x, along_y


def _centred(pictures: Floats, weight: Floats) -> Floats:
    mean = (pictures * weight).sum(axis=(1, 2)) / np.maximum(weight.sum(axis=(1, 2)), 1)
    return (pictures - mean[:, None, None]) * weight


def _block_means(values: Floats) -> Floats:
    """(N, S, S) -> (N, BLOCKS, BLOCKS)."""
    # as products: several times faster than a mean over axes of a few pixels
    width = values.shape[1] // BLOCKS
    rows = np.repeat(np.eye(BLOCKS, dtype=np.float32), width, axis=1) / width
    return rows @ values @ rows.T


def _variances(values: Floats, share: Floats) -> Floats:
    return np.maximum(_block_means(values**2) / share - (_block_means(values) / share) ** 2, 0)
