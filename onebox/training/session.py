"""The moving parts of one run: network, average, optimizer, where it stands, and the rows that it gives. Takes them as
they are made; holds them between the hops of a training. Trains nothing and writes no files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from onebox.errors import TrainingError
from onebox.training.balance import BoxWeight
from onebox.training.config import TrainConfig
from onebox.training.model import Network
from onebox.training.transfer import FirstLook
from onebox.training.trunk import Trunk

#: Pictures of a batch that an error names.
SHOWN = 3
#: Gradients are cut to this norm.
MOST_GRADIENT = 5.0


class DivergedError(TrainingError):
    """Loss, gradients, weights or scores are no longer finite. `step`: the last one taken or tried; `pictures`: the
    paths of its batch, this process's share of it."""

    def __init__(self, what: str, step: int, pictures: Sequence[str]) -> None:
        self.step, self.pictures = step, tuple(pictures)
        more = f" and {len(pictures) - SHOWN} more" if len(pictures) > SHOWN else ""
        super().__init__(
            f"{what} at step {step}, with the pictures {', '.join(pictures[:SHOWN])}{more}", fix="Use a smaller --lr."
        )


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch, as written to metrics.jsonl. Gradients are norms at the trunk's output; the box branch's includes its
    weight; ratio is box over class. `val_*` are None without validation pictures."""

    epoch: int
    epochs: int
    step: int
    seconds: float
    images_per_second: float
    lr: float
    loss_class: float
    loss_box: float
    grad_class: float
    grad_box: float
    grad_ratio: float
    grad_cosine: float
    box_weight: float
    val_top1: float | None
    val_mean_iou: float | None
    val_joint_50: float | None
    best: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(slots=True)
class Progress:
    """Where a run stands; together with weights and optimizer state, all that a resume needs. `began`: the share of its
    time (0-1) that was over before the first step, with reading and with what comes before the loop. `asked_epoch`: the
    last that held-out pictures judged before they taught, too (0: they do not, or not yet)."""

    step: int = 0
    epoch: int = 0
    began: float = 0.0
    seconds: float = 0.0
    box_weight: BoxWeight = field(default_factory=lambda: BoxWeight.start(None, 1.0))
    best_score: float = -math.inf
    best_epoch: int = 0
    best_progress: float = 0.0
    finished: bool = False
    validation_seconds: float = 0.0
    asked_epoch: int = 0


@dataclass(slots=True)
class Session:
    """The moving parts of one run: `network` trains, `average` is its exponential moving average (the same network
    where averaging is off) and is what is validated and kept; `untouched` is a pretrained trunk as it was at step 0,
    where it is wanted for a probe, and `first_look` what it said of the pictures."""

    network: nn.Module
    average: Network
    optimizer: Any
    progress: Progress
    accelerator: Accelerator
    config: TrainConfig
    epochs: int
    deadline_seconds: float | None = None
    started: float = field(default_factory=time.perf_counter)
    total_steps: int = 1
    untouched: Trunk | None = None
    first_look: FirstLook | None = None

    def elapsed(self) -> float:
        """Seconds of this run so far, earlier sessions of a resumed run included; the main process's clock for all."""
        return self.of_main(self.elapsed_here())

    def of_main(self, seconds: float) -> float:
        """What the main process measured, for all: they must end their loops together."""
        if self.accelerator.num_processes == 1:
            return seconds
        told = torch.tensor([seconds], device=self.accelerator.device)
        torch.distributed.broadcast(told, src=0)
        return float(told)

    def elapsed_here(self) -> float:
        """As `elapsed`, by this process's own clock and without asking the others."""
        return self.progress.seconds + time.perf_counter() - self.started

    def share_done(self) -> float:
        """0-1: of the epochs, or of the time, whichever is further."""
        share = self.progress.step / self.total_steps
        if self.deadline_seconds is not None:
            share = max(share, self.elapsed() / self.deadline_seconds)
        return share

    def held_out_may_teach(self) -> bool:
        """Has the loop come to where held-out pictures that are ours to teach do so, and is there any of it left?"""
        share = self.config.learn_all_from
        return share is not None and share < 1 and share <= self.share_of_loop() < 1

    def share_of_loop(self) -> float:
        """0-1: as `share_done`, of the loop alone. A run of one minute is an eighth to a fifth over when its pictures
        have been read (docs/log.md, 2026-11-28), and the rate must rise all the same."""
        began = self.progress.began
        return (self.share_done() - began) / (1 - began)


def make_optimizer(network: Network, config: TrainConfig, trunk_share: float) -> torch.optim.Optimizer:
    """AdamW (Adam where there is no decay) with four groups: trunk and heads, each with and without weight decay.
    Each group's `share` is its part of the common rate. Decay stays off biases and normalisation."""
    groups: list[dict[str, Any]] = []
    parts = (("trunk", network.trunk_parameters(), trunk_share), ("heads", network.head_parameters(), 1.0))
    for part, named, share in parts:
        for decays in (True, False):
            params = [p for _, p in named if (p.ndim > 1) == decays and p.requires_grad]
            if params:
                decay = config.weight_decay if decays else 0.0
                groups.append({"params": params, "weight_decay": decay, "share": share, "part": part})
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.99), fused=True)


def set_trunk_share(optimizer: Any, share: float) -> None:
    """Gives the trunk another part of the common rate."""
    for group in optimizer.param_groups:
        if group["part"] == "trunk":
            group["share"] = share
