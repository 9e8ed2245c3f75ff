"""From pictures to predictions. `Localizer` is the contract that torch and ONNX models share: prepare with the one
picture path, run a batch, decode by output name. `OnnxLocalizer` runs `model.onnx`; this is the only module that
imports onnxruntime, and it never imports torch.
"""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from onebox.boxes import clip, to_pixels
from onebox.errors import ModelError, PictureError
from onebox.images import ImageSource, Pixels, load_pixels
from onebox.manifest import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, Manifest
from onebox.predictions import Prediction
from onebox.types import Box, ImageSize

Outputs: TypeAlias = Mapping[str, npt.NDArray[np.float32]]

#: Pictures run through the network at once; more gains nothing on a CPU and costs memory.
BATCH = 16


class Localizer(ABC):
    """Anything that names and boxes the object in a picture. Subclasses give `manifest` and `run`."""

    manifest: Manifest

    @abstractmethod
    def run(self, pictures: Pixels) -> Outputs:
        """(B, imgsz, imgsz, 3) uint8 -> `logits` (B, C), `boxes_01` (B, 4), `sigmas_01` (B, 4) float32."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the probabilities."""
        return self.manifest.class_names

    def predict(self, pictures: ImageSource | Iterable[ImageSource]) -> list[Prediction]:
        """One prediction per picture, in the caller's order; always a list, also for one picture.

        `pictures`: one path, bytes, Pillow image or array (H, W[, 1|3|4]) of a single picture, or a list, tuple or
        iterator of them. Raises PictureError for the first picture that cannot be read; `stream` goes on instead.
        """
        sources = cast("Iterable[ImageSource]", [pictures] if _is_one_picture(pictures) else pictures)
        answers: list[Prediction] = []
        for answer in self.stream(sources):
            if isinstance(answer, PictureError):
                raise answer
            answers.append(answer)
        return answers

    def stream(self, pictures: Iterable[ImageSource]) -> Iterator[Prediction | PictureError]:
        """Like `predict`, one answer per picture in order, at constant memory; a picture that cannot be read gives
        its PictureError in its place and leaves its neighbours untouched."""
        imgsz = self.manifest.imgsz
        supply = iter(pictures)
        first = list(itertools.islice(supply, 2))
        if len(first) < 2:  # the usual single picture: no threads
            yield from self._answer([(source, _prepare(source, imgsz)) for source in first])
            return
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            # Decoding runs one batch ahead of the network.
            ahead: list[list[tuple[ImageSource, Future[_Prepared]]]] = []
            for chunk in _chunks(itertools.chain(first, supply), BATCH):
                ahead.append([(source, pool.submit(_prepare, source, imgsz)) for source in chunk])
                if len(ahead) > 1:
                    yield from self._answer([(source, f.result()) for source, f in ahead.pop(0)])
            for batch in ahead:
                yield from self._answer([(source, f.result()) for source, f in batch])

    def _answer(self, prepared: Sequence[tuple[ImageSource, _Prepared]]) -> Iterator[Prediction | PictureError]:
        good = [p for _, p in prepared if not isinstance(p, PictureError)]
        outputs = self.run(np.stack([pixels for pixels, _ in good])) if good else {}
        decoded = iter(decode(outputs, [size for _, size in good], self.class_names)) if good else iter(())
        for source, p in prepared:
            if isinstance(p, PictureError):
                yield p
                continue
            probabilities, box, sigmas = next(decoded)
            best = int(probabilities.argmax())
            path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
            yield Prediction(
                label=self.class_names[best],
                score=float(probabilities[best]),
                probabilities=probabilities,
                class_names=self.class_names,
                box=box,
                edge_sigmas=sigmas,
                path=path,
                source=source,
            )


