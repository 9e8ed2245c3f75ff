"""Augmentation of whole batches. Takes uint8 pictures and boxes, gives float pictures and moved boxes; one grid_sample
moves both together. Every random number is a function of (seed, step); the object always stays in the picture.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: How far a crop may eat into the room around the object (1: up to the object itself), and at full strength how much of
#: the picture's side may be added around it and how far colours may go. Pretrained trunks want half of it
#: (docs/log.md, 2026-11-22).
CROP = 0.7
ZOOM_OUT = 0.25
#: A close-up shows the object through a window CLOSE_ROOM times its size: it teaches what edges look like at other
#: scales, and is what the second look (`onebox.refine`) will see (docs/log.md, 2026-11-23).
CLOSE_ROOM = (1.1, 2.0)
#: How far such a window's sides and centre are off, in sides of the object.
CLOSE_STRETCH = 0.1
CLOSE_SHIFT = 0.125
CLOSE_LEAST = 0.1
BRIGHTNESS = 0.35
CONTRAST = 0.35
SATURATION = 0.5
TINT = 0.06
GREY = 0.08


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of one step: no state is carried from step to step."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) % 2**63
    return torch.Generator().manual_seed(mixed)


def to_float(pictures: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float 0-255, channels last in memory (faster convolutions on CPU)."""
    return pictures.permute(0, 3, 1, 2).float()


class BatchAugment:
    """Random flip, keep-object crop, close-up or zoom-out, and colour, for one whole batch at a time. `strength` (0-1)
    scales zoom-out and colour; `close` is the share of close-ups."""

    def __init__(self, *, hflip: float, strength: float, close: float = 0.0) -> None:
        self.hflip = hflip
        self.strength = strength
        self.close = close

    def draw(self, generator: torch.Generator, boxes_01: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Random choices for a batch: windows (B, 4) in 0-1 of the source, flips (B,) bool, colour (B, 3, 4)."""
        n = boxes_01.shape[0]
        u = torch.rand(n, 22, generator=generator)
        # the window: into the free room on each side, or (three in ten) beyond the picture
        room = torch.cat([boxes_01[:, :2], 1 - boxes_01[:, 2:]], dim=1)
        inward = CROP * u[:, 0:4] * room
        outward = -ZOOM_OUT * self.strength * u[:, 0:4]
        sides = torch.where(u[:, 4:5] < 0.3, outward, inward)
        sides = torch.where(u[:, 5:6] < 0.15, torch.zeros_like(sides), sides)
        windows = torch.cat([sides[:, :2], 1 - sides[:, 2:]], dim=1)
        windows = torch.where(u[:, 16:17] < self.close, _close(u[:, 17:22], boxes_01), windows)
        flips = u[:, 6] < self.hflip
        return windows, flips, _colour(u[:, 7:16], self.strength)

    def __call__(
        self, pictures: Tensor, boxes_01: Tensor, drawn: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """(B, H, W, 3) uint8, (B, 4) -> (B, 3, H, W) float 0-255, (B, 4); `drawn` comes from `draw`."""
        windows, flips, colour = drawn
        x = to_float(pictures)
        b, _, h, w = x.shape
        # colour is one 3x4 matrix per picture, applied before sampling
        x = torch.baddbmm(colour[:, :, 3:], colour[:, :, :3], x.reshape(b, 3, h * w)).clamp_(0, 255).view(b, 3, h, w)
        size = windows[:, 2:] - windows[:, :2]
        centre = windows[:, :2] + windows[:, 2:] - 1  # in grid_sample's -1..1
        sign = torch.where(flips, -1.0, 1.0)
        theta = torch.zeros(b, 2, 3, device=x.device)
        theta[:, 0, 0], theta[:, 0, 2] = sign * size[:, 0], centre[:, 0]
        theta[:, 1, 1], theta[:, 1, 2] = size[:, 1], centre[:, 1]
        grid = F.affine_grid(theta, [b, 3, h, w], align_corners=False)
        # zeros outside; shifting by mid-grey makes the outside mid-grey
        x = F.grid_sample(x.sub_(127.5), grid, mode="bilinear", padding_mode="zeros", align_corners=False).add_(127.5)
        return x.contiguous(memory_format=torch.channels_last), move_boxes(boxes_01, windows, flips)


def _close(u: Tensor, boxes_01: Tensor) -> Tensor:
    """(B, 5) uniform, (B, 4) -> windows (B, 4) about the boxes, holding all of them, inside the picture."""
    side = boxes_01[:, 2:] - boxes_01[:, :2]
    low, high = (math.log(room) for room in CLOSE_ROOM)
    room = torch.exp(low + (high - low) * u[:, :1] + CLOSE_STRETCH * (2 * u[:, 1:3] - 1))
    half = (room * side).clamp_min(CLOSE_LEAST) / 2
    centre = (boxes_01[:, :2] + boxes_01[:, 2:]) / 2 + CLOSE_SHIFT * (2 * u[:, 3:5] - 1) * side
    first = torch.minimum(centre - half, boxes_01[:, :2])
    last = torch.maximum(centre + half, boxes_01[:, 2:])
    return torch.cat([first, last], dim=1).clamp(0, 1)


def move_boxes(boxes_01: Tensor, windows: Tensor, flips: Tensor) -> Tensor:
    """Boxes (B, 4) of the source, seen through windows (B, 4) of it, then mirrored where `flips` (B,)."""
    origin, size = windows[:, :2], windows[:, 2:] - windows[:, :2]
    moved = torch.cat([(boxes_01[:, :2] - origin) / size, (boxes_01[:, 2:] - origin) / size], dim=1)
    mirrored = torch.stack([1 - moved[:, 2], moved[:, 1], 1 - moved[:, 0], moved[:, 3]], dim=1)
    return torch.where(flips.unsqueeze(1), mirrored, moved)


def _colour(u: Tensor, strength: float) -> Tensor:
    """(B, 9) uniform -> (B, 3, 4): brightness, contrast about mid-grey, saturation, tint and now and then grey."""
    r = strength * (2 * u - 1)
    gain = (1 + CONTRAST * r[:, 0]).view(-1, 1, 1)
    shift = (127.5 * BRIGHTNESS * r[:, 1]).view(-1, 1, 1)
    grey = u[:, 2] < GREY * strength
    saturation = torch.where(grey, torch.zeros_like(u[:, 2]), 1 + SATURATION * r[:, 3]).view(-1, 1, 1)
    luma = torch.tensor([0.299, 0.587, 0.114]).expand(3, 3)
    matrix = saturation * torch.eye(3) + (1 - saturation) * luma
    matrix = gain * (1 + TINT * r[:, 4:7]).unsqueeze(2) * matrix
    offset = (127.5 * (1 - gain) + shift).expand(-1, 3, 1)
    return torch.cat([matrix, offset], dim=2)
