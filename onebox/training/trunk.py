"""The shared stack of convolutions. Takes a name and where its weights come from; gives a module that turns normalised
pictures into feature maps at strides 16 and 32 (or what the network has). Never downloads unless asked for
`pretrained`, never falls back to random weights in silence.
"""

from __future__ import annotations

import difflib
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from onebox.errors import ConfigError, WeightsError
from onebox.training.config import PLAIN_TRUNK
from onebox.training.folding import fold_pairs

WAYS_ON = "Give a file with --weights FILE.safetensors, or train from random weights with --weights none."


class Trunk(nn.Module):
    """Feature extractor. `channels[i]` and `strides[i]` describe the i-th map given by `forward`, finest first."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> [(B, C_i, H / stride_i, W / stride_i), ...]."""
        raise NotImplementedError


class PlainTrunk(Trunk):
    """Stacked 3x3 convolutions with BatchNorm and ReLU, halving the map five times. 1.2 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.strides = (128, 192), (16, 32)
        self.mean, self.std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
        self.to_16 = nn.Sequential(
            _conv(3, 24, stride=2),
            _conv(24, 48, stride=2),
            _conv(48, 48),
            _conv(48, 96, stride=2),
            _conv(96, 96),
            _conv(96, 128, stride=2),
            _conv(128, 128),
        )
        self.to_32 = nn.Sequential(_conv(128, 192, stride=2), _conv(192, 192))

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.to_16(x)
        return [fine, self.to_32(fine)]


class TimmTrunk(Trunk):
    """Any timm network that can give its intermediate maps."""

    def __init__(self, name: str, imgsz: int) -> None:
        super().__init__()
        config = timm.get_pretrained_cfg(name)
        self.mean = tuple(config.mean) if config else (0.485, 0.456, 0.406)
        self.std = tuple(config.std) if config else (0.229, 0.224, 0.225)
        self.net: Any
        self.net, info = _create(name, imgsz)
        reductions: list[int] = [int(r) for r in info.reduction()]
        chosen = _choose_levels(reductions)
        if len(chosen) < len(reductions):
            self.net, info = _create(name, imgsz, tuple(chosen))
        self.channels = tuple(int(c) for c in info.channels())
        self.strides = tuple(int(r) for r in info.reduction())

    def freeze(self, stride: int) -> None:
        """Holds every layer up to (and with) the stage of this stride as it is, BatchNorm statistics included. Nothing
        is held where the network has no stage that fine."""
        stages = [str(s["module"]) for s in self.net.feature_info.info if int(s["reduction"]) <= stride]
        if not stages:
            return
        # a parameter belongs to the stage or to what comes before it, in the order of the network's own definition
        names = [name for name, _ in self.net.named_parameters()]
        last = stages[-1].replace(".", "_")
        inside = [i for i, name in enumerate(names) if name.replace(".", "_").startswith(f"{last}_")]
        for _, parameter in list(self.net.named_parameters())[: inside[-1] + 1 if inside else 0]:
            parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> TimmTrunk:
        """As every module's, but held BatchNorm layers stay in evaluation mode."""
        super().train(mode)
        for layer in self.net.modules():
            if isinstance(layer, nn.BatchNorm2d) and not layer.weight.requires_grad:
                layer.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.net(x)
        # Swin and its kin give (B, H, W, C)
        return [m if m.shape[1] == c else m.permute(0, 3, 1, 2) for m, c in zip(maps, self.channels, strict=True)]


