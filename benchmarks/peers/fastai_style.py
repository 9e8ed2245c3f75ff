"""Transfer learning as the fastai library does it, with two heads: frozen, then unfrozen with discriminative rates,
both one-cycle; head and loss as in its course's detector of the largest object. Takes a job and a trunk; an own loop
with the library's published defaults, not the library. The last weights answer.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from benchmarks.accuracy.answers import Answers, Job
from benchmarks.peers.loop import STRENGTH_PRETRAINED, Clock, all_cores, batches, load, pictures_of
from onebox.training.trunk import Trunk, build_trunk

#: `Learner.fine_tune`: the rate while the trunk is frozen; then half of it, and a hundredth of that for the first
#: layers; the share of a phase in which the rate rises, and what it starts and ends at.
BASE_LR, LR_MULT = 2e-3, 100
FROZEN_SHARE = 1 / 3
FROZEN_RISE, RISE = 0.99, 0.3
DIV, FROZEN_DIV, DIV_FINAL = 5.0, 25.0, 1e5
MOMENTA = (0.95, 0.85)
WEIGHT_DECAY = 0.01
BATCH = 64
#: Lesson 8 of fast.ai's course of 2018 ("largest item detector", course18.fast.ai) adds L1 of the box in pixels of 224
#: and 20 times the cross-entropy: the same, divided by 20, with the box in 0-1.
BOX_WEIGHT = 224 / 20


class TwoHeads(nn.Module):
    """Trunk, then the lesson's head: the last map flattened, dropout, 256 units, BatchNorm, dropout, and one output
    layer for classes and one for the box, which a sigmoid keeps in the picture."""

    def __init__(self, trunk: Trunk, classes: int, side: int) -> None:
        super().__init__()
        self.trunk = trunk
        cells = (-(-side // trunk.strides[-1])) ** 2
        self.shared = nn.Sequential(
            nn.Flatten(), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(cells * trunk.channels[-1], 256),
            nn.ReLU(inplace=True), nn.BatchNorm1d(256), nn.Dropout(0.5),
        )  # fmt: skip
        self.classes = nn.Linear(256, classes)
        self.box = nn.Linear(256, 4)
        self.register_buffer("mean", 255 * torch.tensor(trunk.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(trunk.std).view(1, 3, 1, 1))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) float 0-255 -> logits (B, C), boxes (B, 4) in 0-1."""
        x = self.shared(self.trunk((pictures - self.mean) / self.std)[-1].contiguous())
        return self.classes(x), self.box(x).sigmoid()


def train_and_answer(job: Job, trunk: str, weights: str) -> Answers:
    """One training of `job.minutes`, a third of it with the trunk frozen. Raises OneboxError."""
    with all_cores(job.seed):
        return _train(job, trunk, weights)


def _train(job: Job, trunk: str, weights: str) -> Answers:
    began = time.perf_counter()
    train, test = load(job, job.side)
    model = TwoHeads(build_trunk(trunk, weights, job.side), len(job.class_names), job.side)
    model.to(memory_format=torch.channels_last)
    clock, steps = Clock(job.minutes), 0
    optimizer, frozen = _optimizer(model, frozen=True), True
    model.train()
    for batch in batches(train, clock, size=min(BATCH, len(train)), seed=job.seed, strength=STRENGTH_PRETRAINED):
        if frozen and batch.progress >= FROZEN_SHARE:
            optimizer, frozen = _optimizer(model, frozen=False), False
        _set_rates(optimizer, batch.progress, frozen=frozen)
        logits, boxes = model(batch.pictures)
        loss = F.cross_entropy(logits, batch.labels) + BOX_WEIGHT * F.l1_loss(boxes, batch.boxes_01)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    seconds = clock.seconds()
    labels, boxes_01 = _answers(model.eval(), list(pictures_of(test)))
    epochs = round(steps * min(BATCH, len(train)) / len(train), 1)
    return Answers(labels, boxes_01, seconds, time.perf_counter() - began, {"epochs": epochs})


def _optimizer(model: TwoHeads, *, frozen: bool) -> torch.optim.Optimizer:
    """AdamW over three groups of layers, from first to last: two halves of the trunk, and the head. Frozen, the trunk's
    BatchNorm layers learn all the same, as the library has it."""
    norms = {id(p) for m in model.trunk.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    trunk = list(model.trunk.parameters())
    for parameter in trunk:
        parameter.requires_grad_(not frozen or id(parameter) in norms)
    head = [p for name, p in model.named_parameters() if not name.startswith("trunk.")]
    half = len(trunk) // 2
    # evenly spaced on a logarithmic scale, from a hundredth to 1
    shares = (1.0, 1.0, 1.0) if frozen else (1 / LR_MULT, 1 / math.sqrt(LR_MULT), 1.0)
    groups = [
        {"params": [p for p in params if p.requires_grad], "share": share}
        for params, share in zip((trunk[:half], trunk[half:], head), shares, strict=True)
    ]
    return torch.optim.AdamW(groups, lr=BASE_LR, betas=(MOMENTA[0], 0.99), eps=1e-5, weight_decay=WEIGHT_DECAY)


def _set_rates(optimizer: torch.optim.Optimizer, progress: float, *, frozen: bool) -> None:
    """One cycle for each phase: cosine up to the phase's rate and down, the momentum the other way."""
    peak, rise, div = (BASE_LR, FROZEN_RISE, FROZEN_DIV) if frozen else (BASE_LR / 2, RISE, DIV)
    within = progress / FROZEN_SHARE if frozen else (progress - FROZEN_SHARE) / (1 - FROZEN_SHARE)
    if within < rise:
        rate, momentum = _between(1 / div, 1.0, within / rise), _between(*MOMENTA, within / rise)
    else:
        t = (within - rise) / (1 - rise)
        rate, momentum = _between(1.0, 1 / DIV_FINAL, t), _between(MOMENTA[1], MOMENTA[0], t)
    for group in optimizer.param_groups:
        group["lr"] = peak * rate * group["share"]
        group["betas"] = (momentum, 0.99)


def _between(start: float, end: float, t: float) -> float:
    return start + (end - start) * (1 - math.cos(math.pi * min(max(t, 0.0), 1.0))) / 2


@torch.inference_mode()
def _answers(model: nn.Module, pictures: list[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    outputs = [model(x) for x in pictures]
    labels = torch.cat([logits.argmax(1) for logits, _ in outputs]).numpy()
    boxes = torch.cat([boxes for _, boxes in outputs]).double().numpy()
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    return labels, np.concatenate([low, high], axis=1)
