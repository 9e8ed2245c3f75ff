"""Who may ask `onebox serve`, and with what: tokens, names, origins, limits, and requests that are none. Real
processes; raw sockets where a client library would put things right."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.hostile_clients import malformed, send_malformed
from benchmarks.serve import ROUTES
from tests.serving import TOKEN, files, picture, says_problem
from tests.small_runs import ROOT, shell
from tests.web_process import Server, running

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def guarded(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a token, small limits, and another name."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    words = ["--token-file", token, "--allow-host", "vision.example", "--max-mib", "1", "--max-megapixels", "1"]
    with running("serve", tiny_run, *words) as server:
        yield server


@pytest.fixture
def client(guarded: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, timeout=30) as client:
        yield client


def raw(server: Server, request: bytes, *, wait: float = 10) -> bytes:
    """What comes back for these bytes, to the end of the connection or of the waiting."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait) as connection:
        connection.sendall(request)
        got = b""
        try:
            while part := connection.recv(65536):
                got += part
        except (TimeoutError, ConnectionResetError):
            pass
        return got


def test_every_route_of_the_openapi_file_wants_the_token(client: httpx.Client) -> None:
    says_problem(client.get("/openapi.json"), 401, "a token is needed here")
    file = client.get("/openapi.json", headers=AUTHORIZED).json()
    asked = [(verb, path) for path, verbs in file["paths"].items() for verb in verbs]
    assert len(asked) == 11
    for verb, path in asked:
        address = path.replace("{model_name}", "run")
        for headers, words in (
            ({}, "a token is needed here"),
            ({"Authorization": f"Bearer {TOKEN}x"}, "not the right one"),
            ({"Authorization": f"Bearer {TOKEN[:-1]}"}, "not the right one"),
            ({"Authorization": f"Basic {TOKEN}"}, "not the right one"),
            ({"Authorization": "Bearer"}, "a token is needed here"),
        ):
            answer = client.request(verb, address, headers=headers)
            says_problem(answer, 401, words)
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.request(verb, address, headers=AUTHORIZED).status_code != 401, address
        assert "401" in file["paths"][path][verb]["responses"]


def test_the_pages_open_without_the_token_for_they_ask_for_it(client: httpx.Client) -> None:
    for address in ("/", "/api", "/static/serve.js", "/static/base.css"):
        assert client.get(address).status_code == 200
    for address in ("/nothing", "/static", "/api/", "/%2fv1/model"):
        assert client.get(address).status_code == 401


def test_the_token_is_compared_in_constant_time() -> None:
    source = (ROOT / "onebox/web/guard.py").read_text("utf-8")
    assert "hmac.compare_digest(given.strip(), self._token)" in source
    assert "== self._token" not in source


def test_without_a_token_it_stays_on_this_machine(tiny_run: Path, tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "example.org"):
        shell("serve", tiny_run, "--host", host).says("--host .* lets other machines in.*--token-file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read the token .No such file"),
        (b"", "at least 16 characters"),
        (b"short", "at least 16 characters"),
        (b"with space inside it 123", "no spaces"),
        ("ümläut-ümläut-ümläut".encode(), "not plain ASCII"),
    ],
)
def test_a_token_file_that_is_none_stops_it(tiny_run: Path, tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    shell("serve", tiny_run, "--token-file", path).says(words)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:1", 200), ("127.0.0.1", 200), ("[::1]:8000", 200), ("vision.example", 200),
        ("evil.example", 421), ("localhost.evil.example", 421), ("127.0.0.1.evil.example", 421), ("", 421),
        ("192.0.2.7", 421), ("localhost@evil.example", 421), ("[::1", 200), ("evil.example#localhost", 421),
    ],
)  # fmt: skip
def test_only_its_own_names_are_answered(client: httpx.Client, host: str, status: int) -> None:
    answer = client.get("/health/live", headers={**AUTHORIZED, "Host": host})
    assert answer.status_code == status, host


def test_a_request_without_a_host_or_with_two_is_refused(guarded: Server) -> None:
    head = b"GET /health/live HTTP/1.1\r\nConnection: close\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
    assert b" 421 " in raw(guarded, head + b"\r\n").split(b"\r\n")[0]
    assert b" 400 " in raw(guarded, head + b"Host: localhost\r\nHost: localhost\r\n\r\n").split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "https://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://127.0.0.1:{port}.evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_pages_of_other_sites_may_not_write(
    guarded: Server, client: httpx.Client, headers: dict[str, str], status: int
) -> None:
    own = {name: value.format(port=guarded.port) for name, value in headers.items()}
    answer = client.post("/v1/predict", files=files(("a", picture())), headers={**AUTHORIZED, **own})
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


def test_a_body_is_bounded_by_its_length_and_while_it_streams(client: httpx.Client) -> None:
    says_problem(client.post("/v1/predict", content=b"x" * (2 << 20), headers=AUTHORIZED), 413, "larger than 1 MiB")

    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 65536

    for address, kind in (
        ("/v1/predict", "multipart/form-data; boundary=x"),
        ("/v2/models/run/infer", "application/json"),
    ):
        headers = {**AUTHORIZED, "Content-Type": kind}
        answer = client.post(address, content=endless(), headers=headers)
        assert answer.status_code in {400, 413}, answer.text
        if address.startswith("/v2"):
            says_problem(answer, 413, "larger than 1 MiB")


def test_a_picture_is_bounded_by_its_header(client: httpx.Client) -> None:
    large = picture(0, (1200, 1000), "JPEG")
    answer = client.post("/v1/predict", files=files(("a", large)), headers=AUTHORIZED)
    says_problem(answer, 422, "1200x1000 pixels is more than the 1,000,000 allowed")


def test_every_answer_carries_the_headers_that_keep_a_browser_safe(client: httpx.Client) -> None:
    for answer in (client.get("/"), client.get("/nothing"), client.get("/v1/model", headers=AUTHORIZED)):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers


def test_what_is_no_http_is_refused_and_the_server_lives(guarded: Server) -> None:
    for route in ROUTES:
        assert send_malformed(guarded.port, route, 25, seed=7) == 25
    assert guarded.process.poll() is None
    assert b" 401 " in raw(guarded, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert not [line for line in guarded.lines if "Traceback" in line]


def test_a_client_that_leaves_amid_its_request_is_no_error(guarded: Server) -> None:
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9999\r\n\r\n--x\r\n"
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", guarded.port), timeout=10) as connection:
            connection.sendall(head.encode())
            time.sleep(0.1)
    assert b" 401 " in raw(guarded, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert not [line for line in guarded.lines if "Traceback" in line or "failed" in line]


def test_the_malformed_requests_are_of_many_kinds() -> None:
    made = {malformed(random.Random(i), "POST", "/v1/predict") for i in range(300)}
    assert len(made) > 250


def test_a_head_that_is_endless_or_late_is_given_up(guarded: Server) -> None:
    assert raw(guarded, b"GET / HTTP/1.1\r\nX: " + b"a" * 400_000).startswith(b"HTTP/1.1 431")
    started = time.perf_counter()
    assert raw(guarded, b"GET / HTTP/1.1\r\nHost: loc", wait=30).startswith(b"HTTP/1.1 408")
    assert 5 < time.perf_counter() - started < 25
