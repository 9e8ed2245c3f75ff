"""`onebox serve`: loads a model, opens a port on this machine, says where, and stays until it is stopped."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from onebox.errors import MissingExtraError


def run_serve(
    model_path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | None = None,
    other_hosts: Sequence[str] = (),
    threads: int | None = None,
    limits: dict[str, Any] | None = None,
) -> None:
    """Serves until SIGTERM or Ctrl-C. Raises OneboxError where it cannot begin."""
    try:
        from onebox.web.guard import check_binding, read_token
        from onebox.web.serve import Settings, build_app, served_name
        from onebox.web.server import serve_app
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"serving needs {error.name}, which is not installed", fix='Run: pip install "onebox[serve]"'
        ) from None
    from onebox.runtime import load

    token = read_token(token_file) if token_file is not None else None
    check_binding(host, token)
    if token_file is not None and os.name == "posix" and token_file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        typer.echo(f"{token_file}: other users of this machine can read the token (chmod 600 keeps them out)", err=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    model = load(model_path, threads=1)  # each worker runs its own batch in its own thread
    name = served_name(str(model.path.absolute()))
    settings = Settings(
        name=name, workers=threads or cores, host=host, token=token, other_hosts=tuple(other_hosts), **(limits or {})
    )

    def announce(address: str) -> None:
        manifest = model.manifest
        typer.echo(f"{name}: {len(manifest.class_names)} classes, {manifest.backbone}, {manifest.imgsz} px", err=True)
        typer.echo(f"Page:  {address}\nAPI:   {address}api\nStop with Ctrl-C.", err=True)

    app, turnstile = build_app(model, settings)
    serve_app(app, host=host, port=port, announce=announce, turnstile=turnstile)
