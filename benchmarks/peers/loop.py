"""What the peers written here share: pictures decoded once, batches of one epoch after another, and a clock that ends
the training. Augmentation is onebox's own. Knows no model.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.accuracy.answers import Job
from onebox.training.augment import BatchAugment, step_generator, to_float
from onebox.training.cache import Cache, build_cache
from onebox.training.schedule import batch_indices

#: As onebox's own defaults are for every trunk that is pretrained, and for one that is not.
HFLIP = 0.5
STRENGTH_PRETRAINED, STRENGTH_SCRATCH = 0.5, 1.0


class Batch(NamedTuple):
    """`pictures` (B, 3, S, S) float 0-255; `boxes_01` (B, 4) corners; `labels` (B,); `progress`: the share of the time
    that is over, 0-1."""

    pictures: Tensor
    boxes_01: Tensor
    labels: Tensor
    progress: float


class Clock:
    """Counts the seconds of training from its making on."""

    def __init__(self, minutes: float) -> None:
        self.budget = minutes * 60
        self.started = time.perf_counter()

    def seconds(self) -> float:
        """So far."""
        return time.perf_counter() - self.started

    def progress(self) -> float:
        """The share of the budget that is used up; from 1 on it is over."""
        return self.seconds() / self.budget


@contextmanager
def all_cores(seed: int) -> Generator[None, None, None]:
    """For as long as a peer runs: torch on every core, denormals flushed to zero, as onebox trains; and seeded."""
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    torch.set_flush_denormal(True)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


def load(job: Job, side: int) -> tuple[Cache, Cache]:
    """Training and test pictures, decoded and resized once by onebox's own path. Not counted as training."""
    return build_cache(job.train, job.class_names, side), build_cache(job.test, job.class_names, side)


def batches(cache: Cache, clock: Clock, *, size: int, seed: int, strength: float) -> Iterator[Batch]:
    """Augmented batches until the time is over; every picture equally often."""
    augment = BatchAugment(hflip=HFLIP, strength=strength)
    pictures, boxes, labels = (torch.from_numpy(a) for a in (cache.pictures, cache.boxes_01, cache.labels))
    step = 0
    while (progress := clock.progress()) < 1:
        rows = batch_indices(len(cache), size, seed, step)
        drawn = augment.draw(step_generator(seed, step), boxes[rows])
        x, y = augment(pictures[rows], boxes[rows], drawn)
        yield Batch(x, y, labels[rows], progress)
        step += 1


def pictures_of(cache: Cache, size: int = 64) -> Iterator[Tensor]:
    """(B, 3, S, S) float 0-255, in order."""
    for start in range(0, len(cache), size):
        yield to_float(torch.from_numpy(cache.pictures[start : start + size]))
