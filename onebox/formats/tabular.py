"""CSV and TSV tables, one object a row, with the usual header spellings or none. Takes a file whose delimiter, header,
box spelling and unit (pixels or fractions) it finds out from the content; gives one record per picture; never takes
the picture's own `width` and `height` for those of the box.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from onebox.errors import AnnotationError
from onebox.formats.class_list import order_classes
from onebox.formats.pictures import Pictures, is_picture
from onebox.formats.records import (
    DEFAULT_OPTIONS,
    NO_HEADER,
    Problem,
    RawObject,
    RawPicture,
    Reading,
    ReadOptions,
    Skipped,
    raw_object,
    to_number,
)
from onebox.formats.spreadsheet import MARK, plain_cell
from onebox.formats.tree import (
    Tree,
    decode,
    depth_of,
    enumerate_some,
    folder_of,
    read_bytes,
    split_of_file,
    split_word,
    stem_of,
)

if TYPE_CHECKING:
    import _csv

_SNIFFED_BYTES = 65536
_FILE = """filename file imagename imagefile imagefilename imagepath image img imgname imgfile imgpath filepath path
    picture picturename photo imageid imgid"""
_CLASS = "class classname label labelname category categoryname name breed species object objectname target type"
_SPLIT = "split set subset partition"
_PARTS = ("train", "val", "test")
#: (order, the four columns), the sure ones first: `x1` is the left edge beside `x2`, the right one beside `x0`.
_BOXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("xyxy", ("xmin", "ymin", "xmax", "ymax")),
    ("xyxy", ("minx", "miny", "maxx", "maxy")),
    ("xyxy", ("x1", "y1", "x2", "y2")),
    ("xyxy", ("x0", "y0", "x1", "y1")),
    ("xyxy", ("left", "top", "right", "bottom")),
    ("xyxy", ("startx", "starty", "endx", "endy")),
    ("xyxy", ("xtl", "ytl", "xbr", "ybr")),
    ("cxcywh", ("cx", "cy", "w", "h")),
    ("cxcywh", ("xcenter", "ycenter", "w", "h")),
    ("cxcywh", ("centerx", "centery", "w", "h")),
    ("xywh", ("x", "y", "w", "h")),
    ("xywh", ("xmin", "ymin", "w", "h")),
    ("xywh", ("left", "top", "w", "h")),
    ("xywh", ("x1", "y1", "w", "h")),
)
_SHORT = {
    "width": "w",
    "height": "h",
    "xcentre": "xcenter",
    "ycentre": "ycenter",
    "centrex": "centerx",
    "centrey": "centery",
}
_BOX_PREFIX = re.compile(r"^(?:bounding_?box|bbox|box|bb|roi)_?(?=.)")
#: Share of the rows that must look like fractions: one wild row must not turn the rest into boxes of half a pixel.
_SHARE_01 = 0.9
_LARGEST_01 = 1.5
_EMPTY = frozenset({"", "nan", "na", "none", "null", "-"})


class _Columns(NamedTuple):
    """Where in a row each thing stands; None for a column that is not there."""

    file: int
    box: tuple[int, int, int, int]
    order: str
    label: int | None
    split: int | None


@dataclass(frozen=True, slots=True)
class Shape:
    """How a file is to be read: its delimiter, header (empty: none) and columns."""

    delimiter: str
    header: tuple[str, ...]
    columns: _Columns


def detect(tree: Tree) -> list[str]:
    """The tables with a picture and a box column at the shallowest level that has any. Those named after parts win;
    otherwise those of like columns are read together."""
    tables: dict[str, Shape] = {}
    for relative in sorted(tree.with_suffix(".csv", ".tsv"), key=lambda f: (depth_of(f), f)):
        if tables and depth_of(relative) > depth_of(next(iter(tables))):
            break
        try:
            shape = shape_of(decode(read_bytes(tree, relative, _SNIFFED_BYTES))[0])
        except AnnotationError:
            continue
        if shape is not None:
            tables[relative] = shape
    of_parts = [f for f in tables if split_of_file(f) is not None]
    if of_parts:
        return sorted(of_parts, key=lambda f: (_PARTS.index(split_of_file(f) or "train"), f))
    alike: dict[tuple[object, ...], list[str]] = {}
    for relative, shape in tables.items():
        key = (shape.columns.label is not None, shape.columns.order, tuple(map(_canonical, shape.header)))
        alike.setdefault(key, []).append(relative)
    groups = sorted(alike.items(), key=lambda item: (not item[0][0], -len(item[1]), item[1]))
    return groups[0][1] if groups else []


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """All rows of all files. Raises AnnotationError for a table without a usable header or class column."""
    reading = Reading(list_unlabelled=tree.only is None)
    if tree.only is None:
        level = depth_of(files[0])
        others = [f for f in tree.with_suffix(".csv", ".tsv") if depth_of(f) == level and f not in files]
        if others:
            reading.notes.append(f"tables not read: {enumerate_some(others)} (give one as DATA to read it)")
    for relative in files:
        _read_one(tree, relative, pictures, reading)
    order_classes(tree, reading)
    return reading


def _read_one(tree: Tree, relative: str, pictures: Pictures, reading: Reading) -> None:
    path = tree.path(relative)
    text, encoding = decode(read_bytes(tree, relative))
    if encoding:
        reading.notes.append(f"{relative} is not UTF-8, read as {encoding}")
    shape = shape_of(text)
    if shape is None or shape.columns.label is None:
        raise _no_columns(text, path, shape)
    columns, label_column = shape.columns, shape.columns.label
    if not shape.header:
        order = "file, box, class" if columns.box[0] < label_column else "file, class, box"
        reading.remarks.append(Skipped(path, f"{path}:1", f"no header: read as {order}", NO_HEADER))
    rows = list(rows_of(text, shape, path))
    ours = MARK in shape.header
    is_01 = not ours and are_fractions([_cell(row, i) for i in columns.box] for _, row in rows)
    if is_01:
        reading.notes.append(f"{relative}: boxes are fractions of the picture (all within 0-1)")
    folder, file_split, stem = folder_of(relative), split_of_file(relative), stem_of(relative)
    records: dict[tuple[str, str | None, str], RawPicture] = {}
    for line, row in rows:
        where = f"{path}:{line}"
        name, label = _cell(row, columns.file), _cell(row, label_column)
        if ours:
            name, label = plain_cell(name), plain_cell(label)
        split = split_word(_cell(row, columns.split)) if columns.split is not None else file_split
        values = [_cell(row, i) for i in columns.box]
        # the class belongs to the key: the same name in two class folders is two pictures
        key = (name, split, label)
        record = records.get(key)
        if record is None:
            found = pictures.find(name, near=folder, split=split, label=label, hint=stem)
            is_problem = isinstance(found, Problem)
            record = RawPicture(
                name, None if is_problem else found, where, [], split, is_01, found if is_problem else None
            )
            records[key] = record
        if any(value.lower() not in _EMPTY for value in values):
            record.objects.append(_object(label, values, where, columns.order))
    reading.pictures.extend(records.values())


def _object(label: str, values: list[str], where: str, order: str) -> RawObject:
    # "12,5" in a table separated by semicolons or tabs is a decimal comma
    return raw_object(label, [v.replace(",", ".") if v.count(",") == 1 else v for v in values], where, order=order)


def _no_columns(text: str, path: str, shape: Shape | None) -> AnnotationError:
    first = next(iter(text.splitlines()), "")
    header = shape.header if shape else tuple(c.strip() for c in next(csv.reader([first], delimiter=_delimiter(text))))
    seen = enumerate_some([c[:30] for c in header], 12) or "none"
    missing = "class" if shape else "picture and box"
    return AnnotationError(
        f"no {missing} column found among: {seen}",
        where=f"{path}:1",
        fix="Name the columns filename, class, xmin, ymin, xmax, ymax.",
    )


def shape_of(text: str) -> Shape | None:
    """How to read this table, from its first rows; None where there is no picture or no box in it."""
    delimiter = _delimiter(text)
    try:
        first = next((row for row in _reader(text, delimiter) if any(c.strip() for c in row)), None)
    except csv.Error:
        return None
    if first is None:
        return None
    columns = _named_columns(first)
    if columns is not None:
        return Shape(delimiter, tuple(first), columns)
    columns = _columns_by_content(first)
    return Shape(delimiter, (), columns) if columns else None


def _named_columns(header: list[str]) -> _Columns | None:
    plain: dict[str, int] = {}
    of_box: dict[str, int] = {}
    for i, title in enumerate(header):
        name = re.sub(r"[\s\-./]+", "_", title.strip().lower())
        bare = _BOX_PREFIX.sub("", name)
        (of_box if bare != name else plain).setdefault(_canonical(bare), i)
    for names in (plain, of_box):
        for long, short in _SHORT.items():  # `w` itself wins: beside it, `width` is the picture's
            if long in names:
                names.setdefault(short, names[long])
    boxes = {**plain, **of_box}
    file = next((plain[n] for n in _FILE.split() if n in plain), None)
    spelling = next(((order, four) for order, four in _BOXES if all(n in boxes for n in four)), None)
    if file is None or spelling is None:
        return None
    order, (a, b, c, d) = spelling
    return _Columns(
        file,
        (boxes[a], boxes[b], boxes[c], boxes[d]),
        order,
        next((plain[n] for n in _CLASS.split() if n in plain), None),
        next((plain[n] for n in _SPLIT.split() if n in plain), None),
    )


def _columns_by_content(row: list[str]) -> _Columns | None:
    """Header-less rows: (file, four numbers, class) or (file, class, four numbers). A row of an unlabelled picture
    (file and five empty cells) fits too."""
    if len(row) != 6:
        return None
    cells = [cell.strip() for cell in row]
    numeric = [to_number(cell) == to_number(cell) for cell in cells]
    if not cells[0] or not (is_picture(cells[0]) or not numeric[0]):
        return None
    if all(numeric[1:5]):
        return _Columns(0, (1, 2, 3, 4), "xyxy", 5, None)
    if not numeric[1] and all(numeric[2:6]):
        return _Columns(0, (2, 3, 4, 5), "xyxy", 1, None)
    if is_picture(cells[0]) and not any(cells[1:]):
        return _Columns(0, (1, 2, 3, 4), "xyxy", 5, None)
    return None


def _canonical(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", title.strip().lower())


def _delimiter(text: str) -> str:
    """The one of comma, semicolon and tab that stands most often in the first line; decimal commas do not count."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(";\t,", key=first.count)


