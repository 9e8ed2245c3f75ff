"""Hugging Face image folder: pictures beside a `metadata.jsonl`, `.csv` or `.parquet` whose rows name them
(`file_name`) and hold boxes, in `objects` or in columns of their own. Takes such files; gives one record per row. Lists
of four are [x, y, width, height], as in Hugging Face's own guides; that is told, for no file says it.

Source: huggingface.co/docs/datasets/image_dataset and its object detection guides, read 2026.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from onebox.errors import AnnotationError
from onebox.formats.json_records import as_dict, parse_lines, read_text
from onebox.formats.parquet_files import footer, open_parquet
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    DEFAULT_OPTIONS,
    UNREADABLE_ANNOTATION,
    Declared,
    Problem,
    RawPicture,
    Reading,
    ReadOptions,
    Skipped,
    to_number,
)
from onebox.formats.row_objects import (
    BOX_WORDS,
    NESTED,
    ClassNames,
    class_names_beside,
    columns_of_interest,
    is_annotated,
    row_objects,
)
from onebox.formats.tree import Tree, decode, depth_of, folder_of, split_of_file, split_word
from onebox.formats.units import mark_fractions

_NAMES = frozenset({"metadata.jsonl", "metadata.csv", "metadata.parquet"})
_FILE_NAME = re.compile(r"(?:.*_)?file_name")


class _Row(NamedTuple):
    """One row as read: its line (of a parquet file its number), and its values, or why there are none."""

    line: int
    values: dict[str, Any] | Problem


def detect(tree: Tree) -> list[str]:
    """The metadata files with boxes at the shallowest level that has any."""
    found: list[str] = []
    for relative in sorted(tree.with_suffix(".jsonl", ".csv", ".parquet"), key=lambda f: (depth_of(f), f)):
        if found and depth_of(relative) > depth_of(found[0]):
            break
        if (tree.only is not None or relative.rpartition("/")[2].lower() in _NAMES) and _has_boxes(tree, relative):
            found.append(relative)
    return found


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """All rows of all files. Raises AnnotationError for a file without a single usable row, MissingExtraError for a
    parquet file where pyarrow is not installed."""
    reading = Reading(list_unlabelled=tree.only is None)
    listed = frozenset(path for path in pictures.paths if not path.startswith("../"))
    order: dict[str, None] = {}
    any_listed = False
    for relative in files:
        names, source = class_names_beside(tree, relative)
        if source:
            reading.notes.append(f"class names from {source}")
        order.update(dict.fromkeys(name for column in names.values() for name in column))
        any_listed |= _read_one(tree, relative, names, pictures, listed, reading)
    if any_listed:
        reading.notes.append("boxes taken as [x, y, width, height], as Hugging Face's object detection has them")
    used = {raw.label for record in reading.pictures for raw in record.objects}
    reading.class_order = tuple(name for name in order if name in used)
    return reading


def _read_one(
    tree: Tree,
    relative: str,
    names: ClassNames,
    pictures: Pictures,
    listed: frozenset[str],
    reading: Reading,
) -> bool:
    """Adds one file's records to `reading`; whether any box is a list of four."""
    path, folder, split = tree.path(relative), folder_of(relative), split_of_file(relative)
    records: list[RawPicture] = []
    any_listed = False
    for line, values in _rows(tree, relative):
        where = f"{path}:{line}"
        row = values if isinstance(values, dict) else {}
        name = next((v for k, v in row.items() if _FILE_NAME.fullmatch(k) and isinstance(v, str) and v), None)
        if name is None:
            reason = values.reason if isinstance(values, Problem) else "a row without a file_name"
            reading.skipped.append(Skipped(path, where, reason, UNREADABLE_ANNOTATION))
            continue
        objects, with_lists = row_objects(row, names, where)
        any_listed |= with_lists
        said = row.get("split")
        part = (split_word(said) if isinstance(said, str) else None) or split
        declared = Declared(name, _size(row.get("width")), _size(row.get("height")))
        record = RawPicture(name, None, where, objects, part, declared=declared)
        exact = f"{folder}/{name}" if folder else name
        found = exact if exact in listed else pictures.find(name, near=folder, split=part)
        if isinstance(found, Problem):
            record.problem = found
        else:
            record.path = found
        records.append(record)
    if not records:
        raise AnnotationError(
            "no row with a file_name in this file", where=f"{path}:1", fix='Name the pictures in a column "file_name".'
        )
    if mark_fractions(records):
        reading.notes.append(f"{relative}: boxes are fractions of the picture (all within 0-1)")
    reading.pictures.extend(records)
    return any_listed


def _rows(tree: Tree, relative: str) -> Iterator[_Row]:
    if relative.lower().endswith(".parquet"):
        with open_parquet(tree, relative) as table:
            named = [c for c in table.columns if _FILE_NAME.fullmatch(c) or c in {"split", "width", "height"}]
            wanted = list(dict.fromkeys([*named, *columns_of_interest(table.columns)]))
            yield from (_Row(number, row) for number, row in table.rows(wanted))
    elif relative.lower().endswith(".csv"):
        yield from _csv_rows(read_text(tree, relative), tree.path(relative))
    else:
        for line, value in parse_lines(read_text(tree, relative)):
            yield _Row(line, value if isinstance(value, Problem) else as_dict(value))


def _csv_rows(text: str, path: str) -> Iterator[_Row]:
    """Rows of a table whose cells hold JSON where they begin like it."""
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [title.strip() for title in next(rows, [])]
        while True:
            line = rows.line_num + 1
            row = next(rows, None)
            if row is None:
                return
            if any(cell.strip() for cell in row):
                yield _Row(line, {title: _cell(cell.strip()) for title, cell in zip(header, row, strict=False)})
    except csv.Error as error:
        raise AnnotationError(
            f"this table cannot be read ({error})", where=f"{path}:{rows.line_num}", fix="Look for an unclosed quote."
        ) from None


def _cell(text: str) -> object:
    """The value of a cell: JSON, or the same as Python prints it (pandas writes dictionaries so); else its text."""
    if not text.startswith(("{", "[")):
        return text or None
    for spelling in (text, text.replace("'", '"').replace("None", "null")):
        try:
            return json.loads(spelling)
        except (ValueError, RecursionError):
            continue
    return text


def _size(value: object) -> float | None:
    return None if value is None else to_number(value)


def _has_boxes(tree: Tree, relative: str) -> bool:
    """Whether this file names pictures and has a column for boxes."""
    if relative.lower().endswith(".parquet"):
        content = footer(tree, relative)
        return b"file_name" in content and any(word.encode() in content for word in BOX_WORDS)
    head = decode(tree.head(relative))[0]
    if relative.lower().endswith(".csv"):
        try:
            columns = [title.strip() for title in next(csv.reader(io.StringIO(head, newline="")), [])]
        except csv.Error:
            return False
        # boxes in four number columns are the table layout's, which knows many more spellings of them
        return any(map(_FILE_NAME.fullmatch, columns)) and not NESTED.isdisjoint(columns)
    rows = [as_dict(value) for _, value in parse_lines(head)]
    rows = [row for row in rows if any(map(_FILE_NAME.fullmatch, row))]
    # of one very long first line only the beginning is at hand
    cut = not rows and '"file_name"' in head and any(f'"{word}"' in head for word in NESTED)
    return cut or any(is_annotated(list(row)) for row in rows)
