"""File names for pictures that go into another data set. Takes their paths; gives one plain name each, unique over the
whole set in every way in which readers, and file systems of other computers, compare names. Never looks at a file.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from onebox.errors import DataError
from onebox.formats.pictures import is_picture

#: Characters that some file system, list, address or XML file cannot hold: they become "_".
_FORBIDDEN = re.compile('[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\\\\/:*?"<>|]|[^\\S ]')
#: Bytes of UTF-8; file systems end at 255, and annotations put their own ending behind a stem.
_LONGEST_STEM = 180


def new_names(paths: Sequence[str], awkward: re.Pattern[str] | None = None) -> list[str]:
    """One file name for each path, in order: its own where that can be, without folders.

    Where two of the paths have the same name (or names that differ in case or extension alone), all get their folders
    in front, from the first folder in which any two differ: `bird_1.jpg`, `car_1.jpg`. What is still the same then is
    numbered. `awkward` matches what must become "_" in a stem, too. Raises DataError for a name without a picture's
    ending.
    """
    names = [_plain(os.path.basename(path), path, awkward) for path in paths]  # noqa: PTH119 - may hold odd bytes
    if _alike(names):
        folders = [os.path.dirname(os.path.abspath(path)) for path in paths]  # noqa: PTH100, PTH120
        top = os.path.commonpath(folders)
        for i, (folder, path) in enumerate(zip(folders, paths, strict=True)):
            inner = Path(os.path.relpath(folder, top)).parts
            if inner:
                names[i] = _plain("_".join([*inner, os.path.basename(path)]), path, awkward)  # noqa: PTH119
    return _numbered(names)


def _plain(name: str, path: str, awkward: re.Pattern[str] | None) -> str:
    if not is_picture(name):
        raise DataError("not named as a picture", where=path, fix="Give it the ending of its kind, such as .jpg.")
    stem, dot, ending = _FORBIDDEN.sub("_", name).rpartition(".")
    # spaces at the ends are lost in most annotation files, names that begin with a dot are hidden
    stem = re.sub("^[ .]+|[ ]+$", lambda found: "_" * len(found.group()), stem)
    stem = (awkward.sub("_", stem) if awkward else stem) or "_"
    if len(stem.encode()) > _LONGEST_STEM:
        # the end is what tells pictures of a series apart
        stem = stem.encode()[-_LONGEST_STEM:].decode(errors="ignore").lstrip(" .")
    return stem + dot + ending


def _alike(names: Sequence[str]) -> bool:
    stems = Counter(_key(_stem(name)) for name in names)
    # "a.jpg" beside "a.jpg.png": the stem of the one is the name of the other
    return len(stems) < len(names) or any(_key(name) in stems for name in names)


def _numbered(names: Sequence[str]) -> list[str]:
    """The first of equal names stays, the others become `name-2`, `name-3`."""
    wanted = {_key(_stem(name)) for name in names}
    taken: set[str] = set()
    count: Counter[str] = Counter()
    out: list[str] = []
    for name in names:
        stem, ending = _stem(name), name[len(_stem(name)) :]
        new = stem
        while _key(new) in taken or _key(new + ending) in taken or (new != stem and _key(new) in wanted):
            count[_key(stem)] += 1
            new = f"{stem}-{count[_key(stem)] + 1}"
        taken.update((_key(new), _key(new + ending)))
        out.append(new + ending)
    return out


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _key(name: str) -> str:
    """Coarser than any comparison of names that readers or file systems make."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).lower().casefold())
