"""The shapes of requests and answers, for the OpenAPI file, and that file's completion: what FastAPI cannot know of the
guard in front of it. Describes only; nothing here checks an answer while serving.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field

from onebox._version import __version__


class PredictQuery(BaseModel):
    """What can be asked of a prediction besides the label and the box."""

    model_config = ConfigDict(extra="forbid")

    coverage: Annotated[
        float | None,
        Field(gt=0, lt=1, allow_inf_nan=False, description="also the box and the set of classes that hold the truth "
              "in this share of pictures; for calibrated models"),
    ] = None  # fmt: skip
    draw: Annotated[bool, Field(description="also the picture with its box drawn, as a JPEG data address")] = False


class Fault(BaseModel):
    """What happened, and what to do."""

    what: str
    fix: str


class PictureAnswer(BaseModel):
    """One picture's label and box. Models with calibration or a presence head add their own fields."""

    model_config = ConfigDict(extra="allow")

    file: Annotated[str, Field(description="the name the file was sent under")]
    label: str
    score: Annotated[float, Field(ge=0, le=1)]
    box: Annotated[
        list[float],
        Field(min_length=4, max_length=4, description="x_min, y_min, x_max, y_max in pixels of the upright picture"),
    ]
    probabilities: dict[str, float]
    edge_sigmas: Annotated[
        list[float | None],
        Field(min_length=4, max_length=4, description="the model's standard deviation of each edge, in pixels"),
    ]
    image_size: Annotated[list[int], Field(min_length=2, max_length=2, description="width, height")]
    drawn: Annotated[str | None, Field(description="a data: address, with draw=1")] = None


class PictureFault(BaseModel):
    """A picture that could not be read."""

    model_config = ConfigDict(extra="forbid")

    file: str
    error: Fault


class PredictAnswer(BaseModel):
    """One entry per file, in the order sent."""

    predictions: list[PictureAnswer | PictureFault]


class ProblemAnswer(BaseModel):
    """Why a request was not answered. Where not one picture could be read, `predictions` says why for each."""

    error: Fault
    predictions: list[PictureFault] | None = None


class Limits(BaseModel):
    """What one request may hold."""

    request_bytes: int
    pictures: int
    pixels: int


class ModelAnswer(BaseModel):
    """The manifest that the model file carries, and what this service adds to it."""

    model_config = ConfigDict(extra="allow")

    name: str
    class_names: list[str]
    imgsz: int
    backbone: str
    calibration: dict[str, Any]
    limits: Limits


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    ready: bool


class ProtocolProblem(BaseModel):
    """The Open Inference Protocol's form of an error."""

    error: str


class ServerAnswer(BaseModel):
    name: str
    version: str
    extensions: list[str]


class TensorFacts(BaseModel):
    name: str
    datatype: str
    shape: list[int]


class ModelFacts(BaseModel):
    name: str
    platform: str
    inputs: list[TensorFacts]
    outputs: list[TensorFacts]


class ModelReady(BaseModel):
    name: str
    ready: bool


class ServerReady(BaseModel):
    live: bool
    ready: bool


class OutputTensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class InferAnswer(BaseModel):
    model_name: str
    id: str | None = None
    outputs: list[OutputTensor]


#: The parameters of /v1/predict.
QUERY = [
    {
        "name": name,
        "in": "query",
        "required": False,
        "description": PredictQuery.model_fields[name].description,
        "schema": schema,
    }
    for name, schema in (
        ("coverage", {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
        ("draw", {"type": "boolean", "default": False}),
    )
]
#: The body of /v1/predict.
UPLOAD = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "additionalProperties": False,
                "properties": {
                    "file": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "format": "binary"},
                        "description": "one or more pictures; the field is repeated for each",
                    }
                },
            }
        }
    },
}

_INPUT = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"const": "pictures", "type": "string"},
        "datatype": {"enum": ["BYTES", "UINT8"], "type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 4},
        "parameters": {"type": "object"},
        "data": {"type": "array", "minItems": 1},
    },
}
#: The body of /v2/models/NAME/infer.
INFER = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "id": {"type": "string"},
                    "parameters": {"type": "object"},
                    "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": _INPUT},
                    "outputs": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["name"],
                            "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
                        },
                    },
                },
            }
        }
    },
}

_EVERYWHERE = {
    "400": "malformed request",
    "401": "token missing or wrong",
    "403": "asked by a page of another site",
    "404": "no such address or model",
    "405": "not by this method",
    "408": "took too long to arrive",
    "413": "too large",
    "415": "not a kind of request that is taken here",
    "421": "called by an unknown name",
    "422": "understood, but not possible",
    "500": "a mistake of the server's own",
    "503": "busy or stopping; Retry-After says when to come back",
}


def complete_openapi(app: FastAPI, *, name: str, secured: bool) -> dict[str, Any]:
    """The OpenAPI file: FastAPI's, with the model's name, the problems of every address, and the token where
    one is needed."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title="onebox serve",
        version=__version__,
        description="One picture, one object: what it is and where it is.",
        routes=app.routes,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for shape in (ProblemAnswer, ProtocolProblem):
        schema = shape.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[shape.__name__] = schema
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    if secured:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    for path, operations in document["paths"].items():
        shape = ProtocolProblem if path.startswith("/v2") else ProblemAnswer
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape.__name__}"}}}
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "model_name":
                    parameter["schema"] = {"type": "string", "enum": [name]}
            own = {status: answer for status, answer in operation["responses"].items() if status < "4"}
            problems = {status: {"description": text, "content": content} for status, text in _EVERYWHERE.items()}
            kept = {s: a for s, a in operation["responses"].items() if s == "503" and "/ready" in path}
            operation["responses"] = {**own, **problems, **kept}
    app.openapi_schema = document
    return document
