"""`onebox compare`: runs side by side, as a table, as JSON, as a page. Writes nothing but what was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress

from onebox.comparison import compare
from onebox.errors import ConfigError, RunFolderError
from onebox.files import write_atomic


def run_compare(
    runs: list[Path],
    *,
    data: Path | None = None,
    part: str | None = None,
    json_path: Path | None = None,
    page_path: Path | None = None,
    reading: dict[str, Any] | None = None,
) -> None:
    """Prints the comparison (`reading`: options of `load_dataset`). Raises OneboxError."""
    if page_path is not None:
        _before_a_page(page_path)
    if part is not None and data is None:
        raise ConfigError("--part is of --data, which was not given")
    dataset = None
    if data is not None:
        from onebox.cli.evaluate import choose_part
        from onebox.dataset import load_dataset

        dataset = choose_part(load_dataset(data, **reading or {}), part)
    errors = Console(stderr=True, highlight=False, emoji=False)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("judging", total=None)
        comparison = compare(
            runs, dataset, progress=lambda done, total: progress.update(task, completed=done, total=total)
        )
    typer.echo(str(comparison))
    if json_path is not None:
        write_atomic(json_path, json.dumps(comparison.to_dict(), indent=2, ensure_ascii=False) + "\n")
        typer.echo(f"Comparison: {json_path}", err=True)
    if page_path is not None:
        from onebox.report.compared import write_comparison_page

        write_comparison_page(page_path, comparison)
        typer.echo(f"Page: {page_path}", err=True)


def _before_a_page(path: Path) -> None:
    from onebox.report.plots import need_matplotlib

    need_matplotlib()
    if not path.parent.is_dir():
        raise RunFolderError("no such folder", where=str(path.parent), fix="Create it first.")
