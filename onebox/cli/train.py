"""`onebox train`. Its flags are made from `TrainConfig`, so that a setting is written in one place only."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
import types
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

import typer

from onebox.errors import ConfigError
from onebox.training.config import TrainConfig, make_config
from onebox.types import Multiple

if TYPE_CHECKING:
    from onebox.dataset import Dataset


def train_command() -> Callable[..., None]:
    """The command function, its signature extended by one optional flag per field of TrainConfig."""
    hints = get_type_hints(TrainConfig)
    flags = [setting_flag(f, hints[f.name]) for f in fields(TrainConfig)]

    def train(
        data: Annotated[
            Path, typer.Argument(metavar="DATA", help="a folder of pictures with annotations, or one annotation file")
        ],
        out: Annotated[Path, typer.Option(metavar="RUN", help="the run folder to write")],
        val: Annotated[Path | None, typer.Option(metavar="DATA2", help="validation data")] = None,
        split: Annotated[
            float | None,
            typer.Option(
                min=0,
                max=1,
                help="share of DATA to train on; the rest validates. 1: no validation  [default: 0.8, 0.9 of many]",
            ),
        ] = None,
        multiple: Annotated[
            Multiple, typer.Option(help="what to do with pictures that have several objects")
        ] = "error",
        layout: Annotated[str | None, typer.Option(help="read DATA as this layout  [default: found out]")] = None,
        boxes: Annotated[
            Literal["head", "body"] | None,
            typer.Option(help="which boxes, where DATA offers several kinds (Oxford-IIIT pets)"),
        ] = None,
        resume: Annotated[bool, typer.Option("--resume", help="continue a stopped run")] = False,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a run that is there")] = False,
        allow_leak: Annotated[
            bool, typer.Option("--allow-leak", help="train although validation pictures are copies of training ones")
        ] = False,
        **settings: Any,
    ) -> None:
        """Train a model: a run folder with model.onnx (the product) and report.html."""
        given = {name: value for name, value in settings.items() if value is not None}
        run_train(
            data, out=out, val=val, split=split, reading={"multiple": multiple, "layout": layout, "boxes": boxes},
            resume=resume, overwrite=overwrite, allow_leak=allow_leak, settings=given,
        )  # fmt: skip

    signature = inspect.signature(train, eval_str=True)
    kept = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    train.__signature__ = signature.replace(parameters=kept + flags)  # type: ignore[attr-defined]
    train.__annotations__ = {p.name: p.annotation for p in kept + flags} | {"return": None}
    return train


def run_train(
    data: Path,
    *,
    out: Path,
    settings: dict[str, Any],
    val: Path | None = None,
    split: float | None = None,
    reading: dict[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    allow_leak: bool = False,
) -> None:
    """Reads the data (`reading`: options of `load_dataset`), trains, prints the scoreboard. Raises OneboxError."""
    from onebox.dataset import load_dataset
    from onebox.training import train

    config = make_config(**settings)
    if val is not None and split is not None:
        raise ConfigError("--val and --split cannot be given together")
    whole = load_dataset(data, **reading or {})
    for note in whole.notes:
        _say(note)
    val_data = load_dataset(val, **reading or {}) if val is not None else None
    train_data, val_data = choose_parts(whole, val_data, split)
    share = {} if split is None or val_data is not None else {"split": split}
    try:
        run = train(
            train_data,
            val_data,
            out=out,
            config=config,
            resume=resume,
            overwrite=overwrite,
            allow_leak=allow_leak,
            **share,
            command=shlex.join(["onebox", *sys.argv[1:]]),
        )
    except KeyboardInterrupt:
        _say("onebox: stopped; the same command with --resume goes on from the last saved epoch")
        raise typer.Exit(130) from None
    if run.metrics is not None:
        if run.asked_epoch:
            _say(f"What the held-out pictures said of epoch {run.asked_epoch}, before they taught, too:")
        _say(str(run.metrics))
    _say(f"Model:  {run.model}\nReport: {run.folder / 'report.html'}")


def choose_parts(whole: Dataset, val: Dataset | None, split: float | None) -> tuple[Dataset, Dataset | None]:
    """What to train and what to validate on, by what was asked and what the data says; prints the choice where it is
    not the user's. None as validation means: hold out a share. Where the data has a train part of its own,
    nothing else is ever trained on."""
    parts = whole.parts()
    data = whole.part("train") if "train" in parts else whole
    if val is None and split is None and data is not whole and "val" in parts:
        _say(f"The data has its own split: training on its {len(data)} train, validating on its val pictures.")
        return data, whole.part("val")
    if data is not whole:
        _say(f"The data has its own split: training on its {len(data)} train pictures, leaving the others alone.")
    return data, data.subset([]) if split == 1 else val


def _say(text: str) -> None:
    # one voice under torchrun: only the first process talks
    if os.environ.get("RANK", "0") == "0":
        typer.echo(text, err=True)


def setting_flag(field: Field[Any], hint: Any) -> inspect.Parameter:
    """`imgsz: int = 160` becomes `--imgsz INTEGER`, default None ("not given"), the real default told in the help."""
    kinds = [k for k in get_args(hint) if k is not types.NoneType]
    kind = kinds[0] if isinstance(hint, types.UnionType) else hint
    name = "--" + field.name.replace("_", "-")
    declaration = f"{name}/--no-{name[2:]}" if kind is bool else name
    text: str = field.metadata["help"]
    if field.default is not MISSING and field.default is not None:
        shown = {True: "on", False: "off"}.get(field.default, field.default) if kind is bool else field.default
        text += f"  [default: {shown}]"
    option = typer.Option(declaration, help=text, show_default=False)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )
