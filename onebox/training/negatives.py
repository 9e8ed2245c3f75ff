"""Pictures that hold no object, made of pictures that hold one. Takes a batch of pictures with their boxes; gives as
many float pictures without the object. Every random number is a function of (seed, step); nothing is read from files,
and no crop ever shows a part of its picture's box.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: What is made: a crop of free ground beside the box; the box replaced by such a crop of another picture, or filled
#: with the colours around it; the picture cut into tiles and shuffled, or blurred beyond recognition; and noise.
KINDS = ("crop", "replaced", "filled", "shuffled", "blurred", "noise")
#: How often each is wanted. Where a picture has no free ground, its crop becomes one of the others.
SHARES = (0.45, 0.15, 0.1, 0.15, 0.05, 0.1)
#: Least width and height of a crop, a share of the picture's side. Below this little but colour is left.
LEAST_SIDE = 0.12
#: A crop's length over its depth, both as shares of the picture's sides, lies between these.
LONGEST, SHORTEST = 3.0, 0.5
#: What is painted over reaches this far beyond the box, a share of the picture's side: boxes are never quite tight.
RIM = 0.03
#: Tiles along a side of a shuffled picture, and the side in pixels that a blurred one is shrunk to.
TILES = (4, 8)
BLURRED_SIDE = (4, 9)


def free_windows(boxes_01: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Windows (B, 4) in 0-1 beside `boxes_01` (B, 4), which they never enter, and whether there is room for one (B,);
    `u` (B, 5) are uniform random numbers. A window lies left, above, right or below, the more likely the more room
    there is. Where there is none its numbers mean nothing."""
    rooms = torch.cat([boxes_01[:, :2], 1 - boxes_01[:, 2:]], dim=1)
    likely = rooms * (rooms >= LEAST_SIDE)
    total = likely.sum(dim=1, keepdim=True)
    side = (likely.cumsum(dim=1) > u[:, :1] * total).int().argmax(dim=1)
    room = rooms.gather(1, side.unsqueeze(1)).squeeze(1)
    depth = LEAST_SIDE + u[:, 1] * (room - LEAST_SIDE)
    stretch = torch.exp(math.log(SHORTEST) + u[:, 2] * math.log(LONGEST / SHORTEST))
    length = (depth * stretch).clamp(LEAST_SIDE, 1.0)
    gap, along = u[:, 3] * (room - depth), u[:, 4] * (1 - length)
    across = torch.where(side < 2, gap, 1 - gap - depth)
    beside = torch.stack([across, along, across + depth, along + length], dim=1)
    above = beside[:, [1, 0, 3, 2]]
    return torch.where((side % 2 == 0).unsqueeze(1), beside, above), total.squeeze(1) > 0


def object_masks(boxes_01: Tensor, side: int) -> Tensor:
    """(B, 1, side, side), 1 on every pixel that a box touches and RIM around it."""
    low, high = boxes_01[:, :2] - RIM, boxes_01[:, 2:] + RIM
    edges = torch.arange(side + 1, device=boxes_01.device) / side
    inside = (edges[1:] > low.unsqueeze(2)) & (edges[:-1] < high.unsqueeze(2))  # (B, 2, side)
    return (inside[:, 1].unsqueeze(2) & inside[:, 0].unsqueeze(1)).unsqueeze(1).float()


