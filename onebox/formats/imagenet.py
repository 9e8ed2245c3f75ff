"""ImageNet localization (CLS-LOC): `LOC_train_solution.csv` and `LOC_val_solution.csv` with all boxes of a picture in
one cell, or one VOC XML per picture below folders named by synset. Names of classes are the first ones of
`LOC_synset_mapping.txt`. Takes tables row by row; reads an XML only for a part that has no table.
"""

from __future__ import annotations

import csv
import re

from onebox.errors import AnnotationError
from onebox.formats import voc
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    DEFAULT_OPTIONS,
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
from onebox.formats.synsets import distinct_names, read_synsets
from onebox.formats.tree import (
    Tree,
    depth_of,
    folder_of,
    open_text,
    split_of_file,
    split_of_folder,
    stem_of,
)
from onebox.formats.xml_files import is_root

_HEADER = re.compile(rb"(?:\xef\xbb\xbf)?\"?ImageId\"?,\"?PredictionString\"?\s*[\r\n]")
#: .../CLS-LOC/val/x.xml, or .../n01440764/n01440764_10026.xml
_XML = re.compile(r"(?:.*/)?CLS-LOC/.*\.xml|(?:.*/)?(n\d{8})/\1_\d+\.xml", re.IGNORECASE)
_WNID = re.compile(r"n\d{8}")
_MAPPING = "LOC_synset_mapping.txt"
_SNIFFED_FILES = 5


def detect(tree: Tree) -> list[str]:
    """The solution tables of the shallowest level, and the XML files of parts that have none."""
    tables: list[str] = []
    for relative in sorted(tree.with_suffix(".csv"), key=lambda f: (depth_of(f), f)):
        if tables and depth_of(relative) > depth_of(tables[0]):
            break
        # the sample submission has the same columns, and boxes that mean nothing
        if "sample" not in stem_of(relative).lower() and _HEADER.match(tree.head(relative)):
            tables.append(relative)
    if tree.only is not None:
        return tables
    covered = {split_of_file(f) for f in tables}
    xmls = [f for f in tree.ending(".xml") if _XML.fullmatch(f)]
    if not any(is_root(tree.head(f), b"annotation") for f in xmls[:_SNIFFED_FILES]):
        return tables
    return [*tables, *(f for f in xmls if not tables or split_of_folder(folder_of(f)) not in covered)]


def read(tree: Tree, files: list[str], pictures: Pictures, options: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """Every row and every XML. Raises AnnotationError for a table that the csv module cannot read."""
    names = _class_names(tree)
    xmls = [f for f in files if f.lower().endswith(".xml")]
    reading = voc.read(tree, xmls, pictures, options) if xmls else Reading()
    reading.list_unlabelled = tree.only is None
    for record in reading.pictures:
        for raw in record.objects:
            raw.label = names.get(raw.label, raw.label)
    for relative in files:
        if not relative.lower().endswith(".xml"):
            _read_table(tree, relative, pictures, reading, names)
    labels = {raw.label for record in reading.pictures for raw in record.objects}
    reading.class_order = tuple(name for name in names.values() if name in labels)
    if not names:
        reading.notes.append(f"no {_MAPPING}: classes are called by their WordNet ids")
    return reading


def _class_names(tree: Tree) -> dict[str, str]:
    """wnid -> name; empty without a mapping."""
    found = [f for f in tree.ending(".txt") if f.rpartition("/")[2] == _MAPPING]
    return distinct_names(read_synsets(tree, min(found, key=lambda f: (depth_of(f), f)))) if found else {}


def _read_table(tree: Tree, relative: str, pictures: Pictures, reading: Reading, names: dict[str, str]) -> None:
    path, split = tree.path(relative), split_of_file(relative)
    with open_text(tree, relative) as file:
        rows = csv.reader(file)
        try:
            next(rows, None)
            for row in rows:
                where = f"{path}:{rows.line_num}"
                if len(row) >= 2:
                    reading.pictures.append(_record(row, where, split, pictures, names))
                elif any(cell.strip() for cell in row):
                    reason = f"a row needs ImageId and PredictionString, not {clean_label(row[0])[:24]!r} alone"
                    reading.skipped.append(Skipped(path, where, reason, UNREADABLE_ANNOTATION))
        except csv.Error as error:
            raise AnnotationError(
                f"this table cannot be read ({error})",
                where=f"{path}:{rows.line_num + 1}",
                fix="Look for an unclosed quote.",
            ) from None


def _record(row: list[str], where: str, split: str | None, pictures: Pictures, names: dict[str, str]) -> RawPicture:
    name = row[0].strip()
    record = RawPicture(name, None, where, _objects(row[1], where, names), split)
    wnid = name.partition("_")[0]
    folder = wnid if _WNID.fullmatch(wnid) else None
    found = pictures.find(name, near=folder or "", split=split, label=folder, part=split)
    if isinstance(found, Problem):
        record.problem = found
    else:
        record.path = found
    return record


def _objects(cell: str, where: str, names: dict[str, str]) -> list[RawObject]:
    """ "n01440764 115 49 448 294 n01440764 ..."."""
    words = cell.split()
    objects: list[RawObject] = []
    for start in range(0, len(words), 5):
        wnid, *values = words[start : start + 5]
        objects.append(raw_object(names.get(wnid, wnid), values, where))
    return objects
