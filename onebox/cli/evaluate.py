"""`onebox evaluate`: the scoreboard, as text, as JSON with the answer to every picture, and as a page."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress

from onebox.cli.predict import expand
from onebox.dataset import Dataset, load_dataset
from onebox.errors import ConfigError, RunFolderError
from onebox.evaluation import Evaluation, judge, judge_presence
from onebox.evaluation_file import saved, write_evaluation
from onebox.runtime import Localizer, load
from onebox.types import Multiple


def run_evaluate(
    model_path: Path,
    data: Path,
    *,
    json_path: Path | None = None,
    report_path: Path | None = None,
    negatives: Path | None = None,
    part: str | None = None,
    multiple: Multiple = "error",
    layout: str | None = None,
    boxes: str | None = None,
    refine: bool | None = None,
) -> None:
    """Judges a model on labelled pictures, and on `negatives`, a folder of pictures without an object. Raises
    OneboxError."""
    started = time.perf_counter()
    if report_path is not None:
        _before_a_report(report_path)
    model = load(model_path, refine=refine)
    dataset = choose_part(load_dataset(data, multiple=multiple, layout=layout, boxes=boxes), part)
    empty = _empty_pictures(negatives)
    evaluation = judge_with_progress(model, dataset)
    unreadable = list(evaluation.unreadable)
    if empty:
        metrics, more = judge_presence(model, evaluation, empty)
        evaluation = replace(evaluation, metrics=metrics)
        unreadable += more
    for skipped in dataset.skipped:
        typer.echo(f"skipped: {skipped}", err=True)
    for path, reason in unreadable:
        typer.echo(f"skipped: {path}: {reason}", err=True)
    typer.echo(str(evaluation.metrics))
    if json_path is not None:
        write_evaluation(json_path, saved(evaluation, model.manifest, dataset))
    if report_path is not None:
        from onebox.report.evaluated import write_evaluation_report

        write_evaluation_report(
            report_path, evaluation, model.manifest, dataset,
            model_name=str(model_path), seconds=time.perf_counter() - started,
        )  # fmt: skip
        typer.echo(f"Report: {report_path}", err=True)


def judge_with_progress(model: Localizer, data: Dataset) -> Evaluation:
    """`judge`, with a bar on the terminal."""
    errors = Console(stderr=True, highlight=False, emoji=False)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("evaluating", total=None)
        return judge(model, data, progress=lambda done, total: progress.update(task, completed=done, total=total))


def _empty_pictures(folder: Path | None) -> list[Path]:
    """The pictures of --negatives. Raises ConfigError where there is none."""
    found = list(expand([folder])) if folder is not None else []
    if folder is not None and not found:
        raise ConfigError("--negatives holds no pictures", where=str(folder))
    return found


def _before_a_report(path: Path) -> None:
    """What can be known before hours of judging: the plots can be drawn, and the folder is there."""
    from onebox.report.plots import need_matplotlib

    need_matplotlib()
    if not path.parent.is_dir():
        raise RunFolderError("no such folder", where=str(path.parent), fix="Create it first.")


def choose_part(data: Dataset, part: str | None) -> Dataset:
    """The part asked for; by itself test, else val, where the data has its own split, so that nothing is judged on what
    it was trained on. Says so. Raises ConfigError for a part that is not there."""
    parts = data.parts()
    if part == "all" or (part is None and not parts):
        return data
    if part is None:
        part = next((p for p in ("test", "val") if p in parts), None)
        if part is None:
            return data
        typer.echo(
            f"The data has its own split: judging on its {part} pictures (--part all takes every one).", err=True
        )
    if part not in parts:
        raise ConfigError(f"the data has no part {part!r}; it has {', '.join(parts) or 'none'}", fix="Use --part all.")
    return data.part(part)
