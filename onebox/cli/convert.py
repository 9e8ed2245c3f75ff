"""`onebox convert`: a data set in another layout; what was read, left out and written, as plain lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import typer
from rich.console import Console
from rich.progress import Progress

from onebox.conversion import Converted, convert
from onebox.types import Multiple

#: More files of one kind in one folder are counted.
_LISTED = 4


def run_convert(
    source: Path,
    out: Path,
    to: str,
    *,
    layout: str | None = None,
    multiple: Multiple = "error",
    boxes: str | None = None,
    link: bool = False,
) -> None:
    """Converts, and says what came of it. Raises OneboxError."""
    errors = Console(stderr=True, highlight=False, emoji=False)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("reading", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, description="linking" if link else "copying", completed=done, total=total)

        done = convert(source, out, to, layout=layout, multiple=multiple, boxes=boxes, link=link, progress=show)
    for line in _summary(done, source, link=link):
        # a folder's name may hold bytes that are no text
        typer.echo(line.encode("utf-8", "replace").decode())


def _summary(done: Converted, source: Path, *, link: bool) -> list[str]:
    data = done.data
    labelled = len(data) - data.unlabelled_count
    lines = [
        f"Read: {source} as {data.layout}, {len(data)} pictures, {labelled} labelled, {len(data.class_names)} classes"
    ]
    parts = [f"{part} {len(data.part(part))}" for part in data.parts()]
    without = len(data) - sum(s.split is not None for s in data)
    if parts:
        lines[0] += f" ({', '.join([*parts, *([f'no part {without}'] if without else [])])})"
    if done.changed:
        lines.append(f"Changed: {_counts(done.changed)}")
    if done.left_out:
        lines.append(f"Left out: {_counts(done.left_out)} (onebox check {source} lists them)")
    how = "linked" if link else "copied"
    named = f", {done.renamed} under another name" if done.renamed else ""
    lines.append(f"Written: {done.out} as {done.to}, {len(done.names)} pictures {how}{named}")
    lines.append(f"Annotations: {_files(done.files)}")
    return lines


def _files(files: Sequence[str]) -> str:
    """ "data.yaml, labels/train/*.txt (600)"."""
    groups: dict[tuple[str, str], list[str]] = {}
    for file in files:
        path = PurePosixPath(file)
        groups.setdefault((str(path.parent), path.suffix), []).append(file)
    shown: list[str] = []
    for (folder, suffix), members in groups.items():
        many = len(members) > _LISTED
        shown += [f"{folder}/*{suffix} ({len(members)})"] if many else members
    return ", ".join(shown)


def _counts(codes: dict[str, int]) -> str:
    return ", ".join(f"{code} {count}" for code, count in codes.items())
