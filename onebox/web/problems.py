"""What a client is told when something cannot be done: a status, what happened and what to do, as JSON. Takes errors
of all kinds, gives responses; never lets a path, a stack or a class name of Python out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from onebox.errors import OneboxError

#: What is said of a status that arises outside our own code.
_PLAIN = {
    400: ("the request is malformed", ""),
    404: ("there is nothing at this address", "See /api for the addresses there are."),
    405: ("this address does not take this method", "See the Allow header."),
}


class Problem(Exception):  # noqa: N818 - the word of RFC 9457, "Problem Details for HTTP APIs"
    """Something that a client is to be told. `what` is one sentence without a full stop, `fix` says what to do."""

    def __init__(self, status: int, what: str, fix: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.fix = fix
        self.headers = dict(headers or {})

    def body(self, path: str = "") -> bytes:
        """`{"error": {"what", "fix"}}`; below /v2 the one string that the Open Inference Protocol wants."""
        error: object = {"what": self.what, "fix": self.fix}
        if path == "/v2" or path.startswith("/v2/"):
            error = f"{self.what}. {self.fix}" if self.fix else self.what
        # a lone half of a surrogate pair has no UTF-8, but it has an escape
        return json.dumps({"error": error}).encode("ascii")


def problem_response(problem: Problem, path: str = "") -> Response:
    """The answer itself. `path` is the request's, for /v2 wants another form."""
    return Response(
        problem.body(path), status_code=problem.status, headers=problem.headers, media_type="application/json"
    )


def install(app: FastAPI) -> None:
    """Every error of this app becomes a problem."""

    async def known(request: Request, error: Exception) -> Response:
        return problem_response(explain(error), request.url.path)

    for kind in (Problem, OneboxError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, known)


def explain(error: Exception) -> Problem:
    """What a client may know of an error: ours in their own words without the file they name, the framework's in
    ours, and of anything unexpected only that it happened (the log has the rest)."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return Problem(422, *_validation(error))
    if isinstance(error, HTTPException):
        what, fix = _PLAIN.get(error.status_code, (str(error.detail), ""))
        return Problem(error.status_code, what, fix, error.headers)
    if isinstance(error, OneboxError):
        return Problem(422, error.what, error.fix or "")
    return Problem(500, "something went wrong inside the server", "The server's log says more.")


def _validation(error: RequestValidationError) -> tuple[str, str]:
    """The first thing wrong: where it stands in the request, and what is expected there."""
    first: dict[str, Any] = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "request"
    return f"{place}: {first['msg']}", "See /api for what is expected."
