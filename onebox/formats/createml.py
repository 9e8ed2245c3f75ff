"""Create ML JSON: one list with an entry per picture, boxes as centre and size. Takes such files; gives one record per
entry. The file says neither unit nor anchor, Apple's training call is told them: its defaults, pixels and the centre,
are taken, or fractions where all numbers lie within 0-1.

Source: developer.apple.com/documentation/createml, "Building an object detector data source", read 2026; older files
have `image` and `annotations`, newer ones `imagefilename` and `annotation`.
"""

from __future__ import annotations

from typing import Any

from onebox.formats.class_list import order_classes
from onebox.formats.json_files import dicts
from onebox.formats.json_records import (
    JsonRecord,
    as_dict,
    first_record,
    iter_records,
    json_candidates,
    read_text,
    starts_with,
)
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    BAD_BOX,
    DEFAULT_OPTIONS,
    UNREADABLE_ANNOTATION,
    Problem,
    RawObject,
    RawPicture,
    Reading,
    ReadOptions,
    Skipped,
    raw_object,
)
from onebox.formats.tree import Tree, depth_of, folder_of, split_of_file, split_of_folder
from onebox.formats.units import mark_fractions

_NAMES = ("image", "imagefilename", "imageFilename", "imageFileName", "imageURL", "filename", "path")
_LISTS = ("annotations", "annotation", "objects")
_BOX = ("x", "y", "width", "height")


def detect(tree: Tree) -> list[str]:
    """The Create ML files at the shallowest level that has any."""
    found: list[str] = []
    silent: list[str] = []
    for relative in json_candidates(tree):
        if found and depth_of(relative) > depth_of(found[0]):
            break
        head = tree.head(relative)
        if _looks_like_create_ml(head):
            found.append(relative)
        elif starts_with(head, b"[") and b'"annotations"' in head and b'"image"' in head:
            silent.append(relative)
    # a part may hold nothing but pictures without an object
    return [*found, *(f for f in silent if found and depth_of(f) == depth_of(found[0]))]


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """All entries of all files. Raises AnnotationError for a file that is no JSON list."""
    reading = Reading(list_unlabelled=tree.only is None)
    for relative in files:
        path = tree.path(relative)
        made = [_picture(record, relative, path, pictures) for record in iter_records(read_text(tree, relative), path)]
        records = [one for one in made if isinstance(one, RawPicture)]
        reading.skipped.extend(one for one in made if isinstance(one, Skipped))
        if mark_fractions(records):
            reading.notes.append(f"{relative}: boxes are fractions of the picture (all within 0-1)")
        reading.pictures.extend(records)
    order_classes(tree, reading)
    return reading


def _picture(record: JsonRecord, relative: str, path: str, pictures: Pictures) -> RawPicture | Skipped:
    entry = as_dict(record.value)
    where = f"{path}:{record.line}"
    name = next((entry[key] for key in _NAMES if isinstance(entry.get(key), str)), None)
    if name is None:
        return Skipped(path, where, 'an entry without "image" or "imagefilename"', UNREADABLE_ANNOTATION)
    written = next((dicts(entry[key]) for key in _LISTS if key in entry), [])
    lines = record.lines_of_key("coordinates", len(written))
    objects = [_object(one, f"{path}:{line}") for one, line in zip(written, lines, strict=True)]
    folder, split = folder_of(relative), split_of_file(relative)
    made = RawPicture(name, None, objects[0].where if objects else where, objects, split)
    found = pictures.find(name, near=folder, split=split, part=split_of_folder(folder))
    if isinstance(found, Problem):
        made.problem = found
    else:
        made.path = found
    return made


def _object(annotation: dict[str, Any], where: str) -> RawObject:
    box = annotation.get("coordinates")
    if not isinstance(box, dict):
        raw = raw_object(annotation.get("label"), [], where)
        raw.problem = Problem(BAD_BOX, "an annotation without coordinates")
        return raw
    return raw_object(annotation.get("label"), [as_dict(box).get(key) for key in _BOX], where, order="cxcywh")


def _looks_like_create_ml(head: bytes) -> bool:
    """By words, and by the first entry where it is not too long for the head."""
    own = b'"coordinates"' in head and b'"label"' in head and b'"width"' in head
    if not (starts_with(head, b"[") and own and any(f'"{key}"'.encode() in head for key in _NAMES)):
        return False
    first = first_record(head)
    return first is None or (any(key in first for key in _NAMES) and any(key in first for key in _LISTS))
