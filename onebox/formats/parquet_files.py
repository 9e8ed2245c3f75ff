"""The one place where parquet files are opened. Takes a listed file; gives its columns and rows as plain values, a few
hundred at a time, and the class names that its schema holds. Needs the extra `formats`; a damaged file is an
AnnotationError.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from onebox.errors import AnnotationError, MissingExtraError
from onebox.formats.row_objects import find_class_names
from onebox.formats.tree import Tree

_MAGIC = b"PAR1"
#: A footer is this large for a table of thousands of columns and row groups; beyond, nobody looks.
_LARGEST_FOOTER = 16 * 1024**2
_BATCH = 256


class ParquetTable:
    """An open file: `columns` are the names at the top level, `class_names` those of its Hugging Face schema, `size` is
    the file's in bytes. Nothing else of the file's metadata is asked for: of a damaged file, pyarrow 26's accessors of
    row groups and column chunks end the process instead of raising."""

    def __init__(self, path: str, file: Any, size: int) -> None:
        self.path = path
        self.size = size
        self._file = file
        self.columns: list[str] = list(file.schema_arrow.names)
        described = (file.schema_arrow.metadata or {}).get(b"huggingface", b"")
        try:
            self.class_names = find_class_names(json.loads(described)) if described else {}
        except (ValueError, RecursionError):
            self.class_names = {}

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number from 1, values by column) of every row. Raises AnnotationError where the file is damaged."""
        number = 0
        with _told(self.path):
            for batch in self._file.iter_batches(batch_size=_BATCH, columns=list(columns)):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row


@contextmanager
def open_parquet(tree: Tree, relative: str) -> Generator[ParquetTable]:
    """Opens a listed file. Raises MissingExtraError without pyarrow, AnnotationError for a file that is no parquet."""
    try:
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        raise MissingExtraError(
            "reading parquet files needs pyarrow, which is not installed", fix='Run: pip install "onebox[formats]"'
        ) from None
    path = tree.path(relative)
    with _told(path):
        opened = open(path, "rb")  # noqa: PTH123, SIM115 - closed below
    with opened:
        with _told(path):
            table = ParquetTable(path, ParquetFile(opened), os.fstat(opened.fileno()).st_size)
        yield table


def footer(tree: Tree, relative: str) -> bytes:
    """The raw description at the end of a parquet file, in which the names of its columns stand as they are; empty
    where it is no parquet file. Needs no library, so that a layout can be told without the extra."""
    try:
        with open(tree.path(relative), "rb") as file:  # noqa: PTH123
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8))
            end = file.read(8)
            length = int.from_bytes(end[:4], "little")
            if end[4:] != _MAGIC or length > min(size - 8, _LARGEST_FOOTER):
                return b""
            file.seek(size - 8 - length)
            return file.read(length)
    except OSError:
        return b""


@contextmanager
def _told(path: str) -> Generator[None]:
    """Turns what pyarrow raises for a damaged file into an AnnotationError."""
    try:
        yield
    except AnnotationError:
        raise
    except Exception as error:  # ArrowException and its many bases
        import pyarrow

        if not isinstance(error, (pyarrow.ArrowException, OSError, ValueError, OverflowError)):
            raise
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise AnnotationError(
            f"not a readable parquet file ({reason})", where=path, fix="Download or write the file again."
        ) from None
