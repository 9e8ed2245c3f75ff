"""A uvicorn server for pages and services on this machine: it binds, says where it listens, gives slow and endless
senders a deadline, and on SIGTERM or Ctrl-C answers what it has begun before it goes. Takes an ASGI app; opens no other
port, writes no file.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from onebox.errors import ConfigError
from onebox.web.problems import Problem

#: Seconds for the head of a request to arrive, from the first byte or from the connection.
HEAD_SECONDS = 10.0
#: Bytes of a head that is not complete yet.
HEAD_LIMIT = 64 << 10
#: Connections at a time; files of the process stay below the usual limit of 1024 and more are closed at once.
MOST_CONNECTIONS = 900
#: Seconds that requests in flight get after SIGTERM.
DRAIN_SECONDS = 8
#: After SIGTERM a connection at rest stays this long: its next request may be on the way already.
REST_SECONDS = 0.1
IDLE_SECONDS = 15
#: The body of a request that was turned away is read over for this long at most.
UNREAD_SECONDS = 60.0
#: A connection that was refused is read for this long before it is closed.
LINGER_SECONDS = 0.5
#: The event loop rests this long after a turn with refusals (see `_Rest`); a refusal may take 50 ms.
REST_AFTER_REFUSALS = 0.006
_PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


#: A head that says all there is to say about the length of its body, and how the connection goes on.
_PLAIN_HEAD = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.1\r\n(?:[!-9;-~]+:[^\r\n]*\r\n)+\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*(?=\r\n)", re.IGNORECASE)
_NOT_PLAIN = re.compile(rb"\r\n(?:transfer-encoding|expect|connection|upgrade):", re.IGNORECASE)


#: Given method and path of a request whose head is there: None, or the whole answer that turns it away. Asked once a
#: request, so it may count those that it lets pass.
Turnstile: TypeAlias = Callable[[bytes, bytes], bytes | None]


def serve_app(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    announce: Callable[[str], None],
    turnstile: Turnstile | None = None,
) -> None:
    """Runs until SIGTERM or Ctrl-C. `announce` is told the address once the port is open; port 0 takes any free one.
    `turnstile` refuses work before any of it is done for: several times cheaper than by the app.

    Raises ConfigError where the address cannot be had.
    """
    listener = _bind(host, port)
    with listener:
        config = uvicorn.Config(
            app,
            http=_behind(turnstile) if turnstile else _Protocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        server = uvicorn.Server(config)
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{listener.getsockname()[1]}/")
        server.run(sockets=[listener])


def whole_answer(problem: Problem, path: str = "") -> bytes:
    """A problem as it goes over the wire, for those who answer below HTTP's framework."""
    body = problem.body(path)
    head = [
        f"HTTP/1.1 {problem.status} {_PHRASES.get(problem.status, 'Refused')}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        *(f"{name.lower()}: {value}" for name, value in problem.headers.items()),
    ]
    return "\r\n".join(head).encode("ascii") + b"\r\n\r\n" + body