def _reader(text: str, delimiter: str) -> _csv.Reader:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)


def rows_of(text: str, shape: Shape, path: str) -> Iterator[tuple[int, list[str]]]:
    """(line, row) below the header, blank rows left out. Raises AnnotationError where the csv module gives up."""
    reader = _reader(text, shape.delimiter)
    header_pending = bool(shape.header)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise AnnotationError(
                f"this table cannot be read ({error})", where=f"{path}:{line}", fix="Look for an unclosed quote."
            ) from None
        if not any(cell.strip() for cell in row):
            continue
        if header_pending:
            header_pending = False
            continue
        yield line, row


def are_fractions(boxes: Iterable[list[str]]) -> bool:
    """Whether a table's boxes are fractions: nearly every row within 0-1.5, and something behind a decimal point."""
    within = numeric = 0
    fractional = False
    for box in boxes:
        numbers = [to_number(value.replace(",", ".")) for value in box]
        if not all(abs(n) < float("inf") for n in numbers):
            continue
        numeric += 1
        if all(abs(n) <= _LARGEST_01 for n in numbers):
            within += 1
            fractional = fractional or any(not n.is_integer() for n in numbers)
    return fractional and within >= _SHARE_01 * numeric


def _cell(row: list[str], index: int | None) -> str:
    return row[index].strip() if index is not None and index < len(row) else ""
