"""What the annotations of a data set say of each picture, before anything is repaired or left out. Takes readings or a
loaded `Dataset`; gives one `Entry` per picture and layout, its boxes in pixels. Judges nothing and opens no file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field

from onebox.dataset import Dataset
from onebox.errors import OneboxError
from onebox.formats.pictures import Pictures
from onebox.formats.records import NOTHING_DECLARED, Declared, Problem, RawPicture, Reading, ReadOptions
from onebox.formats.table import LAYOUTS, found_layouts
from onebox.formats.tree import Tree, scan
from onebox.types import ImageSize


@dataclass(slots=True)
class Thing:
    """One object as written: class, corners in the unit of its entry (any number, NaN included), `file:line`, and what
    the reader itself found wrong."""

    label: str
    box: tuple[float, float, float, float]
    where: str
    problem: Problem | None = None

    @property
    def finite(self) -> bool:
        """Whether there are four numbers to speak of."""
        return all(math.isfinite(v) for v in self.box)


@dataclass(slots=True)
class Entry:
    """One picture as one layout speaks of it. `path` as to be opened, None where there is no such picture (`problem`
    says why); `name` as written; `is_01`: the boxes are fractions of the picture."""

    path: str | None
    name: str
    where: str
    things: list[Thing] = field(default_factory=list[Thing])
    split: str | None = None
    is_01: bool = False
    problem: Problem | None = None
    declared: Declared = NOTHING_DECLARED

    def pixels(self, thing: Thing, size: ImageSize) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) in pixels of a picture of this size, as written: neither clipped nor sorted."""
        if not self.is_01:
            return thing.box
        x_min, y_min, x_max, y_max = thing.box
        return (x_min * size.width, y_min * size.height, x_max * size.width, y_max * size.height)


@dataclass(frozen=True, slots=True)
class Source:
    """One layout found in the folder: its name, annotation files (as to be shown), entries and the reading itself
    (None for a loaded `Dataset`). The first source of a checkup is the one that `load_dataset` chooses."""

    layout: str
    files: tuple[str, ...]
    entries: tuple[Entry, ...]
    reading: Reading | None = None
    problem: OneboxError | None = None

    def labelled(self) -> Iterator[Entry]:
        """The entries of pictures that are there and have an object."""
        return (e for e in self.entries if e.path is not None and e.things)

    def speaks_of(self, paths: Container[str | None]) -> bool:
        """Whether any of these pictures has an object here."""
        return any(entry.path in paths for entry in self.labelled())

    def labels(self) -> list[str]:
        """The class of every object, "" left out."""
        return [t.label for e in self.entries for t in e.things if t.label]


def read_sources(path: str, *, first: str, boxes: str | None = None) -> list[Source]:
    """Every layout found in a folder, the one named `first` at the head, with the kind of `boxes` asked for where it
    has a choice; of an annotation file, that one alone. A layout that cannot be read as a whole gives a source without
    entries, whose `problem` says why."""
    if os.path.isdir(path):  # noqa: PTH112 - the root stays the string the user gave
        tree = scan(path)
        rows = found_layouts(tree)
    else:
        folder, name = os.path.split(path)
        tree = scan(folder or ".", only=name)
        rows = [(row, [name]) for row in LAYOUTS if row.name == first]
    rows.sort(key=lambda item: item[0].name != first)
    pictures = Pictures(tree)
    sources: list[Source] = []
    for row, files in rows:
        try:
            reading = row.read(tree, files, pictures, ReadOptions(boxes=boxes if row.name == first else None))
        except OneboxError as error:  # damaged, or in need of an extra that is not installed
            sources.append(Source(row.name, tuple(map(tree.path, files)), (), problem=error))
            continue
        sources.append(source_of_reading(row.name, files, reading, tree))
    return sources


def source_of_reading(layout: str, files: Iterable[str], reading: Reading, tree: Tree) -> Source:
    """One layout's reading: one entry per picture, in the order in which they are written."""
    entries: dict[tuple[str, bool] | int, Entry] = {}
    for number, record in enumerate(reading.pictures):
        # a table speaks of one picture in many rows; the unit stays with the numbers
        key = number if record.path is None else (record.path, record.is_01)
        known = entries.setdefault(key, _entry(record, tree))
        known.things.extend(Thing(o.label, o.box, o.where, o.problem) for o in record.objects)
        known.problem = known.problem or record.problem
        known.split = known.split or record.split
    for entry in entries.values():
        if len(entry.things) > 1:
            unique = {(t.label, t.box, t.problem): t for t in reversed(entry.things)}
            entry.things = [t for t in entry.things if unique[t.label, t.box, t.problem] is t]
    return Source(layout, tuple(tree.path(f) for f in files), tuple(entries.values()), reading)


def source_of_dataset(dataset: Dataset) -> Source:
    """What a loaded data set still knows: its samples, their boxes already inside their pictures."""
    entries: list[Entry] = []
    for sample in dataset:
        entry = Entry(sample.path, sample.path, sample.where, split=sample.split)
        if sample.label is not None and sample.box is not None:
            entry.things.append(Thing(sample.label, sample.box.xyxy, sample.where))
        entries.append(entry)
    return Source(dataset.layout, (), tuple(entries))


def _entry(record: RawPicture, tree: Tree) -> Entry:
    path = tree.path(record.path) if record.path is not None else None
    return Entry(path, record.name, record.where, [], record.split, record.is_01, record.problem, record.declared)
