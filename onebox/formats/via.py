"""VGG Image Annotator (VIA 1 and 2): a saved project, exported annotations as JSON (a dictionary or a list), or as CSV
with JSON in its cells. Takes such files; gives one record per picture, in pixels. A region may have any attributes: the
one that names classes is found out and told, and never guessed where several could.

Source: gitlab.com/vgg/via, `via_export_metadata` and `import_annotations_from_csv`.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from onebox.errors import AnnotationError
from onebox.formats.json_files import dicts, parse_json
from onebox.formats.json_records import JsonRecord, as_dict, as_list, iter_records, json_candidates, read_text
from onebox.formats.outlines import Corners, around_coordinates, around_ellipse
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    BAD_BOX,
    DEFAULT_OPTIONS,
    NO_BOX,
    NO_CLASS,
    UNREADABLE_ANNOTATION,
    Problem,
    RawObject,
    RawPicture,
    Reading,
    ReadOptions,
    Skipped,
    clean_label,
    raw_object,
    to_number,
)
from onebox.formats.tree import Tree, decode, depth_of, enumerate_some, folder_of, split_of_file, split_of_folder

_HEADER = re.compile(r"\s*\"?#?filename\"?,.*region_shape_attributes.*region_attributes", re.IGNORECASE)
_COLUMNS = ("filename", "region_shape_attributes", "region_attributes", "file_attributes")
_METADATA = "_via_img_metadata"
#: Attributes that name classes wherever they stand among others, the surest first.
_CLASS_WORDS = ("class", "label", "name", "type", "category", "object", "species", "breed")


class _Region(NamedTuple):
    """One region before its class is known; `problem` where it cannot be read."""

    shape: dict[str, Any]
    attributes: dict[str, Any]
    line: int
    problem: Problem | None = None


class _Entry(NamedTuple):
    """One picture of one file; `about` are the attributes of the picture itself."""

    relative: str
    name: str
    line: int
    regions: list[_Region]
    about: dict[str, Any]


def detect(tree: Tree) -> list[str]:
    """The VIA files at the shallowest level that has any; there JSON before CSV: both are exports of one project."""
    found = [f for f in json_candidates(tree) if not f.lower().endswith(".csv") and _is_via_json(tree.head(f))]
    tables = [f for f in tree.with_suffix(".csv") if f.lower().endswith(".csv") and _is_via_csv(tree.head(f))]
    level = min(map(depth_of, [*found, *tables]), default=0)
    return [f for f in found if depth_of(f) == level] or sorted(f for f in tables if depth_of(f) == level)


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """All pictures of all files. Raises AnnotationError for a file that is none of VIA's, and where it cannot be told
    which attribute names the classes."""
    reading = Reading(list_unlabelled=tree.only is None)
    entries: list[_Entry] = []
    options: dict[str, dict[str, str]] = {}
    for relative in files:
        path, text = tree.path(relative), read_text(tree, relative)
        if relative.lower().endswith(".csv"):
            entries.extend(_table_entries(text, path, relative, reading))
        else:
            entries.extend(_json_entries(text, path, relative, reading, options))
    classes = _classes([entry for entry in entries if entry.regions], options, tree.path(files[0]))
    if classes.note:
        reading.notes.append(classes.note)
    shapes: Counter[str] = Counter()
    for entry in entries:
        path, folder, split = tree.path(entry.relative), folder_of(entry.relative), split_of_file(entry.relative)
        objects = [_object(region, classes.of(region, entry), path, shapes) for region in entry.regions]
        record = RawPicture(entry.name, None, f"{path}:{entry.line}", objects, split)
        found = pictures.find(entry.name, near=folder, split=split, part=split_of_folder(folder))
        if isinstance(found, Problem):
            record.problem = found
        else:
            record.path = found
        reading.pictures.append(record)
    if shapes:
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(shapes.items()))
        reading.notes.append(f"shapes that are no rectangles, their bounding boxes taken: {counts}")
    return reading


def _json_entries(
    text: str, path: str, relative: str, reading: Reading, options: dict[str, dict[str, str]]
) -> Iterator[_Entry]:
    """The pictures of a project, or of exported annotations."""
    for record in iter_records(text, path):
        if record.key == _METADATA:
            inner = iter_records(record.text, path, first_line=record.line)
            yield from (entry for one in inner if (entry := _entry(one, relative, path, reading)))
        elif record.key == "_via_attributes":
            for name, attribute in as_dict(as_dict(record.value).get("region")).items():
                known = as_dict(as_dict(attribute).get("options"))
                options[name] = {key: clean_label(title) for key, title in known.items()}
        elif not record.key.startswith("_via_"):
            entry = _entry(record, relative, path, reading)
            if entry is not None:
                yield entry


def _entry(record: JsonRecord, relative: str, path: str, reading: Reading) -> _Entry | None:
    content = as_dict(record.value)
    name = content.get("filename")
    if not isinstance(name, str):
        where = f"{path}:{record.line}"
        reading.skipped.append(Skipped(path, where, "an entry without a filename", UNREADABLE_ANNOTATION))
        return None
    regions = content.get("regions")
    # VIA 1 numbers its regions: {"0": {...}, "1": {...}}
    written = dicts(list(as_dict(regions).values()) if isinstance(regions, dict) else regions)
    lines = record.lines_of_key("shape_attributes", len(written))
    made = [
        _Region(as_dict(one.get("shape_attributes")), as_dict(one.get("region_attributes")), line)
        for one, line in zip(written, lines, strict=True)
    ]
    return _Entry(relative, name, made[0].line if made else record.line, made, as_dict(content.get("file_attributes")))


def _table_entries(text: str, path: str, relative: str, reading: Reading) -> Iterator[_Entry]:
    """The rows of a CSV export; a picture without regions has one row with an empty shape."""
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [title.strip().lstrip("#").lower() for title in next(rows, [])]
        if not set(_COLUMNS) <= set(header):
            raise AnnotationError(
                f"this CSV is none of VIA's: it needs {', '.join(_COLUMNS)}",
                where=f"{path}:1",
                fix="Export the annotations again, or choose the layout with --layout.",
            )
        columns = [header.index(title) for title in _COLUMNS]
        while True:
            line = rows.line_num + 1
            row = next(rows, None)
            if row is None:
                return
            if len(row) > max(columns):
                yield _row(relative, [row[i].strip() for i in columns], path, line)
            elif any(cell.strip() for cell in row):
                reason = f"a row of {len(row)} cells under a header of {len(header)}"
                reading.skipped.append(Skipped(path, f"{path}:{line}", reason, UNREADABLE_ANNOTATION))
    except csv.Error as error:
        raise AnnotationError(
            f"this table cannot be read ({error})", where=f"{path}:{rows.line_num}", fix="Look for an unclosed quote."
        ) from None


def _row(relative: str, cells: list[str], path: str, line: int) -> _Entry:
    name, *texts = cells
    try:
        shape, attributes, about = (as_dict(parse_json(text, path, first_line=line)) if text else {} for text in texts)
    except AnnotationError as error:
        damaged = _Region({}, {}, line, Problem(UNREADABLE_ANNOTATION, error.what))
        return _Entry(relative, name, line, [damaged], {})
    return _Entry(relative, name, line, [_Region(shape, attributes, line)] if shape else [], about)


class _Classes(NamedTuple):
    """Where the class stands: in the region's or the picture's `attribute`, or (`is_key`) as the attribute's own name.
    `names` give the titles of options that are mere numbers."""

    attribute: str = ""
    of_picture: bool = False
    is_key: bool = False
    names: dict[str, str] = {}  # noqa: RUF012 - never changed
    note: str = ""

    def of(self, region: _Region, entry: _Entry) -> str | Problem:
        """The region's class, empty where it has none."""
        attributes = entry.about if self.of_picture else region.attributes
        if self.is_key:
            return next(iter(attributes), "")
        values = _values(attributes.get(self.attribute))
        if len(values) > 1:
            return Problem(NO_CLASS, f"{len(values)} classes ticked for one object: {enumerate_some(values)}")
        value = values[0] if values else ""
        return self.names.get(value) or value if value.isdecimal() else value


