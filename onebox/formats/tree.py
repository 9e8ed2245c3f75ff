"""What lies under the root: one scan that lists its regular files. Takes a folder, gives relative paths with forward
slashes, sorted; follows no link that leads out of the folder, and passes over hidden files, FIFOs and devices. The
paths it lists are the only ones a reader may open.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import TextIO

from onebox.errors import AnnotationError, DataError

_MAX_DEPTH = 16
_HEAD_BYTES = 65536
_HEADS_KEPT = 200
_PASSED_OVER = frozenset({"__MACOSX", "__pycache__", "node_modules"})
_PART_WORDS = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_DECORATION = (
    r"(?:images?|imgs?|pictures?|photos?|annotations?|annots?|labels?|boxes|bboxes|xmls?|json|data|set|split|list)"
)
_PART_FOLDER = re.compile(
    rf"(?:{_DECORATION}[-_ ]?)?({'|'.join(_PART_WORDS)})(?:[-_ ]?{_DECORATION})?(?:[-_ ]?\d{{1,4}})?", re.IGNORECASE
)


@dataclass(frozen=True)
class Tree:
    """The files of one data set. `root` as the user gave it; `files` relative to it, sorted; `only` the one annotation
    file (relative) where the user gave a file; `links_out` how many links lead out of the root and were passed over.
    """

    root: str
    files: tuple[str, ...]
    only: str | None = None
    links_out: int = 0
    _heads: dict[str, bytes] = field(default_factory=dict[str, bytes], compare=False, repr=False)

    def head(self, relative: str) -> bytes:
        """The first 64 KiB of a listed file, by which layouts are told apart; read once. Empty where unreadable."""
        known = self._heads.get(relative)
        if known is None:
            try:
                known = read_bytes(self, relative, _HEAD_BYTES)
            except AnnotationError:
                known = b""
            if len(self._heads) < _HEADS_KEPT:
                self._heads[relative] = known
        return known

    def path(self, relative: str) -> str:
        """The path to open or to show for a relative one."""
        if not relative or relative.startswith(".."):  # the root itself, or something beside it
            return os.path.normpath(os.path.join(self.root, relative))  # noqa: PTH118 - root may hold odd bytes
        return self._prefix + relative

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Relative paths that end in one of the (lower-case) suffixes, sorted; only `only`, where there is one."""
        return [self.only] if self.only is not None else self.ending(*suffixes)

    def ending(self, *suffixes: str) -> list[str]:
        """The same, whether or not one annotation file was given. Cheap among a million pictures: it looks only at
        files of the same extension, so give every suffix with its dot."""
        extensions = {suffix[suffix.rfind(".") :] for suffix in suffixes}
        lists = [listed for extension, listed in self._by_extension.items() if extension.lower() in extensions]
        return sorted(f for listed in lists for f in listed if f.lower().endswith(suffixes))

    @cached_property
    def _by_extension(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for relative in self.files:
            found.setdefault(relative[relative.rfind(".") :], []).append(relative)
        return found

    @cached_property
    def _prefix(self) -> str:
        root = os.path.normpath(self.root or ".")
        return "" if root == "." else root if root.endswith(os.sep) else root + os.sep


def scan(root: str, *, only: str | None = None) -> Tree:
    """Lists the regular files under `root`, hidden ones left out. Raises DataError where it cannot be listed."""
    real_root = os.path.realpath(root)
    found: list[str] = []
    links_out = 0
    stack: list[tuple[str, int]] = [("", 0)]
    while stack:
        folder, depth = stack.pop()
        try:
            entries = list(os.scandir(os.path.join(root, folder)))  # noqa: PTH118 - strings are far faster
        except OSError as error:
            if not folder:
                reason = error.strerror or "unreadable"
                raise DataError(f"cannot list this folder ({reason})", where=root) from None
            continue
        start = f"{folder}/" if folder else ""
        here: list[str] = []
        for entry in entries:
            name = entry.name
            if name[0] == "." or name in _PASSED_OVER:
                continue
            if entry.is_file(follow_symlinks=False):
                here.append(start + name)
            elif entry.is_symlink():
                target = os.path.realpath(entry.path)
                if target != real_root and not target.startswith(real_root.rstrip(os.sep) + os.sep):
                    links_out += 1
                elif os.path.isfile(target):  # noqa: PTH113 - entry.is_file() raises where links go round in a ring
                    here.append(start + name)
                # a link to a folder inside is left alone: what it shows is listed at its real place already
            elif entry.is_dir(follow_symlinks=False) and depth < _MAX_DEPTH:
                stack.append((start + name, depth + 1))
        here.sort()  # sorted stretches make the last sort cheap
        found += here
    return Tree(root, tuple(sorted(found)), only, links_out)


def read_bytes(tree: Tree, relative: str, limit: int = -1) -> bytes:
    """The (first `limit`) bytes of a listed file. Raises AnnotationError where it cannot be read."""
    path = tree.path(relative)
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(limit)
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise AnnotationError(f"cannot read this file ({reason})", where=path) from None


@contextmanager
def open_text(tree: Tree, relative: str) -> Generator[TextIO, None, None]:
    """A listed text file, UTF-8, to be read line by line: for tables too large to be held. Line ends are left to the
    csv module. Raises AnnotationError where it cannot be read."""
    path = tree.path(relative)
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:  # noqa: PTH123
            yield file
    except OSError as error:
        raise AnnotationError(f"cannot read this file ({error.strerror or 'unreadable'})", where=path) from None


def decode(raw: bytes) -> tuple[str, str | None]:
    """Text of an annotation file and, where it was not UTF-8, the name of the encoding that was taken instead."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "replace"), None
    try:
        return raw.decode("utf-8-sig"), None
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace"), "Windows-1252"


def depth_of(relative: str) -> int:
    """How many folders lie between the root and the file."""
    return relative.count("/")


def folder_of(relative: str) -> str:
    """The file's folder, "" for the root."""
    return relative.rpartition("/")[0]


def stem_of(relative: str) -> str:
    """File name without its last extension."""
    return PurePosixPath(relative).stem


def split_word(word: str) -> str | None:
    """ "train", "val" or "test" for one of their usual spellings, else None."""
    return _PART_WORDS.get(word.strip().lower())


@lru_cache(maxsize=4096)
def split_of_folder(folder: str) -> str | None:
    """What the folder names say, the deepest first: train, valid/images, test_labels, train2017. "test tube" is a
    class, not a part: only whole names with the usual decorations count."""
    for part in reversed(folder.split("/")):
        match = _PART_FOLDER.fullmatch(part)
        if match:
            return split_word(match.group(1))
    return None


def split_of_file(relative: str) -> str | None:
    """What an annotation file's name says (train.csv, birds_val.csv, instances_train2017.json), else its folders."""
    words = [w for w in re.split(r"[^a-z]+", stem_of(relative).lower()) if w]
    parts = {part for part in map(split_word, words) if part}
    if len(parts) == 1:
        return parts.pop()
    return split_of_folder(folder_of(relative))


def enumerate_some(items: Iterable[str], most: int = 3) -> str:
    """ "a, b, c and 4 more"."""
    listed = list(items)
    shown = ", ".join(listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"
