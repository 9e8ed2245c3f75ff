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
from onebox.calibration import Calibration, Presence, presence_features, tempered
from onebox.calibration.reading import read_calibration
from onebox.errors import ModelError, PictureError
from onebox.images import ImageSource, Pixels, load_pixels, open_image, resize_image
from onebox.manifest import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, PRESENCE_OUTPUT, Manifest
from onebox.predictions import Prediction
from onebox.refine import DETAIL, second_look
from onebox.types import Box, ImageSize

Outputs: TypeAlias = Mapping[str, npt.NDArray[np.float32]]

#: Pictures run through the network at once; more gains nothing on a CPU and costs memory.
BATCH = 16


class Localizer(ABC):
    """Anything that names and boxes the object in a picture. Subclasses give `manifest` and `run`."""

    manifest: Manifest
    #: Whether every picture is looked at twice (`onebox.refine`); None: as the manifest says.
    refine: bool | None = None

    @abstractmethod
    def run(self, pictures: Pixels) -> Outputs:
        """(B, imgsz, imgsz, 3) uint8 -> `logits` (B, C), `boxes_01` (B, 4), `sigmas_01` (B, 4) float32, and where the
        model has it `presence_logits` (B,)."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the probabilities."""
        return self.manifest.class_names

    @property
    def looks_twice(self) -> bool:
        """Whether a second look at the object refines every answer."""
        return self.manifest.refine if self.refine is None else self.refine

    @property
    def calibration(self) -> Calibration | None:
        """What the model can promise; None where it was not calibrated. Raises ModelError where it is damaged."""
        return self._read_calibration()[0]

    @property
    def tells_presence(self) -> bool:
        """Whether answers say if there is an object at all."""
        return self._read_calibration()[1] is not None

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
        prepare = self._prepare
        supply = iter(pictures)
        first = list(itertools.islice(supply, 2))
        if len(first) < 2:  # the usual single picture: no threads
            yield from self._answer([(source, prepare(source)) for source in first])
            return
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            # Decoding runs one batch ahead of the network.
            ahead: list[list[tuple[ImageSource, Future[_Prepared]]]] = []
            for chunk in _chunks(itertools.chain(first, supply), BATCH):
                ahead.append([(source, pool.submit(prepare, source)) for source in chunk])
                if len(ahead) > 1:
                    yield from self._answer([(source, f.result()) for source, f in ahead.pop(0)])
            for batch in ahead:
                yield from self._answer([(source, f.result()) for source, f in batch])

    def answer(
        self, pictures: Sequence[ImageSource], *, max_pixels: int | None = None
    ) -> list[Prediction | PictureError]:
        """Like `stream`, one batch in the calling thread and no other: for callers with threads of their own.
        A picture whose header claims more than `max_pixels` (None: `images.MAX_PIXELS`) gives its PictureError."""
        return list(self._answer([(source, self._prepare(source, max_pixels)) for source in pictures]))

    def outputs(self, pictures: Sequence[ImageSource]) -> tuple[Outputs, list[tuple[ImageSource, PictureError]]]:
        """The raw outputs for one batch, as answers are made of them, and the pictures that cannot be read, which have
        no row there; no outputs at all where none can."""
        prepared = [(source, self._prepare(source)) for source in pictures]
        good = [p for _, p in prepared if not isinstance(p, PictureError)]
        return self._run(good) if good else {}, [(s, p) for s, p in prepared if isinstance(p, PictureError)]

    def _prepare(self, source: ImageSource, max_pixels: int | None = None) -> _Prepared:
        """The picture as the network sees it, its size, and for a second look the picture in more detail."""
        imgsz = self.manifest.imgsz
        try:
            if not self.looks_twice:
                return *load_pixels(source, imgsz, max_pixels=max_pixels), None
            image, size = open_image(source, at_least=DETAIL * imgsz, max_pixels=max_pixels)
            return resize_image(image, imgsz), size, resize_image(image, DETAIL * imgsz)
        except PictureError as error:
            return error

    def _run(self, prepared: Sequence[tuple[Pixels, ImageSize, Pixels | None]]) -> Outputs:
        first = self.run(np.stack([pixels for pixels, _, _ in prepared]))
        details = [detail for _, _, detail in prepared if detail is not None]
        return second_look(self.run, first, details, self.manifest.imgsz) if details else first

    def _answer(self, prepared: Sequence[tuple[ImageSource, _Prepared]]) -> Iterator[Prediction | PictureError]:
        good = [p for _, p in prepared if not isinstance(p, PictureError)]
        outputs = self._run(good) if good else {}
        calibration, telling = self._read_calibration()
        temperature = calibration.temperature if calibration is not None else 1.0
        sizes = [size for _, size, _ in good]
        decoded = iter(decode(outputs, sizes, self.class_names, temperature=temperature)) if good else iter(())
        presences = iter(_presence(outputs, telling) if good and telling is not None else [None] * len(good))
        for source, p in prepared:
            if isinstance(p, PictureError):
                yield p
                continue
            probabilities, box, sigmas = next(decoded)
            presence = next(presences)
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
                presence=presence,
                present=presence >= telling.threshold if presence is not None and telling is not None else None,
                calibration=calibration,
            )

    def _read_calibration(self) -> tuple[Calibration | None, Presence | None]:
        """Both parts of the manifest's calibration, read once per manifest."""
        known: tuple[Manifest, tuple[Calibration | None, Presence | None]] | None = getattr(self, "_known", None)
        if known is None or known[0] is not self.manifest:
            known = (self.manifest, read_calibration(self.manifest.calibration))
            self._known = known
        if self.looks_twice != self.manifest.refine:  # promises hold for answers made as those they were learnt from
            return None, None
        return known[1]


