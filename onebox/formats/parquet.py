"""Parquet tables of pictures, as Hugging Face's hub keeps them: the pictures themselves in a column (bytes, or bytes
and path), or paths to them, with boxes and classes beside. Takes such files; gives one record per row. Pictures inside
are unpacked to a temporary folder that goes when the process ends, and that is told; the data set's is left alone.

Source: huggingface.co/docs/datasets, "Image feature" and "Object detection", read 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onebox.errors import AnnotationError
from onebox.formats.json_records import as_dict
from onebox.formats.parquet_files import ParquetTable, footer, open_parquet
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
    clean_label,
    to_number,
)
from onebox.formats.row_objects import (
    BOX_WORDS,
    class_names_beside,
    columns_of_interest,
    is_annotated,
    row_objects,
)
from onebox.formats.tree import Tree, depth_of, enumerate_some, folder_of, split_of_file, split_word
from onebox.formats.units import mark_fractions
from onebox.formats.unpacked import unpacked_from

_PICTURES = ("image", "img", "picture", "photo", "pixel_values", "image_bytes", "bytes", "jpg", "png")
_PATHS = ("file_name", "image_path", "filename", "file_path", "path", "image_name")
_EXTRAS = ("split", "width", "height", "image_width", "image_height")


def detect(tree: Tree) -> list[str]:
    """The parquet files with pictures and boxes at the shallowest level that has any."""
    found: list[str] = []
    for relative in sorted(tree.with_suffix(".parquet"), key=lambda f: (depth_of(f), f)):
        if found and depth_of(relative) > depth_of(found[0]):
            break
        if relative.rpartition("/")[2].lower() != "metadata.parquet" and _looks_fit(footer(tree, relative)):
            found.append(relative)
    return found


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """All rows of all files. Raises MissingExtraError without pyarrow, AnnotationError for a file without a column of
    pictures or of boxes, DataError where pictures cannot be unpacked."""
    reading = Reading(list_unlabelled=tree.only is None)
    order: dict[str, None] = {}
    sources: dict[str, None] = {}
    inside = 0
    any_listed = False
    for relative in files:
        with open_parquet(tree, relative) as table:
            names, source = table.class_names, "the parquet schema"
            if not names:
                names, source = class_names_beside(tree, relative)
            sources[source] = None
            order.update(dict.fromkeys(name for column in names.values() for name in column))
            records, unpacked, with_lists = _read_table(table, tree, relative, names, pictures, reading)
        inside += unpacked
        any_listed |= with_lists
        if mark_fractions(records):
            reading.notes.append(f"{relative}: boxes are fractions of the picture (all within 0-1)")
        reading.pictures.extend(records)
    reading.notes.extend(f"class names from {source}" for source in sources if source)
    if any_listed:
        reading.notes.append("boxes taken as [x, y, width, height], as Hugging Face's object detection has them")
    if inside:
        reading.notes.append(
            f"pictures inside the parquet files, unpacked to a temporary folder for this run: {inside} "
            "(onebox convert writes them out)"
        )
        reading.list_unlabelled = False
    used = {raw.label for record in reading.pictures for raw in record.objects}
    reading.class_order = tuple(name for name in order if name in used)
    return reading


def _read_table(
    table: ParquetTable,
    tree: Tree,
    relative: str,
    names: Mapping[str, list[str]],
    pictures: Pictures,
    reading: Reading,
) -> tuple[list[RawPicture], int, bool]:
    """The records of one file, how many of its pictures lie in it, and whether any box is a list of four."""
    picture = next((c for c in (*_PICTURES, *_PATHS) if c in table.columns), None)
    if picture is None or not is_annotated(table.columns):
        missing = "pictures" if picture is None else "boxes"
        raise AnnotationError(
            f"no column of {missing} found among: {enumerate_some(map(clean_label, table.columns), 12)}",
            where=table.path,
            fix="Name the columns image, objects (with bbox and category), or image, bbox, label.",
        )
    wanted = [c for c in (picture, *_EXTRAS) if c in table.columns] + columns_of_interest(table.columns)
    # pictures are compressed already: unpacked they take about what the file does
    store = unpacked_from(tree, relative, table.size)
    split = split_of_file(relative)
    records: list[RawPicture] = []
    adopted: list[str] = []
    any_listed = False
    for number, row in table.rows(list(dict.fromkeys(wanted))):
        where = f"{table.path}:{number}"
        content, name = _content(row[picture])
        if not store.complete:
            store.add(content)
        if content is None and not name:
            reading.skipped.append(Skipped(table.path, where, "a row without a picture", UNREADABLE_ANNOTATION))
            continue
        objects, with_lists = row_objects(row, names, where)
        any_listed |= with_lists
        said = row.get("split")
        part = (split_word(said) if isinstance(said, str) else None) or split
        width, height = (row.get(f"image_{side}", row.get(side)) for side in ("width", "height"))
        # the name of a picture inside is no claim about the file that it is unpacked to
        declared = Declared(name if content is None else None, _size(width), _size(height))
        record = RawPicture(name or f"row {number}", None, where, objects, part, declared=declared)
        unpacked = store.path(number - 1, tree.root)
        if unpacked is not None:
            adopted.append(unpacked)
        found = unpacked or pictures.find(name, near=folder_of(relative), split=part)
        if isinstance(found, Problem):
            record.problem = found
        else:
            record.path = found
        records.append(record)
    store.complete = True
    pictures.adopt(adopted)
    return records, len(adopted), any_listed


def _content(value: object) -> tuple[bytes | None, str]:
    """The picture's bytes, where they are here, and its name, where it has one."""
    if isinstance(value, bytes):
        return value, ""
    if isinstance(value, str):
        return None, value
    content = as_dict(value)
    inside, name = content.get("bytes"), content.get("path")
    return (inside if isinstance(inside, bytes) else None), (name if isinstance(name, str) else "")


def _size(value: Any) -> float | None:
    return None if value is None else to_number(value)


def _looks_fit(content: bytes) -> bool:
    """By the names of the columns, which stand in the footer as they are."""
    words = [word.encode() for word in BOX_WORDS]
    return any(word in content for word in words) and any(w.encode() in content for w in (*_PICTURES, *_PATHS))
