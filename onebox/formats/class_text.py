"""One text file per class, `CLASS_gt.txt`: a number and xmin, ymin, xmax, ymax a line; the picture of that number, with
zeros in front or not, lies in the folder CLASS. Gives one record per number; where a number stands in several lines
with different boxes it names no picture, and nothing is guessed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from onebox.formats.pictures import Pictures, is_picture
from onebox.formats.records import (
    AMBIGUOUS_PICTURE,
    DEFAULT_OPTIONS,
    MISSING_ID,
    MISSING_PICTURE,
    REPEATED_ID,
    UNREADABLE_ANNOTATION,
    Problem,
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
    split_of_folder,
    stem_of,
)

_FILE = re.compile(r"(?:.*/)?([^/]+)_gt\.txt", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,18}")
_SNIFFED_BYTES = 4096


def detect(tree: Tree) -> list[str]:
    """The `CLASS_gt.txt` files of the shallowest level, where a folder CLASS holds pictures and the first lines read as
    a number and a box."""
    matches = [(f, m.group(1)) for f in tree.with_suffix("_gt.txt") if (m := _FILE.fullmatch(f))]
    if not matches:
        return []
    level = min(depth_of(f) for f, _ in matches)
    names = {part.lower() for f in tree.files if is_picture(f) for part in folder_of(f).split("/")}
    files = [f for f, name in matches if depth_of(f) == level and (name.lower() in names or tree.only is not None)]
    return files if any(_reads_as_boxes(tree, f) for f in files[:20]) else []


def read(tree: Tree, files: list[str], pictures: Pictures, _: ReadOptions = DEFAULT_OPTIONS) -> Reading:
    """Every number of every file."""
    reading = Reading(list_unlabelled=tree.only is None)
    for relative in files:
        _read_one(tree, relative, pictures, reading)
    return reading


def _read_one(tree: Tree, relative: str, pictures: Pictures, reading: Reading) -> None:
    path = tree.path(relative)
    match = _FILE.fullmatch(relative)
    label = clean_label(match.group(1) if match else stem_of(relative))
    numbered = _numbered(pictures, folder_of(relative), label)
    lines: dict[str, list[tuple[int, list[str]]]] = defaultdict(list)
    for number, line in enumerate(decode(read_bytes(tree, relative))[0].split("\n"), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) == 5:
            lines[_key(words[0])].append((number, words[1:]))
        else:
            reason = f"{len(words)} words in a line, where a number and four corners are expected"
            reading.skipped.append(Skipped(path, f"{path}:{number}", reason, UNREADABLE_ANNOTATION))
    for key, entries in lines.items():
        where = f"{path}:{entries[0][0]}"
        record = RawPicture(f"{label}/{key}" if _NUMBER.fullmatch(key) else key, None, where)
        found = _find(key, numbered, label, folder_of(relative), pictures)
        different = {tuple(map(to_number, values)) for _, values in entries}
        if isinstance(found, Problem):
            record.problem = found
        else:
            record.path = found
            record.split = split_of_folder(folder_of(found))
        if len(different) > 1 and record.problem is None:
            times = f"{len(entries)} lines with {len(different)} different boxes"
            record.problem = Problem(AMBIGUOUS_PICTURE, f"the number {clean_label(key)[:40]} stands in {times}")
        else:
            record.objects = [raw_object(label, values, f"{path}:{number}") for number, values in entries]
        reading.pictures.append(record)
    _remark(path, label, lines, numbered, reading)


def _remark(
    path: str,
    label: str,
    lines: Mapping[str, list[tuple[int, list[str]]]],
    numbered: Mapping[str, object],
    reading: Reading,
) -> None:
    """For the doctor: numbers that repeat, and pictures whose number the file lacks."""
    for key, entries in lines.items():
        if len(entries) > 1:
            reason = f"the number {clean_label(key)[:40]} stands in {len(entries)} lines"
            reading.remarks.append(Skipped(path, f"{path}:{entries[1][0]}", reason, REPEATED_ID))
    lacking = sorted(int(key) for key in numbered if key not in lines and _NUMBER.fullmatch(key))
    if lacking:
        reason = f"no line for {len(lacking)} numbers of pictures in {label}: {enumerate_some(map(str, lacking))}"
        reading.remarks.append(Skipped(path, f"{path}:1", reason, MISSING_ID))


def _numbered(pictures: Pictures, near: str, label: str) -> dict[str, list[str]]:
    """Number -> the pictures of that number in the folders named like the class: in the one beside the file, where
    there is one."""
    folders = {f for f in pictures.folders if f.rpartition("/")[2].lower() == label.lower()}
    beside = {f for f in folders if f.rpartition("/")[0] == near}
    found: dict[str, list[str]] = defaultdict(list)
    for picture in pictures.in_folders(beside or folders):
        found[_key(stem_of(picture))].append(picture)
    return found


def _find(key: str, numbered: dict[str, list[str]], label: str, near: str, pictures: Pictures) -> str | Problem:
    if not _NUMBER.fullmatch(key):  # a name, as some write instead
        return pictures.find(key, near=near, label=label)
    found = numbered.get(key, [])
    if len(found) == 1:
        return found[0]
    if found:
        return Problem(AMBIGUOUS_PICTURE, f"{len(found)} pictures bear the number {key}: {enumerate_some(found)}")
    return Problem(MISSING_PICTURE, f"no picture of the number {key} in a folder {label}")


def _key(word: str) -> str:
    """ "000012" and "12" are the same number."""
    return (word.lstrip("0") or "0") if _NUMBER.fullmatch(word) else word


def _reads_as_boxes(tree: Tree, relative: str) -> bool:
    rows = [line.split() for line in decode(tree.head(relative)[:_SNIFFED_BYTES])[0].splitlines()]
    return any(len(row) == 5 and all(to_number(word) == to_number(word) for word in row[1:]) for row in rows)
