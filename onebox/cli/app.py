"""The table of commands. Takes nothing, gives the Typer app; every handler imports its work inside."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from onebox._version import __version__
from onebox.cli.label import label_command
from onebox.cli.train import train_command
from onebox.types import Multiple


class _Commands(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As ever, but `--json --refine` does not write a file called --refine."""
        name, command, rest = super().resolve_command(ctx, args)
        for word, value in itertools.pairwise(rest):
            # an argument has no is_flag, a flag takes no value
            takers = [p for p in (command.params if command else ()) if not getattr(p, "is_flag", True)]
            if value.startswith("--") and any(word in p.opts for p in takers):
                raise typer.BadParameter(f"it needs a value, and {value} is a flag", ctx, param_hint=word)
        return name, command, rest


app = typer.Typer(
    cls=_Commands,
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
Refine = Annotated[
    bool | None,
    typer.Option("--refine/--no-refine", help="look at each picture twice, or once  [default: as MODEL was made for]"),
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
    model: Annotated[
        Path | None, typer.Option(metavar="RUN", help="a run folder: say which labels and boxes are surely wrong")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="of --model: trainings, each judging what it has not seen  [default: 5]")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="of --model: for all trainings  [default: RUN's own time for each]")
    ] = None,
) -> None:
    """Read any supported layout and say what is wrong with it."""
    from onebox.cli.check import run_check

    run_check(
        data, layout=layout, boxes=boxes, json_path=json, page_path=page, fix_path=fix,
        model=model, folds=folds, minutes=minutes,
    )  # fmt: skip


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


app.command("label")(label_command())
app.command("train")(train_command())


@app.command()
def evaluate(
    model: Model,
    data: Data,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write the figures and the answer to every picture here")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a page here, such as report.html (plots, worst pictures)")
    ] = None,
    negatives: Annotated[
        Path | None, typer.Option(metavar="DIR", help="pictures without an object: how well are they told apart?")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="train, val, test or all  [default: test, else val, else all]")
    ] = None,
    refine: Refine = None,
    multiple: SeveralObjects = "error",
    layout: Layout = None,
    boxes: Boxes = None,
) -> None:
    """The scoreboard of a model on labelled pictures, beside "always the median box"."""
    from onebox.cli.evaluate import run_evaluate

    run_evaluate(
        model, data, json_path=json, report_path=report, negatives=negatives, part=part, multiple=multiple,
        layout=layout, boxes=boxes, refine=refine,
    )  # fmt: skip


@app.command()
def calibrate(
    model: Model,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="labelled pictures that MODEL was not trained on (but see --folds)")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="the file to write  [default: NAME-calibrated.onnx beside MODEL]"),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="put it into MODEL itself")] = False,
    folds: Annotated[
        int | None,
        typer.Option(min=2, metavar="K", help="DATA is what MODEL learnt from: train K times, each on all but a Kth"),
    ] = None,
    negatives: Annotated[
        Path | None, typer.Option(metavar="DIR", help="pictures without an object, to be told from the others")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="of DATA: train, val, test or all  [default: val, else test; train with --folds]")
    ] = None,
    multiple: SeveralObjects = "error",
    layout: Layout = None,
    boxes: Boxes = None,
) -> None:
    """A copy of a model that can promise: probabilities that hold, boxes and class sets with a stated coverage."""
    from onebox.cli.calibrate import Source, run_calibrate

    reading = {"multiple": multiple, "layout": layout, "boxes": boxes}
    run_calibrate(model, Source(data, reading, part, folds, negatives), out=out, in_place=in_place)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="run folders, or files of `onebox evaluate --json`")
    ],
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="judge all models (folders or model files) on these pictures")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="of --data: train, val, test or all  [default: test, else val, else all]")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write the comparison here, as JSON")] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a page here: curves, and where the runs disagree most")
    ] = None,
    multiple: SeveralObjects = "error",
    layout: Layout = None,
    boxes: Boxes = None,
) -> None:
    """Runs side by side on the same pictures: paired differences with intervals, and what the runs differ in."""
    from onebox.cli.compare import run_compare

    run_compare(
        runs, data=data, part=part, json_path=json, page_path=page,
        reading={"multiple": multiple, "layout": layout, "boxes": boxes},
    )  # fmt: skip


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
    coverage: Annotated[
        float | None,
        typer.Option(metavar="P", help="add a box and a set of classes that hold the truth with this probability: 0.9"),
    ] = None,
    only_present: Annotated[
        bool, typer.Option("--only-present", help="leave out pictures that hold none of the model's objects")
    ] = False,
    refine: Refine = None,
) -> None:
    """Name and box the object in pictures. A picture that cannot be read is one row with its error."""
    from onebox.cli.predict import run_predict

    run_predict(
        model, pictures, json_to=json, csv_to=csv, draw=draw, crop=crop, coverage=coverage, only_present=only_present,
        refine=refine,
    )  # fmt: skip


@app.command()
def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="address to listen on; another than this machine's own needs a token")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a file with the token that every request must carry")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="a further name that this server is called by; repeatable")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="pictures worked on at a time  [default: cores]")] = None,
    queue: Annotated[int, typer.Option(min=1, help="pictures that may wait before requests are refused")] = 64,
    max_mib: Annotated[int, typer.Option(min=1, help="largest request, in MiB")] = 32,
    max_megapixels: Annotated[int, typer.Option(min=1, help="largest picture")] = 50,
) -> None:
    """Answer over HTTP, with a page to try the model on."""
    from onebox.cli.serve import run_serve

    run_serve(
        model, host=host, port=port, token_file=token_file, other_hosts=allow_host or (), threads=threads,
        limits={"waiting": queue, "body_limit": max_mib << 20, "pixels": max_megapixels * 1_000_000},
    )  # fmt: skip


@app.command()
def explain(
    model: Model,
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="one picture")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the picture to write  [default: PICTURE-explained.png, here]")
    ] = None,
    json: Annotated[str | None, typer.Option(metavar="FILE|-", help="the numbers and the five maps as JSON")] = None,
) -> None:
    """Where the class head looked, and where each of the four edges looked."""
    from onebox.cli.explain import run_explain

    run_explain(model, picture, out=out, json_to=json)


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
