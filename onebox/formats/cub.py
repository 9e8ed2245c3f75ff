"""CUB-200-2011 and sets made like it (NABirds): `images.txt`, `bounding_boxes.txt`, `image_class_labels.txt` and
`classes.txt` that share ids, pictures below `images/`. Boxes are x, y, width, height from the top left corner. Gives
one record per line of `images.txt`, parts from `train_test_split.txt`.
"""

from __future__ import annotations

from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    AMBIGUOUS_PICTURE,
    DEFAULT_OPTIONS,
    NO_CLASS,
    UNREADABLE_ANNOTATION,
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
from onebox.formats.tree import Tree, decode, depth_of, folder_of, read_bytes, split_of_folder

_NEEDED = ("images.txt", "bounding_boxes.txt", "image_class_labels.txt")
_CLASSES = "classes.txt"
_SPLIT = "train_test_split.txt"
_SNIFFED_BYTES = 4096


def detect(tree: Tree) -> list[str]:
    """The text files of the shallowest folder that holds all three, where the boxes read as an id and four numbers."""
    if tree.only is not None:
        return []
    here = set(tree.ending(*_NEEDED, _CLASSES, _SPLIT))
    for boxes in sorted((f for f in here if f.rpartition("/")[2] == _NEEDED[1]), key=lambda f: (depth_of(f), f)):
        files = [_beside(boxes, name) for name in _NEEDED]
        if here.issuperset(files) and _reads_as_boxes(tree, boxes):
            return [*files, *(f for name in (_CLASSES, _SPLIT) if (f := _beside(boxes, name)) in here)]
    return []


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """Every picture listed, with its boxes. A line that cannot be read is one entry of what is left out."""
    reading = Reading()
    at = {f.rpartition("/")[2]: f for f in files}
    names = _column(tree, at.get(_CLASSES), reading)
    class_of = _column(tree, at["image_class_labels.txt"], reading)
    is_train = _column(tree, at.get(_SPLIT), reading)
    listed = _column(tree, at["images.txt"], reading)
    folder = folder_of(at["images.txt"])
    records: dict[str, RawPicture] = {}
    for key, (name, where) in listed.items():
        flag = is_train.get(key, ("", ""))[0]
        split = {"1": "train", "0": "test"}.get(flag)
        record = RawPicture(name, None, where, split=split)
        found = pictures.find(name, near=f"{folder}/images" if folder else "images", hint="images", split=split)
        if isinstance(found, Problem):
            record.problem = found
        else:
            record.path = found
            record.split = split or split_of_folder(folder_of(found))
        records[key] = record
        reading.pictures.append(record)
    labels = {key: names.get(number, (number, ""))[0] for key, (number, _) in class_of.items()}
    _read_boxes(tree, at["bounding_boxes.txt"], records, labels, reading)
    reading.class_order = tuple(name for name, _ in names.values())
    if not names:
        reading.notes.append("no classes.txt: classes are called by their ids")
    return reading


def _read_boxes(
    tree: Tree, relative: str, records: dict[str, RawPicture], labels: dict[str, str], reading: Reading
) -> None:
    path = tree.path(relative)
    for number, line in enumerate(_lines(tree, relative), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{path}:{number}"
        record = records.get(words[0])
        if record is None:
            reason = f"image id {clean_label(words[0])} is not in images.txt"
            reading.skipped.append(Skipped(path, where, reason, UNREADABLE_ANNOTATION))
            continue
        raw: RawObject = raw_object(labels.get(words[0]), words[1:], where, order="xywh")
        if raw.problem is not None and raw.problem.code == NO_CLASS:
            raw.problem = Problem(NO_CLASS, f"image id {clean_label(words[0])} has no class in image_class_labels.txt")
        if not record.objects:
            record.where = where
        record.objects.append(raw)


def _column(tree: Tree, relative: str | None, reading: Reading) -> dict[str, tuple[str, str]]:
    """id -> (the rest of its line, file:line). An id that stands in several lines with different values belongs to
    none of them: it is left out, and said."""
    found: dict[str, tuple[str, str]] = {}
    if relative is None:
        return found
    path = tree.path(relative)
    doubtful: set[str] = set()
    for number, line in enumerate(_lines(tree, relative), start=1):
        words = line.split(None, 1)
        if not words:
            continue
        where, value = f"{path}:{number}", clean_label(words[1]) if len(words) == 2 else ""
        if not value:
            reason = f"a line needs an id and a value, not {clean_label(words[0])[:24]!r} alone"
            reading.skipped.append(Skipped(path, where, reason, UNREADABLE_ANNOTATION))
        elif found.setdefault(words[0], (value, where))[0] != value:
            doubtful.add(words[0])
            reason = f"id {clean_label(words[0])} stands for something else in {found[words[0]][1]}"
            reading.skipped.append(Skipped(path, where, reason, AMBIGUOUS_PICTURE))
    return {key: value for key, value in found.items() if key not in doubtful}


def _lines(tree: Tree, relative: str) -> list[str]:
    return decode(read_bytes(tree, relative))[0].split("\n")


def _beside(relative: str, name: str) -> str:
    folder = folder_of(relative)
    return f"{folder}/{name}" if folder else name


def _reads_as_boxes(tree: Tree, relative: str) -> bool:
    rows = [line.split() for line in decode(tree.head(relative)[:_SNIFFED_BYTES])[0].splitlines()]
    return any(len(row) == 5 and all(to_number(word) == to_number(word) for word in row[1:]) for row in rows)
