"""CVAT XML for images (version 1.1): one file with `<image>` elements that hold boxes, polygons, masks and others.
Takes the box around every shape that is none; gives one record per image, parts from `subset`. Refuses the video
flavour: its tracks speak of frames by number, not of pictures by name.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from heapq import nsmallest

from onebox.errors import AnnotationError
from onebox.formats.outlines import Corners, around_coordinates, around_ellipse
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    DEFAULT_OPTIONS,
    NO_BOX,
    Declared,
    Problem,
    RawObject,
    RawPicture,
    Reading,
    ReadOptions,
    raw_object,
    to_number,
)
from onebox.formats.tree import Tree, depth_of, folder_of, read_bytes, split_of_file, split_of_folder, split_word
from onebox.formats.xml_files import XmlHandler, is_root

_SNIFFED_FILES = 50
_CORNERS = ("xtl", "ytl", "xbr", "ybr")
#: A cuboid's eight corners: xtl1, ytl1, xbl1, ... xtr2, ytr2.
_CUBOID_X = re.compile(r"x[tb][lr][12]")
_CUBOID_Y = re.compile(r"y[tb][lr][12]")
_POINTS = frozenset({"polygon", "polyline", "points"})
#: What CVAT calls the label of a whole picture.
_TAG = "tag"


def detect(tree: Tree) -> list[str]:
    """The XML files, among the first of them, that CVAT wrote; those of the shallowest level."""
    found: list[str] = []
    for relative in nsmallest(_SNIFFED_FILES, tree.with_suffix(".xml"), key=lambda f: (depth_of(f), f)):
        if found and depth_of(relative) > depth_of(found[0]):
            break
        head = tree.head(relative)
        if is_root(head, b"annotations") and any(tag in head for tag in (b"<version>", b"<image ", b"<track ")):
            found.append(relative)
    return found


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """All images of all files. Raises AnnotationError for a file that is no sound XML, or of the video flavour."""
    reading = Reading(list_unlabelled=tree.only is None)
    order: dict[str, None] = {}
    shapes: Counter[str] = Counter()
    for relative in files:
        parsed = _parse(tree, relative)
        order.update(dict.fromkeys(parsed.labels))
        shapes.update(parsed.shapes)
        folder, split = folder_of(relative), split_of_file(relative)
        for image in parsed.images:
            record = image.record
            record.split = split_word(image.subset) or split
            found = pictures.find(record.name, near=folder, split=record.split)
            if isinstance(found, Problem):
                record.problem = found
            else:
                record.path = found
                record.split = record.split or split_of_folder(folder_of(found))
            reading.pictures.append(record)
    if tags := shapes.pop(_TAG, 0):
        reading.notes.append(f"{tags} tags (labels without a box) passed over")
    if shapes:
        listed = ", ".join(f"{n} of kind {kind}" for kind, n in sorted(shapes.items()))
        reading.notes.append(f"shapes that are no upright boxes, the box around each taken: {listed}")
    reading.class_order = tuple(order)
    return reading


def _parse(tree: Tree, relative: str) -> _Handler:
    path = tree.path(relative)
    handler = _Handler(path)
    damage = handler.parse(read_bytes(tree, relative))
    if damage is not None:
        raise AnnotationError(damage.reason, where=damage.where, fix="Export it again.")
    if not handler.is_cvat:
        raise AnnotationError(
            "this XML is no CVAT file: its outermost element is not <annotations>",
            where=f"{path}:1",
            fix="Choose the layout with --layout.",
        )
    if handler.track_line:
        raise AnnotationError(
            "CVAT for video: its tracks name frames by number, not pictures",
            where=f"{path}:{handler.track_line}",
            fix="Export the task as 'CVAT for images 1.1'.",
        )
    return handler


class _Image:
    """One `<image>`: its record, and the subset it names."""

    def __init__(self, attributes: dict[str, str], where: str) -> None:
        name = attributes.get("name", "")
        sides = (attributes.get(side) for side in ("width", "height"))
        width, height = (None if side is None else to_number(side) for side in sides)
        self.record = RawPicture(name, None, where, declared=Declared(name, width, height))
        self.subset = attributes.get("subset", "")


class _Handler(XmlHandler):
    """Collects images with their objects, the task's labels in order, and how many shapes are no upright boxes."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.is_cvat = False
        self.track_line = 0
        self.images: list[_Image] = []
        self.labels: list[str] = []
        self.shapes: Counter[str] = Counter()
        self._skeleton: list[str] = []
        self._skeleton_line = 1
        self._skeleton_label = ""
        self._label = ("", False)

    def opened(self, name: str, attributes: dict[str, str]) -> None:
        depth = len(self.stack)
        if depth == 1:
            self.is_cvat = name == "annotations"
        elif depth == 2 and name == "track":
            self.track_line = self.track_line or self.line
        elif depth == 2 and name == "image":
            self.images.append(_Image(attributes, f"{self.path}:{self.line}"))
        elif depth == 3 and self.stack[1] == "image":
            self._shape(name, attributes)
        elif depth == 4 and self.stack[1:3] == ["image", "skeleton"] and name == "points":
            if attributes.get("outside") != "1":
                self._skeleton.append(attributes.get("points", ""))
        elif depth == 5 and self.stack[3:] == ["labels", "label"]:
            self._label = ("", False)

    def closed(self, name: str, text: str) -> None:
        if len(self.stack) == 3 and self.stack[1:] == ["image", "skeleton"]:
            self._skeleton_box()
        elif len(self.stack) == 6 and self.stack[3:5] == ["labels", "label"]:
            title, is_part = self._label
            if name == "name":
                self._label = (" ".join(text.split()), is_part)
            elif name == "parent":  # a joint of a skeleton, no class
                self._label = (title, True)
        elif len(self.stack) == 5 and self.stack[3:] == ["labels", "label"]:
            title, is_part = self._label
            if title and not is_part:
                self.labels.append(title)

    def _shape(self, kind: str, attributes: dict[str, str]) -> None:
        label, where = attributes.get("label"), f"{self.path}:{self.line}"
        get = attributes.get
        if kind == "box":
            raw = raw_object(label, [get(corner) for corner in _CORNERS], where)
            rotation, (x_min, y_min, x_max, y_max) = to_number(get("rotation", "0")), raw.box
            # an inverted box stays as it is written, to be found inverted
            if rotation != 0 and x_min <= x_max and y_min <= y_max:
                raw = raw_object(label, _around_turned(raw.box, rotation), where)
                kind = "rotated box"
        elif kind == "mask":
            raw = raw_object(label, [get(side) for side in ("left", "top", "width", "height")], where, order="xywh")
        elif kind == "ellipse":
            turn = math.radians(to_number(get("rotation", "0")))
            raw = raw_object(label, around_ellipse(get("cx"), get("cy"), get("rx"), get("ry"), turn), where)
        elif kind in _POINTS:
            raw = raw_object(label, _around_points(get("points", "")), where)
        elif kind == "cuboid":
            xs = [value for key, value in attributes.items() if _CUBOID_X.fullmatch(key)]
            ys = [value for key, value in attributes.items() if _CUBOID_Y.fullmatch(key)]
            raw = raw_object(label, around_coordinates(xs, ys), where)
        elif kind == "skeleton":
            # its box is known when all its joints have been read
            self._skeleton, self._skeleton_line, self._skeleton_label = [], self.line, label or ""
            return
        else:
            self.shapes[_TAG] += kind == _TAG
            return
        if kind != "box":
            self.shapes[kind] += 1
        self._add(raw)

    def _skeleton_box(self) -> None:
        where = f"{self.path}:{self._skeleton_line}"
        self.shapes["skeleton"] += 1
        self._add(raw_object(self._skeleton_label, _around_points(";".join(self._skeleton)), where))

    def _add(self, raw: RawObject) -> None:
        self.images[-1].record.objects.append(raw)


def _around_points(points: str) -> Corners:
    """The box around "x,y;x,y;..."; NaN where a point is none."""
    pairs = [pair.split(",") for pair in points.split(";") if pair.strip()]
    if any(len(pair) != 2 for pair in pairs):
        return NO_BOX
    return around_coordinates([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def _around_turned(box: Corners, rotation: float) -> Corners:
    """The upright box around one that is turned by `rotation` degrees around its centre."""
    if not math.isfinite(rotation):
        return NO_BOX
    x_min, y_min, x_max, y_max = box
    x, y, half_x, half_y = (x_min + x_max) / 2, (y_min + y_max) / 2, (x_max - x_min) / 2, (y_max - y_min) / 2
    cos, sin = abs(math.cos(math.radians(rotation))), abs(math.sin(math.radians(rotation)))
    wide, high = half_x * cos + half_y * sin, half_x * sin + half_y * cos
    return (x - wide, y - high, x + wide, y + high)
