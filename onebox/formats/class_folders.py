"""Pictures in folders named after their classes, and boxes in a table (or text file) that has no class column: one for
all, one per class, or one in each folder. Takes each picture's class from its folder's name; gives one record per
picture. A table that has a class column is left to the `csv` layout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nsmallest

from onebox.errors import AnnotationError
from onebox.formats import tiny_imagenet
from onebox.formats.pictures import Pictures, is_picture
from onebox.formats.records import (
    DEFAULT_OPTIONS,
    NO_CLASS,
    UNREADABLE_ANNOTATION,
    Problem,
    RawPicture,
    Reading,
    ReadOptions,
    Skipped,
    clean_label,
    raw_object,
    to_number,
)
from onebox.formats.tabular import are_fractions, rows_of, shape_of
from onebox.formats.tree import (
    Tree,
    decode,
    depth_of,
    folder_of,
    read_bytes,
    split_of_file,
    split_of_folder,
    stem_of,
)

_SNIFFED_FILES = 50
_SNIFFED_LINES = 3
#: Folders between a class and its pictures, or above the classes.
_NO_CLASS_FOLDER = re.compile(r"(?:images?|imgs?|jpegimages|pictures?|photos?|data|dataset)", re.IGNORECASE)
_SPACE = re.compile(r"[\s,;]+")


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a file: the picture's name and four values as written, in `order`."""

    line: int
    name: str
    values: list[str]
    order: str = "xyxy"


def detect(tree: Tree) -> list[str]:
    """The tables without a class column at the shallowest level that has any, where the pictures they name lie in
    folders of several classes, or of the class that the table is named after. Nothing where a table beside them has a
    class column."""
    found: list[str] = []
    known: dict[str, set[str]] = {}
    tables = tree.with_suffix(".csv", ".tsv", ".txt")
    for relative in nsmallest(_SNIFFED_FILES, tables, key=lambda f: (depth_of(f), f)):
        if found and depth_of(relative) > depth_of(found[0]):
            break
        text = decode(tree.head(relative))[0]
        if _has_class_column(text, relative):
            return []
        first = next(_rows(text, relative, tree.path(relative)), None)
        if first is None or not _is_box(first):
            continue
        known = known or _pictures_in_classes(tree)
        classes = set[str]().union(*known.values())
        own = {stem_of(relative), class_of_folder(folder_of(relative))} & classes
        if (len(classes) > 1 or own) and known.get(_base(first.name)):
            found.append(relative)
    return [] if found and tiny_imagenet.detect(tree) else found


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """All rows of all files. Raises AnnotationError for a file that has none."""
    reading = Reading(list_unlabelled=tree.only is None)
    classes = {name for folder in pictures.folders if (name := class_of_folder(folder))}
    for relative in files:
        _read_one(tree, relative, pictures, classes, reading)
    reading.notes.append("no class column: classes from the names of the pictures' folders")
    return reading


def class_of_folder(folder: str) -> str:
    """The deepest folder name that is neither a part (`train`) nor a word for pictures (`images`); "" without one."""
    for name in reversed(folder.split("/")):
        if name and split_of_folder(name) is None and not _NO_CLASS_FOLDER.fullmatch(name):
            return clean_label(name)
    return ""


def _read_one(tree: Tree, relative: str, pictures: Pictures, classes: set[str], reading: Reading) -> None:
    path, folder = tree.path(relative), folder_of(relative)
    text, encoding = decode(read_bytes(tree, relative))
    if encoding:
        reading.notes.append(f"{relative} is not UTF-8, read as {encoding}")
    # cat.csv, cat_boxes.txt, or cat/boxes.txt: then every picture of it is a cat
    of_file = next((name for name in (stem_of(relative), class_of_folder(folder)) if name in classes), None)
    rows = list(_rows(text, relative, path))
    if not rows:
        raise AnnotationError(
            "no line with a picture's name and four numbers",
            where=f"{path}:1",
            fix="Write: name xmin ymin xmax ymax, or choose the layout with --layout.",
        )
    is_01 = are_fractions(row.values for row in rows)
    if is_01:
        reading.notes.append(f"{relative}: boxes are fractions of the picture (all within 0-1)")
    split = split_of_file(relative)
    records: dict[str, RawPicture] = {}
    for row in rows:
        where = f"{path}:{row.line}"
        if not row.name or len(row.values) != 4:
            reason = f"{len(row.values)} numbers beside a picture's name, where four are expected"
            reason = reason if row.name else "no picture's name at the beginning of this line"
            reading.skipped.append(Skipped(path, where, reason, UNREADABLE_ANNOTATION))
            continue
        record = records.get(row.name)
        if record is None:
            record = RawPicture(row.name, None, where, split=split, is_01=is_01)
            found = pictures.find(row.name, near=folder, split=split, label=of_file, hint=of_file)
            if isinstance(found, Problem):
                record.problem = found
            else:
                record.path = found
                record.split = split or split_of_folder(folder_of(found))
            records[row.name] = record
        label = class_of_folder(folder_of(record.path)) if record.path else ""
        raw = raw_object(label, row.values, where, order=row.order)
        if raw.problem is not None and raw.problem.code == NO_CLASS:
            raw.problem = Problem(NO_CLASS, "its picture lies in no folder named like a class")
        record.objects.append(raw)
    reading.pictures.extend(records.values())


def _rows(text: str, relative: str, path: str) -> Iterator[_Row]:
    """The rows of a table without a class column: by its titles, or without any as a name and four numbers. Nothing
    where it is another kind of file. A later line without a name is a row with an empty one."""
    if not relative.lower().endswith(".txt"):
        shape = shape_of(text)
        if shape is not None:
            columns = shape.columns
            if columns.label is None:
                for line, row in rows_of(text, shape, path):
                    cells = [row[i].strip() if i < len(row) else "" for i in (columns.file, *columns.box)]
                    yield _Row(line, cells[0], cells[1:], columns.order)
            return
    looks_right = False
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        name, values = _split(content.strip())
        if not name and not looks_right:
            if line > _SNIFFED_LINES:
                return
            continue  # titles, perhaps
        looks_right = True
        yield _Row(line, name, values)


def _has_class_column(text: str, relative: str) -> bool:
    shape = None if relative.lower().endswith(".txt") else shape_of(text)
    return shape is not None and shape.columns.label is not None


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].lower()


def _split(line: str) -> tuple[str, list[str]]:
    """A name, which may hold spaces, and the numbers after it."""
    dot = max((m.end() for m in re.finditer(r"\.\w+(?=[\s,;]|$)", line) if is_picture(line[: m.end()])), default=0)
    if not dot:
        return "", []
    return line[:dot].strip().strip('"'), [word for word in _SPACE.split(line[dot:].strip('" ,;\t\r')) if word]


def _is_box(row: _Row) -> bool:
    return len(row.values) == 4 and all(to_number(value) == to_number(value) for value in row.values)


def _pictures_in_classes(tree: Tree) -> dict[str, set[str]]:
    """File name -> the classes in whose folders a picture of that name lies."""
    found: dict[str, set[str]] = {}
    for relative in tree.files:
        if is_picture(relative) and (name := class_of_folder(folder_of(relative))):
            found.setdefault(_base(relative), set()).add(name)
    return found
