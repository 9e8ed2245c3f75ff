"""The page of `onebox label` and what it asks for. Takes a labelling session, gives a guarded ASGI app: every request
but those for the page's own files carries a secret, so that no other page can read or write. Decides nothing about
labels itself.
"""

from __future__ import annotations

import html
import json
import secrets
from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from onebox.errors import PictureError
from onebox.labelling.pictures import Renderer, take_in
from onebox.labelling.session import Session, mark_of
from onebox.labelling.store import StaleError
from onebox.web.assets import mount
from onebox.web.guard import Guard, Policy, allowed_hosts
from onebox.web.problems import Problem, install

_MODULES = ("api", "book", "input", "intake", "panel", "stage", "strip", "words")
SCRIPTS = ("label.js", *(f"label-{name}.js" for name in _MODULES))
#: Of a single picture that is dropped in.
BODY_LIMIT = 64 << 20
#: A picture of the folder may be replaced while we run: the browser asks again after this time.
_PICTURE_CACHE = {"Cache-Control": "private, max-age=300"}


class Said(BaseModel):
    """What a person says of a picture: `state` box (with `label` and `box`, pixels of the upright picture), none (no
    object here) or open (not labelled); `revision` is the one it was said on."""

    model_config = ConfigDict(extra="forbid")
    state: Literal["box", "none", "open"]
    revision: int
    label: Annotated[str | None, Field(max_length=400)] = None
    box: Annotated[list[float] | None, Field(min_length=4, max_length=4)] = None


class NewClass(BaseModel):
    """A class to be added."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=400)]


def label_app(session: Session, *, host: str = "127.0.0.1", token: str | None = None) -> ASGIApp:
    """The guarded app. The secret is made anew and given to the page, for whoever asks from this machine may have it;
    or it is the `token`, which a page must bring along behind the # of its address."""
    secret = token or secrets.token_urlsafe(24)
    given = "" if token else html.escape(secret)
    app = FastAPI(title="onebox label", docs_url=None, redoc_url=None, openapi_url=None)
    install(app)
    mount(app, {}, ("base.css", "label.css", *SCRIPTS))
    page = (files("onebox.web") / "static" / "label.html").read_text("utf-8").replace("{{secret}}", given)

    @app.get("/")
    def front() -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(page, media_type="text/html; charset=utf-8")

    _add_reading(app, session)
    _add_writing(app, session)
    _add_training(app, session)
    hosts, any_address = allowed_hosts(host)
    policy = Policy(
        hosts=hosts,
        any_address=any_address,
        token=secret,
        open_paths=("/", "/static/"),
        body_limit=BODY_LIMIT,
    )
    return Guard(app, policy)


def _add_reading(app: FastAPI, session: Session) -> None:
    renderer = Renderer()

    @app.get("/api/state")
    def state() -> Response:  # pyright: ignore[reportUnusedFunction]
        return _json(session.state())

    @app.get("/api/progress")
    def progress(since: int) -> Response:  # pyright: ignore[reportUnusedFunction]
        return _json(session.progress(max(since, 0)))

    @app.get("/api/order")
    def order() -> Response:  # pyright: ignore[reportUnusedFunction]
        return _json(session.order())

    @app.get("/view/{ident}")
    def view(ident: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        content, size = _shown(session, ident, renderer.view)
        headers = {"X-Picture-Size": f"{size.width}x{size.height}", **_PICTURE_CACHE}
        return Response(content, media_type="image/jpeg", headers=headers)

    @app.get("/thumb/{ident}")
    def thumb(ident: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(_shown(session, ident, renderer.thumb), media_type="image/jpeg", headers=_PICTURE_CACHE)


def _add_writing(app: FastAPI, session: Session) -> None:
    @app.put("/api/pictures/{ident}")
    def put(ident: str, said: Said) -> Response:  # pyright: ignore[reportUnusedFunction]
        try:
            return _json(session.put(ident, mark_of(said.state, said.label, said.box), said.revision))
        except KeyError:
            raise _unknown() from None
        except StaleError:
            now = session.picture(session.store.get(session.path_of(ident)))
            return _json({"error": {"what": "this picture was changed in another tab", "fix": ""}, "now": now}, 409)

    @app.post("/api/pictures/{ident}/confirm")
    def confirm(ident: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        try:
            return _json(session.confirm(ident))
        except KeyError:
            raise _unknown() from None

    @app.post("/api/pictures")
    async def take(request: Request, name: str = "picture") -> Response:  # pyright: ignore[reportUnusedFunction]
        content = await request.body()
        path = await run_in_threadpool(take_in, session.store.file.parent, name, content)
        return _json(await run_in_threadpool(session.add_picture, path))

    @app.post("/api/classes")
    def add_class(new: NewClass) -> Response:  # pyright: ignore[reportUnusedFunction]
        name = session.store.add_class(new.name.strip())
        return _json({"name": name, "classes": list(session.store.classes)})


def _add_training(app: FastAPI, session: Session) -> None:
    @app.post("/api/train")
    def train() -> Response:  # pyright: ignore[reportUnusedFunction]
        session.train()
        return _json(session.progress(session.store.sequence))

    @app.delete("/api/train")
    def cancel() -> Response:  # pyright: ignore[reportUnusedFunction]
        session.trainer.cancel()
        return _json(session.progress(session.store.sequence))

    @app.post("/api/check")
    def check() -> Response:  # pyright: ignore[reportUnusedFunction]
        session.check()
        return _json(session.progress(session.store.sequence))


def _shown(session: Session, ident: str, render: Callable[[str], Any]) -> Any:
    """What `render` makes of a picture. Raises Problem: 404 for no such id, 422 with the reason for one that cannot be
    read."""
    try:
        path = session.path_of(ident)
    except KeyError:
        raise _unknown() from None
    try:
        return render(session.store.path(path))
    except PictureError as error:
        session.mark_unreadable(path, error.what)
        raise Problem(422, error.what, error.fix or "") from None


def _unknown() -> Problem:
    return Problem(404, "there is no such picture in this folder", "Reload the page.")


def _json(value: dict[str, Any], status: int = 200) -> Response:
    # plain ASCII: a file name may hold bytes that are no UTF-8
    return Response(json.dumps(value), status_code=status, media_type="application/json")
