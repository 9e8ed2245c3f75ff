"""Caltech-101: one MATLAB file `annotation_0001.mat` for each `image_0001.jpg`, beside it or in a parallel folder; its
`box_coord` holds ymin, ymax, xmin, xmax. These are MATLAB's pixel numbers, counted from 1, the last one inside, so 1 is
taken from the left and upper edge. Reads that one variable and no other, and only from small files.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict

from onebox.formats.mat_files import MatError, read_row
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    AMBIGUOUS_PICTURE,
    BOX_ORDER,
    DEFAULT_OPTIONS,
    MISSING_PICTURE,
    NO_BOX,
    ONE_BASED_BOXES,
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
from onebox.formats.tree import Tree, depth_of, enumerate_some, folder_of, read_bytes, split_of_folder, stem_of

_FILE = re.compile(r"(?:.*/)?annotation_(\d+)\.mat", re.IGNORECASE)
_VARIABLE = "box_coord"
#: The real files have 0.3 to 2 KB.
_LARGEST = 64 * 1024
#: Four folders of the official annotations are called otherwise than those of their pictures.
_OTHER_NAMES = {
    "faces_2": "Faces",
    "faces_3": "Faces_easy",
    "motorbikes_16": "Motorbikes",
    "airplanes_side_2": "airplanes",
}


def detect(tree: Tree) -> list[str]:
    """All `annotation_NNNN.mat`, where the first of them is a MATLAB file."""
    files = [f for f in tree.with_suffix(".mat") if _FILE.fullmatch(f)]
    return files if files and tree.head(files[0]).startswith(b"MATLAB") else []


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """Every annotation; a damaged one is one skipped picture."""
    reading = Reading(list_unlabelled=tree.only is None)
    by_class: dict[str, list[str]] = defaultdict(list)
    for folder in pictures.folders:
        by_class[folder.rpartition("/")[2].lower()].append(folder)
    for relative in sorted(files, key=lambda f: (depth_of(f), f)):
        path, label = tree.path(relative), _class_of(tree, relative)
        match = _FILE.fullmatch(relative)
        stem = f"image_{match.group(1)}" if match else stem_of(relative)
        record = RawPicture(f"{label}/{stem}", None, f"{path}:1")
        found = _picture(pictures, folder_of(relative), label, stem, by_class)
        if isinstance(found, Problem):
            record.problem = found
        else:
            record.path = found
            record.split = split_of_folder(folder_of(found))
            record.objects.append(_object(label, read_bytes(tree, relative, _LARGEST + 1), f"{path}:1"))
        reading.pictures.append(record)
    rule = "box_coord counts pixels from 1: 1 taken from the left and upper edge"
    reading.notes.append(rule)
    first = f"{tree.path(files[0])}:1"
    reading.remarks.append(Skipped("", first, rule, ONE_BASED_BOXES))
    reading.remarks.append(Skipped("", first, "box_coord stands in the order ymin, ymax, xmin, xmax", BOX_ORDER))
    return reading


def _class_of(tree: Tree, relative: str) -> str:
    """The name of the folder; of the data set's own, where the files lie directly in it."""
    folder = folder_of(relative) or os.path.realpath(tree.root).replace(os.sep, "/")
    name = clean_label(folder.rpartition("/")[2])
    return _OTHER_NAMES.get(name.lower(), name)


def _picture(pictures: Pictures, folder: str, label: str, stem: str, by_class: dict[str, list[str]]) -> str | Problem:
    """The picture of this number beside the annotation, else in a folder of the class. Never by the number alone: every
    class has an `image_0001`."""
    found = pictures.exactly(folder, stem)
    if not found:
        found = [p for other in by_class.get(label.lower(), ()) for p in pictures.exactly(other, stem)]
    if len(found) == 1:
        return found[0]
    if found:
        return Problem(AMBIGUOUS_PICTURE, f"{len(found)} pictures fit {label}/{stem}: {enumerate_some(found)}")
    return Problem(MISSING_PICTURE, f"no such picture: {label}/{stem}.*")


def _object(label: str, raw: bytes, where: str) -> RawObject:
    """The box of one file, or what is wrong with it."""
    try:
        if len(raw) > _LARGEST:
            raise MatError(f"more than {_LARGEST // 1024} KB, where an annotation has two")
        y_min, y_max, x_min, x_max = read_row(raw, _VARIABLE, 4)
    except MatError as error:
        return RawObject(label, NO_BOX, where, Problem(UNREADABLE_ANNOTATION, str(error)))
    return raw_object(label, [x_min - 1, y_min - 1, x_max, y_max], where)
