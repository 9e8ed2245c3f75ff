"""COCO JSON: one file (or one per part) with `images`, `annotations`, `categories`; Roboflow's `_annotations.coco.json`
is the same. Boxes are [x, y, width, height] from the top left corner. Gives one record per image; never trusts the
sizes written in the file, and leaves out crowd regions.
"""

from __future__ import annotations

import functools
import re
from typing import Any, cast

from onebox.errors import AnnotationError
from onebox.formats.json_files import JsonPull, dicts, pull_json, typed_json
from onebox.formats.json_records import starts_with
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    BAD_BOX,
    DEFAULT_OPTIONS,
    NO_BOX,
    NO_CLASS,
    UNREADABLE_ANNOTATION,
    UNUSED_PARENT,
    Declared,
    Problem,
    RawObject,
    RawPicture,
    Reading,
    ReadOptions,
    Skipped,
    clean_label,
    corners_of,
    raw_object,
    to_number,
)
from onebox.formats.tree import Tree, depth_of, folder_of, split_of_file, split_of_folder

#: Longer ones are names, not numbers.
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_LISTS = ("images", "annotations", "categories")
#: Values of `iscrowd` that mean yes.
_CROWD = (1, True, "1")


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
    parents: set[str] = set()
    crowds = 0
    for relative in files:
        crowds += _read_one(tree, relative, pictures, reading, (names, parents))
    if crowds:
        reading.notes.append(f"{crowds} crowd regions (iscrowd) passed over")
    reading.class_order = tuple(sorted(names, key=lambda name: (_id_key(names[name][0]), names[name][1])))
    used = {raw.label for record in reading.pictures for raw in record.objects}
    for name in sorted(parents & names.keys() - used):
        # Roboflow lists the project itself as category 0, the parent of all others
        reason = f"category {names[name][0]!r} ({name!r}) is only the parent of others, no object is of it"
        reading.remarks.append(Skipped(name, f"{tree.path(files[0])}:1", reason, UNUSED_PARENT))
    return reading


def _read_one(
    tree: Tree,
    relative: str,
    pictures: Pictures,
    reading: Reading,
    categories: tuple[dict[str, tuple[object, int]], set[str]],
) -> int:
    """Adds one file's records to `reading`, the names of its categories and of their parents to `categories`; the
    number of crowd regions."""
    names, parents = categories
    content = _Content(tree, relative)
    path = content.path
    classes: dict[object, str] = {}
    for category in content.categories:
        key = _id(category.get("id"))
        classes[key] = clean_label(category.get("name")) or clean_label(category.get("id"))
        names.setdefault(classes[key], (category.get("id"), len(names)))
        parents.add(clean_label(category.get("supercategory")))
    folder, split = folder_of(relative), split_of_file(relative)
    part = split_of_folder(folder)
    first_line = f"{path}:1"  # one text for a million records, where all stand on it
    for key, name, width, height, line in content.images:
        objects = content.objects.pop(key, ())
        found = pictures.find(name, near=folder, split=split, part=part)
        listed, problem = (None, found) if isinstance(found, Problem) else (found, None)
        if objects:
            raws = [
                _object(category, box, classes, first_line if at == 1 else f"{path}:{at}")
                for category, box, at in objects
            ]
            where = raws[0].where
        else:
            raws, where = [], first_line if line == 1 else f"{path}:{line}"
        reading.pictures.append(
            RawPicture(name, listed, where, raws, split, False, problem, Declared(name, width, height))
        )
    for key, orphans in content.objects.items():
        reason = f"an annotation of image id {clean_label(key)}, which the file does not list (or lists twice)"
        reading.skipped.extend(Skipped(path, f"{path}:{at}", reason, UNREADABLE_ANNOTATION) for _, _, at in orphans)
    return content.crowds


