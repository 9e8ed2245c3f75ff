"""A BatchNorm in evaluation mode is a scale and a shift, and the convolution before it can do both: one pass over the
maps fewer. Takes a network and changes how its pairs of the two are computed wherever the BatchNorm is in
evaluation mode - held layers always, the others when nothing is trained - never what they give, nor what any tensor is
called.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame, conv2d_same
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

#: What a network gives may move by this share of the largest value, which is rounding.
ROUNDING = 1e-4


class _PairedConv(nn.Conv2d):
    """Does the work of the BatchNorm after it, too, where that is in evaluation mode."""

    norm: tuple[nn.BatchNorm2d]  # in a tuple, so that it is not a module of this one

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        if self.norm[0].training:
            return super().forward(input)
        return self._conv_forward(input, *_weight_and_bias(self, self.norm[0]))


class _PairedConvSame(_PairedConv, Conv2dSame):
    """The same for TensorFlow's padding."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        if self.norm[0].training:
            return Conv2dSame.forward(self, input)
        weight, bias = _weight_and_bias(self, self.norm[0])
        return conv2d_same(input, weight, bias, self._two(self.stride), (0, 0), self._two(self.dilation), self.groups)

    @staticmethod
    def _two(values: tuple[int, ...]) -> tuple[int, int]:
        return values[0], values[1]


class _PairedNorm(nn.BatchNorm2d):
    """In evaluation mode the convolution before it has done everything."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return super().forward(input) if self.training else input


class _PairedNormAct(BatchNormAct2d):
    """The same with an activation, which is left to do."""

    drop: Any
    act: Any

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return super().forward(x) if self.training else self.act(self.drop(x))


_PAIRED: dict[type[nn.Module], Any] = {
    nn.Conv2d: _PairedConv,
    Conv2dSame: _PairedConvSame,
    nn.BatchNorm2d: _PairedNorm,
    BatchNormAct2d: _PairedNormAct,
}
_ALONE = {paired: alone for alone, paired in _PAIRED.items()}


def fold_pairs(net: nn.Module, example: Tensor) -> int:
    """Folds every convolution with the BatchNorm defined right after it, and gives their number. Where that would
    change what `net` gives for `example` - the two are not computed in the order of their definition - none is."""
    pairs = [
        (conv, norm)
        for parent in net.modules()
        for conv, norm in pairwise(parent.children())
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        if type(conv) in _PAIRED and type(norm) in _PAIRED and conv.out_channels == norm.num_features
        if norm.affine and norm.running_mean is not None
    ]
    was_training = net.training
    net.eval()
    with _drawn_norms([norm for _, norm in pairs]):  # those of an untrained network would hide any mistake
        apart = _outputs(net, example)
        for conv, norm in pairs:
            conv.__class__, norm.__class__ = _PAIRED[type(conv)], _PAIRED[type(norm)]
            conv.__dict__["norm"] = (norm,)
        together = _outputs(net, example)
    same = all(bool((a - b).abs().max() <= ROUNDING * a.abs().max()) for a, b in zip(apart, together, strict=True))
    if not same:
        unfold(net)
    net.train(was_training)
    return len(pairs) if same else 0


def unfold(net: nn.Module) -> None:
    """Every convolution and every BatchNorm below `net` does its own work again."""
    for module in net.modules():
        if type(module) in _ALONE:
            module.__class__ = _ALONE[type(module)]
            module.__dict__.pop("norm", None)


def _weight_and_bias(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Of the convolution that gives what `norm` makes of what `conv` gives (Jacob et al. 2018, arXiv 1712.05877,
    section 3.2)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    bias = shift if conv.bias is None else shift + conv.bias * scale
    return conv.weight * scale.view(-1, 1, 1, 1), bias


@torch.no_grad()
def _outputs(net: nn.Module, example: Tensor) -> list[Tensor]:
    given = net(example)
    return [given] if isinstance(given, Tensor) else list(given)


@contextmanager
def _drawn_norms(norms: Sequence[nn.BatchNorm2d]) -> Generator[None]:
    """For a while every norm has random statistics, scale and shift, near 1 and 0."""
    before = [{name: value.clone() for name, value in norm.state_dict().items()} for norm in norms]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for norm in norms:
            for name, value in norm.state_dict().items():
                if value.is_floating_point():
                    value.uniform_(0.5, 1.5) if name in {"weight", "running_var"} else value.uniform_(-0.5, 0.5)
    try:
        yield
    finally:
        for norm, state in zip(norms, before, strict=True):
            norm.load_state_dict(state)
