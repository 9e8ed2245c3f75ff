"""`onebox serve` as a program meets it: the real command, a real model, pictures over HTTP."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

import onebox
from onebox.errors import CalibrationError
from tests.serving import bomb, files, keeps_to_itself, picture, says_problem
from tests.small_runs import shell
from tests.web_process import running


@pytest.fixture(scope="module")
def client(tiny_run: Path) -> Iterator[httpx.Client]:
    with running("serve", tiny_run) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def test_an_answer_is_the_one_of_the_model(client: httpx.Client, tiny_run: Path) -> None:
    content = picture(3)
    answer = client.post("/v1/predict", files=files(("robin.png", content)))
    assert answer.status_code == 200
    [prediction] = onebox.load(tiny_run).predict(content)
    expected = prediction.to_dict()
    del expected["path"]
    if prediction.presence is not None:
        expected |= {"presence": pytest.approx(prediction.presence, abs=1e-4), "present": prediction.present}
    [given] = answer.json()["predictions"]
    assert given.pop("file") == "robin.png"
    assert given.keys() == expected.keys()
    assert (given["label"], given["image_size"]) == (expected["label"], [64, 48])
    # the batch is run with another number of threads, which may change the last digits
    assert given["box"] == pytest.approx(expected["box"], abs=0.01)
    assert given["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert given.get("presence") == expected.get("presence")


def test_a_coverage_is_promised_as_the_model_does_it_or_refused(client: httpx.Client, tiny_run: Path) -> None:
    content = picture(3)
    answer = client.post("/v1/predict?coverage=.5", files=files(("robin.png", content)))
    [prediction] = onebox.load(tiny_run).predict(content)
    try:
        expected = prediction.to_dict(0.5)
    except CalibrationError:
        assert answer.status_code == 422
        assert "calibrat" in answer.text
        return
    [given] = answer.json()["predictions"]
    assert given["outer_box"] == pytest.approx(expected["outer_box"], abs=0.05)
    assert (given["class_set"], given["coverage"]) == (expected["class_set"], 0.5)


def test_many_pictures_are_answered_in_their_order_and_a_bad_one_leaves_its_neighbours_alone(
    client: httpx.Client,
) -> None:
    sent = [(f"{i}.png", picture(i, (40 + i, 50))) for i in range(9)]
    sent[4] = ("notes.txt", b"no picture at all")
    answer = client.post("/v1/predict", files=files(*sent))
    assert answer.status_code == 200
    told = answer.json()["predictions"]
    assert [entry["file"] for entry in told] == [name for name, _ in sent]
    assert [entry.get("image_size") for entry in told] == [[40 + i, 50] if i != 4 else None for i in range(9)]
    assert "not a picture" in told[4]["error"]["what"]
    assert "JPEG" in told[4]["error"]["fix"]
    keeps_to_itself(answer.text)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.txt", b"no picture at all", "notes.txt: cannot read this picture"),
        ("empty.jpg", b"", "empty.jpg: empty: 0 bytes"),
        ("half.png", picture(1)[:1500], "half.png: cannot read this picture"),
        ("large.png", bomb(8_000), "8000x8000 pixels is more than the 50,000,000 allowed"),
        ("bomb.png", bomb(40_000), "more pixels than are allowed"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "drawing.svg: cannot read"),
        ("\u202e<script>.png", b"x", "\u202e<script>.png: cannot read"),
    ],
)
def test_what_is_no_picture_is_named_as_it_was_given(
    client: httpx.Client, name: str, content: bytes, words: str
) -> None:
    answer = client.post("/v1/predict", files=files((name, content)))
    says_problem(answer, 422, words)
    assert answer.json()["predictions"][0]["file"] == name


def test_where_no_picture_of_several_can_be_read_each_has_its_reason(client: httpx.Client) -> None:
    answer = client.post("/v1/predict", files=files(("a", b"x"), ("b", b"")))
    says_problem(answer, 422, "none of the 2 pictures can be used")
    assert ["empty" in entry["error"]["what"] for entry in answer.json()["predictions"]] == [False, True]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_common_kinds_of_files_are_read(client: httpx.Client, kind: str) -> None:
    answer = client.post("/v1/predict", files=files(("a", picture(0, kind=kind))))
    assert answer.json()["predictions"][0]["image_size"] == [64, 48]


def test_the_orientation_of_a_phone_s_picture_counts(client: httpx.Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    answer = client.post("/v1/predict", files=files(("a.jpg", picture(0, (80, 40), "JPEG", exif=exif))))
    assert answer.json()["predictions"][0]["image_size"] == [40, 80]


def test_drawn_pictures_come_inside_the_json_or_as_png(client: httpx.Client) -> None:
    big = picture(2, (2400, 1200), "JPEG")
    [entry] = client.post("/v1/predict?draw=1", files=files(("a.jpg", big))).json()["predictions"]
    start, _, data = entry["drawn"].partition(",")
    drawn = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (start, drawn.size) == ("data:image/jpeg;base64", (1024, 512))
    assert entry["image_size"] == [2400, 1200]
    left, top, right, bottom = (round(v * 1024 / 2400) for v in entry["box"])
    ring = [drawn.getpixel((x, (top + bottom) // 2)) for x in range(max(0, left - 4), min(1023, left + 5))]
    assert any(r > 200 and 120 < g < 190 and b < 90 for r, g, b in ring), "the frame is where the box is"
    assert right > left

    answer = client.post("/v1/predict", files=files(("a.jpg", big)), headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (1024, 512)
    two = files(("a.jpg", big), ("b.jpg", big))
    says_problem(client.post("/v1/predict", files=two, headers={"Accept": "image/png"}), 406, "one PNG cannot show")
    bad = client.post("/v1/predict", files=files(("a", b"x")), headers={"Accept": "image/png"})
    says_problem(bad, 422, "a: cannot read this picture")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("converage=.9", "'converage': Extra inputs"),
        ("coverage=2", "'coverage': Input should be less than 1"),
        ("coverage=nan", "'coverage'"),
        ("coverage=", "'coverage'"),
        ("draw=perhaps", "'draw'"),
        ("draw=1&draw=0", "a parameter comes twice"),
    ],
)
def test_parameters_that_are_wrong_are_named(client: httpx.Client, query: str, words: str) -> None:
    says_problem(client.post(f"/v1/predict?{query}", files=files(("a", picture()))), 422, words)


def test_a_form_that_is_wrong_is_explained(client: httpx.Client) -> None:
    says_problem(client.post("/v1/predict", content=picture()), 415, "curl: -F file=@picture.jpg")
    says_problem(client.post("/v1/predict", data={"file": "http://example.org/x.jpg"}), 415, "multipart/form-data")
    url = [("file", (None, b"http://169.254.169.254/"))]
    says_problem(client.post("/v1/predict", files=url), 422, "addresses are not fetched")
    says_problem(client.post("/v1/predict", files=[("image", ("a", b"x"))]), 422, "unknown field 'image'")
    many = files(*((str(i), b"x") for i in range(65)))
    says_problem(client.post("/v1/predict", files=many), 422, "more than 64 files")
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    says_problem(client.post("/v1/predict", content=b"--x--\r\n", headers=kind), 422, "no picture in the request")
    says_problem(client.post("/v1/predict", content=b"--y\r\n\r\n", headers=kind), 400, "the form is broken")
    none = {"Content-Type": "multipart/form-data"}
    says_problem(client.post("/v1/predict", content=b"", headers=none), 400, "boundary")


def test_the_model_tells_its_manifest_and_the_limits(client: httpx.Client, tiny_run: Path) -> None:
    told = client.get("/v1/model").json()
    manifest = json.loads(onebox.load(tiny_run).manifest.to_json())
    assert {key: told[key] for key in manifest} == manifest
    assert told["name"] == tiny_run.name
    assert told["limits"] == {"request_bytes": 32 << 20, "pictures": 64, "pixels": 50_000_000}
    assert str(tiny_run.parent) not in json.dumps(told)


def test_health_and_figures(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"live": True}
    assert client.get("/health/ready").json() == {"ready": True}
    before = _figures(client)
    client.post("/v1/predict", files=files(("a", picture()), ("b", b"x")))
    client.get("/no/such/address/4711")
    after = _figures(client)

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown('onebox_requests_total{route="/v1/predict",status="200"}') == 1
    assert grown('onebox_pictures_total{outcome="answered"}') == 1
    assert grown('onebox_pictures_total{outcome="unreadable"}') == 1
    assert grown('onebox_requests_total{route="other",status="404"}') == 1, "addresses of clients make no new series"
    assert after["onebox_waiting_pictures"] == 0
    assert after["process_resident_memory_bytes"] > 1e7


def _figures(client: httpx.Client) -> dict[str, float]:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    pairs = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def test_unknown_addresses_and_methods_are_problems_too(client: httpx.Client) -> None:
    says_problem(client.get("/nothing"), 404, "nothing at this address")
    says_problem(client.get("/static/../serve.py"), 404, "nothing")
    says_problem(client.get("/static/%2e%2e/serve.py"), 404, "nothing")
    answer = client.get("/v1/predict")
    says_problem(answer, 405, "does not take this method")
    assert answer.headers["allow"] == "POST"


def test_the_pages_load_nothing_from_elsewhere_and_run_no_inline_script(client: httpx.Client) -> None:
    for address in ("/", "/api"):
        page = client.get(address)
        policy = page.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|javascript:|https?://", page.text)
        for source in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
            file = client.get(source)
            assert file.status_code == 200, source
            again = client.get(source, headers={"If-None-Match": file.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")


def test_every_file_of_the_pages_is_served(client: httpx.Client) -> None:
    for module in ("serve.js", "api.js"):
        todo, seen = [module], set()
        while todo:
            name = todo.pop()
            seen.add(name)
            answer = client.get(f"/static/{name}")
            assert answer.headers["content-type"] == "text/javascript; charset=utf-8", name
            todo += [m for m in re.findall(r'from "\./([\w-]+\.js)"', answer.text) if m not in seen]
        assert len(seen) > 1


def test_what_cannot_be_served_is_one_line(tiny_run: Path, tmp_path: Path) -> None:
    shell("serve", tmp_path / "nothing").says("no such model file")
    with running("serve", tiny_run) as server:
        shell("serve", tiny_run, "--port", str(server.port)).says(f"port {server.port} is taken.*--port")
    shell("serve", tiny_run, "--host", "no.such.name.invalid", "--token-file", _token(tmp_path)).says("--host no.such")


def _token(folder: Path) -> Path:
    path = folder / "token"
    path.write_text("0123456789abcdef0123\n")
    return path
