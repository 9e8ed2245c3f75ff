"""Findings from names alone: classes that the names of files or folders contradict, file names that other tools trip
over. Takes sources and paths; opens nothing.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from onebox.doctor.entries import Entry, Source
from onebox.doctor.findings import Finding, finding_at
from onebox.formats.tree import enumerate_some

#: Names speak of classes where at least this share of the pictures bears the name of a class, ...
_LEAST_SHARE_NAMED = 0.5
#: ... and nearly all of those hold an object of it.
_LEAST_SHARE_RIGHT = 0.9
_NOT_A_WORD = re.compile(r"[\W\d_]+")


def of_naming(source: Source) -> Iterator[Finding]:
    """Objects of another class than the one by which their picture's file or folder is called, where those names are
    by and large right."""
    classes = {words: name for name in source.labels() if (words := _words(name))}
    if len(classes) < 2:
        return
    for name_of in (_by_file, _by_folder):
        named: list[tuple[Entry, str]] = []
        labelled = 0
        for entry in source.labelled():
            labelled += 1
            name = name_of(entry.path or "", classes)
            if name is not None:
                named.append((entry, name))
        right = sum(any(t.label == name for t in entry.things) for entry, name in named)
        if (
            len(named) < _LEAST_SHARE_NAMED * labelled
            or right < _LEAST_SHARE_RIGHT * len(named)
            or len({name for _, name in named}) < 2
        ):
            continue
        where_from = "file" if name_of is _by_file else "folder"
        for entry, name in named:
            wrong = next((t for t in entry.things if t.label and t.label != name), None)
            if wrong is not None:
                message = f"an object is called {wrong.label!r}, the picture's {where_from} {name!r}"
                confidence = 0.5 if any(t.label == name for t in entry.things) else 0.9
                yield finding_at("class-contradicts-name", entry.path, wrong.where, message, confidence=confidence)
        return


def of_files(paths: Iterable[str]) -> Iterator[Finding]:
    """File names that recur: in several folders, or in one folder with two extensions."""
    stems: dict[str, list[str]] = defaultdict(list)
    folders_of_name: dict[str, set[str]] = defaultdict(set)
    endings: Counter[str] = Counter()
    for path in paths:
        folder, name = os.path.split(path)
        stems[os.path.splitext(path)[0]].append(path)  # noqa: PTH122 - paths are the strings the user gave
        folders_of_name[name].add(folder)
        endings[os.path.splitext(name)[1]] += 1  # noqa: PTH122
    for alike in stems.values():
        for path in sorted(alike)[1:]:
            message = f"beside {os.path.basename(sorted(alike)[0])}: an annotation without an extension fits both"  # noqa: PTH119
            yield finding_at("same-stem", path, "", message)
    recurring = {name: folders for name, folders in folders_of_name.items() if len(folders) > 1}
    if recurring:
        folders = {os.path.basename(folder) for found in recurring.values() for folder in found}  # noqa: PTH119
        message = f"{len(recurring)} file names recur in several folders ({enumerate_some(sorted(folders), 5)})"
        yield finding_at("repeated-names", None, "", message)
    for ending, count in sorted(endings.items()):
        if ending != ending.lower():
            yield finding_at("upper-case-extension", None, "", f"{count} pictures end in {ending}")


def _by_file(path: str, classes: dict[str, str]) -> str | None:
    """The class at the head of a file name: scratches_113.jpg, "maine coon 7.jpg"."""
    words = _words(os.path.splitext(os.path.basename(path))[0]).split()  # noqa: PTH119, PTH122
    heads = (" ".join(words[:end]) for end in range(len(words), 0, -1))
    return next((classes[head] for head in heads if head in classes), None)


def _by_folder(path: str, classes: dict[str, str]) -> str | None:
    return classes.get(_words(os.path.basename(os.path.dirname(path))))  # noqa: PTH119, PTH120


def _words(name: str) -> str:
    """Lower-case words, one space between them; figures and marks left out."""
    return _NOT_A_WORD.sub(" ", name.casefold()).strip()
