"""Open Images: tables of one box a row with the columns ImageID, LabelName, XMin, XMax, YMin, YMax (in this order), in
fractions of the picture; pictures are named by their id. Names of classes come from `class-descriptions*.csv`. Takes
tables row by row, for a whole one has 14 million; leaves out boxes of groups, and counts rows of pictures not here.
"""

from __future__ import annotations

import csv
import re

from onebox.errors import AnnotationError
from onebox.formats.pictures import Pictures
from onebox.formats.records import (
    DEFAULT_OPTIONS,
    MISSING_PICTURE,
    UNREADABLE_ANNOTATION,
    Problem,
    RawPicture,
    Reading,
    ReadOptions,
    Skipped,
    clean_label,
    raw_object,
)
from onebox.formats.synsets import distinct_names
from onebox.formats.tree import Tree, depth_of, folder_of, open_text, split_of_file, split_of_folder

_CORNERS = ("XMin", "YMin", "XMax", "YMax")
_NEEDED = frozenset({"ImageID", "LabelName", *_CORNERS})
#: One of these besides tells the table from anybody's own with such titles.
_TELLING = frozenset({"Source", "Confidence", "IsGroupOf", "IsOccluded"})
_NAMES = re.compile(r"(?:.*/)?(?:class[-_]descriptions.*|classes)\.csv", re.IGNORECASE)
_ID = re.compile(r"/[a-z]/\w+")


def detect(tree: Tree) -> list[str]:
    """The tables with these columns at the shallowest level that has any."""
    found: list[str] = []
    for relative in sorted(tree.with_suffix(".csv"), key=lambda f: (depth_of(f), f)):
        if found and depth_of(relative) > depth_of(found[0]):
            break
        first = tree.head(relative).partition(b"\n")[0].decode("utf-8-sig", "replace")
        titles = {title.strip().strip('"') for title in first.split(",")}
        if titles >= _NEEDED and titles & _TELLING:
            found.append(relative)
    return found


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """All rows of all tables. Raises AnnotationError for a table without the columns, or that cannot be read."""
    reading = Reading(list_unlabelled=tree.only is None)
    names = _class_names(tree)
    groups = 0
    for relative in files:
        groups += _Table(tree, relative, pictures, names).read_into(reading)
    if groups:
        reading.notes.append(f"{groups} boxes around groups of objects (IsGroupOf) passed over")
    if not names:
        reading.notes.append("no class-descriptions*.csv: classes are called by their ids")
    return reading


def _class_names(tree: Tree) -> dict[str, str]:
    """ "/m/0cmf2" -> "Airplane", from every table of names."""
    names: dict[str, str] = {}
    for relative in tree.ending(".csv"):
        if _NAMES.fullmatch(relative):
            with open_text(tree, relative) as file:
                try:
                    names.update({r[0]: clean_label(r[1]) for r in csv.reader(file) if len(r) > 1 and _ID.match(r[0])})
                except csv.Error:
                    continue  # its classes keep their ids, which shows
    return distinct_names(names)


class _Table:
    """One table. Knows where its columns are, and which of its pictures are here."""

    def __init__(self, tree: Tree, relative: str, pictures: Pictures, names: dict[str, str]) -> None:
        self.tree, self.relative, self.pictures, self.names = tree, relative, pictures, names
        self.path = tree.path(relative)
        self.split = split_of_file(relative)
        self.records: dict[str, RawPicture] = {}
        self.missing: dict[str, RawPicture] = {}

    def read_into(self, reading: Reading) -> int:
        """Adds the records; the number of groups passed over."""
        groups = 0
        with open_text(self.tree, self.relative) as file:
            rows = csv.reader(file)
            try:
                at = self._columns([title.strip() for title in next(rows, [])])
                group, last = at.get("IsGroupOf"), max(at[title] for title in _NEEDED)
                for row in rows:
                    where = f"{self.path}:{rows.line_num}"
                    if len(row) <= last:
                        if any(cell.strip() for cell in row):
                            reason = f"{len(row)} columns in a row, where the title row has more"
                            reading.skipped.append(Skipped(self.path, where, reason, UNREADABLE_ANNOTATION))
                        continue
                    record = self._record(row[at["ImageID"]].strip(), where)
                    if group is not None and len(row) > group and row[group].strip() == "1":
                        groups += 1
                    elif record.path is not None:
                        wnid = row[at["LabelName"]].strip()
                        corners = [row[at[corner]] for corner in _CORNERS]
                        record.objects.append(raw_object(self.names.get(wnid, wnid), corners, where))
            except csv.Error as error:
                raise AnnotationError(
                    f"this table cannot be read ({error})",
                    where=f"{self.path}:{rows.line_num + 1}",
                    fix="Look for an unclosed quote.",
                ) from None
        self._add_to(reading)
        return groups

    def _columns(self, titles: list[str]) -> dict[str, int]:
        if not set(titles) >= _NEEDED:
            raise AnnotationError(
                f"no Open Images table: it needs the columns {', '.join(sorted(_NEEDED))}",
                where=f"{self.path}:1",
                fix="Choose the layout with --layout.",
            )
        return {title: i for i, title in enumerate(titles)}

    def _record(self, name: str, where: str) -> RawPicture:
        record = self.records.get(name) or self.missing.get(name)
        if record is None:
            found = self.pictures.find(name, near=folder_of(self.relative), split=self.split, part=self.split)
            if isinstance(found, Problem):
                record = RawPicture(name, None, where, problem=found)
                self.missing[name] = record
            else:
                split = self.split or split_of_folder(folder_of(found))
                record = RawPicture(name, found, where, split=split, is_01=True)
                self.records[name] = record
        return record

    def _add_to(self, reading: Reading) -> None:
        """Pictures that are not here are named one by one, unless most are not: then the table is that of the whole
        collection and the folder a choice from it, and one entry with their number says so."""
        reading.pictures.extend(self.records.values())
        absent = [r for r in self.missing.values() if r.problem and r.problem.code == MISSING_PICTURE]
        if len(absent) <= len(self.records) or not self.pictures.paths:
            reading.pictures.extend(self.missing.values())
            return
        reading.pictures.extend(r for r in self.missing.values() if r.problem and r.problem.code != MISSING_PICTURE)
        reason = f"{len(absent)} pictures of this table are not here, the first {clean_label(absent[0].name)[:40]}"
        reading.skipped.append(Skipped(self.path, absent[0].where, reason, MISSING_PICTURE))
