"""The folder's pictures for a page, and new ones for the folder. Takes files and bytes; gives JPEGs that lie upright as
the model sees them, and the name under which a new picture was put. Never overwrites a file, and writes nowhere but
into the folder itself.
"""

from __future__ import annotations

import io
import os
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from onebox.errors import PictureError, RunFolderError
from onebox.formats.naming import new_names
from onebox.images import CONTAINERS, PictureFile, open_image
from onebox.types import ImageSize

#: Longest side of what the page shows; more is lost on screens and takes long to decode.
VIEW_SIDE = 2048
THUMB_SIDE = 192
_THUMBS_KEPT = 4096
_VIEWS_KEPT = 12


class Renderer:
    """Views and thumbnails as JPEG, the last ones kept in memory. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, OrderedDict[str, tuple[bytes, ImageSize]]] = {
            VIEW_SIDE: OrderedDict(),
            THUMB_SIDE: OrderedDict(),
        }

    def view(self, path: str) -> tuple[bytes, ImageSize]:
        """The picture, at most VIEW_SIDE a side, and its full upright size. Raises PictureError."""
        return self._made(path, VIEW_SIDE, 92, _VIEWS_KEPT)

    def thumb(self, path: str) -> bytes:
        """The picture, at most THUMB_SIDE a side. Raises PictureError."""
        return self._made(path, THUMB_SIDE, 80, _THUMBS_KEPT)[0]

    def _made(self, path: str, side: int, quality: int, most: int) -> tuple[bytes, ImageSize]:
        kept = self._kept[side]
        with self._lock:
            if path in kept:
                kept.move_to_end(path)
                return kept[path]
        image, size = open_image(path, at_least=side)
        if max(image.size) > side:
            image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality, subsampling=0 if quality > 90 else 2)
        with self._lock:
            kept[path] = (out.getvalue(), size)
            while len(kept) > most:
                kept.popitem(last=False)
            return out.getvalue(), size


def take_in(folder: Path, name: str, content: bytes) -> str:
    """Puts a picture into the folder, byte for byte; gives its file name there: `name` without what no file system can
    hold, with the ending of what it really is, numbered where that is taken. The same picture under the same name is
    not put there twice. Raises PictureError for what is no whole picture, RunFolderError where it cannot be written.
    """
    with PictureFile(content) as opened:
        container = opened.container
        opened.decode()
    given = Path(name.replace("\\", "/")).name[:200]
    stem, dot, ending = given.rpartition(".")
    if not dot or container not in CONTAINERS.get(f".{ending.lower()}", ()):
        stem, ending = (stem if dot and f".{ending.lower()}" in CONTAINERS else given), _ending(container)
    plain = new_names([f"{stem or 'picture'}.{ending}"])[0]
    stem, _, ending = plain.rpartition(".")
    try:
        handle, temporary = tempfile.mkstemp(prefix=".incoming.", suffix=".part", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            return _place(Path(temporary), folder, stem, ending, content)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot write ({error.strerror or error})", where=str(folder)) from None


def _place(temporary: Path, folder: Path, stem: str, ending: str, content: bytes) -> str:
    """Gives the finished file its name: the first one free."""
    number = 1
    while True:
        target = folder / (f"{stem}.{ending}" if number == 1 else f"{stem}-{number}.{ending}")
        try:
            os.link(temporary, target)  # unlike a rename it never replaces
            return target.name
        except FileExistsError:
            if not target.is_symlink() and target.is_file() and target.read_bytes() == content:
                return target.name
            number += 1


def _ending(container: str) -> str:
    endings = [ending for ending, kinds in CONTAINERS.items() if container in kinds]
    if not endings:
        raise PictureError(f"pictures of this kind ({container}) are not taken", fix="Save it as JPEG or PNG.")
    return endings[0].removeprefix(".")
