"""Requests that are turned away before they are parsed: whatever way their bytes are cut, the connection stays in step,
and what says its length in an unusual way ends the connection instead."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.images import Pixels
from onebox.manifest import Manifest
from onebox.runtime import Localizer, Outputs
from onebox.web import serve_engine
from tests.web_process import Server, running

SMALL = Manifest(("a", "b"), 32, "plain", "default", "edges", "0", {}, {})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(module="tests.turnstile_serve") as server:
        yield server


def request(path: str, body: bytes) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


def talk(server: Server, pieces: list[bytes], answers: int) -> tuple[list[tuple[int, bytes]], bool]:
    """Status and body of so many answers, and whether the server then closed the connection (waited for briefly)."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
            if len(pieces) > 1:
                time.sleep(0.002)  # so that the pieces arrive as pieces
        came, found = b"", []
        while len(found) < answers:
            came += (more := connection.recv(65536))
            found = [(int(m[1]), m[3]) for m in _answers(came)]
            if not more:
                break
        connection.settimeout(0.2)
        try:
            closed = connection.recv(1) == b""
        except TimeoutError:
            closed = False
    return found, closed


def _answers(came: bytes) -> Iterator[re.Match[bytes]]:
    at = 0
    while head := re.compile(rb"HTTP/1\.1 (\d+) .*?\r\n\r\n", re.S).match(came, at):
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head[0])
        assert length is not None
        whole = re.compile(rb"HTTP/1\.1 (\d+) (.*?)\r\n\r\n(.{%d})" % int(length[1]), re.S).match(came, at)
        if whole is None:
            return
        yield whole
        at = whole.end()


bodies = st.binary(max_size=400).map(lambda b: b * 50)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_connection_stays_in_step_however_its_bodies_are_cut(server: Server, data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.tuples(st.booleans(), bodies), min_size=1, max_size=4))
    pieces = [b""]
    for refused, body in asked:
        whole = request("/full" if refused else "/count", body)
        # a head comes in one piece; its body in up to three, the last of which may bring the next request with it
        if data.draw(st.booleans()):
            pieces.append(b"")
        head = whole.index(b"\r\n\r\n") + 4
        cuts = sorted(data.draw(st.lists(st.integers(head, len(whole)), max_size=2)))
        first, *rest = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        pieces[-1] += first
        pieces += rest
    answers, closed = talk(server, [p for p in pieces if p], len(asked))
    assert not closed
    for (refused, body), (status, text) in zip(asked, answers, strict=True):
        # behind a request that is still being answered another is never turned away unparsed
        assert (status, text) == (200, str(len(body)).encode()) or (refused and status == 503)
    if all(refused for refused, _ in asked):
        assert {status for status, _ in answers} == {503}


@pytest.mark.parametrize(
    "pieces",
    [
        [b"POST /full HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"],
        [b"POST /full HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"],
        [b"POST /full HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"],
        [b"POST /full HTTP/1.1\r\nHost: a\r\nCont", b"ent-Length: 3\r\n\r\nabc"],
        [b"POST /full HTTP/1.1\r\nHost: a\r\n\r\n"],
        [b"POST /full HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"],
    ],
)
def test_what_is_not_plain_is_refused_too_and_ends_the_connection(server: Server, pieces: list[bytes]) -> None:
    answers, closed = talk(server, pieces, 1)
    assert [status for status, _ in answers] == [503]
    assert closed


@pytest.mark.parametrize("lengths", ["3\r\nContent-Length: 4", "3, 3", "-1", "+3", "0x3", "9" * 30])
def test_a_length_that_can_be_read_in_two_ways_is_no_length(server: Server, lengths: str) -> None:
    sent = f"POST /full HTTP/1.1\r\nHost: a\r\nContent-Length: {lengths}\r\n\r\nabc".encode()
    answers, closed = talk(server, [sent], 1)
    assert [status for status, _ in answers] == [400]
    assert closed


def test_the_same_head_again_with_more_behind_it_is_read_anew(server: Server) -> None:
    first = b"POST /full HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    longer = first.replace(b"Host: a\r\n", b"Host: ab\r\n").replace(b"3\r\n\r\nabc", b"30\r\n\r\n" + b"x" * 30)
    other = first.replace(b"/full", b"/count")
    answers, closed = talk(server, [first, first + first, longer + first, other], 6)
    assert [status for status, _ in answers] == [503, 503, 503, 503, 503, 200]
    assert not closed


def test_a_burst_is_let_in_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(serve_engine.time, "monotonic", lambda: clock[0])

    class Black(Localizer):
        manifest = SMALL

        def run(self, pictures: Pixels) -> Outputs:
            count = len(pictures)
            return {
                "logits": np.zeros((count, 2)),
                "boxes_01": np.tile([0.1, 0.1, 0.9, 0.9], (count, 1)),
                "sigmas_01": np.full((count, 4), np.nan),
            }

    engine = serve_engine.Engine(Black(), workers=1, waiting=3, max_pixels=100)
    assert [engine.expect() for _ in range(5)] == [True, True, True, False, False]
    # who does not come loses the place
    clock[0] += serve_engine.COMING_SECONDS / 2
    assert not engine.expect()
    clock[0] += serve_engine.COMING_SECONDS
    assert engine.expect()

    async def come(count: int) -> None:
        picture = np.zeros((4, 4, 3), np.uint8)
        waiting = [asyncio.ensure_future(engine.answer([picture], lambda p: p.label)) for _ in range(count)]
        await asyncio.sleep(0)
        # the one that was expected is there now; its place went over to it, and the queue has room for one more
        assert engine.waiting == count == 2
        assert [engine.expect(), engine.expect()] == [True, False]
        engine.start()
        assert await asyncio.gather(*waiting) == [["a"]] * count

    with ThreadPoolExecutor(1) as thread:  # this one may have a loop already: the browser's
        thread.submit(asyncio.run, come(2)).result()
    engine.close()


def test_a_body_that_was_turned_away_is_not_kept(server: Server) -> None:
    before = server.memory()
    body = bytes(64 << 20)
    answers, closed = talk(server, [request("/full", body), request("/count", b"after")], 2)
    assert answers[1:] == [(200, b"5")]
    assert not closed
    assert server.memory() - before < 16 << 20