class OnnxLocalizer(Localizer):
    """A `model.onnx` run by ONNX Runtime on the CPU (or `providers`)."""

    def __init__(
        self, path: str | os.PathLike[str], *, providers: Sequence[str] | None = None, threads: int | None = None
    ) -> None:
        """`threads` that share the work of one batch; ONNX Runtime's own choice where None, and with 1 the calling
        thread alone. Raises ModelError where the file is missing, damaged, or not made by onebox."""
        import onnxruntime as ort  # here, so that importing onebox.runtime for its types stays cheap

        self.path = Path(path)
        if not self.path.is_file():
            raise ModelError("no such model file", where=str(self.path))
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
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
        read_calibration(self.manifest.calibration, where=str(self.path))
        present = {o.name for o in self._session.get_outputs()}
        self._outputs = [*OUTPUT_NAMES, *({PRESENCE_OUTPUT} & present)]
        if not set(OUTPUT_NAMES) <= present or INPUT_NAME not in {i.name for i in self._session.get_inputs()}:
            raise ModelError("the graph lacks the inputs or outputs of a onebox model", where=str(self.path))

    def run(self, pictures: Pixels) -> Outputs:
        """See `Localizer.run`."""
        values: Any = self._session.run(self._outputs, {INPUT_NAME: pictures})
        return dict(zip(self._outputs, values, strict=True))

    def __repr__(self) -> str:
        m = self.manifest
        return f"OnnxLocalizer({str(self.path)!r}, {len(m.class_names)} classes, {m.backbone}, {m.imgsz} px)"


def load(
    path: str | os.PathLike[str],
    *,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
    refine: bool | None = None,
) -> OnnxLocalizer:
    """Loads a `model.onnx`, or the one inside a run folder; `threads` as for `OnnxLocalizer`. `refine` looks at every
    picture twice, tighter boxes for twice the time (False: once), whatever the model was made for; what it was not made
    for it gives without promises. Raises ModelError."""
    path = Path(path)
    if path.is_dir():
        inside = path / "model.onnx"
        if not inside.is_file():
            raise ModelError("this folder holds no model.onnx", where=str(path), fix="Has its training finished?")
        path = inside
    model = OnnxLocalizer(path, providers=providers, threads=threads)
    model.refine = refine
    return model


def decode(
    outputs: Outputs, sizes: Sequence[ImageSize], class_names: Sequence[str], *, temperature: float = 1.0
) -> list[tuple[npt.NDArray[np.float64], Box, tuple[float, float, float, float]]]:
    """Network outputs -> for each picture: probabilities (C,), the box clipped to the picture, edge sigmas in pixels.

    `temperature` divides the logits. A box whose edges come out crossed (possible with an fc head) is put in order.
    """
    logits = np.asarray(outputs["logits"], dtype=np.float64)
    if logits.shape[1] != len(class_names):
        raise ModelError(f"the graph gives {logits.shape[1]} classes, the manifest names {len(class_names)}")
    probabilities = softmax(logits) if temperature == 1.0 else tempered(logits, temperature)
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


def _presence(outputs: Outputs, telling: Presence) -> list[float | None]:
    """The probability of an object for each picture; None where the graph lacks a score that it is made of."""
    features = presence_features(outputs["logits"], outputs["sigmas_01"], outputs.get(PRESENCE_OUTPUT))
    return [None if np.isnan(p) else float(p) for p in telling.probability(features)]


_Prepared: TypeAlias = "tuple[Pixels, ImageSize, Pixels | None] | PictureError"


def _is_one_picture(pictures: object) -> bool:
    if isinstance(pictures, np.ndarray):
        return pictures.ndim < 4  # a 4-D array iterates as a batch of pictures
    return isinstance(pictures, (str, os.PathLike, bytes, Image.Image))


def _chunks(items: Iterable[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    supply = iter(items)
    while chunk := list(itertools.islice(supply, size)):
        yield chunk
