"""Which pictures of a data set belong together, for a split that does not leak: copies of one picture, pictures made
from one photo, and whatever else a person says by a regular expression or a column of a table. Reads pictures and
tables of the data set; writes nothing.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onebox.copies import copy_groups
from onebox.dataset import Dataset
from onebox.errors import ConfigError
from onebox.formats.pictures import Pictures, is_picture
from onebox.formats.tree import Tree, decode, enumerate_some, folder_of, read_bytes, scan
from onebox.splitting import Groups, merge_groups, name_groups, pattern_groups

_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class Grouping:
    """`groups`, one number per sample; `notes` say, for each reason, how many pictures it keeps together."""

    groups: list[int]
    notes: tuple[str, ...]


def find_groups(
    data: Dataset,
    *,
    copies: bool = True,
    names: bool = True,
    pattern: str | None = None,
    column: str | None = None,
    table: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Grouping:
    """Who must stay together. `copies`: the same picture, re-encoded, resized, slightly cropped or mirrored; every
    picture is read for that, and `progress(done, total)` called. `names`: made from one photo, by the file names.
    `pattern`: a regular expression searched in the paths; what its first group matches is the group. `column`: a column
    of `table`, a CSV in the data set (found where not given), whose equal cells make a group.

    Raises ConfigError for an expression or a column that groups nothing.
    """
    paths = [data.relative_path(sample) for sample in data]
    kinds: list[tuple[str, Groups]] = []
    if names:
        kinds.append(("made from one photo, as their names say", name_groups(paths)))
    if pattern is not None:
        kinds.append((f"alike in {pattern}", pattern_groups(paths, pattern)))
    if column is not None:
        kinds.append((f"alike in the column {column}", column_groups(data, column, table)))
    if copies:
        kinds.append(("copies of one picture", copy_groups([s.path for s in data], progress=progress)))
    notes = tuple(note for reason, groups in kinds if (note := _note(reason, groups)))
    return Grouping(merge_groups(len(data), *(groups for _, groups in kinds)), notes)


def column_groups(data: Dataset, column: str, table: str | None = None) -> list[str | None]:
    """For each sample what stands in the column `column` of `table`, or of all tables in the data set's folder that
    have it; None where that is nothing. Raises ConfigError where no table has it, or none of its pictures is here."""
    root = data.root or "."
    tree = scan(root)
    if table is None:
        relatives = tree.with_suffix(".csv", ".tsv")
    else:
        relative = os.path.relpath(table, root).replace(os.sep, "/")
        if relative not in tree.files:
            raise ConfigError("this table is not in the data set's folder", where=table, fix="Put it there.")
        relatives = [relative]
    pictures = Pictures(tree)
    found: dict[str, str] = {}
    seen: list[str] = []
    for relative in relatives:
        header, rows = _read_table(tree, relative)
        seen += [cell for cell in header if cell not in seen]
        if column in header:
            _collect(rows, header.index(column), pictures, folder_of(relative), found)
    if column not in seen:
        raise ConfigError(
            f"no table here has the column {column!r}",
            where=table or root,
            fix=f"Columns: {enumerate_some(seen, 12)}." if seen else "Give a CSV file with a header.",
        )
    groups = [found.get(os.path.normpath(sample.path)) for sample in data]
    if not any(groups):
        raise ConfigError(f"the column {column!r} says nothing about any picture of this data set", where=table or root)
    return groups


def _read_table(tree: Tree, relative: str) -> tuple[list[str], list[list[str]]]:
    text, _ = decode(read_bytes(tree, relative))
    first = next((line for line in text.splitlines() if line.strip()), "")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count)))
    except csv.Error as error:
        raise ConfigError(f"this table cannot be read ({error})", where=tree.path(relative)) from None
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    return (rows[0], rows[1:]) if rows else ([], [])


def _collect(rows: Sequence[list[str]], at: int, pictures: Pictures, near: str, found: dict[str, str]) -> None:
    """Adds picture -> cell. The picture's column is the first whose cells end as pictures do, else the first."""
    named = next((i for i in range(len(rows[0])) if is_picture(rows[0][i])), 0) if rows else 0
    for row in rows:
        if len(row) <= max(at, named) or not row[at] or not row[named]:
            continue
        path = pictures.find(row[named], near=near)
        if isinstance(path, str):
            found.setdefault(pictures.tree.path(path), row[at])


def _note(reason: str, groups: Groups) -> str:
    sizes = [n for group, n in Counter(groups).items() if group is not None and n > 1]
    plural = "s" if len(sizes) > 1 else ""
    return f"{sum(sizes)} pictures in {len(sizes)} group{plural} are {reason}" if sizes else ""
