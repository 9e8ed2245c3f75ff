"""The one way in which JSON annotation files are parsed. Takes a listed file; gives its value and a finder of line
numbers, which JSON parsers do not tell. Bounded: nesting, the digits of a number and the size of a file have limits; a
file beyond them is an AnnotationError, never a crash.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

from onebox.errors import AnnotationError
from onebox.formats.tree import Tree, decode, read_bytes

#: A COCO file of a million annotations has about 200 MB.
_LARGEST_FILE = 4 * 1024**3


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
    path = tree.path(relative)
    raw = read_bytes(tree, relative, _LARGEST_FILE + 1)
    if len(raw) > _LARGEST_FILE:
        raise AnnotationError("this JSON file is too large (4 GiB at most)", where=path, fix="Split it.")
    text, _ = decode(raw)
    return JsonFile(path, text, parse_json(text, path))


def parse_json(text: str, path: str, *, first_line: int = 1) -> object:
    """The value of a JSON text that begins on `first_line` of `path`. Raises AnnotationError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"not valid JSON ({error.msg}, column {error.colno})",
            where=f"{path}:{error.lineno + first_line - 1}",
            fix="Export the annotations again; the file may be cut off.",
        ) from None
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        what = "nested too deep" if isinstance(error, RecursionError) else "a number is too long"
        raise AnnotationError(f"not usable JSON ({what})", where=path, fix="Export the annotations again.") from None


def dicts(value: object) -> list[dict[str, Any]]:
    """The dictionaries of a list; nothing where it is no list."""
    if not isinstance(value, list):
        return []
    return [cast("dict[str, Any]", v) for v in cast("list[object]", value) if isinstance(v, dict)]
