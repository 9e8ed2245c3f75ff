"""`onebox label`: the page on this machine, and the folder's lock while it is open. The flags for trainings are those
of `onebox train`, handed on as they are."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from onebox.cli.train import setting_flag
from onebox.errors import DataError, MissingExtraError
from onebox.training.config import TrainConfig, make_config

#: The settings of a training that somebody at the page may want to choose.
SETTINGS = ("backbone", "weights", "imgsz", "epochs", "minutes", "hflip", "recipe", "batch", "seed", "threads")
PORT = 8010


def label_command() -> Callable[..., None]:
    """The command function, its signature extended by the flags of SETTINGS."""
    hints = get_type_hints(TrainConfig)
    flags = [setting_flag(f, hints[f.name]) for f in fields(TrainConfig) if f.name in SETTINGS]

    def label(
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="a folder of pictures, labelled or not")],
        classes: Annotated[
            str | None, typer.Option(metavar="A,B,C", help="class names, separated by commas; more can be added")
        ] = None,
        model: Annotated[
            Path | None,
            typer.Option(metavar="RUN", help="a run folder or model.onnx that proposes  [default: the last one here]"),
        ] = None,
        out: Annotated[
            Path | None, typer.Option(metavar="RUNS", help="where trainings go  [default: DIR/.onebox/runs]")
        ] = None,
        host: Annotated[str, typer.Option(help="address to listen on; others than this machine's need a token")] = (
            "127.0.0.1"
        ),
        port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = PORT,
        token_file: Annotated[
            Path | None, typer.Option(metavar="FILE", help="what a page must bring along behind the # of its address")
        ] = None,
        **settings: Any,
    ) -> None:
        """Box one object per picture on a local page; a model trained on the way proposes the rest."""
        given = {name: value for name, value in settings.items() if value is not None}
        run_label(
            folder, classes=classes, model=model, out=out, host=host, port=port, token_file=token_file, settings=given
        )

    signature = inspect.signature(label, eval_str=True)
    kept = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    label.__signature__ = signature.replace(parameters=kept + flags)  # type: ignore[attr-defined]
    label.__annotations__ = {p.name: p.annotation for p in kept + flags} | {"return": None}
    return label


def run_label(
    folder: Path,
    *,
    settings: dict[str, Any],
    classes: str | None = None,
    model: Path | None = None,
    out: Path | None = None,
    host: str = "127.0.0.1",
    port: int = PORT,
    token_file: Path | None = None,
) -> None:
    """Opens the folder and serves its page until Ctrl-C or SIGTERM. Raises OneboxError."""
    try:
        from onebox.web.guard import check_binding, read_token
        from onebox.web.label import label_app
        from onebox.web.server import serve_app
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the labelling page needs {error.name}, which is not installed", fix='pip install "onebox[serve]"'
        ) from None
    from onebox.labelling.lock import FolderLock
    from onebox.labelling.session import OWN_FOLDER, Session

    make_config(**settings)  # what is wrong with a setting is said now, not after an hour of labelling
    token = read_token(token_file) if token_file is not None else None
    check_binding(host, token)
    if not folder.is_dir():
        what = "this is a file" if folder.exists() else "no such folder"
        raise DataError(what, where=str(folder), fix="Give a folder of pictures; an empty one will do.")
    with FolderLock(folder / OWN_FOLDER) as lock:
        session = Session(
            str(folder), classes=_split(classes), model=_model(model), flags=_flags(settings), out=out
        )  # fmt: skip
        for line in [*session.store.notes, *session.store.damaged]:
            typer.echo(line, err=True)

        key = "#TOKEN, with the one in " + shlex.quote(str(token_file)) if token else ""

        def announce(url: str) -> None:
            lock.tell(url)
            typer.echo(
                f"{len(session.store.paths)} pictures, {len(session.store.marks())} labelled: {url}{key}", err=True
            )
            if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared with, not bound to
                typer.echo("On another machine: the same with this one's address in its place.", err=True)
            typer.echo(f"Labels: {shlex.quote(str(session.store.file))}. Stop with Ctrl-C.", err=True)
            sys.stderr.flush()

        try:
            serve_app(label_app(session, host=host, token=token), host=host, port=port, announce=announce)
        finally:
            session.close()


def _split(classes: str | None) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in (classes or "").split(",") if name.strip()))


def _model(model: Path | None) -> Path | None:
    """The run, its model readable. Raises ModelError now rather than behind the page."""
    if model is not None:
        from onebox.runtime import load

        load(model)
    return model


def _flags(settings: dict[str, Any]) -> Sequence[str]:
    """The settings as flags of `onebox train`; a weights file by its full path."""
    words: list[str] = []
    for name, value in settings.items():
        text = str(value)
        if name == "weights" and Path(text).is_file():
            text = os.path.abspath(text)  # noqa: PTH100 - resolve() would follow links
        words += ["--" + name.replace("_", "-"), text]
    return words
