"""onebox's own lossless annotations: a `.jsonl` file, one JSON object a line, in UTF-8. Takes such files; gives one
record per line, with floats exactly as they were written; never loses a line: one that cannot be read is left out and
told, and the others count.

The format, version 1. An optional first line names the version and fixes the order of the classes:

    {"onebox": 1, "classes": ["cat", "dog"]}
    {"picture": "images/a.jpg", "label": "cat", "box": [10.5, 20, 64, 80.25], "split": "val", "width": 99, "height": 98}
    {"picture": "images/b.jpg", "label": null}
    {"picture": "images/c.jpg"}

* `picture`: the path from this file's folder, with forward slashes. It never leads out of that folder.
* `label` and `box` stand together: one object. `box` is [x_min, y_min, x_max, y_max] in pixels of the upright
  (EXIF-applied) picture, corner origin, no +1, numbers as Python's `repr` or any JSON writer spells them.
* `"label": null`, without a box or with `"box": null`: somebody looked, there is no object here.
* Neither `label` nor `box`: nobody has labelled this picture yet.
* `split`: "train", "val" or "test"; absent or null: the file's name decides (`train.jsonl`), else there is none.
* `width`, `height`: the upright picture's, in pixels. They are claims, for the doctor; reading never trusts them.
* A picture with several objects has several lines. Blank lines, and keys not named here, are passed over.
"""

from __future__ import annotations

import json
from typing import Any, cast

from onebox.errors import AnnotationError
from onebox.formats.json_records import parse_lines
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    BAD_BOX,
    DEFAULT_OPTIONS,
    NO_BOX,
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
from onebox.formats.tree import (
    Tree,
    decode,
    depth_of,
    enumerate_some,
    folder_of,
    read_bytes,
    split_of_file,
    split_word,
)

#: The newest version that this reader knows; it is what a writer puts in the first line.
VERSION = 1


def detect(tree: Tree) -> list[str]:
    """The `.jsonl` files of ours at the shallowest level that has any."""
    found: list[str] = []
    for relative in sorted(tree.with_suffix(".jsonl"), key=lambda f: (depth_of(f), f)):
        if found and depth_of(relative) > depth_of(found[0]):
            break
        if _is_ours(tree.head(relative)):
            found.append(relative)
    return found


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """All lines of all files. Raises AnnotationError for a file of a newer version, or one without a single record."""
    reading = Reading(list_unlabelled=tree.only is None)
    listed = frozenset(path for path in pictures.paths if not path.startswith("../"))
    order: dict[str, None] = {}
    empty = 0
    for relative in files:
        empty += _read_one(tree, relative, pictures, listed, reading, order)
    reading.class_order = tuple(order)
    if empty:
        reading.notes.append(f'pictures marked as without an object ("label": null): {empty}')
    return reading


def _read_one(
    tree: Tree,
    relative: str,
    pictures: Pictures,
    listed: frozenset[str],
    reading: Reading,
    order: dict[str, None],
) -> int:
    """Adds one file's records to `reading` and its classes to `order`; how many pictures it says hold no object."""
    path, folder, file_split = tree.path(relative), folder_of(relative), split_of_file(relative)
    empty = records = 0
    odd_parts: set[str] = set()
    for line, value in parse_lines(decode(read_bytes(tree, relative))[0]):
        where = f"{path}:{line}"
        content = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if _is_header(content):
            order.update(_header(content, where))
            continue
        if not isinstance(content.get("picture"), str):
            reason = value.reason if isinstance(value, Problem) else 'no JSON object with a "picture" text'
            reading.skipped.append(Skipped(path, where, reason, UNREADABLE_ANNOTATION))
            continue
        record = _record(content, where, folder, listed, pictures)
        said = content.get("split")
        record.split = (split_word(said) if isinstance(said, str) else None) or file_split
        if said is not None and not (isinstance(said, str) and split_word(said)):
            odd_parts.add(clean_label(said)[:24])
        if record.path is not None and "label" not in content and "box" not in content:
            record.where = ""  # listed, but nobody has said yet what it holds
        records += 1
        empty += "label" in content and not record.objects
        reading.pictures.append(record)
    if not records:
        raise AnnotationError(
            'no line with a "picture" in this file',
            where=f"{path}:1",
            fix='Write one JSON object a line: {"picture": "a.jpg", "label": "cat", "box": [1, 2, 30, 40]}.',
        )
    if odd_parts:
        shown = enumerate_some(sorted(odd_parts))
        reading.notes.append(f"{relative}: parts other than train, val and test passed over: {shown}")
    return empty


def _is_header(content: dict[str, Any]) -> bool:
    return "onebox" in content and "picture" not in content


def _header(content: dict[str, Any], where: str) -> dict[str, None]:
    """The classes, in order, of a header line. Raises AnnotationError for a version that is not known here."""
    version = content["onebox"]
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
        raise AnnotationError(
            f"version {clean_label(version)[:24]} of this format is not known here (known: {VERSION})",
            where=where,
            fix="Update onebox.",
        )
    classes = content.get("classes")
    names = cast("list[object]", classes) if isinstance(classes, list) else []
    return dict.fromkeys(name for name in map(clean_label, names) if name)


def _record(content: dict[str, Any], where: str, folder: str, listed: frozenset[str], pictures: Pictures) -> RawPicture:
    """One line's record, its part not yet set. `listed` are the pictures that a name may mean to the letter."""
    name: str = content["picture"]
    declared = Declared(name, _size(content.get("width")), _size(content.get("height")))
    record = RawPicture(name, None, where, _objects(content, where), declared=declared)
    exact = f"{folder}/{name}" if folder else name
    found = exact if exact in listed else pictures.find(name, near=folder)
    if isinstance(found, Problem):
        record.problem = found
    else:
        record.path = found
    return record


def _objects(content: dict[str, Any], where: str) -> list[RawObject]:
    label, box = content.get("label"), content.get("box")
    if label is None and box is None:
        return []
    if isinstance(label, (dict, list, bool)):
        return [RawObject("", NO_BOX, where, Problem(NO_CLASS, "the label is no text"))]
    if box is None:
        return [RawObject(clean_label(label), NO_BOX, where, Problem(BAD_BOX, "a label without a box"))]
    return [raw_object(label, cast("list[object]", box) if isinstance(box, list) else [], where)]


def _size(value: object) -> float | None:
    return None if value is None else to_number(value)


def _is_ours(head: bytes) -> bool:
    """Whether some line in the head is our header, or has a picture and a box of four."""
    for line in decode(head)[0].split("\n"):
        try:
            value: object = json.loads(line)
        except (ValueError, RecursionError):  # the last line may be cut off by the head's end
            continue
        if isinstance(value, dict):
            content = cast("dict[str, Any]", value)
            box = content.get("box")
            has_box = isinstance(box, list) and len(cast("list[object]", box)) == 4
            if _is_header(content) or (isinstance(content.get("picture"), str) and has_box):
                return True
    return False
