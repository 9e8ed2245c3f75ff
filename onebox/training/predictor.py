"""The trained network as a `Localizer`, so that torch and ONNX are judged by the same code. Takes a network and its
manifest; never trains."""

from __future__ import annotations

import torch
from torch import nn

from onebox.images import Pixels
from onebox.manifest import OUTPUT_NAMES, Manifest
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
        return {name: value.numpy() for name, value in zip(OUTPUT_NAMES, outputs, strict=True)}


class Exported(nn.Module):
    """The graph that is exported: uint8 pictures in, the three named outputs out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, H, W, 3) uint8 -> logits (B, C), boxes_01 (B, 4), sigmas_01 (B, 4)."""
        output = self.network(to_float(pictures))
        return output.logits, output.box.boxes_01, output.box.sigmas_01
