"""A uvicorn server for pages and services on this machine: it binds, says where it listens, gives slow and endless
senders a deadline, and on SIGTERM or Ctrl-C answers what it has begun before it goes. Takes an ASGI app; opens no other
port, writes no file.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

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
#: A connection that was refused is read for this long before it is closed.
LINGER_SECONDS = 0.5
_PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


#: Given method and path of a request whose head is there: None, or the whole answer that turns it away.
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
            http=type("_Turned", (_Protocol,), {"turnstile": staticmethod(turnstile)}) if turnstile else _Protocol,
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
    _turned_away = False
    _refused = False
    turnstile: Turnstile | None = None

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
        super().data_received(data)
        if self._incomplete and self._at_rest():
            self._start_clock()
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT:
                self._refuse(Problem(431, "the head of the request is too large"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._incomplete, self._head_bytes = True, True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_clock()
        parser: Any = self.parser
        if self.turnstile is not None and self._at_rest() and not self._leaving:
            answer = self.turnstile(parser.get_method(), self.url)
            if answer is not None:
                self._turned_away = True
                self.transport.write(answer)
                return
        super().on_headers_complete()
        if self._leaving and self.cycle is not None:  # pyright: ignore[reportUnnecessaryComparison]
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if not self._turned_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._incomplete = False
        if not self._turned_away:
            super().on_message_complete()
            return
        # what was turned away has been read to its end, so the connection can be used again
        self._turned_away = False
        parser: Any = self.parser
        if parser.should_keep_alive():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            self.transport.close()

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
        self._refused = True
        cycle: Any = self.cycle
        if not self._at_rest():  # its app is told that nobody listens any more, and writes nothing
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self.transport.write(whole_answer(problem))
        self.transport.write_eof()
        # What is still on its way is read and dropped: closing over it would reset the connection, and the client would
        # lose the answer with it.
        self.loop.call_later(LINGER_SECONDS, self.transport.close)
