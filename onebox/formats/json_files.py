"""The one way in which JSON annotation files are parsed: as a whole, or record by record where they are large, so that
no more than one record is held. Takes a listed file; gives values and the lines on which they stand, which JSON parsers
do not tell. Bounded: nesting, the digits of a number and the size of a file have limits; a file beyond them is an
AnnotationError, never a crash.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from json.scanner import make_scanner
from typing import Any, TypeVar, cast

from onebox.errors import AnnotationError
from onebox.formats.tree import Tree, decode, read_bytes

#: A COCO file of a million annotations has about 200 MB.
_LARGEST_FILE = 4 * 1024**3
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_T = TypeVar("_T")
#: What the decoder itself is made of, in C: no Python code is run for a value.
_scan = make_scanner(cast("Any", _DECODER))


class JsonFile:
    """A parsed file: `value`, and its `text` for line numbers; `path` as to be shown."""

    def __init__(self, path: str, text: str, value: object) -> None:
        self.path = path
        self.text = text
        self.value = value

    def lines_of_key(self, key: str, count: int) -> list[int]:
        """The lines on which `"key":` stands, 1-based, in order, for a key that each of `count` records has exactly
        once. Ones where the file is on a single line or the key stands there another number of times."""
        if "\n" not in self.text.strip():
            return [1] * count
        lines: list[int] = []
        line, position = 1, 0
        for match in re.finditer(rf'"{re.escape(key)}"\s*:', self.text):
            line += self.text.count("\n", position, match.start())
            position = match.start()
            lines.append(line)
        return lines if len(lines) == count else [1] * count


def load_json(tree: Tree, relative: str) -> JsonFile:
    """Parses a listed file. Raises AnnotationError, with the line, where it is no JSON or beyond a limit."""
    path, text = tree.path(relative), _text(tree, relative)
    return JsonFile(path, text, parse_json(text, path))


def pull_json(tree: Tree, relative: str) -> JsonPull:
    """A listed file, to be read piece by piece. Raises AnnotationError where it is too large."""
    return JsonPull(tree.path(relative), _text(tree, relative))


def typed_json(tree: Tree, relative: str, kind: type[_T], *, once: tuple[bytes, ...]) -> _T | None:
    """A listed file as `kind`, a msgspec type, in a fifth of the time: all that the type lacks is read over. None
    for every file that needs a closer look: one of several lines, as records then have lines to be told; one that is
    damaged or of other types; one with escaped letters, or with one of the keys `once` twice."""
    import msgspec  # here: most data sets do without

    raw = read_bytes(tree, relative, _LARGEST_FILE + 1)
    if len(raw) > _LARGEST_FILE or b"\n" in raw.strip() or b"\\" in raw:
        return None
    if any(raw.count(b'"%s"' % key) != 1 for key in once):
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError):  # `JsonPull` finds the fault again, and its place
        return None


class JsonPull:
    """A file whose top level is an object, read in its own order: `keys` gives one member's key after the other;
    between two of them `value` gives that member as a whole, or `records` the objects in its list one by one, which is
    as fast and holds no more than one. What is asked for neither way is read over. All raise AnnotationError where the
    text is no JSON or beyond a limit, which is not known before the place of the fault is reached."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self._text = text
        self._at = 0
        self._has_lines = "\n" in text.strip()

    def keys(self) -> Iterator[str]:
        """One after the other; none where the top level is no object."""
        text = self._text
        with _told(self.path):
            mark = self._mark(0)
            if mark != "{":
                json.loads(text)
                return
            mark = self._mark(self._at + 1)
            while mark != "}":
                if mark != '"':
                    raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, self._at)
                key, self._at = _DECODER.raw_decode(text, self._at)
                if self._mark(self._at) != ":":
                    raise json.JSONDecodeError("Expecting ':' delimiter", text, self._at)
                self._mark(self._at + 1)
                here = self._at
                yield key
                if self._at == here:
                    self.value()
                mark = self._mark(self._at)
                if mark == ",":
                    mark = self._mark(self._at + 1)
                    mark = mark if mark == '"' else ","
                elif mark != "}":
                    raise json.JSONDecodeError("Expecting ',' delimiter", text, self._at)
            if self._mark(self._at + 1):
                raise json.JSONDecodeError("Extra data", text, self._at)

    def value(self) -> object:
        """This member."""
        with _told(self.path):
            value, self._at = _DECODER.raw_decode(self._text, self._at)
        return value

    def records(self) -> Iterator[tuple[dict[str, Any], int]]:
        """The objects in this member's list, each with the line on which it begins; nothing where it is no list."""
        text, scan, has_lines = self._text, _scan, self._has_lines
        if not text.startswith("[", self._at):
            self.value()
            return
        line, counted = (1 + text.count("\n", 0, self._at) if has_lines else 1), self._at
        mark = self._mark(self._at + 1)
        at = self._at
        with _told(self.path):
            try:
                while mark != "]":
                    if has_lines:
                        line += text.count("\n", counted, at)
                        counted = at
                    record, at = scan(text, at)
                    if type(record) is dict:
                        yield record, line
                    if text.startswith(", {", at):  # as Python's own writer separates records
                        at += 2
                        continue
                    mark = self._mark(at)
                    if mark == ",":
                        self._mark(self._at + 1)
                        at = self._at
                    elif mark != "]":
                        raise json.JSONDecodeError("Expecting ',' delimiter", text, self._at)
            except StopIteration as stop:  # the scanner's word for a missing value
                raise json.JSONDecodeError("Expecting value", text, stop.value) from None
        self._at += 1

    def _mark(self, at: int) -> str:
        """The first character that is no white space at or behind `at`, where `_at` stands then; "" at the end."""
        match = _SPACE.match(self._text, at)
        self._at = match.end() if match else at
        return self._text[self._at : self._at + 1]


def parse_json(text: str, path: str, *, first_line: int = 1) -> object:
    """The value of a JSON text that begins on `first_line` of `path`. Raises AnnotationError."""
    with _told(path, first_line):
        return json.loads(text)


@contextmanager
def _told(path: str, first_line: int = 1) -> Generator[None]:
    """Turns what the json module raises into AnnotationErrors."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"not valid JSON ({error.msg}, column {error.colno})",
            where=f"{path}:{error.lineno + first_line - 1}",
            fix="Export the annotations again; the file may be cut off.",
        ) from None
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        what = "nested too deep" if isinstance(error, RecursionError) else "a number is too long"
        raise AnnotationError(f"not usable JSON ({what})", where=path, fix="Export the annotations again.") from None


def _text(tree: Tree, relative: str) -> str:
    raw = read_bytes(tree, relative, _LARGEST_FILE + 1)
    if len(raw) > _LARGEST_FILE:
        raise AnnotationError("this JSON file is too large (4 GiB at most)", where=tree.path(relative), fix="Split it.")
    return decode(raw)[0]


def dicts(value: object) -> list[dict[str, Any]]:
    """The dictionaries of a list; nothing where it is no list."""
    if not isinstance(value, list):
        return []
    return [cast("dict[str, Any]", v) for v in cast("list[object]", value) if isinstance(v, dict)]
