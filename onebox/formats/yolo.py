"""YOLO: one text file per picture, one object a line: class id, centre x, centre y, width, height, in fractions; or a
polygon, of which the bounding box is taken. Takes class names and parts from a `data.yaml` where there is one. Folders
named in the YAML are looked up among those that the scan found, so a YAML made on another machine works, and none
leads out of the data set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

from onebox.errors import AnnotationError
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    BAD_BOX,
    DEFAULT_OPTIONS,
    MISSING_PICTURE,
    NO_BOX,
    NO_NAMES,
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
from onebox.formats.tree import Tree, decode, depth_of, folder_of, read_bytes, split_of_folder, stem_of

_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "names.txt", "labels.txt")
#: Text files that are no labels: anywhere, and outside of folders named `labels`.
_NO_LABELS = re.compile(r"(readme.*|classes|notes)\.txt", re.IGNORECASE)
_NO_LABELS_ELSEWHERE = re.compile(r"(names|labels|train|val|valid|test|trainval|.*_gt)\.txt", re.IGNORECASE)
_SNIFFED_FILES = 20
_SNIFFED_BYTES = 4096
_LARGEST_01 = 1.5
_PARTS = (("train", "train"), ("val", "val"), ("valid", "val"), ("validation", "val"), ("test", "test"))


@dataclass(slots=True)
class _Names:
    """What one YAML (or names file) says: `names` by id; `folders`, part -> picture folders; `listed`, picture stem
    -> part for text lists."""

    source: str
    names: dict[int, str] = field(default_factory=dict[int, str])
    folders: dict[str, str] = field(default_factory=dict[str, str])
    listed: dict[str, str] = field(default_factory=dict[str, str])


def detect(tree: Tree) -> list[str]:
    """The YAML files that rule over label folders, then the label files themselves; empty where there are no labels."""
    labels = _label_files(tree)
    if not labels:
        return []
    ruling = {y for folder in {folder_of(f) for f in labels} if (y := _ruling_yaml(tree, folder))}
    return sorted(ruling, key=lambda f: (depth_of(f), f)) + labels


def read(tree: Tree, files: list[str], pictures: Pictures, options: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """All label files. Raises AnnotationError for a YAML that is none. Without any class names in the data,
    `options.class_names` are taken as the names of the ids."""
    reading = Reading()
    if tree.only is not None and not any(f.endswith(".txt") for f in files):
        files = [tree.only, *_label_files(tree)]  # the YAML alone was given: the labels lie around it
    texts = [f for f in files if f.lower().endswith(".txt")]
    rulers: dict[str, _Names | None] = {}
    known: dict[str, _Names] = {}
    polygons = 0
    ids: set[int] = set()
    for relative in texts:
        folder = folder_of(relative)
        if folder not in rulers:
            rulers[folder] = _names_for(tree, folder, pictures, reading, known)
        record, some = _read_labels(tree, relative, pictures, rulers[folder], ids)
        polygons += some
        reading.pictures.append(record)
    if polygons:
        reading.notes.append(f"polygons in {polygons} lines: their bounding boxes taken")
    _name_classes(reading, known, ids, options.class_names)
    return reading


def _read_labels(
    tree: Tree, relative: str, pictures: Pictures, ruler: _Names | None, ids: set[int]
) -> tuple[RawPicture, int]:
    """One label file's record, its labels still ids where no names are known, and how many of its lines are polygons.
    Adds the ids met to `ids`."""
    path, folder, stem = tree.path(relative), folder_of(relative), stem_of(relative)
    record = RawPicture(stem, None, f"{path}:1", split=split_of_folder(folder), is_01=True)
    found = _picture_of(pictures, folder, stem, record.split)
    if isinstance(found, Problem):
        record.problem = found
    else:
        record.path = found
        record.split = _split(found, stem, ruler, record.split)
    text, _ = decode(read_bytes(tree, relative))
    polygons = 0
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        raw, class_id = _object(words, f"{path}:{number}", ruler)
        polygons += len(words) > 6
        if class_id is not None:
            ids.add(class_id)
        record.objects.append(raw)
    return record, polygons


def _object(words: list[str], where: str, ruler: _Names | None) -> tuple[RawObject, int | None]:
    number = to_number(words[0])
    if not number.is_integer() or not 0 <= number < 1e9:
        problem = Problem(
            UNREADABLE_ANNOTATION, f"a line must start with a class id, not {clean_label(words[0])[:24]!r}"
        )
        return RawObject("", NO_BOX, where, problem), None
    class_id = int(number)
    names = ruler.names if ruler else {}
    label = names.get(class_id, str(class_id))
    if len(words) in (5, 6):  # a sixth number is a detector's confidence
        raw = raw_object(label, words[1:5], where, order="cxcywh")
    elif len(words) >= 7 and len(words) % 2 == 1:
        numbers = [to_number(word) for word in words[1:]]
        xs, ys = numbers[0::2], numbers[1::2]
        # min() and max() pass over NaN silently: keep it, so that the box is refused
        wrong = [n for n in numbers if n != n]
        raw = raw_object(label, wrong[:1] or [min(xs), min(ys), max(xs), max(ys)], where)
    else:
        reason = f"{len(words)} numbers in a line: a box has 5, a polygon an odd count of 7 or more"
        raw = RawObject(label, NO_BOX, where, Problem(UNREADABLE_ANNOTATION, reason))
    if raw.problem is None and max(map(abs, raw.box)) > 2:
        raw.problem = Problem(BAD_BOX, "YOLO numbers are fractions of the picture (0-1); these are not")
    if raw.problem is None and names and class_id not in names and ruler is not None:
        raw.problem = Problem(UNREADABLE_ANNOTATION, f"class id {class_id} is not among the names in {ruler.source}")
    return raw, class_id


def _picture_of(pictures: Pictures, folder: str, stem: str, split: str | None) -> str | Problem:
    """images/ for labels/ at the same place first, as every YOLO tool does; then by name."""
    parts = folder.split("/")
    for i in range(len(parts) - 1, -1, -1):
        if parts[i].lower() == "labels":
            for other in (["images"], ["Images"], ["JPEGImages"], []):
                place = "/".join([*parts[:i], *other, *parts[i + 1 :]])
                exact = pictures.exactly(place, stem)
                if len(exact) == 1:
                    return exact[0]
                if other and place in pictures.folders and not exact:
                    # its own picture folder lacks it: a picture of that name elsewhere is another picture
                    return Problem(MISSING_PICTURE, f"no such picture: {place}/{clean_label(stem)}.*")
    return pictures.find(stem, near=folder, split=split, part=split)


def _split(picture: str, stem: str, ruler: _Names | None, of_folder: str | None) -> str | None:
    """The part of a picture: by the YAML's lists, by the YAML's folders (the longest that fits), by folder names."""
    if ruler is None:
        return of_folder
    if stem in ruler.listed:
        return ruler.listed[stem]
    folders = [f for f in ruler.folders if picture.startswith(f + "/") or not f]
    if folders:
        return ruler.folders[max(folders, key=len)]
    return of_folder


def _names_for(
    tree: Tree, folder: str, pictures: Pictures, reading: Reading, known: dict[str, _Names]
) -> _Names | None:
    """The names that hold for a label folder: of the YAML given or nearest above it, or of a names file."""
    given = tree.only if tree.only is not None and not tree.only.endswith(".txt") else None
    source = given or _ruling_yaml(tree, folder) or _names_file(tree, folder)
    if source is None:
        return None
    if source not in known:
        if source.endswith((".yaml", ".yml")):
            known[source] = _read_yaml(tree, source, pictures, reading)
        else:
            lines = [clean_label(line) for line in decode(read_bytes(tree, source))[0].splitlines()]
            known[source] = _Names(source, dict(enumerate(line for line in lines if line)))
            reading.notes.append(f"class names from {source}")
    return known[source]


def _read_yaml(tree: Tree, relative: str, pictures: Pictures, reading: Reading) -> _Names:
    path = tree.path(relative)
    document = _load(tree, relative)
    if document is None or "names" not in document:
        raise AnnotationError(
            "no `names` in this YAML", where=f"{path}:1", fix="List the class names there, or give the folder instead."
        )
    out = _Names(relative)
    names = document["names"]
    if isinstance(names, Mapping):
        entries = list(cast("Mapping[object, object]", names).items())
    elif isinstance(names, Sequence) and not isinstance(names, str):
        entries = list(enumerate(cast("Sequence[object]", names)))
    else:
        entries = []
    for key, name in entries:
        number = to_number(key)
        if number.is_integer() and clean_label(name):
            out.names[int(number)] = clean_label(name)
    if not out.names:
        raise AnnotationError("`names` is empty or no list", where=f"{path}:1", fix="Write names: [cat, dog].")
    base = document.get("path")
    for key, part in _PARTS:
        value = document.get(key)
        for entry in cast("list[object]", value) if isinstance(value, list) else [value]:
            if isinstance(entry, str) and entry.strip():
                _resolve(tree, out, entry.strip(), base if isinstance(base, str) else "", part, pictures, reading)
    return out


def _resolve(tree: Tree, out: _Names, entry: str, base: str, part: str, pictures: Pictures, reading: Reading) -> None:
    """Adds the folder or list that one `train:`/`val:`/`test:` entry means. Nothing outside the root is looked at: the
    end of the path is matched against the folders found, so `../train/images` and a path of another machine both mean
    `train/images` here."""
    here = folder_of(out.source)
    outside = base.replace("\\", "/").startswith("/") or ".." in base or re.match(r"[A-Za-z]:", base)
    wanted = [p for p in entry.replace("\\", "/").split("/") if p not in {"", ".", ".."}]
    if wanted and wanted[-1].lower().endswith(".txt"):
        tail = "/".join(wanted).lower()
        lists = [f for f in tree.files if f.lower() == tail or f.lower().endswith("/" + tail)]
        if lists:
            for line in decode(read_bytes(tree, lists[0]))[0].splitlines():
                name = line.strip().replace("\\", "/").rpartition("/")[2]
                if name:
                    out.listed[stem_of(name)] = part
            return
        wanted = []
    start = [p for p in (f"{here}/{base}" if here else base).replace("\\", "/").split("/") if p not in {"", "."}]
    folders: list[str] = []
    if wanted:
        exact = "/".join([*([] if outside else start), *wanted])
        near = "/".join([*([here] if here else []), *wanted])
        ends = pictures.folders_ending("/".join(wanted))
        folders = [f for f in (exact, near) if f in ends] or (ends if len(ends) == 1 else [])
    elif entry in {".", "./"}:
        folders = [here]
    if not folders:
        reading.notes.append(f"{out.source}: {part}: {clean_label(entry)} names no folder or list here, passed over")
        return
    if base and (outside or folders[0] != "/".join([*start, *wanted])):
        note = f"{out.source}: path: {clean_label(base)} is not here; its folders were looked up among those found"
        if note not in reading.notes:
            reading.notes.append(note)
    # `val` that repeats `train` (a common stopgap) makes no second part
    out.folders.setdefault(folders[0], part)


def _load(tree: Tree, relative: str) -> dict[str, Any] | None:
    """The YAML's mapping, None where it holds something else. Raises AnnotationError where it is no YAML."""
    import yaml  # here, for no other layout needs it

    path = tree.path(relative)
    try:
        document: object = yaml.safe_load(decode(read_bytes(tree, relative))[0])
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise AnnotationError(
            f"not valid YAML ({error.problem or 'unreadable'})", where=f"{path}:{line}", fix="Correct this line."
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError, AttributeError) as error:
        reason = clean_label(error)[:80] or type(error).__name__
        raise AnnotationError(f"not valid YAML ({reason})", where=f"{path}:1", fix="Correct the file.") from None
    return cast("dict[str, Any]", document) if isinstance(document, dict) else None


