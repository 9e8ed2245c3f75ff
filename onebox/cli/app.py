"""The table of commands. Takes nothing, gives the Typer app; every handler imports its work inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onebox._version import __version__
from onebox.cli.train import train_command
from onebox.types import Multiple

app = typer.Typer(
    name="onebox",
    help="One picture, one object: what it is and where it is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # markup would eat every "[default: ...]"
    context_settings={"help_option_names": ["-h", "--help"]},
)

SeveralObjects = Annotated[Multiple, typer.Option(help="what to do with pictures that have several objects")]
Layout = Annotated[str | None, typer.Option(help="read DATA as this layout  [default: found out]")]
Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="a folder of pictures with annotations, or one annotation file")
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="a model.onnx, or the run folder that holds one")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"onebox {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and leave")
    ] = False,
) -> None:
    """One picture, one object: what it is and where it is."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for the demo's data, run and pictures")] = Path("onebox-demo"),
    seed: Annotated[int, typer.Option(help="of the drawn pictures and of the training")] = 0,
) -> None:
    """The whole story on built-in pictures, on a CPU, in about two minutes."""
    from onebox.cli.demo import run_demo

    run_demo(out, seed=seed)


@app.command()
def check(
    data: Data, layout: Layout = None, json: Annotated[Path | None, typer.Option(help="write the findings here")] = None
) -> None:
    """Read any supported layout and say what is wrong with it."""
    from onebox.cli.check import run_check

    run_check(data, layout=layout, json_path=json)


app.command("train")(train_command())


@app.command()
def evaluate(
    model: Model,
    data: Data,
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
    part: Annotated[
        str | None, typer.Option(help="train, val, test or all  [default: test, else val, else all]")
    ] = None,
    multiple: SeveralObjects = "error",
    layout: Layout = None,
) -> None:
    """The scoreboard of a model on labelled pictures, beside "always the median box"."""
    from onebox.cli.evaluate import run_evaluate

    run_evaluate(model, data, json_path=json, part=part, multiple=multiple, layout=layout)


@app.command()
def predict(
    model: Model,
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURES...", help="pictures, or folders of them")],
    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="JSON lines; the default, to standard output")
    ] = None,
    csv: Annotated[str | None, typer.Option(metavar="FILE|-", help="CSV instead")] = None,
    draw: Annotated[Path | None, typer.Option(metavar="DIR", help="write pictures with the box drawn")] = None,
    crop: Annotated[Path | None, typer.Option(metavar="DIR", help="write the object cut out")] = None,
) -> None:
    """Name and box the object in pictures. A picture that cannot be read is one row with its error."""
    from onebox.cli.predict import run_predict

    run_predict(model, pictures, json_to=json, csv_to=csv, draw=draw, crop=crop)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a run folder, finished or not")],
    out: Annotated[Path | None, typer.Option(help="the file to write  [default: RUN/model.onnx]")] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="pictures for the proof  [default: drawn ones]")
    ] = None,
) -> None:
    """Write model.onnx again from a run's best weights, proved against torch."""
    from onebox.cli.export import run_export

    run_export(run, out=out, pictures=pictures)
