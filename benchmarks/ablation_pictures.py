"""Swaps that change the pictures a training sees, for `benchmarks.ablation`: each puts a class of its own in the place
of the loop's augmentation. Gives nothing; `ablation_swaps.SWAPS` has their names.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from onebox.images import load_pixels
from onebox.refine import DETAIL
from onebox.training.augment import BatchAugment, move_boxes, step_generator
from onebox.training.cache import Cache
from onebox.training.heads import BoxOutput
from onebox.training.losses import Losses, criterion
from onebox.training.schedule import batch_indices
from onebox.training.session import Session
from onebox.training.transfer import FirstLook

loop = importlib.import_module("onebox.training.loop")

# ---- what is seen around the object

#: `strange_ground`: share of the pictures, and how far the window that is kept goes beyond the box, in its sides.
GROUND_SHARE, GROUND_ROOM = 0.25, 0.5
#: Side of the coarse picture that another one is made into, so that its own object is not to be told.
GROUND_SIDE = 12


class _Changed(BatchAugment):
    """As the product's, and then `change`, with random numbers of its own for every call."""

    SEED = 0
    asked = 0

    def __call__(self, pictures: Tensor, boxes_01: Tensor, drawn: Any) -> tuple[Tensor, Tensor]:
        x, y = super().__call__(pictures, boxes_01, drawn)
        self.asked += 1
        return self.change(x, y, step_generator(self.SEED, self.asked - 1)), y

    def change(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Pictures (B, 3, H, W) and where their objects are by now, (B, 4) -> the pictures to learn from."""
        raise NotImplementedError


def strange_ground() -> None:
    """Some pictures keep a window about their object alone; around it lies another picture of the batch, blurred: what
    usually lies about an object should not tell its class."""

    class Grounded(_Changed):
        SEED = 1

        def change(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
            n, _, height, width = x.shape
            u = torch.rand(n, 5, generator=generator)
            side = y[:, 2:] - y[:, :2]
            low, high = y[:, :2] - GROUND_ROOM * u[:, :2] * side, y[:, 2:] + GROUND_ROOM * u[:, 2:4] * side
            at_x, at_y = ((torch.arange(n) + 0.5) / n for n in (width, height))
            inside = ((at_x >= low[:, :1]) & (at_x <= high[:, :1])).unsqueeze(1)
            inside = inside & ((at_y >= low[:, 1:]) & (at_y <= high[:, 1:])).unsqueeze(2)
            kept = (inside | (u[:, 4] >= GROUND_SHARE).view(-1, 1, 1)).unsqueeze(1)
            other = functional.adaptive_avg_pool2d(x.roll(1, dims=0), GROUND_SIDE)
            other = functional.interpolate(other, size=(height, width), mode="bilinear", align_corners=False)
            return torch.where(kept, x, other).contiguous(memory_format=torch.channels_last)

    loop.BatchAugment = Grounded


#: `erased`: share of the pictures, and the rectangle's sides in sides of the picture, from and to.
ERASE_SHARE, ERASE_SIDES = 0.3, (0.15, 0.4)


def erased() -> None:
    """In some pictures a rectangle is grey, wherever it falls (Zhong et al. 2017, arXiv 1708.04896): no single mark of
    an object should be enough."""

    class Erasing(_Changed):
        SEED = 4

        def change(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
            n, _, height, width = x.shape
            u = torch.rand(n, 5, generator=generator).to(x.device)
            low, high = ERASE_SIDES
            side = low + (high - low) * u[:, :2]
            first = u[:, 2:4] * (1 - side)
            at_x, at_y = ((torch.arange(n, device=x.device) + 0.5) / n for n in (width, height))
            inside = ((at_x >= first[:, :1]) & (at_x <= (first + side)[:, :1])).unsqueeze(1)
            inside = inside & ((at_y >= first[:, 1:]) & (at_y <= (first + side)[:, 1:])).unsqueeze(2)
            gone = (inside & (u[:, 4] < ERASE_SHARE).view(-1, 1, 1)).unsqueeze(1)
            return x.masked_fill(gone, 127.5)

    loop.BatchAugment = Erasing


def detail(session: Session, first: FirstLook | None, taught: Cache) -> None:
    """Windows are cut out of pictures in as much detail as the second look will see, not out of small ones. The rest is
    the product's augmentation, whose pictures are as large as those it takes."""
    del first
    config, side = session.config, taught.pictures.shape[1]
    fine = torch.from_numpy(np.stack([load_pixels(s.path, DETAIL * side)[0] for s in taught.samples]))

    class Detailed(BatchAugment):
        asked = 0

        def __call__(self, pictures: Tensor, boxes_01: Tensor, drawn: Any) -> tuple[Tensor, Tensor]:
            rows = batch_indices(len(fine), config.batch, config.seed, self.asked)
            self.asked += 1
            windows, flips, colour = drawn
            x = fine[rows].permute(0, 3, 1, 2).float()
            b, _, h, w = x.shape
            x = torch.baddbmm(colour[:, :, 3:], colour[:, :, :3], x.reshape(b, 3, h * w)).clamp_(0, 255)
            size, centre = windows[:, 2:] - windows[:, :2], windows[:, :2] + windows[:, 2:] - 1
            theta = torch.zeros(b, 2, 3)
            theta[:, 0, 0], theta[:, 0, 2] = torch.where(flips, -1.0, 1.0) * size[:, 0], centre[:, 0]
            theta[:, 1, 1], theta[:, 1, 2] = size[:, 1], centre[:, 1]
            grid = functional.affine_grid(theta, [b, 3, side, side], align_corners=False)
            x = functional.grid_sample(x.view(b, 3, h, w).sub_(127.5), grid, mode="bilinear", align_corners=False)
            x = x.add_(127.5).contiguous(memory_format=torch.channels_last)
            return x, move_boxes(boxes_01, windows, flips)

    loop.BatchAugment = Detailed


# ---- pictures that teach the class alone

#: `turned`: share of the pictures, and how far they are turned at most, in degrees. `mixed`: share of the pictures
#: that another one shines through, by a Beta(MIX, MIX) share below a half (Zhang et al. 2017, arXiv 1710.09412).
TURN_SHARE, TURN_MOST = 0.3, 25.0
MIX_SHARE, MIX = 0.3, 0.8


class _ClassAlone:
    """What the latest batch holds: rows whose box is not asked for, and each row's second class and its share."""

    boxed: Tensor
    second: Tensor
    share: Tensor

    @classmethod
    def criterion(cls, logits: Tensor, box: BoxOutput, labels: Tensor, true: Tensor, **options: Any) -> Any:
        kept = cls.boxed
        seen = BoxOutput(*(None if part is None else part[kept] for part in box))
        boxes = criterion(logits[kept], seen, labels[kept], true[kept], **options).box_loss
        smooth = options["label_smoothing"]
        one, two = (
            functional.cross_entropy(logits, of, label_smoothing=smooth, reduction="none")
            for of in (labels, labels[cls.second])
        )
        return Losses(((1 - cls.share) * one + cls.share * two).mean(), boxes)


def turned() -> None:
    """Some pictures are turned about their object's middle; their class is learnt, their box, which a turn makes loose,
    is not."""

    class Turning(_Changed):
        SEED = 2

        def change(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
            u = torch.rand(len(x), 2, generator=generator)
            rows = torch.nonzero(u[:, 0] < TURN_SHARE).flatten()
            angle = torch.deg2rad(TURN_MOST * (2 * u[rows, 1] - 1))
            centre = y[rows, :2] + y[rows, 2:] - 1
            turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
            shift = centre - (turn @ centre.unsqueeze(2)).squeeze(2)
            grid = functional.affine_grid(
                torch.cat([turn, shift.unsqueeze(2)], dim=2), [len(rows), *x.shape[1:]], align_corners=False
            )
            seen = functional.grid_sample(x[rows] - 127.5, grid, mode="bilinear", align_corners=False) + 127.5
            x[rows] = seen
            _ClassAlone.boxed = torch.nonzero(u[:, 0] >= TURN_SHARE).flatten()
            _ClassAlone.second, _ClassAlone.share = torch.arange(len(x)), torch.zeros(len(x))
            return x

    loop.BatchAugment = Turning
    loop.criterion = _ClassAlone.criterion


def mixed() -> None:
    """Through some pictures another one of the batch shines; the class is that of both, the box is not learnt there."""

    class Mixing(_Changed):
        SEED = 3

        def change(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
            mixed = torch.rand(len(x), generator=generator) < MIX_SHARE
            rng = np.random.default_rng((self.SEED, self.asked))
            share = torch.from_numpy(rng.beta(MIX, MIX, len(x))).float()
            share = torch.minimum(share, 1 - share) * mixed
            second = (torch.arange(len(x)) + 1) % len(x)
            x = torch.lerp(x, x[second], share.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
            _ClassAlone.boxed = torch.nonzero(~mixed).flatten()
            _ClassAlone.second, _ClassAlone.share = second, share
            return x

    loop.BatchAugment = Mixing
    loop.criterion = _ClassAlone.criterion
