"""`onebox split`: a data set cut into parts that share no picture, no copy and no sibling; written as a new folder, or
as one file of lines beside the pictures."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress

from onebox.conversion import write_dataset
from onebox.dataset import Dataset, load_dataset
from onebox.errors import ConfigError
from onebox.files import write_atomic
from onebox.formats.write_jsonl import WRITER
from onebox.formats.writing import judge_samples
from onebox.grouping import find_groups
from onebox.splitting import part_names, read_fractions

#: More classes are told by their extremes only.
_CLASSES_SHOWN = 40


def run_split(
    data: Path,
    out: Path,
    *,
    fractions: str,
    seed: int = 0,
    grouping: dict[str, Any] | None = None,
    reading: dict[str, Any] | None = None,
    to: str = "csv",
    link: bool = False,
) -> None:
    """Reads (`reading`: options of `load_dataset`), groups (`grouping`: those of `find_groups`), splits, writes. Raises
    OneboxError."""
    shares = parse_fractions(fractions)
    names = part_names(len(shares))
    whole = load_dataset(data, **reading or {})
    into_file = out.suffix.lower() == ".jsonl"
    if into_file:
        _check_file(out, whole)
    if whole.parts():
        typer.echo(f"The data has its own split ({', '.join(whole.parts())}); it is made anew from all.", err=True)
    errors = Console(stderr=True, highlight=False, emoji=False)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("reading pictures", total=len(whole))
        found = find_groups(
            whole, progress=lambda done, total: progress.update(task, completed=done, total=total), **grouping or {}
        )
        for note in found.notes:
            typer.echo(note)
        parts = whole.split(shares, seed, groups=found.groups)
        split = _named(whole, dict(zip(names, parts, strict=True)))
        progress.update(task, description="writing", total=None)
        written = _write_file(split, out) if into_file else _write_folder(split, out, to, link=link)
    for line in _table(dict(zip(names, parts, strict=True)), whole.class_names):
        typer.echo(line)
    typer.echo(f"Written: {written}\nonebox train {out} trains on its train part.")


def parse_fractions(text: str) -> tuple[float, ...]:
    """ ".8,.1,.1" or "0.8". Raises ConfigError."""
    try:
        numbers = [float(word) for word in text.replace(";", ",").split(",")]
    except ValueError:
        raise ConfigError(f"not a list of shares: {text}", fix="Use --fractions .8,.1,.1 or --fractions .8.") from None
    return read_fractions(numbers[0] if len(numbers) == 1 else numbers)


def _named(whole: Dataset, parts: dict[str, Dataset]) -> Dataset:
    """The whole data set, each sample with the name of its part."""
    part_of = {sample.path: name for name, part in parts.items() for sample in part}
    samples = tuple(dataclasses.replace(sample, split=part_of[sample.path]) for sample in whole)
    return dataclasses.replace(whole, samples=samples)


def _check_file(out: Path, whole: Dataset) -> None:
    root = Path(whole.root or ".")
    if out.exists():
        raise ConfigError("this file is there already", where=str(out), fix="Give another name, or remove it.")
    if out.resolve().parent != root.resolve():
        raise ConfigError(
            "a list names pictures below its own folder only",
            where=str(out),
            fix=f"Put it into {root}, or give a folder: that gets the pictures as well.",
        )


def _write_file(split: Dataset, out: Path) -> str:
    """One line a picture. Read back before it gets its name: what stands in the file must be the same data set."""
    placed = [dataclasses.replace(sample, path=split.relative_path(sample)) for sample in split]
    judge_samples(placed, split.class_names)
    with tempfile.TemporaryDirectory() as folder:
        (written,) = WRITER.write(placed, split.class_names, Path(folder))
        text = (Path(folder) / written).read_bytes()
    write_atomic(out, text)
    again = load_dataset(out)
    if [(s.path, s.label, s.split) for s in again] != [(s.path, s.label, s.split) for s in split]:
        out.unlink()
        raise ConfigError(
            "the pictures' names do not read back from a list the same",
            where=str(out),
            fix="Give a folder: that gets the pictures as well, under plain names.",
        )
    return f"{out}, {len(split)} lines; the pictures stay where they are"


def _write_folder(split: Dataset, out: Path, to: str, *, link: bool) -> str:
    done = write_dataset(split, out, to, link=link)
    return (
        f"{out} as {done.to} ({', '.join(done.files[:4])}), {len(done.names)} pictures {'linked' if link else 'copied'}"
    )


def _table(parts: dict[str, Dataset], class_names: tuple[str, ...]) -> list[str]:
    """Pictures per part, and per class and part."""
    lines = [", ".join(f"{name} {len(part)}" for name, part in parts.items())]
    counts = [part.counts() for part in parts.values()]
    if len(class_names) <= _CLASSES_SHOWN:
        lines += [f"  {name}: {' / '.join(str(count[name]) for count in counts)}" for name in class_names]
    else:
        for name, count in zip(parts, counts, strict=True):
            lines.append(f"  {name}: {min(count.values())} to {max(count.values())} of each of {len(count)} classes")
    return lines
