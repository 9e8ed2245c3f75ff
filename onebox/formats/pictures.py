"""Which picture an annotation means. Takes names out of annotations and looks them up among the pictures that the scan
listed; gives a listed path or the reason there is none. It joins no path from a name, so nothing outside the data set
is ever opened because of a name, and it refuses to guess where two pictures fit equally well.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property

from onebox.formats.records import AMBIGUOUS_PICTURE, MISSING_PICTURE, REFUSED_NAME, Problem, clean_label
from onebox.formats.tree import Tree, enumerate_some, folder_of, scan, split_of_folder
from onebox.images import PICTURE_SUFFIXES

_PICTURE_FOLDER = re.compile(r"(?:^|[-_ ])(?:images?|imgs?|jpegimages|pictures?|photos?)(?:$|[-_ ])", re.IGNORECASE)
_MASK_FOLDER = re.compile(r"mask|segmentation|trimap|annot|label|depth|thumb", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_NAME = 4096
_LEVELS_UP = 2


class Pictures:
    """The pictures of one data set, by name.

    Where the root itself holds none (an annotation folder or file that stands beside its pictures), the picture
    folders beside it and beside its parent are listed instead: `images`, `JPEGImages`, `val_images`, ...
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.paths = [f for f in tree.files if is_picture(f)]
        self.beside: list[str] = []
        if not self.paths:
            self.paths, self.beside = _pictures_beside(tree)
        split_up = [path.rpartition("/") for path in self.paths]
        self.folders = {folder for folder, _, _ in split_up}
        together = "".join(self.paths)
        lower = str.lower if together.isascii() else _key
        names = [lower(name) for _, _, name in split_up]
        #: file name, spelled one way -> the one path, or all of them
        self._by_name: dict[str, str | list[str]] = dict(zip(names, self.paths, strict=True))
        unique = len(self._by_name) == len(names)
        if not unique:
            self._by_name = _grouped(names, self.paths)
        #: whether no file name stands there twice, and no path holds what `safe_parts` would change or refuse
        self._plain = unique and together.isprintable() and not any(odd in together for odd in ("..", ":", "\\"))
        self._listed = frozenset(self.paths) if self._plain else frozenset[str]()
        #: what stood before the last name in its path: likely before the next, too
        self._start = ""
        self._tails: set[tuple[str, ...]] = set()
        for folder in self.folders:
            parts = _parts(_key(folder))
            self._tails.update(parts[i:] for i in range(len(parts)))
        self._folder_names = {part for tail in self._tails for part in tail}

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self.paths:
            found.setdefault(_key(path.rpartition("/")[2]).rpartition(".")[0], []).append(path)
        return found

    def find(
        self,
        name: str,
        *,
        near: str,
        split: str | None = None,
        label: str | None = None,
        hint: str | None = None,
        also: str | None = None,
        part: str | None = None,
    ) -> str | Problem:
        """The picture that `name` means, as a listed path, or why there is none.

        `name` may carry folders and may lack its extension or have the wrong one; case does not matter. `near` is the
        annotation's folder; `split`, `hint` (another folder name) prefer folders of that name. A folder named like
        the class `label` is binding: where classes have folders, a picture of another class never fits. `also` is a
        second name that decides between pictures that differ in extension alone. `part` is the part whose folder the
        annotation lies in: a picture in the folder of another part never fits.
        """
        if self._plain and (label is None or _key(label) not in self._folder_names):
            # most names of most data sets: what follows this block would find the same, in several times the time
            path = self._start + name
            if path not in self._listed:
                path = self._ending_in(name)
            if path and (part is None or split_of_folder(folder_of(path)) in {None, part}):
                return path
        parts = safe_parts(name)
        if isinstance(parts, Problem):
            return parts
        base = _key(parts[-1])
        folders = tuple(_key(part) for part in parts[:-1])
        named = self._by_name.get(base)
        named = [named] if isinstance(named, str) else named
        candidates = named or self._by_stem.get(base) or self._by_stem.get(_stem(base)) or []
        candidates = self._fitting_folders(candidates, folders)
        if label and not folders and _key(label) in self._folder_names:
            candidates = [c for c in candidates if _key(label) in _parts(_key(folder_of(c)))]
        if part is not None:
            candidates = [c for c in candidates if split_of_folder(folder_of(c)) in {None, part}]
        if not candidates:
            return Problem(MISSING_PICTURE, f"no such picture: {_shown(name)}")
        if len(candidates) == 1:
            return candidates[0]
        return self._closest(candidates, name, (parts[-1], near, split, hint, also))

    def _ending_in(self, name: str) -> str:
        """The one path that ends in this name, letter for letter; "" where there is none."""
        path = self._by_name.get(_key(name[name.rfind("/") + 1 :]))
        if isinstance(path, str) and f"/{path}".endswith(f"/{name}"):
            self._start = path[: len(path) - len(name)]
            return path
        return ""

    def exactly(self, folder: str, stem: str) -> list[str]:
        """All pictures of one folder with this stem, any extension, any case."""
        return [path for path in self._by_stem.get(_key(stem), ()) if folder_of(path) == folder]

    def adopt(self, paths: Iterable[str]) -> None:
        """Lists pictures that a reader unpacked from a file of the data set (`../..` to where they are). No name finds
        them."""
        _ = self._by_stem  # made before they are there
        self.paths = [*self.paths, *paths]

    def in_folders(self, folders: set[str]) -> list[str]:
        """All pictures that lie directly in one of the folders."""
        return [path for path in self.paths if folder_of(path) in folders]

    def folders_ending(self, tail: str) -> list[str]:
        """Folders with pictures somewhere below them whose own path ends in `tail`; the shortest first."""
        wanted = _parts(_key(tail))
        ends: set[str] = set()
        for folder in self.folders:
            parts = _parts(folder)
            lowered = tuple(_key(part) for part in parts)
            for end in range(len(wanted), len(parts) + 1):
                if lowered[end - len(wanted) : end] == wanted:
                    ends.add("/".join(parts[:end]))
        return sorted(ends, key=lambda f: (f.count("/"), f))

    def _fitting_folders(self, candidates: list[str], folders: tuple[str, ...]) -> list[str]:
        """Those whose folder ends in `folders`, or in as much of its end as any picture folder has at all."""
        for start in range(len(folders)):
            tail = folders[start:]
            if tail in self._tails or any(_ends_with(folder_of(c), tail) for c in candidates):
                # this folder exists: a picture of the same name elsewhere is another picture
                return [c for c in candidates if _ends_with(folder_of(c), tail)]
        return candidates

    def _closest(
        self, candidates: list[str], name: str, wanted: tuple[str, str, str | None, str | None, str | None]
    ) -> str | Problem:
        base, near, split, hint, also = wanted
        also_name = _key(also.replace("\\", "/").rpartition("/")[2]) if also else None

        def rank(path: str) -> tuple[bool, int, bool, int, bool, bool]:
            folder, _, own_name = path.rpartition("/")
            return (
                hint is not None and _key(hint) not in _parts(_key(folder)),
                _folder_rank(folder, near),
                split is not None and split_of_folder(folder) != split,
                _distance(folder, near),
                own_name != base and _key(own_name) != also_name,
                _key(own_name) != also_name,
            )

        ranked = sorted((rank(path), path) for path in candidates)
        if ranked[0][0] == ranked[1][0]:
            tied = [path for key, path in ranked if key == ranked[0][0]]
            return Problem(
                AMBIGUOUS_PICTURE, f"{len(tied)} pictures fit the name {_shown(name)}: {enumerate_some(tied)}"
            )
        return ranked[0][1]


