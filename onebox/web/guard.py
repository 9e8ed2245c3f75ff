"""What stands before every address: who may ask (Host, Origin, token), how much and how long they may send, and the
headers that every answer carries. Takes an ASGI app and a policy, gives an ASGI app; looks at headers and counts bytes,
never reads what is in them.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onebox.errors import ConfigError
from onebox.web.problems import Problem

log = logging.getLogger("onebox.web")

#: Scripts and styles come from our own files alone; pictures also from memory (previews, the canvas, the camera).
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), geolocation=(), microphone=()"),
]
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
#: Of a body that is too large this much is still taken, so that the client gets to read why it was refused.
_DISCARDED = 8 << 20
_DISCARD_SECONDS = 2.0
_SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Policy:
    """Who may ask what.

    `hosts`: names that the Host header may carry, lower case, without port; with `any_address` an IP address literal
    will do besides them (see `allowed_hosts`). `token`: None, or what `Authorization: Bearer` must carry for all but
    `open_paths` (exact, or a prefix where it ends in a slash). `body_limit` and `memory_limit` in bytes, of one body
    and of all that are held at a time; a body that is not there after `body_seconds` is given up.
    """

    hosts: frozenset[str]
    any_address: bool = False
    token: str | None = None
    open_paths: tuple[str, ...] = ("/", "/api", "/static/")
    body_limit: int = 32 << 20
    memory_limit: int = 512 << 20
    body_seconds: float = 60.0


class Guard:
    """Pure ASGI, the outermost layer of an app."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self.app = app
        self.policy = policy
        self._token = policy.token.encode() if policy.token is not None else None
        self._open = frozenset(path for path in policy.open_paths if path == "/" or not path.endswith("/"))
        self._below = tuple(path for path in policy.open_paths if path != "/" and path.endswith("/"))
        self._held = _Held(policy.memory_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # lifespan; there are no websockets
            await self.app(scope, receive, send)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        body = _CountedBody(receive, self.policy, self._held)
        try:
            headers = _headers(scope)
            self._admit(scope, headers, body)
            await self.app(scope, body.receive, send_guarded)
        except Problem as problem:
            if problem.status == 413:
                await body.discard()
            if not started:
                await send_problem(problem, scope, send_guarded)
        except ClientDisconnect:
            pass  # nobody is there to be told, and nothing is wrong here
        except Exception as error:
            # Starlette hands on what it has answered with 500 already.
            log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
            if not started:
                problem = Problem(500, "something went wrong inside the server", "The server's log says more.")
                await send_problem(problem, scope, send_guarded)
        finally:
            self._held.bytes -= body.taken

    def _admit(self, scope: Scope, headers: dict[bytes, bytes], body: _CountedBody) -> None:
        """Raises Problem for whom and what the policy does not let in."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._known_host(host):
            raise Problem(
                421,
                "this server does not answer to the name in the Host header",
                "Use the address that it printed at its start, or start it with --allow-host NAME.",
            )
        if scope["method"] not in _READING:
            _check_origin(headers, host)
        if self._token is not None and not self._is_open(scope["path"]):
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            if kind.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
                raise Problem(
                    401,
                    "a token is needed here" if not given else "this token is not the right one",
                    "Send the header Authorization: Bearer TOKEN.",
                    {"WWW-Authenticate": "Bearer"},
                )
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self.policy.body_limit:
            raise body.too_large()

    def _known_host(self, host: str) -> bool:
        name = _without_port(host)
        return name in self.policy.hosts or (self.policy.any_address and _is_address(name))

    def _is_open(self, path: str) -> bool:
        return path in self._open or path.startswith(self._below)


@dataclass
class _Held:
    """Bytes of all bodies that are there at a time."""

    limit: int
    bytes: int = 0


class _CountedBody:
    """The request's body, counted while it comes and given up when it takes too long."""

    def __init__(self, receive: Receive, policy: Policy, held: _Held) -> None:
        self._receive = receive
        self._held = held
        self._limit = policy.body_limit
        self._seconds = policy.body_seconds
        self._deadline: float | None = None
        self.taken = 0
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:  # what comes now is the end of the connection, for which an app may wait long
            return await self._receive()
        message = await self._within_time()
        self._complete = not message.get("more_body", False)
        length = len(message.get("body", b""))
        self.taken += length
        self._held.bytes += length
        if self.taken > self._limit:
            await self.discard()
            raise self.too_large()
        if self._held.bytes > self._held.limit:
            raise Problem(503, "too much is being sent at a time", "Try again in a second.", {"Retry-After": "1"})
        return message

    async def _within_time(self) -> Message:
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = loop.time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._receive()
        except TimeoutError:
            raise Problem(
                408,
                f"the request took longer than {self._seconds:.0f} s to arrive",
                "Send smaller pictures, or fewer at a time.",
                {"Connection": "close"},
            ) from None

    async def discard(self) -> None:
        """Takes a little more, so that a client that is still sending comes to read the answer."""
        taken = 0
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self._complete and taken < _DISCARDED:
                    message = await self._receive()
                    taken += len(message.get("body", b""))
                    self._complete = not message.get("more_body", False)
        except TimeoutError:
            pass

    def too_large(self) -> Problem:
        return Problem(
            413,
            f"the request is larger than {self._limit / (1 << 20):.0f} MiB",
            "Send smaller pictures, or fewer at a time.",
            {"Connection": "close"},
        )


async def send_problem(problem: Problem, scope: Scope, send: Send) -> None:
    """A problem as an answer, without a framework."""
    body = problem.body(scope["path"])
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def allowed_hosts(host: str, extra: Iterable[str] = ()) -> tuple[frozenset[str], bool]:
    """Names by which a server bound to `host` may be called, and whether any IP address will do.

    A page of a stranger can point its own name at this machine (DNS rebinding), but it cannot be an address: so a
    server that listens on all interfaces takes every address literal, and of the names its own.
    """
    names = {name.strip("[]").lower() for name in extra}
    if is_loopback(host):
        return frozenset({*names, "localhost", "127.0.0.1", "::1", host.lower()}), False
    everywhere = host in {"0.0.0.0", "::", ""}  # noqa: S104 - compared with, not bound to
    names |= {"localhost", "127.0.0.1", "::1", socket.gethostname().lower()}
    return frozenset(names if everywhere else {*names, host.lower()}), everywhere


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server bound to `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_binding(host: str, token: str | None) -> None:
    """Raises ConfigError where a server would be reachable from other machines without a token."""
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host} lets other machines in, and there is no token to keep strangers out",
            fix="Give --token-file FILE, or leave --host away.",
        )


def read_token(path: Path) -> str:
    """The token in a file, without the white space around it. Raises ConfigError for a file that cannot be read, and
    for what is too short or too odd to be one."""
    try:
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not plain ASCII"
        raise ConfigError(f"cannot read the token ({reason})", where=str(path)) from None
    if len(token) < _SHORTEST_TOKEN or not token.isprintable() or " " in token:
        raise ConfigError(
            f"a token has at least {_SHORTEST_TOKEN} characters, and no spaces",
            where=str(path),
            fix="Make one: python -c 'import secrets; print(secrets.token_urlsafe())' > FILE",
        )
    return token


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """Raises Problem where a header that decides who may ask comes twice: the two might be read differently."""
    headers: dict[bytes, bytes] = {}
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    for name, value in pairs:
        if name in headers and name in {b"host", b"origin", b"authorization", b"content-length", b"content-type"}:
            raise Problem(400, f"the header {name.decode('latin-1')} comes twice")
        headers[name] = value
    return headers


def _check_origin(headers: dict[bytes, bytes], host: str) -> None:
    """Raises Problem for a write that another site's page makes in a visitor's browser."""
    origin: Any = headers.get(b"origin")
    foreign = headers.get(b"sec-fetch-site", b"none") in {b"cross-site", b"same-site"}
    if origin is not None:
        foreign = foreign or urlsplit(origin.decode("latin-1")).netloc.lower() != host
    if foreign:
        raise Problem(403, "pages of other sites may not use this server", "Open the server's own page.")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") <= 1 else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
