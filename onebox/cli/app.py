"""The table of commands. Takes nothing, gives the Typer app; every handler imports its work inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
Boxes = Annotated[
    Literal["head", "body"] | None, typer.Option(help="which boxes, where DATA offers several kinds (Oxford-IIIT pets)")
]
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
    data: Data,
    layout: Layout = None,
    boxes: Boxes = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write the findings here, as JSON")] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a page with thumbnails here, such as check.html")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(metavar="OUT", help="write a repaired copy to this new folder; DATA stays as it is")
    ] = None,
) -> None:
    """Read any supported layout and say what is wrong with it."""
    from onebox.cli.check import run_check

    run_check(data, layout=layout, boxes=boxes, json_path=json, page_path=page, fix_path=fix)


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="a folder of pictures with annotations, or one annotation file")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="a new folder")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="one of those that `onebox formats` lists under --to")],
    layout: Annotated[str | None, typer.Option(help="read IN as this layout  [default: found out]")] = None,
    multiple: SeveralObjects = "error",
    link: Annotated[bool, typer.Option("--link", help="hard links to the pictures instead of copies")] = False,
    boxes: Boxes = None,
) -> None:
    """Write a data set in another layout, its pictures byte for byte."""
    from onebox.cli.convert import run_convert

    run_convert(source, out, to, layout=layout, multiple=multiple, boxes=boxes, link=link)


@app.command()
def formats() -> None:
    """List the layouts that can be read and written."""
    from onebox.cli.formats import run_formats

    run_formats()


@app.command()
def split(
    data: Data,
    out: Annotated[
        Path, typer.Option(metavar="DIR|FILE", help="a new folder, or a .jsonl in DATA that names its pictures")
    ],
    fractions: Annotated[str, typer.Option(metavar="A,B[,C]", help="shares of train, val and test")] = ".8,.1,.1",
    seed: Annotated[int, typer.Option(help="another seed, another split")] = 0,
    group_regex: Annotated[
        str | None, typer.Option(metavar="R", help="keep together what R's first group matches alike in the paths")
    ] = None,
    group_column: Annotated[
        str | None, typer.Option(metavar="C", help="keep together what is alike in column C of a CSV in DATA")
    ] = None,
    group_table: Annotated[Path | None, typer.Option(metavar="CSV", help="the table of --group-column")] = None,
    copies: Annotated[bool, typer.Option(help="look at all pictures and keep copies together")] = True,
    to: Annotated[str, typer.Option(metavar="FORMAT", help="how a folder is written: see `onebox formats`")] = "csv",
    link: Annotated[bool, typer.Option("--link", help="hard links to the pictures instead of copies")] = False,
    multiple: SeveralObjects = "error",
    layout: Layout = None,
    boxes: Boxes = None,
) -> None:
    """Cut DATA into parts that share no picture, no copy of one, and no sibling."""
    from onebox.cli.split import run_split

    table = str(group_table) if group_table is not None else None
    run_split(
        data, out, fractions=fractions, seed=seed, to=to, link=link,
        grouping={"copies": copies, "pattern": group_regex, "column": group_column, "table": table},
        reading={"multiple": multiple, "layout": layout, "boxes": boxes},
    )  # fmt: skip


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
    boxes: Boxes = None,
) -> None:
    """The scoreboard of a model on labelled pictures, beside "always the median box"."""
    from onebox.cli.evaluate import run_evaluate

    run_evaluate(model, data, json_path=json, part=part, multiple=multiple, layout=layout, boxes=boxes)


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
