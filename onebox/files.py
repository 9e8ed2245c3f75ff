"""Writing without half-written files. Everything onebox writes goes to a temporary name in the same folder, is flushed
to the disk, and is renamed over the target; on a full disk the old file stays and one clear error is raised."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from onebox.errors import RunFolderError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_path(path: Path) -> Generator[Path, None, None]:
    """Gives a temporary path to write to; renames it to `path` when the block ends well, removes it otherwise.

    Raises RunFolderError where the disk is full or the folder cannot be written; `path` is then as it was.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes `content` (text as UTF-8) in one piece. Raises RunFolderError as `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def make_folder(path: Path) -> Path:
    """Creates a folder and its parents. Raises RunFolderError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _explain(error, path) from error
    return path


def _explain(error: OSError, path: Path) -> RunFolderError:
    if error.errno in _FULL:
        return RunFolderError(
            "the disk is full; nothing that was there before has been changed",
            where=str(path),
            fix="Free some space and run it again; a training goes on with --resume.",
        )
    return RunFolderError(f"cannot write ({error.strerror or error})", where=str(path), fix="Choose another folder.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
