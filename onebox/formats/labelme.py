"""labelme: one JSON file per picture, named like it (X-AnyLabeling writes the same). Takes such files; gives one record
per picture, in pixels; of every shape that is no rectangle the bounding box is taken. `imageData`, the picture packed
into the file, is never unpacked.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from onebox.errors import AnnotationError
from onebox.formats.json_files import JsonFile, dicts, load_json
from onebox.formats.json_records import as_dict, as_list, json_candidates, starts_with
from onebox.formats.outlines import Corners, around_ellipse, around_points
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    DEFAULT_OPTIONS,
    MISSING_PICTURE,
    NO_BOX,
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
from onebox.formats.tree import Tree, depth_of, folder_of, split_of_folder, stem_of

_RECTANGLES = frozenset({"rectangle", "bbox"})


def detect(tree: Tree) -> list[str]:
    """All JSON files of the folders in which one of the first few is labelme's; none where there is no such folder."""
    folders = {folder_of(f) for f in json_candidates(tree) if _looks_like_labelme(tree.head(f))}
    files = [f for f in tree.with_suffix(".json") if folder_of(f) in folders]
    return sorted(files, key=lambda f: (depth_of(f), f))


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """All files. One that is damaged is left out and told; one that is another kind of JSON is passed over, and an
    AnnotationError where it was given alone."""
    reading = Reading()
    shapes: Counter[str] = Counter()
    others = 0
    for relative in files:
        try:
            file = load_json(tree, relative)
        except AnnotationError as error:
            where = error.where or tree.path(relative)
            reading.skipped.append(Skipped(tree.path(relative), where, error.what, UNREADABLE_ANNOTATION))
            continue
        content = as_dict(file.value)
        if not isinstance(content.get("shapes"), list):
            others += 1
            continue
        reading.pictures.append(_picture(content, file, relative, pictures, shapes))
    if others and not reading.pictures and not reading.skipped:
        raise AnnotationError(
            "this JSON is no labelme file: it needs the list shapes",
            where=f"{tree.path(files[0])}:1",
            fix="Save it with labelme again, or choose the layout with --layout.",
        )
    if others:
        reading.notes.append(f"JSON files that are not labelme's, passed over: {others}")
    if shapes:
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(shapes.items()))
        reading.notes.append(f"shapes that are no rectangles, their bounding boxes taken: {counts}")
    return reading


def _picture(
    content: dict[str, Any], file: JsonFile, relative: str, pictures: Pictures, shapes: Counter[str]
) -> RawPicture:
    written = dicts(content["shapes"])
    lines = _lines(file, written)
    objects = [_object(shape, f"{file.path}:{line}", shapes) for shape, line in zip(written, lines, strict=True)]
    image_path = content.get("imagePath")
    name = image_path if isinstance(image_path, str) else ""
    parts = name.replace("\\", "/").split("/")
    width, height = (to_number(v) if v is not None else None for v in map(content.get, ("imageWidth", "imageHeight")))
    where = objects[0].where if objects else f"{file.path}:1"
    folder, stem = folder_of(relative), stem_of(relative)
    split = split_of_folder(folder)
    declared = Declared(parts[-1] or None, width, height)
    record = RawPicture(name or stem, None, where, objects, split, declared=declared)
    # the file's own name first, as for Pascal VOC: imagePath often leads to where the picture once lay
    hint = parts[-2] if len(parts) > 1 else None
    found = pictures.find(stem, near=folder, split=split, part=split, hint=hint, also=name or None)
    if isinstance(found, Problem) and found.code == MISSING_PICTURE and name:
        found = pictures.find(name, near=folder, split=split, part=split)
    if isinstance(found, Problem):
        record.problem = found
    else:
        record.path = found
    return record


def _object(shape: dict[str, Any], where: str, shapes: Counter[str]) -> RawObject:
    kind = clean_label(shape.get("shape_type")).lower() or "polygon"  # labelme 3 knew polygons only
    if kind not in _RECTANGLES:
        shapes[kind[:24]] += 1
    return raw_object(shape.get("label"), _corners(kind, shape.get("points")), where)


def _corners(kind: str, points: object) -> Corners:
    """(x_min, y_min, x_max, y_max): a rectangle is drawn from any corner to the opposite one."""
    if kind != "circle":
        return around_points(points)
    pairs = [[to_number(v) for v in as_list(point)] for point in as_list(points)]
    if len(pairs) != 2 or any(len(pair) != 2 for pair in pairs):
        return NO_BOX
    (cx, cy), (x, y) = pairs  # the centre and a point of the circle
    radius = math.hypot(x - cx, y - cy)
    return around_ellipse(cx, cy, radius, radius)


def _lines(file: JsonFile, shapes: list[dict[str, Any]]) -> list[int]:
    """The line of each shape's label, or of its points."""
    for key in ("label", "points"):
        if all(key in shape for shape in shapes):
            lines = file.lines_of_key(key, len(shapes))
            if any(line > 1 for line in lines):
                return lines
    return [1] * len(shapes)


def _looks_like_labelme(head: bytes) -> bool:
    """labelme 3 sorted its keys, so that the packed picture may fill the whole head."""
    named = b'"shapes"' in head and (b'"imagePath"' in head or b'"points"' in head)
    return starts_with(head, b"{") and (named or b'"imageData"' in head)
