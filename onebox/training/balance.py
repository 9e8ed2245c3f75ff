"""The pull of the two branches on the shared trunk. Takes the gradients at the trunk's output, gives their norms, ratio
and cosine, and from the first epoch's norms the weight of the box loss. Needs no extra backward pass: the heads are
disjoint, so each branch's gradient stands on its own taps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from onebox.training.model import NetworkOutput


@dataclass(frozen=True, slots=True)
class Pull:
    """Gradient norms at the trunk's output of one step: `class_norm`, `box_norm` (of the weighted box loss), and the
    cosine between the two directions (0 where one is zero)."""

    class_norm: float
    box_norm: float
    cosine: float

    @property
    def ratio(self) -> float:
        """Box over class; infinite where the class branch is silent."""
        return self.box_norm / self.class_norm if self.class_norm > 0 else math.inf


def watch(output: NetworkOutput) -> None:
    """Call before backward: asks autograd to keep the gradients at the taps."""
    for tap in [*output.class_taps, *output.box_taps]:
        tap.retain_grad()


def measure(output: NetworkOutput, accelerator: Accelerator) -> Pull:
    """Call after backward. Over several processes the norms are those of the global batch."""
    sums = torch.zeros(3, dtype=torch.float64)
    for class_tap, box_tap in zip(output.class_taps, output.box_taps, strict=True):
        c, b = class_tap.grad, box_tap.grad
        if c is not None:
            sums[0] += _dot(c, c)
        if b is not None:
            sums[1] += _dot(b, b)
        if c is not None and b is not None:
            sums[2] += _dot(c, b)
    if accelerator.num_processes > 1:
        # each process has the gradient of its own mean; the global mean's is that over the number of processes
        reduced = accelerator.reduce(sums.to(accelerator.device, torch.float32), "sum")
        assert isinstance(reduced, Tensor)
        sums = reduced.double().cpu() / accelerator.num_processes**2
    cc, bb, cb = (float(v) for v in sums)
    cosine = cb / math.sqrt(cc * bb) if cc > 0 and bb > 0 else 0.0
    return Pull(math.sqrt(cc), math.sqrt(bb), cosine)


@dataclass(slots=True)
class BoxWeight:
    """The weight of the box loss. Fixed, or measured: during the first epoch the geometric mean so far of
    class norm / raw box norm, times the wanted `balance`; then frozen."""

    value: float
    balance: float
    measuring: bool
    log_sum: float = 0.0
    count: int = 0

    @classmethod
    def start(cls, fixed: float | None, balance: float) -> BoxWeight:
        """`fixed` or, where None, measured."""
        return cls(1.0 if fixed is None else fixed, balance, measuring=fixed is None)

    def update(self, pull: Pull) -> None:
        """Takes one step's pull into account, unless frozen."""
        if not self.measuring or pull.class_norm <= 0 or pull.box_norm <= 0 or self.value <= 0:
            return
        self.log_sum += math.log(pull.class_norm / (pull.box_norm / self.value))
        self.count += 1
        self.value = self.balance * math.exp(self.log_sum / self.count)

    def freeze(self) -> None:
        """From here on the weight stays."""
        self.measuring = False


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.reshape(-1).float(), b.reshape(-1).float()))
