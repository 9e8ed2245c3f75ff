"""The Open Inference Protocol, version 2, over REST (github.com/kserve/open-inference-protocol): so that clients and
probes written for it work. Takes pictures as BYTES (files in base64) or UINT8 (pixels), gives label, score,
probabilities, box and edge sigmas as tensors. No binary extension, no model versions.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import Response

from onebox._version import __version__
from onebox.errors import OneboxError
from onebox.images import ImageSource
from onebox.predictions import Prediction
from onebox.web.problems import Problem
from onebox.web.serve_engine import Engine, spoken
from onebox.web.serve_schema import INFER, InferAnswer, Live, ModelFacts, ModelReady, ServerAnswer, ServerReady

INPUT = "pictures"
_TAGS = ("open inference protocol",)
#: Characters of JSON that pixels may take: reading them holds up the other requests. Files in base64 are not read so.
PIXELS_LIMIT = 4 << 20


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Infer(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    outputs: list[_Output] = []
    parameters: dict[str, Any] = {}


def add_routes(app: FastAPI, engine: Engine, name: str, most: int) -> None:
    """Adds /v2 for the one model called `name`, of which a request may ask `most` pictures."""

    def check_name(given: str) -> None:
        if given != name:
            raise Problem(404, "there is no model of this name", f"The model served here is {name}.")

    _add_facts(app, engine, name, check_name)

    @app.post(
        "/v2/models/{model_name}/infer", tags=[*_TAGS], summary="Name and box the object in pictures",
        response_class=Response, responses={200: {"model": InferAnswer}}, openapi_extra={"requestBody": INFER},
    )  # fmt: skip
    async def infer(model_name: str, request: Request) -> Response:
        check_name(model_name)
        if "inference-header-content-length" in request.headers:
            raise Problem(415, "tensors in binary are not taken here", "Send them inside the JSON.")
        asked = _read(await request.body())
        pictures = _pictures(asked, most)
        wanted = _wanted(asked, engine)
        predictions: list[Prediction] = []
        for i, answer in enumerate(await engine.answer(pictures, lambda prediction: prediction)):
            if isinstance(answer, OneboxError):
                told = spoken(answer)
                raise Problem(422, f"picture {i}: {told['what']}", told["fix"])
            predictions.append(answer)
        outputs = _tensors(predictions, wanted)
        content: dict[str, Any] = {"model_name": name, "outputs": outputs}
        if asked.id is not None:
            content["id"] = asked.id
        return Response(msgspec.json.encode(content), media_type="application/json")

    del infer


def _add_facts(app: FastAPI, engine: Engine, name: str, check_name: Any) -> None:
    @app.get("/v2", response_model=ServerAnswer, tags=[*_TAGS], summary="What this server is")
    async def server() -> dict[str, Any]:
        return {"name": "onebox", "version": __version__, "extensions": []}

    @app.get("/v2/health/live", response_model=Live, tags=[*_TAGS], summary="Whether the process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", response_model=ServerReady, tags=[*_TAGS], summary="Whether all models are ready")
    async def ready() -> Response:
        content = msgspec.json.encode({"live": True, "ready": engine.alive})
        return Response(content, 200 if engine.alive else 503, media_type="application/json")

    @app.get(
        "/v2/models/{model_name}", response_model=ModelFacts, tags=[*_TAGS], summary="What the model takes and gives"
    )
    async def model(model_name: str) -> dict[str, Any]:
        check_name(model_name)
        return {"name": name, "platform": "onnx_onnxv1", "inputs": _INPUTS, "outputs": _outputs(engine)}

    @app.get("/v2/models/{model_name}/ready", response_model=ModelReady, tags=[*_TAGS], summary="Whether it is ready")
    async def model_ready(model_name: str) -> Response:
        check_name(model_name)
        content = msgspec.json.encode({"name": name, "ready": engine.alive})
        return Response(content, 200 if engine.alive else 503, media_type="application/json")

    del server, live, ready, model, model_ready


_INPUTS = [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}]


def _outputs(engine: Engine) -> list[dict[str, Any]]:
    manifest = engine.model.manifest
    facts = [
        ("label", "BYTES", [-1]),
        ("score", "FP64", [-1]),
        ("probabilities", "FP64", [-1, len(manifest.class_names)]),
        ("box", "FP64", [-1, 4]),
    ]
    if manifest.box_head == "edges":  # an fc head knows no sigmas, and JSON no NaN
        facts.append(("edge_sigmas", "FP64", [-1, 4]))
    return [{"name": n, "datatype": t, "shape": s} for n, t, s in facts]


def _read(body: bytes) -> _Infer:
    try:
        return msgspec.json.decode(body, type=_Infer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(422, f"not an inference request: {error}", "See /api for its shape.") from None


def _wanted(asked: _Infer, engine: Engine) -> list[dict[str, Any]]:
    """Raises Problem for a tensor that the model does not give."""
    known = {tensor["name"]: tensor for tensor in _outputs(engine)}
    for output in asked.outputs:
        if output.name not in known:
            raise Problem(422, f"there is no output {output.name[:80]!r}", f"There are: {', '.join(known)}.")
    return [known[output.name] for output in asked.outputs] or list(known.values())


def _pictures(asked: _Infer, most: int) -> list[ImageSource]:
    """Raises Problem for anything but one tensor of pictures."""
    if len(asked.inputs) != 1 or asked.inputs[0].name != INPUT:
        raise Problem(422, f"one input is wanted, called {INPUT!r}")
    tensor = asked.inputs[0]
    if any(side < 1 for side in tensor.shape):
        raise Problem(422, f"shape {tensor.shape} has a side below 1")
    if tensor.datatype == "BYTES":
        pictures: list[ImageSource] = list(_files(tensor))
    elif tensor.datatype == "UINT8":
        pictures = list(_arrays(tensor))
    else:
        raise Problem(422, f"datatype {tensor.datatype[:20]!r} is not taken", "Use BYTES or UINT8.")
    if len(pictures) > most:
        raise Problem(422, f"more than {most} pictures in one request", "Send them in several requests.")
    return pictures


def _files(tensor: _Input) -> list[bytes]:
    texts = _decode(tensor.data, list[str | list[str]])
    flat = [text for row in texts for text in ([row] if isinstance(row, str) else row)]
    if math.prod(tensor.shape) != len(flat) or len(tensor.shape) > 2 or (tensor.shape[1:] or [1]) != [1]:
        raise Problem(422, f"shape {tensor.shape} does not fit {len(flat)} pictures", "A BYTES tensor is [N].")
    try:
        return [base64.b64decode(text, validate=True) for text in flat]
    except (binascii.Error, ValueError):
        raise Problem(422, "a BYTES element is not base64", "Encode the picture file in base64.") from None


def _arrays(tensor: _Input) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    if len(bytes(tensor.data)) > PIXELS_LIMIT:
        raise Problem(413, f"more than {PIXELS_LIMIT >> 20} MiB of pixels as JSON", "Send files, as BYTES in base64.")
    shape = tensor.shape if len(tensor.shape) == 4 else [1, *tensor.shape]
    if len(shape) != 4 or shape[3] != 3:
        raise Problem(422, f"shape {tensor.shape} is not that of RGB pictures", "Use [N, height, width, 3].")
    try:
        values = np.array(_decode(tensor.data, list[Any]))
    except ValueError:  # rows of unequal length
        raise Problem(422, "data is not a full block of numbers") from None
    if values.size != math.prod(shape):
        raise Problem(422, f"shape {tensor.shape} does not fit {values.size} values")
    if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() > 255:
        raise Problem(422, "UINT8 values are whole numbers from 0 to 255")
    return list(values.astype(np.uint8).reshape(shape))


def _decode(raw: msgspec.Raw, kind: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(422, f"data: {error}") from None


def _tensors(answers: Sequence[Prediction], wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    values: dict[str, list[Any]] = {
        "label": [p.label for p in answers],
        "score": [p.score for p in answers],
        "probabilities": [float(v) for p in answers for v in p.probabilities],
        "box": [v for p in answers for v in p.box.xyxy],
        "edge_sigmas": [v for p in answers for v in p.edge_sigmas],
    }
    return [{**t, "shape": [len(answers), *t["shape"][1:]], "data": values[t["name"]]} for t in wanted]