def _classes(entries: list[_Entry], options: dict[str, dict[str, str]], path: str) -> _Classes:
    """Finds out which attribute names the classes. Raises AnnotationError where several could."""
    of_regions = [r.attributes for entry in entries for r in entry.regions if r.problem is None]
    filled = _filled(of_regions)
    if filled:
        attribute = _class_attribute(filled, path)
        others = enumerate_some(name for name in filled if name != attribute)
        note = f"classes from the regions' attribute {clean_label(attribute)!r}" + (
            f" (others: {others})" if others else ""
        )
        return _Classes(attribute, names=options.get(attribute, {}), note=note)
    if of_regions and all(len(one) == 1 for one in of_regions):
        return _Classes(is_key=True, note="classes from the names of the regions' attributes, which have no values")
    # VIA gives pictures some attributes by default (caption, public_domain): only one called like a class counts
    attribute = _class_like(_filled([entry.about for entry in entries]))
    if attribute is not None:
        return _Classes(
            attribute, of_picture=True, note=f"classes from the pictures' attribute {clean_label(attribute)!r}"
        )
    return _Classes()


def _filled(attributes: list[dict[str, Any]]) -> list[str]:
    """The names of the attributes that have a value anywhere, sorted."""
    return sorted({name for one in attributes for name, value in one.items() if _values(value)})


