"""COCO JSON: one file (or one per part) with `images`, `annotations`, `categories`; Roboflow's `_annotations.coco.json`
is the same. Boxes are [x, y, width, height] from the top left corner. Gives one record per image; never trusts the
sizes written in the file, and leaves out crowd regions.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Hashable
from typing import Any, cast

from onebox.errors import AnnotationError
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    BAD_BOX,
    NO_CLASS,
    UNREADABLE_ANNOTATION,
    Problem,
    RawObject,
    RawPicture,
    Reading,
    Skipped,
    clean_label,
    raw_object,
)
from onebox.formats.tree import Tree, decode, depth_of, folder_of, read_bytes, split_of_file, split_of_folder

_SNIFFED_BYTES = 65536
_IMAGE_ID_KEY = re.compile(r'"image_id"\s*:')


def detect(tree: Tree) -> list[str]:
    """The shallowest JSON files that look like COCO; of those, only the `instances_*` ones where there are any."""
    files = sorted(tree.with_suffix(".json"), key=lambda f: (depth_of(f), f))
    found: list[str] = []
    for relative in files:
        if found and depth_of(relative) > depth_of(found[0]):
            break
        if _looks_like_coco(tree, relative):
            found.append(relative)
    instances = [f for f in found if f.rpartition("/")[2].startswith("instances")]
    return instances or found


def read(tree: Tree, files: list[str], pictures: Pictures) -> Reading:
    """All images of all files. Raises AnnotationError for a file that is no JSON or no COCO."""
    reading = Reading(list_unlabelled=tree.only is None)
    names: dict[str, tuple[object, int]] = {}
    crowds = 0
    for relative in files:
        crowds += _read_one(tree, relative, pictures, reading, names)
    if crowds:
        reading.notes.append(f"{crowds} crowd regions (iscrowd) passed over")
    reading.class_order = tuple(sorted(names, key=lambda name: (_id_key(names[name][0]), names[name][1])))
    return reading


def _read_one(
    tree: Tree, relative: str, pictures: Pictures, reading: Reading, names: dict[str, tuple[object, int]]
) -> int:
    """Adds one file's records to `reading` and its categories to `names`; the number of crowd regions."""
    path = tree.path(relative)
    text, _ = decode(read_bytes(tree, relative))
    document = _load(text, path)
    classes: dict[Hashable, str] = {}
    for category in _dicts(document.get("categories")):
        key = _hashable(category.get("id"))
        classes[key] = clean_label(category.get("name")) or clean_label(category.get("id"))
        names.setdefault(classes[key], (category.get("id"), len(names)))
    annotations = _dicts(document.get("annotations"))
    lines = _lines(text, len(annotations))
    objects: dict[Hashable, list[RawObject]] = defaultdict(list)
    first_line: dict[Hashable, int] = {}
    crowds = 0
    for i, annotation in enumerate(annotations):
        if annotation.get("iscrowd") in (1, True, "1"):
            crowds += 1
            continue
        where = f"{path}:{lines[i]}"
        image_id = _hashable(annotation.get("image_id"))
        first_line.setdefault(image_id, lines[i])
        objects[image_id].append(_object(annotation, classes, where))
    folder, split = folder_of(relative), split_of_file(relative)
    for image in _dicts(document.get("images")):
        image_id = _hashable(image.get("id"))
        name = image.get("file_name")
        shown = name if isinstance(name, str) else ""
        where = f"{path}:{first_line.get(image_id, 1)}"
        record = RawPicture(shown, None, where, objects.pop(image_id, []), split)
        found = pictures.find(shown, near=folder, split=split, part=split_of_folder(folder))
        if isinstance(found, Problem):
            record.problem = found
        else:
            record.path = found
        reading.pictures.append(record)
    for image_id, orphans in objects.items():
        reason = f"an annotation of image id {clean_label(image_id)}, which the file does not list (or lists twice)"
        reading.skipped.extend(Skipped(path, o.where, reason, UNREADABLE_ANNOTATION) for o in orphans)
    return crowds


def _object(annotation: dict[str, Any], classes: dict[Hashable, str], where: str) -> RawObject:
    category = _hashable(annotation.get("category_id"))
    box = annotation.get("bbox")
    values = cast("list[object]", box) if isinstance(box, list) else []
    raw = raw_object(classes.get(category, "?"), values, where, order="xywh")
    if category not in classes and raw.problem is None:
        raw.problem = Problem(NO_CLASS, f"category id {clean_label(category)} is not among the file's categories")
    if not values:
        raw.problem = Problem(BAD_BOX, "an annotation without a bbox")
    return raw


def _load(text: str, path: str) -> dict[str, Any]:
    try:
        document: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"not valid JSON ({error.msg}, column {error.colno})",
            where=f"{path}:{error.lineno}",
            fix="Export the annotations again; the file may be cut off.",
        ) from None
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        what = "nested too deep" if isinstance(error, RecursionError) else "a number is too long"
        raise AnnotationError(f"not usable JSON ({what})", where=path, fix="Export the annotations again.") from None
    if not isinstance(document, dict) or not {"images", "annotations", "categories"} <= document.keys():
        raise AnnotationError(
            "this JSON is no COCO file: it needs the lists images, annotations and categories",
            where=f"{path}:1",
            fix="Export as COCO, or choose the layout with --layout.",
        )
    return cast("dict[str, Any]", document)


def _lines(text: str, count: int) -> list[int]:
    """The line of each annotation. JSON parsers do not say; but each annotation has one `"image_id":`, in order."""
    if "\n" not in text.strip():
        return [1] * count
    lines: list[int] = []
    line, position = 1, 0
    for match in _IMAGE_ID_KEY.finditer(text):
        line += text.count("\n", position, match.start())
        position = match.start()
        lines.append(line)
    return lines if len(lines) == count else [1] * count


def _looks_like_coco(tree: Tree, relative: str) -> bool:
    try:
        head = read_bytes(tree, relative, _SNIFFED_BYTES)
    except AnnotationError:
        return False
    return (b'"images"' in head and b'"file_name"' in head) or (b'"annotations"' in head and b'"image_id"' in head)


def _dicts(value: object) -> list[dict[str, Any]]:
    """The dictionaries of a list; nothing where it is no list."""
    if not isinstance(value, list):
        return []
    return [cast("dict[str, Any]", v) for v in cast("list[object]", value) if isinstance(v, dict)]


def _hashable(value: object) -> Hashable:
    # 7 and "7" are the same id: exporters mix them; True is not 1
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return None


def _id_key(value: object) -> tuple[bool, float, str]:
    """Numeric ids by number, others after them by text."""
    if isinstance(value, (int, float)):
        try:
            return (False, float(value), "")
        except OverflowError:
            return (True, 0.0, "")
    return (True, 0.0, str(value))
