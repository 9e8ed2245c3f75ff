"""`onebox serve`: one model behind HTTP, for programs (JSON, the Open Inference Protocol, Prometheus) and for people
(the page at /). Takes a loaded model and settings, gives an ASGI app; opens no file but its own pages, fetches nothing,
remembers no picture.
"""

from __future__ import annotations

import gc
import json
import math
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.types import ASGIApp

from onebox.errors import OneboxError
from onebox.predictions import Prediction
from onebox.runtime import Localizer
from onebox.web import serve_protocol
from onebox.web.assets import mount
from onebox.web.guard import Guard, Policy, allowed_hosts
from onebox.web.problems import Problem, install
from onebox.web.serve_drawing import drawn_jpeg, drawn_png
from onebox.web.serve_engine import Answer, Describe, Engine, busy, spoken
from onebox.web.serve_metrics import CONTENT_TYPE, Measured, Metrics
from onebox.web.serve_schema import (
    QUERY,
    UPLOAD,
    Live,
    ModelAnswer,
    PredictAnswer,
    PredictQuery,
    Ready,
    complete_openapi,
)
from onebox.web.server import Turnstile, whole_answer
from onebox.web.uploads import Upload, read_uploads

_PAGES = {"/": "serve.html", "/api": "api.html"}
_FILES = (
    *("base.css", "icon.svg", "token.js", "serve.css", "serve.js", "canvas.js", "camera.js", "panel.js"),
    *("api.css", "api.js"),
)


@dataclass(frozen=True)
class Settings:
    """How a service runs. `workers` threads share the cores; `waiting` pictures may queue; `pictures` in one request
    at most; `body_limit` in bytes; `pixels` of one picture at most, by its header."""

    name: str
    workers: int
    host: str = "127.0.0.1"
    token: str | None = None
    other_hosts: tuple[str, ...] = ()
    waiting: int = 64
    pictures: int = 64
    body_limit: int = 32 << 20
    pixels: int = 50_000_000


def build_app(model: Localizer, settings: Settings) -> tuple[ASGIApp, Turnstile]:
    """The whole service - measured, guarded, then FastAPI - and what turns work away in front of it."""
    engine = Engine(
        model,
        workers=settings.workers,
        waiting=settings.waiting,
        max_pixels=settings.pixels,
        watch=lambda pictures: metrics.batches.observe(pictures),
    )
    metrics = Metrics(lambda: engine.waiting)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncGenerator[None, None]:
        engine.start()
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not look at it again under load
        yield
        engine.close()

    app = FastAPI(title="onebox serve", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=life)
    install(app)
    _add_health(app, engine, metrics)
    _add_predict(app, engine, metrics, settings)
    serve_protocol.add_routes(app, engine, settings.name, settings.pictures)
    mount(app, _PAGES, _FILES)
    app.openapi = lambda: complete_openapi(app, name=settings.name, secured=settings.token is not None)
    hosts, any_address = allowed_hosts(settings.host, settings.other_hosts)
    policy = Policy(hosts=hosts, any_address=any_address, token=settings.token, body_limit=settings.body_limit)
    routes = frozenset(path for route in app.routes if (path := getattr(route, "path", None)))
    return Measured(Guard(app, policy), metrics, routes), build_turnstile(engine, metrics, settings.name)


def build_turnstile(engine: Engine, metrics: Metrics, name: str) -> Turnstile:
    """Turns work away from the head of its request while the queue is full, before its body is read or copied."""
    working = {}
    for path in ("/v1/predict", f"/v2/models/{name}/infer"):
        working[path.encode()] = (whole_answer(busy(), path), metrics.requests.labels(path, "503"))

    def turnstile(method: bytes, url: bytes) -> bytes | None:
        found = working.get(url.partition(b"?")[0])
        if found is None or method != b"POST" or engine.expect():
            return None
        answer, counter = found
        counter.inc()
        return answer

    return turnstile


def _add_health(app: FastAPI, engine: Engine, metrics: Metrics) -> None:
    @app.get("/health/live", response_model=Live, tags=["health"], summary="Whether the process answers")
    async def live() -> Response:
        return answer_json({"live": True})

    @app.get(
        "/health/ready", response_model=Ready, tags=["health"], summary="Whether pictures sent now will be answered",
        responses={503: {"model": Ready, "description": "not now"}},
    )  # fmt: skip
    async def ready() -> Response:
        return answer_json({"ready": engine.alive}, status=200 if engine.alive else 503)

    @app.get(
        "/metrics", tags=["health"], summary="Figures for Prometheus", response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "text format"}},
    )  # fmt: skip
    async def figures() -> Response:
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    del live, ready, figures  # they live on in the app


