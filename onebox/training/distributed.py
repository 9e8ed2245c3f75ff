"""What several processes need beyond the engine. BatchNorm over the global batch, so that N processes with B/N pictures
each train exactly the network that one process with B pictures trains. torch's own SyncBatchNorm refuses CPUs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """Sum of everyone's tensor. Every process's loss depends on every process's summand, so the gradients add up too.
    torch's own differentiable all_reduce is deprecated, and its successor is private."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone()
        dist.all_reduce(grad)
        return grad


class GlobalBatchNorm2d(nn.Module):
    """Stands for one BatchNorm2d (or timm's BatchNormAct2d): same parameters and buffers under the same names, batch
    statistics taken over all processes. In evaluation mode it is the plain layer."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("running_mean", layer.running_mean)
        self.register_buffer("running_var", layer.running_var)
        self.register_buffer("num_batches_tracked", layer.num_batches_tracked)
        self.eps, self.momentum = layer.eps, layer.momentum if layer.momentum is not None else 0.1
        self.after = nn.Sequential(*(m for m in (getattr(layer, "drop", None), getattr(layer, "act", None)) if m))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        if not self.training:
            y = nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
            return self.after(y)
        channels = x.shape[1]
        # sum, sum of squares and count over all processes; differentiable
        sums = torch.stack([x.sum((0, 2, 3)), (x * x).sum((0, 2, 3)), x.new_full((channels,), x.numel() / channels)])
        sums = _SumOverProcesses.apply(sums)
        assert isinstance(sums, Tensor)
        count = sums[2]
        mean = sums[0] / count
        variance = (sums[1] / count - mean * mean).clamp_min(0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        shift = self.bias - mean * scale
        return self.after(x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1))


def use_global_batch_norm(module: nn.Module) -> None:
    """Replaces every BatchNorm2d below `module` in place; parameters and buffers stay the same objects."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d) and not child.weight.requires_grad:
            continue  # held: it takes no batch statistics
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, GlobalBatchNorm2d(child))
        else:
            use_global_batch_norm(child)
