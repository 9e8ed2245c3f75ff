"""A server whose turnstile refuses every request below /full and whose app answers the rest with the length of the
body it was sent. `python -m tests.turnstile_serve --port 0`, to be stopped with SIGTERM."""

from __future__ import annotations

import sys

from starlette.types import Receive, Scope, Send

from onebox.web.problems import Problem
from onebox.web.server import serve_app, whole_answer

REFUSAL = whole_answer(Problem(503, "full", "Try again in a second.", {"Retry-After": "1"}))


async def lengths(scope: Scope, receive: Receive, send: Send) -> None:
    """The app."""
    if scope["type"] != "http":
        return
    taken, more = 0, True
    while more:
        message = await receive()
        taken, more = taken + len(message.get("body", b"")), message.get("more_body", False)
    body = str(taken).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    serve_app(
        lengths,
        host="127.0.0.1",
        port=0,
        announce=lambda url: print(url, file=sys.stderr, flush=True),
        turnstile=lambda method, url: REFUSAL if url.startswith(b"/full") else None,
    )
