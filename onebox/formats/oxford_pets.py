"""Oxford-IIIT Pet: `list.txt`, `trainval.txt` and `test.txt` beside `xmls/` (boxes around heads) and `trimaps/` (masks
of whole animals). The class is the breed, from the picture's name; the XML files say cat or dog only. Gives head boxes,
or body boxes where asked for: the box around every pixel that a trimap calls animal or border.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import numpy as np

from onebox.errors import LayoutError, PictureError
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    BAD_BOX,
    DEFAULT_OPTIONS,
    MISSING_PICTURE,
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
)
from onebox.formats.tree import Tree, decode, depth_of, folder_of, read_bytes, stem_of
from onebox.formats.voc import parse_voc
from onebox.images import read_mask, read_size

#: What one may ask for.
BOXES = ("head", "body")

#: Later ones win: `list.txt` names every picture, the others its part.
_LISTS = (("list.txt", None), ("trainval.txt", "train"), ("test.txt", "test"))
#: Name, class, species, breed within the species.
_ROW = re.compile(rb"^\S+ +\d+ +[12] +\d+\s*$", re.MULTILINE)
_BREED = re.compile(r"(.+)_\d+")
#: In a trimap 1 is the animal, 2 the background, 3 the border between them, not classified.
_ANIMAL = (1, 3)


def detect(tree: Tree) -> list[str]:
    """The files of `xmls` and `trimaps` beside a list, and the lists, in the shallowest folder that has them."""
    if tree.only is not None:
        return []
    names = {name for name, _ in _LISTS}
    here = {f for f in tree.ending(*names) if f.rpartition("/")[2] in names}
    for relative in sorted(here, key=lambda f: (depth_of(f), f)):
        if not _ROW.search(tree.head(relative)):
            continue
        base = folder_of(relative)
        start = f"{base}/" if base else ""
        found = [f for f in tree.ending(".xml") if f.startswith(f"{start}xmls/")]
        found += [f for f in tree.ending(".png") if f.startswith(f"{start}trimaps/")]
        if found:
            return [*found, *(start + name for name, _ in _LISTS if start + name in here)]
    return []


def read(tree: Tree, files: list[str], pictures: Pictures, options: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """Every head or every body, and the other pictures of the lists without a box. Raises LayoutError where boxes are
    asked for that are not there."""
    xmls = [f for f in files if f.lower().endswith(".xml")]
    trimaps = [f for f in files if f.lower().endswith(".png")]
    lists = [f for f in files if f.lower().endswith(".txt")]
    boxes = options.boxes or ("head" if xmls else "body")
    if not (xmls if boxes == "head" else trimaps):
        folder, other = ("xmls", "body") if boxes == "head" else ("trimaps", "head")
        raise LayoutError(
            f"no {boxes} boxes here: there is no folder {folder} beside {lists[0]}",
            where=tree.root,
            fix=f"Use --boxes {other}, or put the folder there.",
        )
    reading = Reading()
    pets = _Pets(tree, lists, pictures)
    for relative in xmls if boxes == "head" else trimaps:
        record = pets.record(stem_of(relative), f"{tree.path(relative)}:1")
        if boxes == "head":
            _read_head(tree, relative, record, pets, reading)
        elif record.problem is None:
            record.objects.append(_body(tree, relative, record, pets))
        reading.pictures.append(record)
    boxed = {record.name for record in reading.pictures}
    for name, where in pets.listed.items():
        if name not in boxed:
            reading.pictures.append(pets.record(name, where))
    other = " (--boxes body: those of the trimaps)" if boxes == "head" and trimaps else ""
    other = " (--boxes head: those of the XML files)" if boxes == "body" and xmls else other
    reading.notes.append(f"{boxes} boxes{other}, classes by breed")
    return reading


class _Pets:
    """What the lists say: parts and breeds, and where each picture lies."""

    def __init__(self, tree: Tree, lists: list[str], pictures: Pictures) -> None:
        self.tree, self.pictures = tree, pictures
        base = self.base = folder_of(lists[0])
        self.listed: dict[str, str] = {}
        self._split: dict[str, str] = {}
        self._class: dict[str, str] = {}
        self._trimaps = f"{base}/trimaps" if base else "trimaps"
        for name, split in _LISTS:
            relative = next((f for f in lists if f.rpartition("/")[2] == name), None)
            if relative is not None:
                self._read_list(relative, split)
        votes: dict[str, Counter[str]] = defaultdict(Counter)
        for name, number in self._class.items():
            if match := _BREED.fullmatch(name):
                votes[number][match.group(1)] += 1
        self._breeds = {number: found.most_common(1)[0][0] for number, found in votes.items()}

    def _read_list(self, relative: str, split: str | None) -> None:
        path = self.tree.path(relative)
        for number, line in enumerate(decode(read_bytes(self.tree, relative))[0].split("\n"), start=1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            self.listed.setdefault(words[0], f"{path}:{number}")
            if split is not None:
                self._split[words[0]] = split
            if len(words) > 1:
                self._class.setdefault(words[0], words[1])

    def breed(self, name: str) -> str:
        """From the picture's name, `Abyssinian_34`; else that of the pictures which the lists give the same class.
        Empty where neither is known."""
        match = _BREED.fullmatch(name)
        return clean_label(match.group(1) if match else self._breeds.get(self._class.get(name, ""), ""))

    def record(self, name: str, where: str) -> RawPicture:
        """One picture, looked up, without objects yet."""
        record = RawPicture(name, None, where, split=self._split.get(name))
        near = f"{self.base.rpartition('/')[0]}/images".lstrip("/")
        found = self.pictures.find(name, near=near, hint="images")
        if not isinstance(found, Problem) and folder_of(found) == self._trimaps:
            found = Problem(MISSING_PICTURE, f"no such picture: {clean_label(name)} (a trimap is none)")
        if isinstance(found, Problem):
            record.problem = found
        else:
            record.path = found
        return record


def _read_head(tree: Tree, relative: str, record: RawPicture, pets: _Pets, reading: Reading) -> None:
    """Adds the heads of one XML to its picture's record."""
    path = tree.path(relative)
    parsed = parse_voc(read_bytes(tree, relative), path)
    if parsed is None:
        parsed = Skipped(path, f"{path}:1", "this XML is no VOC annotation", UNREADABLE_ANNOTATION)
    if isinstance(parsed, Skipped):
        record.where = parsed.where
        record.problem = record.problem or Problem(parsed.code, parsed.reason)
        return
    record.declared = parsed.declared
    breed = pets.breed(record.name)
    for raw in parsed.objects:
        raw.label = breed
        if raw.problem is None or raw.problem.code == NO_CLASS:
            raw.problem = None if breed else Problem(NO_CLASS, f"no breed is known of {clean_label(record.name)}")
        record.objects.append(raw)


def _body(tree: Tree, relative: str, record: RawPicture, pets: _Pets) -> RawObject:
    """The box around all pixels of the animal and its border; edges, so the last pixel is inside."""
    where = f"{tree.path(relative)}:1"
    raw = raw_object(pets.breed(record.name), [], where)
    try:
        size = read_size(tree.path(record.path or ""))
    except PictureError:  # whoever decides on the picture will say so
        return raw
    try:
        mask = read_mask(tree.path(relative))
    except PictureError as error:
        raw.problem = Problem(UNREADABLE_ANNOTATION, f"the trimap: {error.what}")
        return raw
    if mask.shape != (size.height, size.width):
        shown = f"{mask.shape[1]}x{mask.shape[0]}, its picture {size.width}x{size.height}"
        raw.problem = Problem(BAD_BOX, f"the trimap is {shown}")
        return raw
    animal = np.isin(mask, _ANIMAL)
    columns, rows = np.flatnonzero(animal.any(axis=0)), np.flatnonzero(animal.any(axis=1))
    if not columns.size:
        raw.problem = Problem(BAD_BOX, "the trimap shows no animal")
        return raw
    corners = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
    return raw_object(raw.label, corners, where)