def _name_classes(reading: Reading, known: dict[str, _Names], ids: set[int], class_names: Sequence[str] | None) -> None:
    """Settles the class order, and names the ids where the data do not."""
    if known:
        reading.class_order = tuple(dict.fromkeys(n.names[i] for n in known.values() for i in sorted(n.names)))
        return
    texts = [str(i) for i in sorted(ids)]
    if class_names is not None and not set(texts) <= set(class_names) and ids and max(ids) < len(class_names):
        for record in reading.pictures:
            for raw in record.objects:
                raw.label = class_names[int(raw.label)] if raw.label else ""
        reading.class_order = tuple(class_names)
        reading.notes.append("no data.yaml: class ids named by the class names given")
        return
    reading.class_order = tuple(texts)
    reading.notes.append("no data.yaml, classes.txt or obj.names: classes are called by their ids")
    reason = "no data.yaml, classes.txt or obj.names names the class ids"
    reading.remarks.append(Skipped("", reading.pictures[0].where if reading.pictures else "", reason, NO_NAMES))


def _label_files(tree: Tree) -> list[str]:
    """The text files of every folder in which one of the first few reads as YOLO labels."""
    by_folder: dict[str, list[str]] = {}
    for relative in tree.files:
        folder, _, name = relative.rpartition("/")
        if not name.lower().endswith(".txt") or _NO_LABELS.fullmatch(name):
            continue
        if _in_labels(folder) or not _NO_LABELS_ELSEWHERE.fullmatch(name):
            by_folder.setdefault(folder, []).append(relative)
    found: list[str] = []
    empty: list[str] = []
    for folder in sorted(by_folder):
        named = _in_labels(folder)
        looks = (_reads_as_labels(tree, relative, named) for relative in by_folder[folder])
        first = list(islice((look for look in looks if look is not None), _SNIFFED_FILES))
        if any(first):
            found.extend(by_folder[folder])
        elif named and not first:
            empty.extend(by_folder[folder])
    # a part may hold nothing but pictures without an object
    return [*found, *empty] if found else []


