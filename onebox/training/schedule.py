"""Which pictures a step sees and how fast it learns, as pure functions of (seed, step) and of progress. No state."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from onebox.training.augment import step_generator

#: One-cycle: the rate starts at 1/START_DIV of its peak and ends at 1/END_DIV of it (Smith and Topin 2018).
START_DIV = 25.0
END_DIV = 1000.0


def steps_per_epoch(pictures: int, batch: int) -> int:
    """Whole batches only: enough of them that an epoch covers at least every picture once."""
    return max(1, math.ceil(pictures / batch))


def batch_indices(pictures: int, batch: int, seed: int, step: int) -> Tensor:
    """Rows of the global batch of one step, (batch,) int64.

    The stream of pictures is one permutation after another, cut into batches; so every batch is full and every picture
    comes equally often.
    """
    positions = range(step * batch, (step + 1) * batch)
    return torch.stack([_permutation(pictures, seed, p // pictures)[p % pictures] for p in positions])


@functools.lru_cache(maxsize=4)
def _permutation(pictures: int, seed: int, lap: int) -> Tensor:
    return torch.randperm(pictures, generator=step_generator(seed ^ 0x5EED, lap))


def lr_factor(progress: float, warmup: float) -> float:
    """Share of the peak rate at `progress` (0-1) of the run: cosine up during `warmup`, cosine down after it."""
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        low, t = 1 / START_DIV, progress / warmup
        return low + (1 - low) * (1 - math.cos(math.pi * t)) / 2
    low, t = 1 / END_DIV, (progress - warmup) / (1 - warmup)
    return low + (1 - low) * (1 + math.cos(math.pi * t)) / 2
