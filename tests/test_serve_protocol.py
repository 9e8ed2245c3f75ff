"""The Open Inference Protocol of `onebox serve`: what its published specification says a client may expect."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import onebox
from tests.serving import bomb, picture, says_problem
from tests.web_process import running


@pytest.fixture(scope="module")
def client(tiny_run: Path) -> Iterator[httpx.Client]:
    with running("serve", tiny_run) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def tensor(data: Any, kind: str, *shape: int) -> dict[str, Any]:
    return {"inputs": [{"name": "pictures", "datatype": kind, "shape": list(shape), "data": data}]}


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_the_server_and_its_model_describe_themselves(client: httpx.Client) -> None:
    assert client.get("/v2").json() == {"name": "onebox", "version": onebox.__version__, "extensions": []}
    facts = client.get("/v2/models/run").json()
    assert (facts["name"], facts["platform"]) == ("run", "onnx_onnxv1")
    assert facts["inputs"] == [{"name": "pictures", "datatype": "BYTES", "shape": [-1]}]
    assert {t["name"]: t["shape"] for t in facts["outputs"]} == {
        "label": [-1], "score": [-1], "probabilities": [-1, 2], "box": [-1, 4], "edge_sigmas": [-1, 4],
    }  # fmt: skip


def test_the_probes_of_the_protocol(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    assert client.get("/v2/models/run/ready").json() == {"name": "run", "ready": True}


def test_files_as_bytes_are_answered_like_predict(client: httpx.Client, tiny_run: Path) -> None:
    contents = [picture(i, (50 + i, 40), "JPEG") for i in range(3)]
    request = {"id": "42", **tensor([base64_of(c) for c in contents], "BYTES", 3)}
    answer = client.post("/v2/models/run/infer", json=request)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["model_name"], told["id"]) == ("run", "42")
    outputs = {output["name"]: output for output in told["outputs"]}
    expected = onebox.load(tiny_run).predict(contents)
    assert outputs["label"]["data"] == [p.label for p in expected]
    assert (outputs["box"]["shape"], outputs["box"]["datatype"]) == ([3, 4], "FP64")
    assert outputs["box"]["data"] == pytest.approx([v for p in expected for v in p.box.xyxy], abs=0.01)
    assert outputs["probabilities"]["shape"] == [3, 2]
    assert np.reshape(outputs["probabilities"]["data"], (3, 2)).sum(axis=1) == pytest.approx([1, 1, 1])


def test_pixels_come_flat_or_in_rows_and_outputs_can_be_chosen(client: httpx.Client, tiny_run: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    [expected] = onebox.load(tiny_run).predict(pixels)
    asked = {"outputs": [{"name": "box"}]}
    shapes = [(pixels.ravel(), (1, 20, 30, 3)), (pixels, (20, 30, 3)), (pixels[None], (1, 20, 30, 3))]
    for data, shape in shapes:
        answer = client.post("/v2/models/run/infer", json={**tensor(data.tolist(), "UINT8", *shape), **asked})
        assert answer.status_code == 200, answer.text
        [output] = answer.json()["outputs"]
        assert (output["name"], output["shape"]) == ("box", [1, 4])
        assert output["data"] == pytest.approx(expected.box.xyxy, abs=0.01)


GOOD = base64_of(picture())


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "not an inference request"),
        ({"inputs": []}, "one input is wanted"),
        (tensor([GOOD], "BYTES", 2), "shape [2] does not fit 1 pictures"),
        (tensor([GOOD], "BYTES", -1), "side below 1"),
        (tensor([GOOD], "FP32", 1), "datatype 'FP32' is not taken"),
        (tensor(["not base64!"], "BYTES", 1), "not base64"),
        (tensor(["ä"], "BYTES", 1), "not base64"),
        (tensor([None], "BYTES", 1), "data: Expected"),
        (tensor([base64_of(b"x")], "BYTES", 1), "picture 0: cannot read this picture"),
        (tensor([GOOD, base64_of(bomb())], "BYTES", 2), "picture 1: 8000x8000 pixels"),
        (tensor([GOOD] * 65, "BYTES", 65), "more than 64 pictures"),
        (tensor([1, 2, 3], "UINT8", 1, 1, 4), "not that of RGB pictures"),
        (tensor([1, 2], "UINT8", 1, 1, 3), "does not fit 2 values"),
        (tensor([1, 2, 300], "UINT8", 1, 1, 3), "from 0 to 255"),
        (tensor([1, 2, 10**30], "UINT8", 1, 1, 3), "from 0 to 255"),
        (tensor([1, 2.5, 3], "UINT8", 1, 1, 3), "from 0 to 255"),
        (tensor([[1], [2, 3]], "UINT8", 1, 1, 3), "not a full block"),
        (tensor(["a", "b", "c"], "UINT8", 1, 1, 3), "from 0 to 255"),
        ({**tensor([GOOD], "BYTES", 1), "outputs": [{"name": "masks"}]}, "no output 'masks'"),
    ],
)
def test_what_is_no_inference_request_is_explained(client: httpx.Client, request_: dict[str, Any], words: str) -> None:
    says_problem(client.post("/v2/models/run/infer", json=request_), 422, words)


def test_errors_are_one_string_as_the_protocol_wants(client: httpx.Client) -> None:
    answer = client.get("/v2/models/other")
    says_problem(answer, 404, "no model of this name. The model served here is run.")
    assert isinstance(answer.json()["error"], str)
    says_problem(client.post("/v2/models/run/infer", content=b"[" * 100_000), 422, "not an inference request")
    binary = {"Inference-Header-Content-Length": "10"}
    says_problem(client.post("/v2/models/run/infer", content=b"{}", headers=binary), 415, "in binary")
    pixels = "[" + "1," * (3 << 20) + "1]"
    body = '{"inputs":[{"name":"pictures","datatype":"UINT8","shape":[1,1,3],"data":' + pixels + "}]}"
    says_problem(client.post("/v2/models/run/infer", content=body), 413, "4 MiB of pixels as JSON")
