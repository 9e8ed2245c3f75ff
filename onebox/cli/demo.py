"""`onebox demo`: draws a data set, then runs what any user runs on it - check, train, evaluate, predict, draw - and
ends with the scoreboard and two files to look at."""

from __future__ import annotations

import csv
import os
import shlex
import time
from functools import partial
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from onebox.cli.check import run_check
from onebox.cli.evaluate import run_evaluate
from onebox.cli.predict import run_predict
from onebox.cli.train import run_train
from onebox.demo_data import write_demo_data
from onebox.draw import contact_sheet, draw_thumbnail
from onebox.errors import MissingExtraError, RunFolderError
from onebox.files import atomic_path, make_folder

#: Pictures drawn, a fifth of them for testing only; and the training that reaches .90 on those in the time there is
#: (docs/log.md, 2026-11-22).
PICTURES = 1500
SETTINGS = {"backbone": "plain", "weights": "none", "imgsz": 96, "minutes": 2.0}
ON_SHEET = 24


def run_demo(out: Path, *, seed: int = 0) -> None:
    """Fills `out`. Raises RunFolderError where it holds something already, MissingExtraError without torch."""
    _require_torch()
    if out.exists() and any(out.iterdir()):
        raise RunFolderError(
            "this folder holds something already", where=str(out), fix="Remove it, or choose another with --out."
        )
    console = Console(stderr=True, highlight=False, emoji=False)
    started = time.perf_counter()
    make_folder(out)
    data, run = out / "data", out / "run"

    _step(console, f"1/5  Drawing {PICTURES} pictures of eight kinds of object")
    columns = (TextColumn("drawing"), BarColumn(bar_width=32), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=PICTURES)
        told = partial(progress.update, task)
        cores = min(os.cpu_count() or 1, 8)
        write_demo_data(data, count=PICTURES, seed=seed, processes=cores, progress=lambda n, _: told(completed=n))

    train_csv, test_csv = data / "train.csv", data / "test.csv"
    _step(console, "2/5  Looking for mistakes", f"onebox check {shlex.quote(str(data))}")
    run_check(data)

    flags = " ".join(f"--{key} {value}" for key, value in SETTINGS.items())
    _step(console, "3/5  Training", f"onebox train {shlex.quote(str(train_csv))} --out {shlex.quote(str(run))} {flags}")
    run_train(train_csv, out=run, settings={**SETTINGS, "seed": seed})

    _step(console, "4/5  Judging on pictures it has never seen", f"onebox evaluate {run} {test_csv} --json ...")
    run_evaluate(run, test_csv, json_path=out / "scores.json")

    _step(console, "5/5  Predicting and drawing", f"onebox predict {run} ... --json ... --draw ...")
    with test_csv.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:ON_SHEET]
    pictures = [data / row["filename"] for row in rows]
    run_predict(run, pictures, json_to=str(out / "predictions.jsonl"), draw=out / "predictions")
    sheet = _draw_sheet(run, data, rows, out / "predictions.png")

    console.print(f"\nDone in {time.perf_counter() - started:.0f} s.", style="bold")
    typer.echo(f"Report:         {run / 'report.html'}")
    typer.echo(f"Contact sheet:  {sheet}")
    typer.echo(f"Model:          {run / 'model.onnx'}")


def _draw_sheet(run: Path, data: Path, rows: list[dict[str, str]], path: Path) -> Path:
    """The first test pictures, true box and predicted box on each."""
    from onebox.boxes import iou
    from onebox.images import open_image
    from onebox.runtime import load
    from onebox.types import Box

    model = load(run)
    tiles = []
    for row, answer in zip(rows, model.predict([data / r["filename"] for r in rows]), strict=True):
        image, size = open_image(data / row["filename"])
        truth = Box(*(float(row[k]) for k in ("xmin", "ymin", "xmax", "ymax")), image_size=size)
        good = answer.label == row["class"] and float(iou([answer.box.xyxy], [truth.xyxy])[0]) > 0.5
        title = f"{answer.label} {answer.score:.0%}" + ("" if answer.label == row["class"] else f", is {row['class']}")
        tiles.append((draw_thumbnail(image, answer.box, truth=truth, px=240), title, good))
    with atomic_path(path) as temporary:
        contact_sheet(tiles, heading="onebox demo: pictures it has never seen").save(temporary, "PNG")
    return path


def _step(console: Console, title: str, command: str = "") -> None:
    console.print(f"\n{title}", style="bold", markup=False)
    if command:
        console.print(f"$ {command}", style="dim", markup=False, soft_wrap=True)


def _require_torch() -> None:
    from importlib.util import find_spec

    for package in ("torch", "timm", "accelerate", "onnx"):
        if find_spec(package) is None:
            raise MissingExtraError(
                f"the demo trains a model and needs {package}, which is not installed",
                fix='Run: pip install "onebox[train]"',
            )
