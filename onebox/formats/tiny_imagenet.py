"""Tiny ImageNet: `train/<wnid>/<wnid>_boxes.txt` and `val/val_annotations.txt` beside folders of pictures, names of the
classes in `words.txt`. Its corners are the first and the last pixel inside (0 to 63 in pictures of 64), so the edges
are one further right and below; a box whose first and last pixel are one is left as it is, without area. Gives one
record per line.
"""

from __future__ import annotations

import re

from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    DEFAULT_OPTIONS,
    INCLUSIVE_BOXES,
    UNREADABLE_ANNOTATION,
    Problem,
    RawObject,
    RawPicture,
    Reading,
    ReadOptions,
    Skipped,
    raw_object,
    to_number,
)
from onebox.formats.synsets import distinct_names, read_synsets
from onebox.formats.tree import Tree, decode, folder_of, read_bytes, split_of_folder

_BOXES = re.compile(r"(?:(.*)/)?(?:train|val)/([^/]+)/\2_boxes\.txt")
_VAL = re.compile(r"(?:(.*)/)?val/val_annotations\.txt")
#: name, (wnid,) x_min, y_min, x_max, y_max
_LINE = re.compile(rb"^[^\t\r\n]+\.\w+(?:\t[^\t\r\n]+)?(?:\t\d+){4}\r?$", re.MULTILINE)
_SNIFFED_BYTES = 4096


def detect(tree: Tree) -> list[str]:
    """The box files of one data set (the first, where there are several), where the first of them holds boxes."""
    files = tree.ending("_boxes.txt", "val_annotations.txt")
    matches = [(m.group(1) or "", f) for f in files if (m := _BOXES.fullmatch(f) or _VAL.fullmatch(f))]
    if tree.only is not None or not matches:
        return []
    base = min(matches, key=lambda item: (item[0].count("/"), item[0]))[0]
    files = [f for at, f in matches if at == base]
    return files if _LINE.search(tree.head(files[0])[:_SNIFFED_BYTES]) else []


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """Every line of every file, in the order of `wnids.txt`, else of `words.txt`."""
    reading = Reading()
    match = _BOXES.fullmatch(files[0]) or _VAL.fullmatch(files[0])
    base = f"{match.group(1)}/" if match and match.group(1) else ""
    names = _class_names(tree, base)
    for relative in files:
        _read_one(tree, relative, pictures, reading, names)
    labels = {raw.label for record in reading.pictures for raw in record.objects}
    reading.class_order = tuple(name for name in names.values() if name in labels)
    rule = "corners are the first and last pixel inside: 1 added to the right and lower edge"
    reading.notes.append(rule)
    reading.remarks.append(Skipped("", f"{tree.path(files[0])}:1", rule, INCLUSIVE_BOXES))
    if not names:
        reading.notes.append("no words.txt: classes are called by their WordNet ids")
    return reading


def _class_names(tree: Tree, base: str) -> dict[str, str]:
    """wnid -> name, for the classes of `wnids.txt` (without one: of `words.txt`); empty without a `words.txt`."""
    here = set(tree.ending(".txt"))
    if f"{base}words.txt" not in here:
        return {}
    words = read_synsets(tree, f"{base}words.txt")
    if f"{base}wnids.txt" in here:
        words = {wnid: words.get(wnid, "") for wnid in read_synsets(tree, f"{base}wnids.txt")}
    return distinct_names(words)


def _read_one(tree: Tree, relative: str, pictures: Pictures, reading: Reading, names: dict[str, str]) -> None:
    path, folder = tree.path(relative), folder_of(relative)
    match = _BOXES.fullmatch(relative)
    of_folder = match.group(2) if match else None
    split = split_of_folder(folder)
    text, _ = decode(read_bytes(tree, relative))
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        words = line.strip().split("\t")
        if len(words) != (5 if of_folder else 6):
            reason = f"{len(words)} columns between tabs, where {5 if of_folder else 6} are expected"
            reading.skipped.append(Skipped(path, where, reason, UNREADABLE_ANNOTATION))
            continue
        wnid = of_folder or words[1].strip()
        record = RawPicture(words[0], None, where, [_object(names.get(wnid, wnid), words[-4:], where)], split)
        found = pictures.find(words[0], near=f"{folder}/images", split=split, label=of_folder, part=split)
        if isinstance(found, Problem):
            record.problem = found
        else:
            record.path = found
        reading.pictures.append(record)


def _object(label: str, values: list[str], where: str) -> RawObject:
    x_min, y_min, x_max, y_max = map(to_number, values)
    if x_max > x_min and y_max > y_min:
        return raw_object(label, [x_min, y_min, x_max + 1, y_max + 1], where)
    # one pixel broad (what the cut to a square left of an object) or inverted: to be judged as it is written
    return raw_object(label, values, where)
