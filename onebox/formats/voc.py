"""Pascal VOC: one XML file per picture. Takes every XML under the root (or one file); finds the picture by the XML's
own name first and by `<filename>` second, because `<filename>` is often wrong; takes parts from
`ImageSets/Main/*.txt` or from folder names. Refuses any DOCTYPE, so no entity is ever expanded; ignores `<size>`.
"""

from __future__ import annotations

import re

from onebox.formats.class_list import order_classes
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    DEFAULT_OPTIONS,
    MISSING_PICTURE,
    Declared,
    Problem,
    RawObject,
    RawPicture,
    Reading,
    ReadOptions,
    Skipped,
    raw_object,
    to_number,
)
from onebox.formats.tree import Tree, decode, depth_of, folder_of, read_bytes, split_of_folder, stem_of
from onebox.formats.xml_files import XmlHandler, is_root

_SNIFFED_FILES = 50
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_IMAGE_SETS = re.compile(r"(?:(.*)/)?ImageSets/Main/(train|val|test|trainval)\.txt")


def detect(tree: Tree) -> list[str]:
    """The XML files, where one among the first of them is a VOC annotation."""
    files = tree.with_suffix(".xml")
    for relative in files[:_SNIFFED_FILES]:
        if is_root(tree.head(relative), b"annotation"):
            return files
    return []


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """Every annotation, in order. One damaged XML is one skipped picture."""
    reading = Reading(list_unlabelled=tree.only is None)
    lists = _image_sets(tree)
    others = 0
    for relative in sorted(files, key=lambda f: (depth_of(f), f)):
        path = tree.path(relative)
        raw = read_bytes(tree, relative)
        parsed = parse_voc(raw, path)
        if isinstance(parsed, Skipped):
            reading.skipped.append(parsed)
        elif parsed is None:
            others += 1
        else:
            reading.pictures.append(_record(relative, parsed, lists, pictures))
    if others:
        reading.notes.append(f"{others} XML files are no VOC annotations and were passed over")
    if lists:
        reading.notes.append("parts read from ImageSets/Main")
    order_classes(tree, reading)
    return reading


def _record(relative: str, parsed: VocXml, lists: dict[str, dict[str, str]], pictures: Pictures) -> RawPicture:
    filename, objects = parsed.filename, parsed.objects
    folder, stem = folder_of(relative), stem_of(relative)
    split = split_of_folder(folder)
    found = pictures.find(stem, near=folder, split=split, part=split, also=filename)
    if isinstance(found, Problem) and found.code == MISSING_PICTURE and filename:
        found = pictures.find(filename, near=folder, split=split, part=split)
    where = objects[0].where if objects else f"{parsed.path}:1"
    record = RawPicture(filename or stem, None, where, objects, split, declared=parsed.declared)
    if isinstance(found, Problem):
        record.problem = found
        return record
    record.path = found
    for base, members in lists.items():
        if not base or relative.startswith(base + "/"):
            record.split = members.get(stem, record.split)
    return record


def parse_voc(raw: bytes, path: str) -> VocXml | Skipped | None:
    """What one XML says; Skipped where it is damaged; None where it is another kind of XML."""
    handler = VocXml(path)
    damage = handler.parse(raw)
    return damage or (handler if handler.is_annotation else None)


class VocXml(XmlHandler):
    """One annotation. Collects objects with the line of their opening tag. `<part>` inside an object has its own name
    and box, which are not the object's: only the exact paths count."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.filename = ""
        self.size: dict[str, float] = {}
        self.objects: list[RawObject] = []
        self.is_annotation = False
        self._values: dict[str, str] = {}
        self._line = 1

    def opened(self, name: str, attributes: dict[str, str]) -> None:
        if len(self.stack) == 1:
            self.is_annotation = name == "annotation"
        elif self.stack == ["annotation", "object"]:
            self._values = {}
            self._line = self.line

    def closed(self, name: str, text: str) -> None:
        depth = len(self.stack)
        if depth == 2 and name == "filename":
            self.filename = text.strip()
        elif depth == 3 and self.stack[1] == "size":
            self.size[name] = to_number(text)
        elif depth == 3 and name == "name" and self.stack[1] == "object":
            self._values["name"] = text
        elif depth == 4 and self.stack[1:3] == ["object", "bndbox"] and name in _CORNERS:
            self._values[name] = text
        elif depth == 2 and name == "object":
            corners = [self._values.get(corner) for corner in _CORNERS]
            self.objects.append(raw_object(self._values.get("name"), corners, f"{self.path}:{self._line}"))

    @property
    def declared(self) -> Declared:
        """What the XML claims of its picture."""
        size = self.size
        return Declared(self.filename or None, size.get("width"), size.get("height"), size.get("depth"))


def _image_sets(tree: Tree) -> dict[str, dict[str, str]]:
    """For each folder that holds an `ImageSets`: picture stem -> part. `trainval` counts only beside no `train`."""
    lists: dict[str, dict[str, str]] = {}
    if tree.only is not None:
        return lists
    matches = [(m, f) for f in tree.files if (m := _IMAGE_SETS.fullmatch(f))]
    for match, relative in sorted(matches, key=lambda pair: pair[0].group(2) != "trainval"):
        members = lists.setdefault(match.group(1) or "", {})
        part = {"trainval": "train"}.get(match.group(2), match.group(2))
        text, _ = decode(read_bytes(tree, relative))
        for line in text.splitlines():
            words = line.split()
            if words:
                members[words[0]] = part
    return lists
