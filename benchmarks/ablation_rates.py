"""Swaps that change how fast a training learns, for `benchmarks.ablation`: a rate found by a test beforehand, and an
optimizer that needs none. Each takes a session at step 0 and changes its rate or its optimizer;
`ablation_swaps.SWAPS` has their names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from onebox.training.augment import BatchAugment, step_generator
from onebox.training.balance import measure, watch
from onebox.training.cache import Cache
from onebox.training.losses import criterion
from onebox.training.schedule import batch_indices
from onebox.training.session import MOST_GRADIENT, Session, make_optimizer
from onebox.training.transfer import FirstLook

# ---- a rate found beforehand

#: The range test: so many steps, from the first rate to the last; how much of the loss before stays in the smoothed
#: one; over when it is this many times the least. fastai's `lr_find` has the same steps and smoothing.
FIND_STEPS, FIND_FROM, FIND_TO, FIND_SMOOTH, FIND_OVER = 100, 1e-6, 1.0, 0.98, 4.0
#: The steps that are read: fastai leaves out the first tenth and the last five.
FIND_READ = (10, -5)


def rate_found(session: Session, first: FirstLook | None, taught: Cache) -> None:
    """A rate range test (Smith 2015, arXiv 1506.01186) on a copy of the network, which is then thrown away; the rate is
    where `valley` says. Its steps are the swap's for free: they are not among the pictures seen."""
    del first
    rates, losses = _range_test(session, taught)
    part = slice(*FIND_READ)
    session.config = replace(session.config, lr=rates[part][valley(losses[part])])
    print(f"rate found: {session.config.lr:.2g}, of {len(rates)} steps", flush=True)


def _range_test(session: Session, taught: Cache) -> tuple[list[float], list[float]]:
    """(rates, smoothed losses), one of each for every step until the loss is far above its least."""
    config, accelerator = session.config, session.accelerator
    network = copy.deepcopy(accelerator.unwrap_model(session.network)).train()
    share = next(g["share"] for g in session.optimizer.param_groups if g["part"] == "trunk")
    optimizer = make_optimizer(network, config, share)
    augment = BatchAugment(hflip=config.hflip, strength=config.augment or 0.0, close=config.close)
    pictures, boxes, labels = (torch.from_numpy(a) for a in (taught.pictures, taught.boxes_01, taught.labels))
    weight, smooth = copy.deepcopy(session.progress.box_weight), 0.0
    rates: list[float] = []
    losses: list[float] = []
    for step in range(FIND_STEPS):
        rate = FIND_FROM * (FIND_TO / FIND_FROM) ** (step / (FIND_STEPS - 1))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        rows = batch_indices(len(taught), config.batch, config.seed, step)
        x, y = augment(pictures[rows], boxes[rows], augment.draw(step_generator(config.seed, step), boxes[rows]))
        output = network(x)
        watch(output)
        found = criterion(
            output.logits, output.box, labels[rows], y, box_loss=config.box_loss, label_smoothing=config.label_smoothing
        )
        total = found.class_loss + weight.value * found.box_loss
        optimizer.zero_grad()
        total.backward()
        weight.update(measure(output, accelerator))
        torch.nn.utils.clip_grad_norm_(network.parameters(), MOST_GRADIENT)
        optimizer.step()
        # the two losses without the weight, which moves while it is measured
        smooth = FIND_SMOOTH * smooth + (1 - FIND_SMOOTH) * (found.class_loss + found.box_loss).item()
        losses.append(smooth / (1 - FIND_SMOOTH ** (step + 1)))
        rates.append(rate)
        if not losses[-1] < FIND_OVER * min(losses):
            break
    return rates, losses


def valley(losses: Sequence[float]) -> int:
    """The row in the middle of the longest run of ever smaller losses, gaps allowed, as fastai's `valley` reckons it:
    the run is taken to begin as many rows before its end as it has members."""
    length = [1] * len(losses)
    for i, loss in enumerate(losses):
        length[i] += max((length[j] for j in range(i) if loss < losses[j]), default=0)
    end = int(np.argmax(length))
    start = max(0, end - length[end])
    third = (end - start) / 3
    return start + int(third) + int(third / 2)


# ---- no rate at all

#: How far a layer may go in its first step, in its own norm plus one.
FREE_FIRST = 1e-6


class DistanceOverGradients(torch.optim.Optimizer):
    """LDoG (Ivgi, Hinder and Carmon 2023, arXiv 2302.12022): the step of a layer is the farthest it has been from where
    it began, over the root of the sum of its squared gradients. `lr` is a factor on that. No weight decay, which would
    move a layer without a gradient, and that ever farther."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 1.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["origin"], state["squares"] = p.clone(), torch.zeros(())
                    state["far"] = FREE_FIRST * (1 + p.norm())
                state["far"] = torch.maximum(state["far"], (p - state["origin"]).norm())
                state["squares"] = state["squares"] + p.grad.square().sum()
                step = group["lr"] * state["far"] / (state["squares"] + 1e-8).sqrt()
                p.sub_(step * p.grad)


def rate_free(session: Session, first: FirstLook | None, taught: Cache) -> None:
    """Every layer finds its own step; the rise and fall over the run stay, the trunk's share of the rate and the decay
    do not."""
    del first, taught
    groups = [{"params": g["params"], "part": g["part"], "share": 1.0} for g in session.optimizer.param_groups]
    session.optimizer = session.accelerator.prepare(DistanceOverGradients(groups))
    session.config = replace(session.config, lr=1.0)