def make_negatives(pictures: Tensor, boxes_01: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(B, 3, S, S) float 0-255 with boxes (B, 4) -> as many of the same, one negative for each picture, and the index
    of its kind in KINDS (B,). `generator` is that of a (seed, step)."""
    count, side = pictures.shape[0], pictures.shape[2]
    u = torch.rand(count, 8, generator=generator)
    windows, room = free_windows(boxes_01, u[:, 3:])
    kinds = _kinds(u[:, 0].contiguous(), room)
    x = pictures.contiguous()
    out = torch.empty_like(x)
    for kind, name in enumerate(KINDS):
        rows = torch.nonzero(kinds == kind).flatten()
        if not len(rows):
            continue
        if name == "crop":
            made = see(x[rows], windows[rows])
        elif name == "replaced":
            givers = torch.nonzero(room).flatten()
            givers = givers[(u[rows, 1] * len(givers)).long()]
            mask = object_masks(boxes_01[rows], side)
            made = x[rows] * (1 - mask) + see(x[givers], windows[givers]) * mask
        elif name == "filled":
            made = fill_in(x[rows], object_masks(boxes_01[rows], side))
        elif name == "shuffled":
            made = torch.cat([_shuffled(x[r : r + 1], _between(u[r, 1], TILES), generator) for r in rows.tolist()])
        elif name == "blurred":
            made = torch.cat([_shrunk(x[r : r + 1], _between(u[r, 1], BLURRED_SIDE)) for r in rows.tolist()])
        else:
            made = _noise(len(rows), side, generator)
        out[rows] = made
    return out.contiguous(memory_format=torch.channels_last), kinds


def see(x: Tensor, windows: Tensor) -> Tensor:
    """(B, 3, S, S) seen through windows (B, 4) in 0-1, stretched to the whole."""
    theta = torch.zeros(x.shape[0], 2, 3, device=x.device)
    theta[:, 0, 0], theta[:, 1, 1] = (windows[:, 2:] - windows[:, :2]).unbind(dim=1)
    theta[:, :, 2] = windows[:, :2] + windows[:, 2:] - 1  # the centre, in grid_sample's -1..1
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def fill_in(x: Tensor, mask: Tensor) -> Tensor:
    """(B, 3, S, S) with the pixels of `mask` (B, 1, S, S) replaced by a smooth continuation of the others: averages of
    the known pixels on ever coarser grids (pull-push, Gortler et al. 1996, "The Lumigraph"); mid-grey where nothing is
    known."""
    known = 1 - mask
    sums, weights = [x * known], [known]
    while min(sums[-1].shape[2:]) > 1:
        sums.append(F.avg_pool2d(sums[-1], 2, ceil_mode=True))
        weights.append(F.avg_pool2d(weights[-1], 2, ceil_mode=True))
    filled = torch.full_like(sums[-1], 127.5)
    for total, weight in zip(reversed(sums), reversed(weights), strict=True):
        filled = F.interpolate(filled, size=total.shape[2:], mode="bilinear", align_corners=False)
        filled = torch.where(weight > 1e-6, total / weight.clamp_min(1e-6), filled)
    return filled


def _kinds(u: Tensor, room: Tensor) -> Tensor:
    """Index of the kind of each negative: by SHARES, or by SHARES without what needs free ground."""
    whole = torch.tensor(SHARES).cumsum(0)
    without = torch.tensor([0.0 if name == "crop" else share for name, share in zip(KINDS, SHARES, strict=True)])
    if not room.any():
        without[KINDS.index("replaced")] = 0.0
    without = (without / without.sum()).cumsum(0)
    last = len(KINDS) - 1
    chosen = torch.searchsorted(whole, u).clamp_max(last)
    other = torch.searchsorted(without, u, right=True).clamp_max(last)
    return torch.where(room, chosen, other)


def _between(u: Tensor, low_high: tuple[int, int]) -> int:
    low, high = low_high
    return low + int(u * (high - low + 1))


def _shuffled(x: Tensor, tiles: int, generator: torch.Generator) -> Tensor:
    """(1, 3, S, S) cut into tiles x tiles, in another order; a rest that does not divide is stretched over."""
    s = x.shape[2]
    k = max(1, s // tiles)
    order = torch.randperm(tiles * tiles, generator=generator)
    cut = F.interpolate(x, size=(k * tiles, k * tiles))
    blocks = F.unfold(cut, k, stride=k)[:, :, order]
    return F.interpolate(F.fold(blocks, (k * tiles, k * tiles), k, stride=k), size=(s, s))


def _shrunk(x: Tensor, side: int) -> Tensor:
    """(1, 3, S, S) through a picture of side x side."""
    return F.interpolate(F.interpolate(x, size=(side, side), mode="area"), size=x.shape[2:], mode="bilinear")


def _noise(count: int, side: int, generator: torch.Generator) -> Tensor:
    """(count, 3, side, side): octaves of smoothed noise, each present in half of the pictures and of any strength,
    grey or coloured, about any mean colour."""
    total = torch.zeros(count, 3, side, side)
    scale = 2
    while scale <= side:
        u = torch.rand(count, 3, 1, 1, generator=generator)
        field = torch.randn(count, 3, scale, scale, generator=generator)
        field = torch.where(u[:, :1] < 0.5, field, field[:, :1].expand_as(field))
        strength = torch.where(u[:, 1:2] < 0.5, -torch.log(u[:, 2:].clamp_min(1e-6)), torch.zeros_like(u[:, 2:]))
        total += strength * F.interpolate(field, size=(side, side), mode="bilinear", align_corners=False)
        scale *= 2
    u = torch.rand(count, 4, 1, 1, generator=generator)
    spread = total.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
    return (total / spread * (10 + 70 * u[:, 3:]) + 40 + 175 * u[:, :3]).clamp(0, 255)
