"""`onebox evaluate`: the scoreboard, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress

from onebox.dataset import Dataset, load_dataset
from onebox.errors import ConfigError
from onebox.evaluation import judge
from onebox.files import write_atomic
from onebox.runtime import load
from onebox.types import Multiple


def run_evaluate(
    model_path: Path,
    data: Path,
    *,
    json_path: Path | None = None,
    part: str | None = None,
    multiple: Multiple = "error",
    layout: str | None = None,
    boxes: str | None = None,
) -> None:
    """Judges a model on labelled pictures. Raises OneboxError."""
    model = load(model_path)
    dataset = choose_part(load_dataset(data, multiple=multiple, layout=layout, boxes=boxes), part)
    errors = Console(stderr=True, highlight=False)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("evaluating", total=None)
        evaluation = judge(
            model, dataset, progress=lambda done, total: progress.update(task, completed=done, total=total)
        )
    for skipped in dataset.skipped:
        typer.echo(f"skipped: {skipped}", err=True)
    for path, reason in evaluation.unreadable:
        typer.echo(f"skipped: {path}: {reason}", err=True)
    typer.echo(str(evaluation.metrics))
    if json_path is not None:
        write_atomic(json_path, json.dumps(evaluation.metrics.to_dict(), indent=2, ensure_ascii=False) + "\n")


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