def _class_attribute(names: list[str], path: str) -> str:
    if len(names) == 1:
        return names[0]
    attribute = _class_like(names)
    if attribute is not None:
        return attribute
    raise AnnotationError(
        f"the regions have several attributes, and none is called like a class: {enumerate_some(sorted(names), 8)}",
        where=f"{path}:1",
        fix="Rename the one that names the classes to class.",
    )


def _class_like(names: list[str]) -> str | None:
    """The one called like a class, exactly or in part ("bird_species"); the surest word first."""
    words = {name: re.split(r"[^a-z]+", name.lower()) for name in names}
    for exactly in (True, False):
        for word in _CLASS_WORDS:
            fitting = [name for name in names if (words[name] == [word] if exactly else word in words[name])]
            if len(fitting) == 1:
                return fitting[0]
    return None


def _values(value: object) -> list[str]:
    """An attribute's value as text; of check boxes the ticked ones."""
    if isinstance(value, dict):
        return [clean_label(key) for key, ticked in as_dict(value).items() if ticked is True or ticked == "true"]
    if isinstance(value, (list, bool)):
        return []
    text = clean_label(value)
    return [text] if text else []


def _object(region: _Region, label: str | Problem, path: str, shapes: Counter[str]) -> RawObject:
    shape, where = region.shape, f"{path}:{region.line}"
    kind = clean_label(shape.get("name")).lower()
    problem = region.problem or (label if isinstance(label, Problem) else None)
    if problem is not None or isinstance(label, Problem):
        return RawObject("", NO_BOX, where, problem)
    if kind == "rect":
        return raw_object(label, [shape.get(key) for key in ("x", "y", "width", "height")], where, order="xywh")
    shapes[kind[:24] or "nameless"] += 1
    corners = _corners(kind, shape)
    if corners is None:
        return RawObject(label, NO_BOX, where, Problem(BAD_BOX, f"a region of the unknown shape {kind[:24]!r}"))
    return raw_object(label, corners, where)


def _corners(kind: str, shape: dict[str, Any]) -> Corners | None:
    """(x_min, y_min, x_max, y_max) of a shape that is no rectangle; None for an unknown one."""
    if kind in {"polygon", "polyline"}:
        return around_coordinates(as_list(shape.get("all_points_x")), as_list(shape.get("all_points_y")))
    if kind in {"circle", "ellipse", "point"}:
        rx, ry = (shape.get(key, shape.get("r", 0)) for key in ("rx", "ry"))
        return around_ellipse(shape.get("cx"), shape.get("cy"), rx, ry, to_number(shape.get("theta", 0)))
    return None


def _is_via_json(head: bytes) -> bool:
    exported = b'"filename"' in head and b'"regions"' in head and b'"file_attributes"' in head
    return _METADATA.encode() in head or b'"_via_settings"' in head or exported


def _is_via_csv(head: bytes) -> bool:
    return _HEADER.match(decode(head)[0].partition("\n")[0]) is not None
