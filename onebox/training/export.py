"""From trained weights to `model.onnx`, proved. Takes a network and its manifest, writes the graph with the manifest in
its metadata, replays real and awkward pictures through torch and through ONNX Runtime, and refuses to give a file that
answers differently."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from PIL import Image
from timm.layers.conv2d_same import Conv2dSame
from torch import nn
from torch.nn import functional

from onebox.errors import ExportError, OneboxError, PictureError
from onebox.files import atomic_path
from onebox.images import ImageSource, open_image
from onebox.manifest import INPUT_NAME, METADATA_KEY, Manifest
from onebox.runtime import OnnxLocalizer
from onebox.training.folding import unfold
from onebox.training.model import Network
from onebox.training.predictor import Exported, TorchLocalizer

#: Largest differences allowed between torch and ONNX Runtime, over all replayed pictures.
BOX_GAP_PX = 0.5
PROBABILITY_GAP = 1e-3
#: Real pictures replayed, beside the awkward ones made of them.
REPLAYED = 24


def export_onnx(network: Network, manifest: Manifest, path: Path, pictures: Sequence[ImageSource]) -> Manifest:
    """Writes `path`, atomically, and gives the manifest that is inside, its `export_check` filled in.

    `pictures`: some that the model is meant for; up to REPLAYED are replayed, at one look: it is the graph that is
    proved, and a second look at a window that was rounded the other way makes much of a rounding. Raises ExportError
    where a box moves by more than BOX_GAP_PX or a probability by more than PROBABILITY_GAP; `path` is then not written.
    """
    torch_model = TorchLocalizer(network, manifest)
    torch_model.refine = False
    replayed = [*awkward_pictures(pictures[:2]), *pictures[:REPLAYED]]
    with atomic_path(path) as temporary:
        check = None
        with contextlib.suppress(OneboxError):  # whatever tracing cannot do, the other exporter is asked, and says why
            check = _write_and_compare(torch_model, temporary, replayed, traced=True)
        if check is None or not _agrees(check):
            check = _write_and_compare(torch_model, temporary, replayed, traced=False)
        if not _agrees(check):
            raise ExportError(
                f"ONNX Runtime and torch disagree: boxes by {check['box_gap_px']:.3g} px (allowed {BOX_GAP_PX}), "
                f"probabilities by {check['probability_gap']:.3g} (allowed {PROBABILITY_GAP})",
                where=str(path),
                fix="best.safetensors is kept; try another --backbone, and please report this one.",
            )
        manifest = replace(manifest, export_check=check)
        _set_manifest(temporary, manifest)
    return manifest


def _write_and_compare(
    torch_model: TorchLocalizer, path: Path, replayed: Sequence[ImageSource], *, traced: bool
) -> dict[str, float | int]:
    """`compare` for the graph that one of torch's two exporters writes to `path`. Raises ExportError where it cannot,
    where ONNX Runtime cannot run the graph, and where no picture can be read."""
    _write_graph(torch_model.network, torch_model.manifest, path, traced=traced)
    try:
        written = OnnxLocalizer(path)
        written.refine = torch_model.refine
        return compare(torch_model, written, replayed)
    except OneboxError:
        raise
    except Exception as error:  # ONNX Runtime's own, which have no common ground
        raise ExportError(
            f"ONNX Runtime cannot run the network's graph ({str(error).splitlines()[0][:160]})",
            fix="best.safetensors is kept; choose another --backbone.",
        ) from error


def _agrees(check: Mapping[str, float | int]) -> bool:
    return check["box_gap_px"] <= BOX_GAP_PX and check["probability_gap"] <= PROBABILITY_GAP


def compare(a: TorchLocalizer, b: OnnxLocalizer, pictures: Iterable[ImageSource]) -> dict[str, float | int]:
    """Largest box gap (pixels of the upright picture) and probability gap (classes and, where known, presence) over
    the readable `pictures`."""
    sources = list(pictures)
    box_gap, probability_gap, count = 0.0, 0.0, 0
    for one, other in zip(a.stream(sources), b.stream(sources), strict=True):
        if isinstance(one, PictureError) or isinstance(other, PictureError):
            continue
        count += 1
        box_gap = max(box_gap, _gap(one.box.xyxy, other.box.xyxy))
        probability_gap = max(probability_gap, _gap(one.probabilities, other.probabilities))
        if one.presence is not None and other.presence is not None:
            probability_gap = max(probability_gap, _gap(one.presence, other.presence))
    if not count:
        raise ExportError("no readable picture to replay through the exported model")
    return {"pictures": count, "box_gap_px": box_gap, "probability_gap": probability_gap}


def _gap(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Largest difference; infinite where either is NaN, which no comparison would notice."""
    gap = float(np.abs(np.subtract(a, b)).max())
    return math.inf if math.isnan(gap) else gap


