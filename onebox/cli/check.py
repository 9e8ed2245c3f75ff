"""`onebox check`: the doctor's findings as plain lines, and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress

from onebox.dataset import load_dataset
from onebox.doctor import check
from onebox.files import write_atomic

#: Findings of one kind shown on the terminal; the JSON has them all.
SHOWN = 5


def run_check(data: Path, *, layout: str | None = None, json_path: Path | None = None) -> None:
    """Prints what was read and what is wrong with it. Raises OneboxError where nothing can be read."""
    errors = Console(stderr=True, highlight=False)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("looking at pictures", total=None)
        dataset = load_dataset(data, multiple="largest", layout=layout)
        checkup = check(dataset, progress=lambda done, total: progress.update(task, completed=done, total=total))
    console = Console(highlight=False)
    console.print(f"Read as {checkup.layout}: {checkup.pictures} pictures, {checkup.usable} usable.", markup=False)
    classes = ", ".join(f"{name} {count}" for name, count in checkup.classes.items())
    console.print(f"{len(checkup.classes)} classes: {classes}", markup=False)
    by_code: dict[str, list[str]] = {}
    for finding in checkup.findings:
        place = (
            f"{finding.file}:{finding.line}"
            if finding.file and finding.line
            else (finding.file or finding.picture or "")
        )
        by_code.setdefault(finding.code, []).append(f"{place}  {finding.message}" if place else finding.message)
    # plain lines, never cut: `file:line` is there to be copied
    for code, lines in by_code.items():
        console.print(f"\n{code}: {len(lines)}", style="bold", markup=False)
        more = [f"... and {len(lines) - SHOWN} more (--json FILE has all)"] if len(lines) > SHOWN else []
        for line in lines[:SHOWN] + more:
            console.print(f"  {line}", markup=False, soft_wrap=True)
    if not by_code:
        console.print("Nothing wrong found.")
    if json_path is not None:
        write_atomic(json_path, json.dumps(checkup.to_dict(), indent=2, ensure_ascii=False) + "\n")
        typer.echo(f"Findings: {json_path}", err=True)
