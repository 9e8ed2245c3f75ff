"""The network: trunk and disjoint heads. Takes pictures as float 0-255 tensors, gives logits, box and, once it has been
fitted, presence; the mean and standard deviation are inside, so that nothing outside can get them wrong. Knows no
losses and no files.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from onebox.training.config import PLAIN_TRUNK, TrainConfig
from onebox.training.heads import BoxOutput, ClassHead, EdgeBoxHead, FcBoxHead, PresenceHead, Probe
from onebox.training.trunk import Trunk, build_trunk


class NetworkOutput(NamedTuple):
    """`logits` (B, C); `box` the box head's output; `class_taps`, `box_taps`: the trunk's maps as each branch reads
    them. They are separate nodes of the graph, so that the gradient of each branch at the trunk can be seen.
    `presence` (B,), larger where one of the classes is more surely in the picture; None before the head is fitted."""

    logits: Tensor
    box: BoxOutput
    class_taps: list[Tensor]
    box_taps: list[Tensor]
    presence: Tensor | None


class Network(nn.Module):
    """Trunk -> class head, box head and presence head; and, beside the class head, a probe of the untouched trunk.

    `presence_head` and `probe` are None until the loop is over. The first is fitted to the finished trunk
    (`onebox.training.presence`), so that nothing of class and box can depend on it; the second to the trunk that the
    loop began with (`onebox.training.transfer`).
    """

    def __init__(
        self, trunk: Trunk, classes: int, *, imgsz: int, box_head: str, bins: int, class_peaks: bool = False
    ) -> None:
        super().__init__()
        self.trunk = trunk
        with torch.no_grad():
            trunk.eval()
            maps = trunk(torch.zeros(1, 3, imgsz, imgsz))
            trunk.train()
        self.class_head = ClassHead(trunk.channels, classes, peaks=class_peaks)
        self.box_head: nn.Module
        if box_head == "fc":
            self.box_head = FcBoxHead(trunk.channels[-1])
        else:
            h, w = maps[0].shape[2:]
            self.box_head = EdgeBoxHead(trunk.channels, (int(h), int(w)), bins)
        self.presence_head: PresenceHead | None
        self.register_module("presence_head", None)
        self.probe: Probe | None
        self.register_module("probe", None)
        mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (trunk.mean, trunk.std))
        self.register_buffer("scale", 1 / std, persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, pictures: Tensor) -> NetworkOutput:
        """(B, 3, H, W) float in 0-255 -> NetworkOutput."""
        x = self.normalised(pictures)
        maps = self.trunk(x)
        class_taps = [self._tap(m) for m in maps]
        box_taps = [self._tap(m) for m in maps]
        logits, presence = self.class_head(class_taps), None
        if self.presence_head is not None:
            presence = self.presence_head([m.detach() for m in maps], logits.detach())
        if self.probe is not None:
            logits = logits + self.probe(x)
        return NetworkOutput(logits, self.box_head(box_taps), class_taps, box_taps, presence)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.scale.device

    def normalised(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) float in 0-255 -> the same, of about mean 0 and standard deviation 1, as the trunk reads it."""
        return torch.addcmul(self.shift, pictures, self.scale)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As every module's; the weights of a finished run bring their presence head and probe with them, those of an
        unfinished one have none."""
        fitted = {part: any(name.startswith(f"{part}.") for name in state_dict) for part in ("presence_head", "probe")}
        self.presence_head = PresenceHead(self.trunk.channels).to(self.device) if fitted["presence_head"] else None
        self.probe = None
        if fitted["probe"]:
            classes = len(state_dict["probe.linear.bias"])
            self.probe = Probe(copy.deepcopy(self.trunk), classes).to(self.device)
        loaded = super().load_state_dict(state_dict, strict=strict, assign=assign)
        if self.probe is not None:
            self.probe.share(self.trunk)
        return loaded

    def _tap(self, m: Tensor) -> Tensor:
        """A node of its own for one branch; one that asks for a gradient even where the trunk below is held."""
        held = self.training and not m.requires_grad
        return m.detach().requires_grad_() if held else m.view_as(m)

    def head_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Named parameters that are not the trunk's."""
        return [(n, p) for n, p in self.named_parameters() if not n.startswith("trunk.")]

    def trunk_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Named parameters of the trunk."""
        return [(n, p) for n, p in self.named_parameters() if n.startswith("trunk.")]


def build_network(config: TrainConfig, classes: int, *, load_weights: bool = True) -> Network:
    """The network of `config`. Raises ConfigError and WeightsError; `load_weights=False` leaves the trunk random (its
    weights come from a checkpoint)."""
    weights = config.weights if load_weights else "none"
    trunk = build_trunk(config.backbone, weights, config.side, freeze=config.freeze)
    return Network(
        trunk,
        classes,
        imgsz=config.side,
        box_head=config.box_head,
        bins=config.bins,
        class_peaks=config.backbone == PLAIN_TRUNK and config.recipe != "plain",
    )