def _in_labels(folder: str) -> bool:
    return "labels" in folder.lower().split("/")


def _reads_as_labels(tree: Tree, relative: str, named: bool) -> bool | None:
    """Whether the first line is a class id and four or more fractions; None for an empty file. In a folder named
    `labels`, an id and four numbers of any size are enough (so that pixels there are told, not overlooked)."""
    try:
        head = decode(read_bytes(tree, relative, _SNIFFED_BYTES))[0]
    except AnnotationError:
        return False
    words = next((line.split() for line in head.splitlines() if line.strip()), [])
    if not words:
        return None
    numbers = [to_number(word) for word in words]
    if len(words) < 5 or not numbers[0].is_integer() or any(n != n for n in numbers):
        return False
    return named or all(0 <= n <= _LARGEST_01 for n in numbers[1:])


def _ruling_yaml(tree: Tree, folder: str) -> str | None:
    """The YAML with class names in the nearest folder at or above `folder`; data.yaml before others."""
    parts = folder.split("/") if folder else []
    candidates = [f for f in tree.files if f.lower().endswith((".yaml", ".yml"))]
    for end in range(len(parts), -1, -1):
        above = "/".join(parts[:end])
        here = [f for f in candidates if folder_of(f) == above]
        for relative in sorted(here, key=lambda f: (stem_of(f).lower() not in {"data", "dataset"}, f)):
            if re.search(rb"^['\"]?names['\"]?\s*:|[{,]\s*['\"]?names['\"]?\s*:", read_bytes(tree, relative), re.M):
                return relative
    return None


def _names_file(tree: Tree, folder: str) -> str | None:
    parts = folder.split("/") if folder else []
    for end in range(len(parts), -1, -1):
        for name in _NAME_FILES:
            relative = "/".join([*parts[:end], name])
            if relative in tree.files:
                return relative
    return None
