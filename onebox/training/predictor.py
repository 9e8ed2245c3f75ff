"""The trained network as a `Localizer`, so that torch and ONNX are judged by the same code. Takes a network and its
manifest; never trains."""

from __future__ import annotations

import torch
from torch import nn

from onebox.images import Pixels
from onebox.manifest import OUTPUT_NAMES, PRESENCE_OUTPUT, Manifest
from onebox.runtime import Localizer, Outputs
from onebox.training.augment import to_float
from onebox.training.model import Network


class TorchLocalizer(Localizer):
    """A network in evaluation mode on the CPU."""

    def __init__(self, network: Network, manifest: Manifest) -> None:
        self.network = Exported(network).cpu().eval()
        self.manifest = manifest

    @torch.inference_mode()
    def run(self, pictures: Pixels) -> Outputs:
        """See `Localizer.run`."""
        outputs = self.network(torch.from_numpy(pictures))
        return {name: value.numpy() for name, value in zip(self.network.output_names, outputs, strict=True)}


class Exported(nn.Module):
    """The graph that is exported: uint8 pictures in, the named outputs out, presence among them where the network has
    a fitted presence head."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of what `forward` gives, in order."""
        return OUTPUT_NAMES if self.network.presence_head is None else (*OUTPUT_NAMES, PRESENCE_OUTPUT)

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, H, W, 3) uint8 -> logits (B, C), boxes_01 (B, 4), sigmas_01 (B, 4) and, where fitted, presence (B,)."""
        output = self.network(to_float(pictures))
        outputs = (output.logits, output.box.boxes_01, output.box.sigmas_01)
        return outputs if output.presence is None else (*outputs, output.presence)
