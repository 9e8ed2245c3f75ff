"""The pages' own files (HTML, CSS, JavaScript), from the package and nowhere else. Takes names from a fixed list, gives
responses with a type and an ETag; never opens a path that a request has named.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.responses import Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class Asset:
    """One file, read once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.content = (files("onebox.web") / "static" / name).read_bytes()
        self.type = _TYPES[name.rpartition(".")[2]]
        self.tag = f'"{hashlib.sha256(self.content).hexdigest()[:20]}"'

    def response(self, request: Request) -> Response:
        """The file, or 304 where the browser has this very one."""
        # no-cache: may be kept, must be asked for - a new version of onebox shows at once
        headers = {"ETag": self.tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == self.tag:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.type, headers=headers)


def mount(app: FastAPI, pages: dict[str, str], names: tuple[str, ...]) -> None:
    """Serves each of `pages` (address -> file) and each of `names` under /static/, outside the OpenAPI file."""
    addresses = {**pages, **{f"/static/{name}": name for name in names}}
    for address, name in addresses.items():
        app.add_api_route(address, _handler(Asset(name)), methods=["GET", "HEAD"], include_in_schema=False)


def _handler(asset: Asset):
    async def answer(request: Request) -> Response:
        return asset.response(request)

    return answer