def _add_predict(app: FastAPI, engine: Engine, metrics: Metrics, settings: Settings) -> None:
    manifest = _finite(asdict(engine.model.manifest))
    limits = {"request_bytes": settings.body_limit, "pictures": settings.pictures, "pixels": settings.pixels}
    facts = {**manifest, "name": settings.name, "limits": limits}

    @app.get("/v1/model", response_model=ModelAnswer, tags=["model"], summary="What the model says of itself")
    async def about() -> Response:
        return answer_json(facts)

    @app.post(
        "/v1/predict", tags=["model"], summary="Name and box the object in each picture",
        openapi_extra={"requestBody": UPLOAD, "parameters": QUERY}, response_class=Response,
        responses={200: {"model": PredictAnswer, "description": "one entry per picture; with Accept: image/png and "
                         "one picture, the picture with its box", "content": {"image/png": {"schema": {
                             "type": "string", "format": "binary"}}}}},
    )  # fmt: skip
    async def predict(request: Request) -> Response:
        asked = _read_query(request)
        if asked.coverage is not None and engine.model.calibration is None:
            raise Problem(422, "this model is not calibrated, so it cannot promise a coverage", "Ask without coverage.")
        uploads = await read_uploads(request, settings.pictures)
        as_png = _wants_png(request)
        if as_png and len(uploads) > 1:
            raise Problem(406, "one PNG cannot show several pictures", "Send one, or ask for JSON with draw=1.")
        describe: Describe = (lambda p: drawn_png(p, asked.coverage)) if as_png else _describer(asked)
        answers = await engine.answer([upload.content for upload in uploads], describe)
        bad = sum(isinstance(answer, OneboxError) for answer in answers)
        metrics.good.inc(len(answers) - bad)
        metrics.bad.inc(bad)
        if as_png and not bad:
            return Response(answers[0], media_type="image/png")
        return _predict_answer(uploads, answers)

    del about, predict


def _read_query(request: Request) -> PredictQuery:
    """By hand, for FastAPI's way takes several times as long, on the one thread that all requests share. Raises Problem
    for unknown, repeated or impossible parameters."""
    pairs = request.query_params.multi_items()
    if not pairs:
        return PredictQuery()
    try:
        if len(dict(pairs)) < len(pairs):
            raise Problem(422, "a parameter comes twice")
        return PredictQuery.model_validate(dict(pairs))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise Problem(422, f"parameter {name[:80]!r}: {first['msg']}", "See /api for what there is.") from None


def _describer(asked: PredictQuery) -> Describe:
    """What is said of one picture; runs in a worker."""

    def describe(prediction: Prediction) -> dict[str, Any]:
        told = prediction.to_dict(asked.coverage)
        told.pop("path", None)
        if prediction.presence is not None:
            told |= {"presence": round(prediction.presence, 6), "present": prediction.present}
        if asked.draw:
            told["drawn"] = drawn_jpeg(prediction, asked.coverage)
        return told

    return describe


def _predict_answer(uploads: list[Upload], answers: list[Answer]) -> Response:
    """200 where anything could be read, else 422."""
    entries: list[dict[str, Any]] = []
    for upload, answer in zip(uploads, answers, strict=True):
        if isinstance(answer, OneboxError):
            entries.append({"file": upload.name, "error": spoken(answer)})
        else:
            entries.append({"file": upload.name, **answer})
    if any("error" not in entry for entry in entries):
        return answer_json({"predictions": entries})
    first = entries[0]["error"]
    name = uploads[0].name or "the picture"
    what = f"{name}: {first['what']}" if len(entries) == 1 else f"none of the {len(entries)} pictures can be used"
    return answer_json({"error": {"what": what, "fix": first["fix"]}, "predictions": entries}, status=422)


def answer_json(value: object, status: int = 200) -> Response:
    """JSON in ASCII: file names may hold halves of surrogate pairs, which have no UTF-8."""
    return Response(json.dumps(value, allow_nan=False), status_code=status, media_type="application/json")


def served_name(path: str) -> str:
    """A model's name for /v2 addresses: its file's, or its folder's where the file is called model."""
    parts = [re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-.") for part in re.split(r"[/\\]", path)]
    last = re.sub(r"\.onnx$", "", parts[-1])
    folder = parts[-2] if len(parts) > 1 else ""
    return (folder if last == "model" and folder else last) or "model"


def _wants_png(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return "image/png" in accepted and "json" not in accepted and "*/*" not in accepted


def _finite(value: Any) -> Any:
    """JSON has no NaN; a manifest may."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in cast("dict[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in cast("list[object]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
