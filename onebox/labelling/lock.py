"""One `onebox label` per folder. Takes the folder; holds a lock in `.onebox/` for as long as the process lives, which
the operating system gives back by itself when the process is killed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

from onebox.errors import RunFolderError

_FILE = "label.lock"


class FolderLock:
    """To be used in a `with` block. Raises RunFolderError where another process holds the lock, naming its page, or
    where the folder cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(exist_ok=True)
            self._handle = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except OSError as error:
            raise RunFolderError(
                f"cannot write here ({error.strerror or error})",
                where=str(folder.parent),
                fix="Labels are kept beside the pictures: give a folder that you may write to.",
            ) from None

    def __enter__(self) -> FolderLock:
        if not _lock(self._handle):
            said = os.pread(self._handle, 200, 0).decode("utf-8", "replace").strip() if hasattr(os, "pread") else ""
            os.close(self._handle)
            raise RunFolderError(
                "another `onebox label` is at work on this folder" + (f" ({said})" if said else ""),
                where=str(self._folder.parent),
                fix="Use its page, or stop it first.",
            )
        return self

    def tell(self, text: str) -> None:
        """Leaves a word (the page's address) for the next one who comes."""
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, text.encode())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)  # the lock goes with it


def _lock(handle: int) -> bool:
    """Whether it is ours now."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # beyond the text, which others must be able to read
            os.lseek(handle, 4096, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