def build_trunk(name: str, weights: str, imgsz: int, *, freeze: int = 0) -> Trunk:
    """Builds the trunk and fills it. `weights`: "pretrained", "none", or a .safetensors file made with timm. Layers of
    a trunk with weights are held up to stride `freeze`.

    Raises ConfigError for an unknown name, WeightsError where the weights cannot be had or do not fit.
    """
    if name == PLAIN_TRUNK:
        if weights not in {"none", "pretrained"}:
            raise WeightsError("the plain trunk has no pretrained weights", fix="Use --weights none with it.")
        return PlainTrunk()
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f" Nearest names: {', '.join(close)}." if close else ""
        raise ConfigError(f"timm knows no backbone {name!r}", fix=f"`timm.list_models()` lists them.{hint}")
    if weights != "none" and weights != "pretrained" and not Path(weights).is_file():
        raise WeightsError("no such weights file", where=weights, fix=WAYS_ON)
    trunk = TimmTrunk(name, imgsz)
    if weights == "pretrained":
        _load(trunk, _download(name), where=f"timm's weights of {name}")
    elif weights != "none":
        try:
            state = load_file(weights)
        except Exception as error:  # safetensors raises its own, undocumented kinds
            raise WeightsError(f"not a readable .safetensors file ({error})", where=weights, fix=WAYS_ON) from error
        _load(trunk, state, where=weights)
    if weights != "none":
        fold_pairs(trunk.net, torch.linspace(-2, 2, 3 * imgsz * imgsz).view(1, 3, imgsz, imgsz))
        trunk.freeze(freeze)
    return trunk


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def _create(name: str, imgsz: int, indices: tuple[int, ...] | None = None) -> tuple[nn.Module, timm.models.FeatureInfo]:
    options: dict[str, Any] = {} if indices is None else {"out_indices": indices}
    # transformers want to know the size, convolutions refuse the word
    sized: dict[str, Any] = {**options, "img_size": imgsz}
    for more in (options, sized):
        try:
            net: Any = timm.create_model(name, pretrained=False, features_only=True, **more)
            with torch.no_grad():
                net.eval()(torch.zeros(1, 3, imgsz, imgsz))
            return net.train(), net.feature_info
        except (RuntimeError, AssertionError, TypeError, ValueError, AttributeError) as error:
            last = error
    raise ConfigError(
        f"the backbone {name} cannot give feature maps at {imgsz} px ({str(last).splitlines()[0][:120]})",
        fix="Choose another --backbone or --imgsz.",
    )


def _choose_levels(reductions: list[int]) -> list[int]:
    """Indices of the maps nearest to strides 16 and 32: the last map, and the last one that is twice as fine."""
    last = len(reductions) - 1
    finer = [i for i, r in enumerate(reductions) if r * 2 == reductions[last]]
    return [finer[-1], last] if finer else [last]


def _download(name: str) -> dict[str, Tensor]:
    try:
        _require_connection(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the hub's advice on tokens is not for this user
            return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # network, hub and cache errors of several libraries
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise WeightsError(f"could not download the pretrained weights of {name} ({reason})", fix=WAYS_ON) from error


def _require_connection(name: str) -> None:
    """Where the weights are not on this machine yet: one quick question to the hub, so that without a network the user
    hears it at once. The hub's own client repeats the question for most of a minute, with a line each time."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.utils import get_session

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        return
    files = ("model.safetensors", "pytorch_model.bin")
    if not any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in files):
        get_session().head(constants.ENDPOINT, timeout=10)


def _load(trunk: TimmTrunk, state: dict[str, Tensor], *, where: str) -> None:
    """Every tensor of the trunk must be in `state`, with its shape; classifier tensors left over are fine."""
    wanted = trunk.net.state_dict()
    # timm flattens feature networks ("stages.0" becomes "stages_0"); the file has the full network's names
    flat = {key.replace(".", "_"): value for key, value in state.items()}
    found: dict[str, Tensor] = {}
    missing: list[str] = []
    for key, tensor in wanted.items():
        value = state.get(key)
        if value is None:
            value = flat.get(key.removeprefix("model.").replace(".", "_"))
        if value is None and key.endswith("num_batches_tracked"):
            value = tensor
        if value is None or value.shape != tensor.shape:
            missing.append(key)
        else:
            found[key] = value
    if missing:
        raise WeightsError(
            f"{len(missing)} of the trunk's {len(wanted)} tensors are not in it (first: {missing[0]})",
            where=where,
            fix="The file must hold this very timm backbone. " + WAYS_ON,
        )
    trunk.net.load_state_dict(found)
