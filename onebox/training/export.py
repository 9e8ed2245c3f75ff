"""From trained weights to `model.onnx`, proved. Takes a network and its manifest, writes the graph with the manifest in
its metadata, replays real and awkward pictures through torch and through ONNX Runtime, and refuses to give a file that
answers differently."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from PIL import Image

from onebox.errors import ExportError, PictureError
from onebox.files import atomic_path
from onebox.images import ImageSource, open_image
from onebox.manifest import INPUT_NAME, METADATA_KEY, Manifest
from onebox.runtime import OnnxLocalizer
from onebox.training.model import Network
from onebox.training.predictor import Exported, TorchLocalizer

#: Largest differences allowed between torch and ONNX Runtime, over all replayed pictures.
BOX_GAP_PX = 0.5
PROBABILITY_GAP = 1e-3
#: Real pictures replayed, beside the awkward ones made of them.
REPLAYED = 24


def export_onnx(network: Network, manifest: Manifest, path: Path, pictures: Sequence[ImageSource]) -> Manifest:
    """Writes `path`, atomically, and gives the manifest that is inside, its `export_check` filled in.

    `pictures`: some that the model is meant for; up to REPLAYED are replayed. Raises ExportError where a box moves by
    more than BOX_GAP_PX or a probability by more than PROBABILITY_GAP; `path` is then not written.
    """
    torch_model = TorchLocalizer(network, manifest)
    with atomic_path(path) as temporary:
        _write_graph(torch_model.network, manifest, temporary)
        replayed = [*awkward_pictures(pictures[:2]), *pictures[:REPLAYED]]
        check = compare(torch_model, OnnxLocalizer(temporary), replayed)
        if check["box_gap_px"] > BOX_GAP_PX or check["probability_gap"] > PROBABILITY_GAP:
            raise ExportError(
                f"ONNX Runtime and torch disagree: boxes by {check['box_gap_px']:.3g} px (allowed {BOX_GAP_PX}), "
                f"probabilities by {check['probability_gap']:.3g} (allowed {PROBABILITY_GAP})",
                where=str(path),
                fix="best.safetensors is kept; try another --backbone, and please report this one.",
            )
        manifest = replace(manifest, export_check=check)
        _set_manifest(temporary, manifest)
    return manifest


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


def _write_graph(network: Exported, manifest: Manifest, path: Path) -> None:
    example = torch.zeros(2, manifest.imgsz, manifest.imgsz, 3, dtype=torch.uint8)
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about its own internals
            program = torch.onnx.export(
                network.to(memory_format=torch.contiguous_format),
                (example,),
                dynamo=True,
                input_names=[INPUT_NAME],
                output_names=list(network.output_names),
                dynamic_shapes={"pictures": {0: torch.export.Dim("batch", min=1, max=65536)}},
                verbose=False,
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


def _set_manifest(path: Path, manifest: Manifest) -> None:
    model = onnx.load(str(path))
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, manifest.to_json()
    model.producer_name = "onebox"
    model.producer_version = manifest.onebox_version
    path.write_bytes(model.SerializeToString())