class _Content:
    """What one file holds, kept small: `images` as (id, name, width, height, line); `objects` by image id as (category
    id, corners, line), where the box is none as it is written in place of the corners. The lists may come in any order,
    so nothing is put together here. Raises AnnotationError for a file that is no JSON or no COCO."""

    def __init__(self, tree: Tree, relative: str) -> None:
        self.path = tree.path(relative)
        self.images: list[tuple[object, str, float | None, float | None, int]] = []
        self.objects: dict[object, list[tuple[object, object, int]]] = {}
        self.categories: list[dict[str, Any]] = []
        self.crowds = 0
        quick = typed_json(tree, relative, _quick_type(), once=tuple(key.encode() for key in _LISTS))
        if quick is not None:
            self._take_typed(quick)
        else:
            self._take_piece_by_piece(pull_json(tree, relative))

    def _take_typed(self, quick: Any) -> None:
        self.categories = quick.categories
        self.images = [(image.id, image.file_name, image.width, image.height, 1) for image in quick.images]
        objects = self.objects
        for one in quick.annotations:
            if one.iscrowd and one.iscrowd in _CROWD:
                self.crowds += 1
                continue
            box = one.bbox
            corners = corners_of(box, "xywh") if box is not None else None
            objects.setdefault(one.image_id, []).append((one.category_id, corners or box, 1))

    def _take_piece_by_piece(self, file: JsonPull) -> None:
        missing = set(_LISTS)
        for key in file.keys():  # noqa: SIM118 - no dictionary
            if key in _LISTS and key not in missing:
                raise AnnotationError(f"this JSON holds {key!r} twice", where=file.path, fix="Export it again.")
            missing.discard(key)
            if key == "images":
                self._take_images(file)
            elif key == "annotations":
                self._take_annotations(file)
            elif key == "categories":
                self.categories = dicts(file.value())
        if missing:
            raise AnnotationError(
                "this JSON is no COCO file: it needs the lists images, annotations and categories",
                where=f"{file.path}:1",
                fix="Export as COCO, or choose the layout with --layout.",
            )

    def _take_images(self, file: JsonPull) -> None:
        for image, line in file.records():
            name = image.get("file_name")
            width, height = image.get("width"), image.get("height")
            self.images.append(
                (_id(image.get("id")), name if isinstance(name, str) else "", _size(width), _size(height), line)
            )

    def _take_annotations(self, file: JsonPull) -> None:
        for annotation, line in file.records():
            if annotation.get("iscrowd") in _CROWD:
                self.crowds += 1
                continue
            box = annotation.get("bbox")
            corners = corners_of(cast("list[object]", box), "xywh") if isinstance(box, list) else None
            found = (annotation.get("category_id"), corners or box, line)
            self.objects.setdefault(_id(annotation.get("image_id")), []).append(found)


@functools.cache
def _quick_type() -> Any:
    """What is wanted of a COCO file whose fields all have the usual types, as a msgspec type."""
    from msgspec import defstruct

    size = int | float | None
    image = defstruct(
        "Image", [("id", int), ("file_name", str), ("width", size, None), ("height", size, None)], gc=False
    )
    wanted: list[Any] = [
        ("image_id", int), ("category_id", int), ("bbox", list[int | float] | None, None), ("iscrowd", Any, None),
    ]  # fmt: skip
    annotation = defstruct("Annotation", wanted, gc=False)
    lists = [("images", list[image]), ("annotations", list[annotation]), ("categories", list[dict[str, Any]])]
    return defstruct("Content", lists)


def _size(value: object) -> float | None:
    return value if value is None or (type(value) is int and 0 <= value < 1 << 31) else to_number(value)


def _object(category_id: object, box: object, classes: dict[object, str], where: str) -> RawObject:
    label = classes.get(category_id if type(category_id) is int else _id(category_id))
    if isinstance(box, tuple):
        corners = cast("tuple[float, float, float, float]", box)
        if label:
            return RawObject(label, corners, where)
        reason = f"category id {clean_label(category_id)} is not among the file's categories"
        return RawObject("?", corners, where, Problem(NO_CLASS, reason))
    if not isinstance(box, list) or not box:
        return RawObject(label or "?", NO_BOX, where, Problem(BAD_BOX, "an annotation without a bbox"))
    return raw_object(label or "?", cast("list[object]", box), where, order="xywh")


def _looks_like_coco(tree: Tree, relative: str) -> bool:
    head = tree.head(relative)
    if not starts_with(head, b"{"):  # Label Studio's and Create ML's are lists, and may hold the same words
        return False
    return (b'"images"' in head and b'"file_name"' in head) or (b'"annotations"' in head and b'"image_id"' in head)


def _id(value: object) -> object:
    """One spelling of an id, None for what is none: 7, 7.0 and "7" are the same, for exporters mix them; True is not
    1."""
    if type(value) is int:
        return value
    if isinstance(value, str):
        return int(value) if _WHOLE.fullmatch(value) else value
    if isinstance(value, float):
        return int(value) if value.is_integer() else str(value)
    return None


def _id_key(value: object) -> tuple[bool, float, str]:
    """Numeric ids by number, others after them by text."""
    if isinstance(value, (int, float)):
        try:
            return (False, float(value), "")
        except OverflowError:
            return (True, 0.0, "")
    return (True, 0.0, str(value))