def awkward_pictures(pictures: Sequence[ImageSource]) -> list[ImageSource]:
    """Real pictures made wide, tall, EXIF-rotated, grey, RGBA, 16-bit and 1x1."""
    made: list[ImageSource] = []
    for source in pictures:
        try:
            image, _ = open_image(source)
        except PictureError:
            continue
        w, h = image.size
        exif = Image.Exif()
        exif[0x0112] = 6
        rotated = io.BytesIO()
        image.save(rotated, "JPEG", exif=exif)
        made += [
            image.resize((max(1, w * 4), h)),
            image.resize((w, max(1, h * 4))),
            rotated.getvalue(),
            image.convert("L"),
            image.convert("RGBA"),
            np.asarray(image.convert("L")).astype(np.uint16) * 257,
            image.resize((1, 1)),
        ]
    return made


def _write_graph(network: Exported, manifest: Manifest, path: Path, *, traced: bool) -> None:
    """By torch's older exporter, which traces and takes 2 seconds, or the newer one, which takes 13 to 29 (docs/log.md,
    2026-11-28). Tracing would write down what depends on the batch as if it did not: that is what replaying is for."""
    example = torch.zeros(2, manifest.imgsz, manifest.imgsz, 3, dtype=torch.uint8)
    names: dict[str, Any] = {"input_names": [INPUT_NAME], "output_names": list(network.output_names)}
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    unfold(network)  # an exporter folds by itself, and more
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporters warn about their own internals, the older one about its age
            if traced:
                axes = {name: {0: "batch"} for name in (INPUT_NAME, *network.output_names)}
                padded = with_written_padding(network, example)
                torch.onnx.export(padded, (example,), str(path), dynamo=False, dynamic_axes=axes, **names)
            else:
                shapes = {INPUT_NAME: {0: torch.export.Dim("batch", min=1, max=65536)}}
                program = torch.onnx.export(
                    network, (example,), dynamo=True, dynamic_shapes=shapes, verbose=False, **names
                )
                assert program is not None
                program.save(str(path), external_data=False)
    except OSError:  # a full disk: atomic_path explains it
        raise
    except Exception as error:  # torch.export, onnxscript and onnx raise many kinds
        raise ExportError(
            f"the network cannot be written as ONNX ({str(error).splitlines()[0][:160]})",
            fix="best.safetensors is kept; choose another --backbone.",
        ) from error
    finally:
        chatter.setLevel(level)
    _set_manifest(path, manifest)


class _PaddedConv(nn.Conv2d):
    """A convolution that pads by numbers of its own: (left, right, top, bottom)."""

    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return self._conv_forward(functional.pad(input, self.pads), self.weight, self.bias)


@torch.no_grad()
def with_written_padding(network: Exported, example: torch.Tensor) -> Exported:
    """A copy for pictures of `example`'s size. Convolutions with TensorFlow's padding ("same"), which timm computes
    from each input's size, pad by the numbers that come out: traced, that arithmetic would stay in the graph, and a
    picture take a fifth longer."""
    copied = copy.deepcopy(network)
    sizes: dict[nn.Module, torch.Size] = {}

    def keep(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        sizes[module] = inputs[0].shape[-2:]

    convs = [m for m in copied.modules() if isinstance(m, nn.Conv2d)]
    found = [conv for conv in convs if isinstance(conv, Conv2dSame)]
    hooks = [module.register_forward_pre_hook(keep) for module in found]
    copied(example)
    for hook in hooks:
        hook.remove()
    padded = {module: _padded(module, sizes[module]) for module in found if module in sizes}
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child in padded:
                setattr(parent, name, padded[child])
    return copied


def _padded(conv: nn.Conv2d, size: Sequence[int]) -> _PaddedConv:
    """`conv` for inputs of this height and width: its output is as large as the input over the stride, rounded up, and
    of an odd number of pads the right and the bottom get one more."""
    pads: list[int] = []
    for axis in (1, 0):
        stride, kernel, dilation = conv.stride[axis], conv.kernel_size[axis], conv.dilation[axis]
        pad = max((-(-size[axis] // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size[axis], 0)
        pads += [pad // 2, pad - pad // 2]
    made = _PaddedConv(
        conv.in_channels, conv.out_channels, (conv.kernel_size[0], conv.kernel_size[1]),
        (conv.stride[0], conv.stride[1]), 0, (conv.dilation[0], conv.dilation[1]), conv.groups, conv.bias is not None,
    )  # fmt: skip
    made.weight, made.bias = conv.weight, conv.bias
    made.pads = (pads[0], pads[1], pads[2], pads[3])
    return made.eval()


def _set_manifest(path: Path, manifest: Manifest) -> None:
    model = onnx.load(str(path))
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, manifest.to_json()
    model.producer_name = "onebox"
    model.producer_version = manifest.onebox_version
    path.write_bytes(model.SerializeToString())
