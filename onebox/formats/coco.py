"""COCO JSON: one file (or one per part) with `images`, `annotations`, `categories`; Roboflow's `_annotations.coco.json`
is the same. Boxes are [x, y, width, height] from the top left corner. Gives one record per image; never trusts the
sizes written in the file, and leaves out crowd regions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import Any, cast

from onebox.errors import AnnotationError
from onebox.formats.json_files import JsonFile, dicts, load_json
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    BAD_BOX,
    DEFAULT_OPTIONS,
    NO_CLASS,
    UNREADABLE_ANNOTATION,
    Declared,
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
from onebox.formats.tree import Tree, depth_of, folder_of, split_of_file, split_of_folder


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


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
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
    file, document = _load(tree, relative)
    path = file.path
    classes: dict[Hashable, str] = {}
    for category in dicts(document.get("categories")):
        key = _hashable(category.get("id"))
        classes[key] = clean_label(category.get("name")) or clean_label(category.get("id"))
        names.setdefault(classes[key], (category.get("id"), len(names)))
    annotations = dicts(document.get("annotations"))
    lines = file.lines_of_key("image_id", len(annotations))
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
    for image in dicts(document.get("images")):
        image_id = _hashable(image.get("id"))
        name = image.get("file_name")
        shown = name if isinstance(name, str) else ""
        where = f"{path}:{first_line.get(image_id, 1)}"
        declared = Declared(shown, _size(image.get("width")), _size(image.get("height")))
        record = RawPicture(shown, None, where, objects.pop(image_id, []), split, declared=declared)
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


def _size(value: object) -> float | None:
    return None if value is None else to_number(value)


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


def _load(tree: Tree, relative: str) -> tuple[JsonFile, dict[str, Any]]:
    file = load_json(tree, relative)
    if not isinstance(file.value, dict) or not {"images", "annotations", "categories"} <= file.value.keys():
        raise AnnotationError(
            "this JSON is no COCO file: it needs the lists images, annotations and categories",
            where=f"{file.path}:1",
            fix="Export as COCO, or choose the layout with --layout.",
        )
    return file, cast("dict[str, Any]", file.value)


def _looks_like_coco(tree: Tree, relative: str) -> bool:
    head = tree.head(relative)
    return (b'"images"' in head and b'"file_name"' in head) or (b'"annotations"' in head and b'"image_id"' in head)


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
