"""Pascal VOC: one XML file per picture. Takes every XML under the root (or one file); finds the picture by the XML's
own name first and by `<filename>` second, because `<filename>` is often wrong; takes parts from
`ImageSets/Main/*.txt` or from folder names. Refuses any DOCTYPE, so no entity is ever expanded; ignores `<size>`.
"""

from __future__ import annotations

import re
from xml.parsers import expat

from onebox.errors import AnnotationError
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    MISSING_PICTURE,
    UNREADABLE_ANNOTATION,
    Problem,
    RawObject,
    RawPicture,
    Reading,
    Skipped,
    raw_object,
)
from onebox.formats.tree import Tree, decode, depth_of, folder_of, read_bytes, split_of_folder, stem_of

_ROOT_TAG = re.compile(rb"<annotation[\s>/]")
_SNIFFED_BYTES = 4096
_SNIFFED_FILES = 50
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_IMAGE_SETS = re.compile(r"(?:(.*)/)?ImageSets/Main/(train|val|test|trainval)\.txt")


def detect(tree: Tree) -> list[str]:
    """The XML files, where one among the first of them is a VOC annotation."""
    files = tree.with_suffix(".xml")
    for relative in files[:_SNIFFED_FILES]:
        try:
            if _ROOT_TAG.search(read_bytes(tree, relative, _SNIFFED_BYTES)):
                return files
        except AnnotationError:
            continue
    return []


def read(tree: Tree, files: list[str], pictures: Pictures) -> Reading:
    """Every annotation, in order. One damaged XML is one skipped picture."""
    reading = Reading(list_unlabelled=tree.only is None)
    lists = _image_sets(tree)
    others = 0
    for relative in sorted(files, key=lambda f: (depth_of(f), f)):
        path = tree.path(relative)
        raw = read_bytes(tree, relative)
        parsed = _parse(raw, path)
        if isinstance(parsed, Skipped):
            reading.skipped.append(parsed)
        elif parsed is None:
            others += 1
        else:
            filename, objects = parsed
            reading.pictures.append(_record(relative, path, filename, objects, lists, pictures))
    if others:
        reading.notes.append(f"{others} XML files are no VOC annotations and were passed over")
    if lists:
        reading.notes.append("parts read from ImageSets/Main")
    return reading


def _record(
    relative: str,
    path: str,
    filename: str,
    objects: list[RawObject],
    lists: dict[str, dict[str, str]],
    pictures: Pictures,
) -> RawPicture:
    folder, stem = folder_of(relative), stem_of(relative)
    split = split_of_folder(folder)
    found = pictures.find(stem, near=folder, split=split, part=split, also=filename)
    if isinstance(found, Problem) and found.code == MISSING_PICTURE and filename:
        found = pictures.find(filename, near=folder, split=split, part=split)
    where = objects[0].where if objects else f"{path}:1"
    record = RawPicture(filename or stem, None, where, objects, split)
    if isinstance(found, Problem):
        record.problem = found
        return record
    record.path = found
    for base, members in lists.items():
        if not base or relative.startswith(base + "/"):
            record.split = members.get(stem, record.split)
    return record


def _parse(raw: bytes, path: str) -> tuple[str, list[RawObject]] | Skipped | None:
    """(`<filename>`, objects) of one XML; Skipped where it is damaged; None where it is another kind of XML."""
    handler = _Handler(path)
    parser = handler.parser
    try:
        parser.Parse(raw, True)
    except _DoctypeRefused as error:
        reason = "a DOCTYPE is not allowed in an annotation; delete it"
        return Skipped(path, f"{path}:{error.line}", reason, UNREADABLE_ANNOTATION)
    except expat.ExpatError as error:
        reason = f"not well-formed XML ({expat.ErrorString(error.code)})"
        return Skipped(path, f"{path}:{error.lineno}", reason, UNREADABLE_ANNOTATION)
    except (LookupError, ValueError):  # an encoding that Python or expat does not know
        return Skipped(path, f"{path}:1", "XML of an unknown encoding", UNREADABLE_ANNOTATION)
    if not handler.is_annotation:
        return None
    return handler.filename.strip(), handler.objects


class _DoctypeRefused(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line


class _Handler:
    """Collects objects with the line of their opening tag. `<part>` inside an object has its own name and box, which
    are not the object's: only the exact paths count."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.filename = ""
        self.objects: list[RawObject] = []
        self.is_annotation = False
        self._open: list[str] = []
        self._text: list[str] = []
        self._values: dict[str, str] = {}
        self._line = 1
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text.append

    def _doctype(self, *_: object) -> None:
        raise _DoctypeRefused(self.parser.CurrentLineNumber)

    def _start(self, name: str, _: dict[str, str]) -> None:
        if not self._open:
            self.is_annotation = name == "annotation"
        self._open.append(name)
        self._text.clear()
        if self._open == ["annotation", "object"]:
            self._values = {}
            self._line = self.parser.CurrentLineNumber

    def _end(self, name: str) -> None:
        depth = len(self._open)
        if depth == 2 and name == "filename":
            self.filename = "".join(self._text)
        elif depth == 3 and name == "name" and self._open[1] == "object":
            self._values["name"] = "".join(self._text)
        elif depth == 4 and self._open[1:3] == ["object", "bndbox"] and name in _CORNERS:
            self._values[name] = "".join(self._text)
        elif depth == 2 and name == "object":
            corners = [self._values.get(corner) for corner in _CORNERS]
            self.objects.append(raw_object(self._values.get("name"), corners, f"{self.path}:{self._line}"))
        self._open.pop()
        self._text.clear()


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