def _bind(host: str, port: int) -> socket.socket:
    """Raises ConfigError in words that a person can act on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise ConfigError(f"--host {host} is no name or address of this machine") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} is taken by another program", fix="Choose another with --port.") from None
        if error.errno == errno.EACCES:
            raise ConfigError(f"port {port} is not for ordinary users", fix="Choose one above 1023.") from None
        raise ConfigError(f"cannot listen on {host}:{port} ({error.strerror})", fix="Choose another --host.") from None
    listener.setblocking(False)
    return listener


class _PlainHead(NamedTuple):
    """A head that needs no parser to be understood."""

    whole: bytes
    method: bytes
    path: bytes
    body_length: int

    @classmethod
    def at_start_of(cls, data: bytes) -> _PlainHead | None:
        head = _PLAIN_HEAD.match(data)
        if head is None or _NOT_PLAIN.search(data, 0, head.end()):
            return None
        lengths = _LENGTH.findall(data, 0, head.end())
        return cls(head[0], head[1], head[2], int(lengths[0])) if len(lengths) == 1 else None


#: Begins no data.
_NO_HEAD = _PlainHead(b"\0", b"", b"", 0)


class _Rest:
    """The event loop's pause after a turn in which requests were turned away. Without it every refusal wakes the loop
    by itself and takes the core from a worker, which costs more than the refusal does; with it refusals come by the
    dozen, a little later (docs/log.md, 2026-11-23)."""

    def __init__(self) -> None:
        self._planned = False

    def after_this_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._planned:
            self._planned = True
            loop.call_soon(self._sleep)

    def _sleep(self) -> None:
        self._planned = False
        time.sleep(REST_AFTER_REFUSALS)


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with deadlines for heads, a bound on them, and a quiet end.

    One rule covers all slow senders: while part of a request is there (or nothing yet, on a new connection) and none is
    being answered, a clock runs; a complete head stops it. Bodies that are waited for have their deadline in `guard`.
    """

    _clock: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True
    _incomplete = True
    _leaving = False
    _refused = False
    _begun = False
    _passed = False
    _plain = _NO_HEAD  # the last one; on a kept connection the next is often the same
    _unread = 0
    _unread_since = 0.0
    _last_turned_away = 0.0
    turnstile: Turnstile | None = None
    rest: _Rest  # where there is a turnstile

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(Problem(503, "too many connections", "Try again soon.", {"Retry-After": "1"}))
            return
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return
        if self.turnstile is not None:
            data = self._turn_away(data)
            if not data:
                return
        super().data_received(data)
        if self._incomplete and self._at_rest():
            self._start_clock()
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT:
                self._refuse(Problem(431, "the head of the request is too large"))

    def _turn_away(self, data: bytes) -> bytes:
        """Answers what the turnstile refuses without parsing it, and reads over its body; what is left is for the
        parser. At many times the load that can be served most of the time would go into parsing refused requests."""
        while data:
            if self._unread:
                over = min(self._unread, len(data))
                self._unread -= over
                data = data[over:]
                continue
            if self._begun or self._leaving or not self._at_rest() or not data.startswith(b"POST "):
                break
            if not data.startswith(self._plain.whole):
                found = _PlainHead.at_start_of(data)
                if found is None:
                    break
                self._plain = found
            head = self._plain
            assert self.turnstile is not None
            answer = self.turnstile(head.method, head.path)
            if answer is None:
                self._passed = True
                break
            self._stop_clock()
            self.transport.write(answer)
            self.rest.after_this_turn(self.loop)
            self._unread, data = head.body_length, data[len(head.whole) :]
            self._incomplete = False
            self._unread_since = self._last_turned_away = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self._keep_alive()
        return data

    def _keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """One timer serves many requests that were turned away: it is wound up again where they still come, or their
        body does."""
        now = self.loop.time()
        alive = now - self._unread_since < UNREAD_SECONDS if self._unread else False
        if alive or now - self._last_turned_away < self.timeout_keep_alive:
            self._keep_alive()
        else:
            super().timeout_keep_alive_handler()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True
        self._in_head, self._incomplete, self._head_bytes = True, True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_clock()
        parser: Any = self.parser
        passed, self._passed = self._passed, False
        if self.turnstile is not None and not passed and self._at_rest() and not self._leaving:
            answer = self.turnstile(parser.get_method(), self.url)
            if answer is not None:  # not plain enough for `_turn_away`, so the connection ends with it
                self._end(answer.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
                return
        super().on_headers_complete()
        if self._leaving and self.cycle is not None:  # pyright: ignore[reportUnnecessaryComparison]
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._incomplete = self._begun = False
        if not self._refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem(400, "this is not a well-formed HTTP request"))

    def shutdown(self) -> None:
        self._leaving = True
        if self._at_rest():
            self.loop.call_later(REST_SECONDS, self._leave)
        else:
            self.cycle.keep_alive = False

    def _leave(self) -> None:
        if self._at_rest() and not self.transport.is_closing():
            self.transport.close()

    def _at_rest(self) -> bool:
        """Nothing is being answered."""
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _start_clock(self) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(HEAD_SECONDS, self._late)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _late(self) -> None:
        if self._refused or self.transport.is_closing():
            return
        if self._head_bytes:
            self._refuse(Problem(408, f"the request's head took longer than {HEAD_SECONDS:.0f} s"))
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """An answer, and the end of the connection."""
        problem.headers["Connection"] = "close"
        if self._refused:
            return
        cycle: Any = self.cycle
        if not self._at_rest():  # its app is told that nobody listens any more, and writes nothing
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self._refused = True
                self.transport.close()
                return
        self._end(whole_answer(problem))

    def _end(self, answer: bytes) -> None:
        """The last answer of this connection. What is still on its way is read and dropped: closing over it would reset
        the connection, and the client would lose the answer with it."""
        self._refused = True
        self.transport.write(answer)
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


def _behind(turnstile: Turnstile) -> type[_Protocol]:
    """The protocol with a turnstile: uvicorn makes one of it for every connection and hands it nothing of ours."""
    return type("_Turned", (_Protocol,), {"turnstile": staticmethod(turnstile), "rest": _Rest()})
