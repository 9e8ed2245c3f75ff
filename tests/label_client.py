"""A program that talks to `onebox label` as its page does: takes the secret from the page, then asks and says. For
tests that need no browser; with a server of its own process, or with the app in this one."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from onebox.labelling.session import Session
from onebox.web.label import label_app


@dataclass
class Answer:
    """Status, JSON (None where there is none), the bytes, and the headers."""

    status: int
    data: Any
    raw: bytes
    headers: dict[str, str]


@contextmanager
def at_work(folder: Path, *classes: str, **options: Any) -> Generator[Client, None, None]:
    """The guarded app of a session on this folder, in this process, and a tab of it."""
    session = Session(str(folder), classes=classes, **options)
    with TestClient(label_app(session), base_url="http://127.0.0.1:8010", raise_server_exceptions=False) as app:
        try:
            yield Client("http://127.0.0.1:8010", app, session)
        finally:
            session.close()


class Client:
    """One tab, of the server at `url` or of the `app` in this process."""

    def __init__(self, url: str, app: TestClient | None = None, session: Session | None = None) -> None:
        self.url = url.rstrip("/")
        self.app, self.session = app, session
        page = self.ask("GET", "/", secret=False).raw.decode()
        found = re.search(r'name="onebox-secret" content="([^"]+)"', page)
        assert found
        self.secret = found[1]

    def ask(self, method: str, path: str, body: Any = None, *, secret: bool = True, **headers: str) -> Answer:
        """`body`: bytes as they are, anything else as JSON. Headers with underscores for hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if secret:
            sent.setdefault("Authorization", f"Bearer {self.secret}")
        if body is not None and not isinstance(body, bytes):
            body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        if self.app is not None:
            answer = self.app.request(method, path, content=body, headers=sent, follow_redirects=False)
            return _answer(answer.status_code, answer.content, answer.headers)
        request = urllib.request.Request(self.url + path, body, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return _answer(response.status, response.read(), response.headers)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error.read(), error.headers)

    def state(self) -> dict[str, Any]:
        return self.ask("GET", "/api/state").data

    def pictures(self) -> dict[str, dict[str, Any]]:
        """By name."""
        return {picture["name"]: picture for picture in self.state()["pictures"]}

    def put(self, picture: dict[str, Any], **said: Any) -> Answer:
        return self.ask("PUT", f"/api/pictures/{picture['id']}", {"revision": picture["revision"], **said})


def _answer(status: int, raw: bytes, headers: Any) -> Answer:
    try:
        data = json.loads(raw)
    except ValueError:
        data = None
    return Answer(status, data, raw, {name.lower(): value for name, value in headers.items()})