def _grouped(names: list[str], paths: list[str]) -> dict[str, str | list[str]]:
    found: dict[str, str | list[str]] = {}
    for name, path in zip(names, paths, strict=True):
        known = found.setdefault(name, path)
        if isinstance(known, list):
            known.append(path)
        elif known is not path:
            found[name] = [known, path]
    return found


def is_picture(name: str) -> bool:
    """By its extension."""
    dot = name.rfind(".")
    return dot >= 0 and name[dot:].lower() in PICTURE_SUFFIXES


def safe_parts(name: str) -> tuple[str, ...] | Problem:
    """The parts of a relative name from an annotation; a Problem for names that are empty, absolute, lead upwards,
    name a drive, a host or an address, or hold control characters. Backslashes separate as slashes do."""
    text = name.replace("\\", "/").strip()
    reason = ""
    if not text:
        return Problem(MISSING_PICTURE, "the annotation names no picture")
    if len(text) > _LONGEST_NAME:
        reason = f"has {len(text)} characters"
    elif _CONTROL.search(text):
        reason = "holds control characters"
    elif text.startswith("/"):
        reason = "is absolute"
    elif _ADDRESS.match(text):
        reason = "is an address"
    elif _DRIVE.match(text):
        reason = "names a drive"
    elif ".." in (part.strip() for part in text.split("/")):
        reason = "leads out of its folder"
    if reason:
        return Problem(REFUSED_NAME, f"the picture's name {reason}: {_shown(name)} (write it relative to the data set)")
    parts = tuple(part for part in text.split("/") if part not in {"", "."})
    if not parts:
        return Problem(MISSING_PICTURE, "the annotation names no picture")
    return parts


def _pictures_beside(tree: Tree) -> tuple[list[str], list[str]]:
    """Pictures in picture folders beside the root or one level higher, as `../images/x.jpg`; the nearest level that
    has any. The search goes by folder names on disk, never by what an annotation says."""
    for level in range(1, _LEVELS_UP + 1):
        up = "/".join([".."] * level)
        try:
            with os.scandir(tree.path(up)) as entries:
                names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except OSError:
            continue
        folders = [f"{up}/{n}" for n in names if _PICTURE_FOLDER.search(n) and not _MASK_FOLDER.search(n)]
        paths = [f"{folder}/{f}" for folder in folders for f in scan(tree.path(folder)).files if is_picture(f)]
        if paths:
            return sorted(paths), folders
    return [], []


def _folder_rank(folder: str, near: str) -> int:
    """0 for the annotation's own folder and for folders named like picture folders, 2 for masks and such."""
    if folder == near:
        return 0
    parts = _parts(folder)
    if any(_MASK_FOLDER.search(part) for part in parts):
        return 2
    return 0 if any(_PICTURE_FOLDER.search(part) for part in parts) else 1


def _distance(a: str, b: str) -> int:
    """Steps from one folder to the other."""
    x, y = _parts(a), _parts(b)
    common = 0
    for p, q in zip(x, y, strict=False):
        if p != q:
            break
        common += 1
    return len(x) + len(y) - 2 * common


def _parts(folder: str) -> tuple[str, ...]:
    return tuple(folder.split("/")) if folder else ()


def _ends_with(folder: str, tail: Sequence[str]) -> bool:
    parts = _parts(_key(folder))
    return len(parts) >= len(tail) and parts[len(parts) - len(tail) :] == tuple(tail)


def _key(name: str) -> str:
    """One spelling for comparison: macOS writes accents as two characters, and extensions come in any case."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).lower()


def _stem(base: str) -> str:
    return base.rpartition(".")[0] if is_picture(base) else base


def _shown(name: str) -> str:
    text = clean_label(name)
    return text if len(text) <= 80 else text[:77] + "..."
