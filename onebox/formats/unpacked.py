"""Pictures that lie inside another file are unpacked before they are read. Takes bytes; gives paths in a private
temporary folder, which is removed when the process ends. Never writes beside the data set, and builds no file name from
what the data say: pictures are called by their numbers.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from onebox.errors import DataError
from onebox.formats.tree import Tree

_PREFIX = "onebox-unpacked-"
#: By what a file begins with (after a number of other bytes), for people who look into the folder: reading goes by
#: content.
_ENDINGS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"\x89PNG", ".png"),
    (0, b"GIF8", ".gif"),
    (8, b"WEBP", ".webp"),
    (0, b"BM", ".bmp"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
    (4, b"ftypavif", ".avif"),
)
_SPARE = 64 * 1024**2


class Unpacked:
    """The pictures of one file, unpacked once in this process: `folder` holds them, `names` their file names by row
    (None for a row without one). `complete` once all rows went in."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.names: list[str | None] = []
        self.complete = False

    def add(self, content: bytes | None) -> None:
        """Puts the next row's picture into the folder. Raises DataError where that cannot be."""
        if content is None:
            self.names.append(None)
            return
        ending = next((e for at, start, e in _ENDINGS if content.startswith(start, at)), ".bin")
        name = f"{len(self.names):07d}{ending}"
        try:
            with open(os.path.join(self.folder, name), "xb") as file:  # noqa: PTH118, PTH123
                file.write(content)
        except OSError as error:
            raise _no_room(self.folder, error.strerror or str(error)) from error
        self.names.append(name)

    def path(self, row: int, root: str) -> str | None:
        """Of the picture in this row (from 0), relative to the root of the data set, as all paths of pictures are."""
        name = self.names[row]
        return None if name is None else f"{os.path.relpath(self.folder, root or '.')}/{name}"


_known: dict[tuple[str, str, int, int], Unpacked] = {}
#: Data sets by their real root, and the folders they have below this process's own.
_sets: dict[str, str] = {}
#: This process's temporary folder, with the process that made it (a forked child makes its own).
_root: dict[int, str] = {}


def unpacked_from(tree: Tree, relative: str, expected_bytes: int) -> Unpacked:
    """Where the pictures of this file go, or already are if it was unpacked before and is still the same. Raises
    DataError where there is no room for `expected_bytes`."""
    path = tree.path(relative)
    status = os.stat(path)  # noqa: PTH116 - the path may hold odd bytes
    data_set = os.path.realpath(tree.root or ".")
    key = (data_set, relative, status.st_size, status.st_mtime_ns)
    known = _known.get(key)
    if known is not None and known.complete and os.path.isdir(known.folder):  # noqa: PTH112
        return known
    try:
        root = _own_root()
        if shutil.disk_usage(root).free < expected_bytes + _SPARE:
            raise _no_room(root, f"it has no room for {expected_bytes / 1e6:.0f} MB")
        folder = _new_folder(root, data_set, os.path.splitext(relative)[0])  # noqa: PTH122
    except OSError as error:
        raise _no_room(tempfile.gettempdir(), error.strerror or str(error)) from error
    _known[key] = Unpacked(folder)
    return _known[key]


def _new_folder(root: str, data_set: str, inner: str) -> str:
    """One folder for all files of a data set, so that its pictures, sorted by path, have the order of the files. A file
    that changed in the meantime starts another."""
    folder = os.path.join(_sets.get(data_set, root), inner)  # noqa: PTH118
    if data_set not in _sets or os.path.exists(folder):  # noqa: PTH110
        _sets[data_set] = os.path.join(root, f"{len(os.listdir(root)):06d}")  # noqa: PTH118, PTH208
        folder = os.path.join(_sets[data_set], inner)  # noqa: PTH118
    os.makedirs(folder)  # noqa: PTH103
    return folder


def path_in_unpacked(path: str) -> str | None:
    """What stays the same of an unpacked picture's path from one process to the next: the packed file without its
    ending, and the picture's number. None for any other path."""
    parts = Path(path).parts
    at = next((i for i, part in enumerate(parts) if part.startswith(_PREFIX)), None)
    return None if at is None else "/".join(parts[at + 2 :])


def _own_root() -> str:
    process = os.getpid()
    if process not in _root:
        _known.clear()
        _sets.clear()
        _root[process] = tempfile.mkdtemp(prefix=_PREFIX)
        atexit.register(_remove, process, _root[process])
    return _root[process]


def _remove(owner: int, folder: str) -> None:
    if os.getpid() == owner:  # a forked child leaves its parent's folder alone
        shutil.rmtree(folder, ignore_errors=True)


def _no_room(folder: str, reason: str) -> DataError:
    return DataError(
        f"the pictures inside the data set cannot be unpacked ({reason})",
        where=folder,
        fix="Free some space there, or set TMPDIR to a folder with more.",
    )
