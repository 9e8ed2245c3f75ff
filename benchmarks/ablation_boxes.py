"""Swaps that change the box head, for `benchmarks.ablation`: each puts a class of its own in the place of the product's
and a criterion that fits it. Gives nothing; `ablation_swaps.SWAPS` has their names.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from onebox.training import heads
from onebox.training import model as model_module
from onebox.training.heads import BoxOutput, EdgeBoxHead
from onebox.training.losses import criterion
from onebox.training.model import Network

loop = importlib.import_module("onebox.training.loop")

# ---- a box for each class


class _PerClassBoxHead(EdgeBoxHead):
    """Edge distributions for every class; the box is that of the true class in training, of the likeliest otherwise."""

    classes = 0

    def __init__(self, channels: tuple[int, ...], map_size: tuple[int, int], bins: int, **options: Any) -> None:
        super().__init__(channels, map_size, bins, **options)
        for fc in (self.along_x, self.along_y):
            hidden = fc[-1].in_features
            fc[-1] = nn.Linear(hidden, 2 * bins * self.classes)
        self.every: Tensor

    def forward(self, maps: list[Tensor]) -> BoxOutput:
        """As the product's; keeps what it says of every class in `every` (B, C, 4, K)."""
        columns, rows = self.profiles(maps)
        bins = self.centres.numel()
        x = self.along_x(columns.flatten(1)).view(-1, self.classes, 2, bins) + self.sliding_x(columns).unsqueeze(1)
        y = self.along_y(rows.flatten(1)).view(-1, self.classes, 2, bins) + self.sliding_y(rows).unsqueeze(1)
        self.every = torch.stack([x[:, :, 0], y[:, :, 0], x[:, :, 1], y[:, :, 1]], dim=2)
        return self.of(torch.zeros(len(x), dtype=torch.long))

    def of(self, labels: Tensor) -> BoxOutput:
        """The answer for these classes (B,)."""
        return self.read(self.every[torch.arange(len(labels)), labels])


def per_class_boxes() -> None:
    build = model_module.Network.__init__
    forward = model_module.Network.forward
    latest: list[_PerClassBoxHead] = []

    def init(self: Network, made: Any, classes: int, **options: Any) -> None:
        _PerClassBoxHead.classes = classes
        build(self, made, classes, **options)

    def ask(self: Network, pictures: Tensor) -> Any:
        output = forward(self, pictures)
        head = self.box_head
        assert isinstance(head, _PerClassBoxHead)
        latest[:] = [head]
        return output if self.training else output._replace(box=head.of(output.logits.argmax(dim=1)))

    def of_the_true_class(logits: Tensor, box: BoxOutput, labels: Tensor, true: Tensor, **options: Any) -> Any:
        del box
        return criterion(logits, latest[0].of(labels), labels, true, **options)

    model_module.EdgeBoxHead = _PerClassBoxHead
    model_module.Network.__init__ = init
    model_module.Network.forward = ask
    loop.criterion = of_the_true_class


# ---- a map of where the object is

#: `where`: weight of the map's divergence in the box loss.
WHERE_WEIGHT = 0.5


class _WhereHead(EdgeBoxHead):
    """With a map of where the object is, taught by the boxes: the share of every cell that lies in the box. Each
    profile is read along the rows (columns) that the map says, besides, and knows the map's own profile."""

    latest: Tensor  # (B, h w) logits of the map

    def __init__(self, channels: tuple[int, ...], map_size: tuple[int, int], bins: int, width: int = 128) -> None:
        super().__init__(channels, map_size, bins, width)
        h, w = map_size
        wide = 3 * width + 1
        self.where = nn.Conv2d(width, 1, 1)
        self.along_x[0] = nn.Linear(wide * w, self.along_x[0].out_features)
        self.along_y[0] = nn.Linear(wide * h, self.along_y[0].out_features)
        self.sliding_x = heads.SlidingFc(wide, w, self.centres, width)
        self.sliding_y = heads.SlidingFc(wide, h, self.centres, width)
        self.mix.register_forward_hook(self._keep)
        self.fused: Tensor

    def _keep(self, mix: Any, given: tuple[Tensor], mixed: Tensor) -> None:
        del mix
        self.fused = given[0] + mixed

    def profiles(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        columns, rows = super().profiles(maps)
        h, w = self.map_size
        _WhereHead.latest = self.where(self.fused).flatten(1)
        p = _WhereHead.latest.softmax(dim=1).view(-1, 1, h, w)
        down, across = p.sum(dim=3, keepdim=True), p.sum(dim=2, keepdim=True)
        along_x = [columns, (self.fused * down).sum(dim=2), w * across[:, :, 0]]
        along_y = [rows, (self.fused * across).sum(dim=3), h * down[..., 0]]
        return torch.cat(along_x, dim=1), torch.cat(along_y, dim=1)


def _covered(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """(B,), (B,) in 0-1 -> (B, cells): the share of each cell that lies between them."""
    first = torch.arange(cells) / cells
    ends = [(edge.unsqueeze(1) - first).clamp(0, 1 / cells) for edge in (low, high)]
    return cells * (ends[1] - ends[0])


def where() -> None:
    """See `_WhereHead`; the map's loss is its divergence from the share of every cell in the box, and belongs to the
    box loss."""

    def with_the_map(logits: Tensor, box: BoxOutput, labels: Tensor, true: Tensor, **options: Any) -> Any:
        found, said = criterion(logits, box, labels, true, **options), _WhereHead.latest
        side = round(said.shape[1] ** 0.5)
        across, down = _covered(true[:, 0], true[:, 2], side), _covered(true[:, 1], true[:, 3], side)
        target = (down.unsqueeze(2) * across.unsqueeze(1)).flatten(1)
        target = target / target.sum(dim=1, keepdim=True).clamp_min(1e-6)
        loss = functional.kl_div(said.log_softmax(dim=1), target, reduction="batchmean")
        return found._replace(box_loss=found.box_loss + WHERE_WEIGHT * loss)

    model_module.EdgeBoxHead = _WhereHead
    loop.criterion = with_the_map