class OnnxLocalizer(Localizer):
    """A `model.onnx` run by ONNX Runtime on the CPU (or `providers`)."""

    def __init__(self, path: str | os.PathLike[str], *, providers: Sequence[str] | None = None) -> None:
        """Raises ModelError where the file is missing, damaged, or not made by onebox."""
        import onnxruntime as ort  # here, so that importing onebox.runtime for its types stays cheap

        self.path = Path(path)
        if not self.path.is_file():
            raise ModelError("no such model file", where=str(self.path))
        options = ort.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                str(self.path), options, providers=list(providers or ["CPUExecutionProvider"])
            )
        except Exception as error:  # onnxruntime raises many classes of its own for damaged files
            raise ModelError(
                f"not a readable ONNX model ({str(error).splitlines()[0][:160]})", where=str(self.path)
            ) from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise ModelError(
                "this ONNX file was not made by onebox (it carries no onebox manifest)",
                where=str(self.path),
                fix="Use the model.onnx of a run folder.",
            )
        self.manifest = Manifest.from_json(metadata[METADATA_KEY], where=str(self.path))
        present = {o.name for o in self._session.get_outputs()}
        if not set(OUTPUT_NAMES) <= present or INPUT_NAME not in {i.name for i in self._session.get_inputs()}:
            raise ModelError("the graph lacks the inputs or outputs of a onebox model", where=str(self.path))

    def run(self, pictures: Pixels) -> Outputs:
        """See `Localizer.run`."""
        values: Any = self._session.run(list(OUTPUT_NAMES), {INPUT_NAME: pictures})
        return dict(zip(OUTPUT_NAMES, values, strict=True))

    def __repr__(self) -> str:
        m = self.manifest
        return f"OnnxLocalizer({str(self.path)!r}, {len(m.class_names)} classes, {m.backbone}, {m.imgsz} px)"


def load(path: str | os.PathLike[str], *, providers: Sequence[str] | None = None) -> OnnxLocalizer:
    """Loads a `model.onnx`, or the one inside a run folder. Raises ModelError."""
    path = Path(path)
    if path.is_dir():
        inside = path / "model.onnx"
        if not inside.is_file():
            raise ModelError("this folder holds no model.onnx", where=str(path), fix="Has its training finished?")
        path = inside
    return OnnxLocalizer(path, providers=providers)


def decode(
    outputs: Outputs, sizes: Sequence[ImageSize], class_names: Sequence[str]
) -> list[tuple[npt.NDArray[np.float64], Box, tuple[float, float, float, float]]]:
    """Network outputs -> for each picture: probabilities (C,), the box clipped to the picture, edge sigmas in pixels.

    A box whose edges come out crossed (possible with an fc head) is put in order.
    """
    logits = np.asarray(outputs["logits"], dtype=np.float64)
    if logits.shape[1] != len(class_names):
        raise ModelError(f"the graph gives {logits.shape[1]} classes, the manifest names {len(class_names)}")
    probabilities = softmax(logits)
    wh = np.asarray(sizes, dtype=np.float64).reshape(-1, 2)
    boxes_01 = np.asarray(outputs["boxes_01"], dtype=np.float64)
    ordered = np.concatenate(
        [np.minimum(boxes_01[:, :2], boxes_01[:, 2:]), np.maximum(boxes_01[:, :2], boxes_01[:, 2:])], axis=1
    )
    boxes = clip(to_pixels(ordered, wh), wh)
    sigmas = to_pixels(np.asarray(outputs["sigmas_01"], dtype=np.float64), wh)
    return [
        (
            probabilities[i],
            Box(*(float(v) for v in boxes[i]), image_size=ImageSize(*sizes[i])),
            (float(sigmas[i, 0]), float(sigmas[i, 1]), float(sigmas[i, 2]), float(sigmas[i, 3])),
        )
        for i in range(len(sizes))
    ]


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(B, C) -> (B, C); rows sum to 1."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


_Prepared: TypeAlias = "tuple[Pixels, ImageSize] | PictureError"


def _prepare(source: ImageSource, imgsz: int) -> _Prepared:
    try:
        return load_pixels(source, imgsz)
    except PictureError as error:
        return error


def _is_one_picture(pictures: object) -> bool:
    if isinstance(pictures, np.ndarray):
        return pictures.ndim < 4  # a 4-D array iterates as a batch of pictures
    return isinstance(pictures, (str, os.PathLike, bytes, Image.Image))


def _chunks(items: Iterable[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    supply = iter(items)
    while chunk := list(itertools.islice(supply, size)):
        yield chunk
