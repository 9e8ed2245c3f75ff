"""`onebox check`: the doctor's findings as a table and as lines to be copied, as JSON, as a page; and the repaired
copy. Writes nothing but what was asked for.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path, PurePath

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from onebox.doctor import CODES, Checkup, Finding, Level, diagnose
from onebox.doctor.fix import Repaired, fix
from onebox.errors import ConfigError
from onebox.files import write_atomic

#: Findings of one code shown on the terminal; the JSON and the page have them all.
SHOWN = 3
_STYLES: dict[Level, str] = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_MOST_CLASSES = 30


def run_check(
    data: Path,
    *,
    layout: str | None = None,
    boxes: str | None = None,
    json_path: Path | None = None,
    page_path: Path | None = None,
    fix_path: Path | None = None,
    model: Path | None = None,
    folds: int | None = None,
    minutes: float | None = None,
) -> None:
    """Prints what was read and what is wrong with it. Raises OneboxError where nothing can be read, or where something
    asked for cannot be written."""
    if model is None and (folds is not None or minutes is not None):
        raise ConfigError("--folds and --minutes are for --model", fix="Add --model RUN.")
    errors = Console(stderr=True, highlight=False, emoji=False)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("looking at pictures", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        diagnosis = diagnose(data, layout=layout, boxes=boxes, progress=show)
        progress.stop()
        if model is not None:
            from onebox.cli.suspects import add_suspects  # not needed without a model

            diagnosis = add_suspects(diagnosis, model, folds=folds, minutes=minutes)
        checkup = diagnosis.checkup
        _show(checkup, Console(highlight=False, emoji=False))
        if json_path is not None:
            write_atomic(json_path, json.dumps(checkup.to_dict(), indent=2, ensure_ascii=False) + "\n")
            typer.echo(f"Findings: {json_path}", err=True)
        if page_path is not None:
            _write_page(page_path, checkup, data)
        if fix_path is not None:
            progress.start()
            progress.update(task, description="copying", completed=0, total=None)
            repaired = fix(diagnosis, fix_path, progress=show)
            progress.stop()
            _show_repaired(repaired)


def _write_page(path: Path, checkup: Checkup, data: Path) -> None:
    from onebox.doctor.page import write_check_page  # draws: not needed for the terminal

    write_check_page(path, checkup, root=str(data))
    typer.echo(f"Page: {path}", err=True)


def _show_repaired(repaired: Repaired) -> None:
    """What was put right, and what a person must look at."""
    written = repaired.written
    typer.echo(f"\nRepaired copy: {written.out} as {written.to}, {len(written.names)} pictures")
    for (code, what), count in Counter((f.code, f.fix) for f in repaired.done).items():
        typer.echo(f"  {code} {count}: {what}")
    if repaired.left:
        counts = ", ".join(f"{code} {count}" for code, count in Counter(f.code for f in repaired.left).items())
        typer.echo(f"Left for you: {counts}")


def _show(checkup: Checkup, console: Console) -> None:
    console.print(f"Read as {checkup.layout}: {checkup.pictures} pictures, {checkup.usable} usable.", markup=False)
    names = [f"{name} {count}" for name, count in checkup.classes.items()]
    more = f" and {len(names) - _MOST_CLASSES} more" if len(names) > _MOST_CLASSES else ""
    noun = "class" if len(names) == 1 else "classes"
    console.print(f"{len(names)} {noun}: {', '.join(names[:_MOST_CLASSES])}{more}", markup=False)
    by_code = checkup.by_code()
    if not by_code:
        console.print("Nothing wrong found.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("")
    table.add_column("code")
    table.add_column("count", justify="right")
    table.add_column("what it means")
    for code, findings in by_code.items():
        kind = CODES[code]
        table.add_row(kind.level, code, str(len(findings)), kind.meaning, style=_STYLES[kind.level])
    console.print()
    console.print(table)
    ambiguous = _ambiguous(checkup)
    for code, findings in by_code.items():
        console.print(f"\n{code}", style=_STYLES[CODES[code].level], markup=False)
        lines = [_line(finding, ambiguous) for finding in findings[:SHOWN]]
        if len(findings) > SHOWN:
            lines.append(f"... and {len(findings) - SHOWN} more (--json FILE has all)")
        # plain lines, never cut: `file:line` is there to be copied
        for line in lines:
            console.print(f"  {line}", markup=False, soft_wrap=True)


def _ambiguous(checkup: Checkup) -> set[str]:
    """Pictures that share folder and stem with another one: an annotation's name does not tell which it means."""
    pictures = {path for f in checkup.findings for path in (f.picture, *f.others) if path} | set(checkup.boxes)
    by_stem: dict[str, list[str]] = {}
    for picture in pictures:
        by_stem.setdefault(os.path.splitext(picture)[0], []).append(picture)  # noqa: PTH122 - names may be anything
    return {picture for some in by_stem.values() if len(some) > 1 for picture in some}


def _line(finding: Finding, ambiguous: set[str]) -> str:
    """Where it is written, which picture where that does not say it, what is wrong."""
    name = PurePath(finding.picture).name if finding.picture else ""
    same_stem = finding.file is not None and PurePath(finding.file).stem == PurePath(name).stem
    told = not name or finding.file is None or (same_stem and finding.picture not in ambiguous)
    sure = f" ({finding.confidence:.0%} sure)" if finding.confidence < 1 else ""
    message = f"{finding.message}{sure}" if told else f"{name}: {finding.message}{sure}"
    return f"{finding.place}  {message}" if finding.place else message
