"""Writing without half-written files or folders. Everything onebox writes goes to a temporary name in the same folder,
is flushed to the disk, and is renamed over the target; on a full disk what was there stays and one clear error is
raised."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
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


@contextmanager
def atomic_folder(path: Path) -> Generator[Path, None, None]:
    """Gives a temporary folder to fill; it becomes `path` when the block ends well, and is removed otherwise. `path`
    must not exist, or be an empty folder.

    Raises RunFolderError where there is something already, where the disk is full or where the place cannot be
    written: any OSError of the block is taken for one of writing.
    """
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise RunFolderError("there is something already", where=str(path), fix="Give a new folder.")
    existed = path.exists()
    temporary: Path | None = None
    try:
        if not existed:
            make_folder(path.parent)
        # an empty folder that is there may be a mount of its own: a rename cannot leave or enter it
        temporary = Path(tempfile.mkdtemp(prefix=".onebox-", suffix=".part", dir=path if existed else path.parent))
        yield temporary
        _flush(temporary)
        if existed:
            for entry in sorted(temporary.iterdir()):
                entry.replace(path / entry.name)
        else:
            temporary.chmod(0o777 & ~_umask())
            temporary.replace(path)
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def make_folder(path: Path) -> Path:
    """Creates a folder and its parents. Raises RunFolderError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _explain(error, path) from error
    return path


def _flush(folder: Path) -> None:
    """Everything below the folder, to the disk. Many at once, for one commit of the file system then serves them all:
    several times faster than one after the other."""
    files = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(_flush_file, files))


def _flush_file(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


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
