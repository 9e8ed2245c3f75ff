"""Rows of numbers out of MATLAB 5 files (`.mat`, what MATLAB saves with -v6 and -v7). Takes bytes; gives the numbers of
one named variable; understands nothing else of what such a file may hold, runs nothing, and never expands more than
1 MiB. Written here because scipy's reader can crash the process on a damaged file (seen with 1.17.1).

The format: "MAT-File Format", The MathWorks, version 5. A header of 128 bytes, then elements of a tag (type, length)
and data; a matrix is an element that holds four: flags, dimensions, name, numbers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

_HEADER = 128
_MOST_EXPANDED = 1 << 20
_MATRIX, _COMPRESSED = 14, 15
#: Type of a data element -> its letter for `struct`.
_TYPES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
#: Classes of arrays of numbers, double to uint64; 1 to 5 are cells, structures, objects, texts and sparse arrays.
_NUMERIC = range(6, 16)
_COMPLEX = 0x0800


class MatError(ValueError):
    """What is wrong with the file, or that it has no such variable."""


class _Element(NamedTuple):
    kind: int
    data: bytes


def read_row(raw: bytes, name: str, count: int) -> list[float]:
    """The `count` numbers of a row or column called `name`. Raises MatError."""
    if not raw.startswith(b"MATLAB") or len(raw) < _HEADER:
        raise MatError("not a MATLAB 5 file")
    order = {b"IM": "<", b"MI": ">"}.get(raw[_HEADER - 2 : _HEADER])
    version = struct.unpack(f"{order or '<'}H", raw[_HEADER - 4 : _HEADER - 2])[0]
    if order is None or version != 0x0100:
        raise MatError("not a MATLAB 5 file (version 7.3 is another format)")
    for element in _elements(raw[_HEADER:], order):
        if element.kind == _COMPRESSED:
            element = next(_elements(_expanded(element.data), order), element)
        if element.kind == _MATRIX:
            numbers = _numbers(element.data, order, name, count)
            if numbers is not None:
                return numbers
    raise MatError(f"no variable {name} in this MATLAB file")


def _elements(data: bytes, order: str) -> Iterator[_Element]:
    at = 0
    while at + 8 <= len(data):
        kind, length = struct.unpack(f"{order}II", data[at : at + 8])
        if kind >> 16:  # up to four bytes stand in the tag itself
            kind, length, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if length > 4:
                raise MatError("damaged: an element is longer than its place")
        else:
            start = at + 8
            end = start + length + (0 if kind == _COMPRESSED else -length % 8)
        if start + length > len(data):
            raise MatError("damaged: an element ends after the file")
        yield _Element(kind, data[start : start + length])
        at = end


def _expanded(data: bytes) -> bytes:
    try:
        expander = zlib.decompressobj()
        expanded = expander.decompress(data, _MOST_EXPANDED)
    except zlib.error:
        raise MatError("damaged: cannot be decompressed") from None
    if not expander.eof:
        size = "more than 1 MiB" if expander.unconsumed_tail else "an end that is missing"
        raise MatError(f"damaged: a compressed element of {size}")
    return expanded


def _numbers(data: bytes, order: str, name: str, count: int) -> list[float] | None:
    """Of the matrix of this name; None for another one."""
    parts: list[_Element] = []
    for part in _elements(data, order):
        parts.append(part)
        if len(parts) == 3 and part.data != name.encode():
            return None
        if len(parts) == 4:
            break
    if len(parts) < 4 or len(parts[0].data) < 4:
        return None  # an empty or nameless matrix, which is not the one looked for
    flags = struct.unpack(f"{order}I", parts[0].data[:4])[0]
    shape = _unpacked(parts[1], order)
    if flags & 0xFF not in _NUMERIC or flags & _COMPLEX:
        raise MatError(f"{name} is no array of real numbers")
    numbers = _unpacked(parts[3], order)
    if sorted(shape) != [1] * (len(shape) - 1) + [count] or len(numbers) != count:
        raise MatError(f"{name} is no row of {count} numbers, but {'x'.join(f'{side:g}' for side in shape)}")
    return numbers


def _unpacked(element: _Element, order: str) -> list[float]:
    letter = _TYPES.get(element.kind)
    if letter is None or len(element.data) % struct.calcsize(f"{order}{letter}"):
        raise MatError("damaged: numbers of an unknown kind")
    return list(
        struct.unpack(f"{order}{len(element.data) // struct.calcsize(f'{order}{letter}')}{letter}", element.data)
    )
