"""JSON files that are one long list (or dictionary) of records, a JSON object a line included. Takes their text; gives
the records one after the other, each with the line it begins on; and says which JSON files of a folder are worth a
look. Same limits as `onebox.formats.json_files`: beyond them is an AnnotationError or a Problem, never a crash.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from onebox.errors import AnnotationError
from onebox.formats.json_files import JsonFile, parse_json
from onebox.formats.records import UNREADABLE_ANNOTATION, Problem
from onebox.formats.tree import Tree, decode, depth_of, folder_of, read_bytes

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
#: JSON files of one folder that are looked at, all of them where there are few: in a folder of one JSON per picture,
#: the first ones tell what the others are.
_FEW = 20
_LOOKED_AT = 10
#: And of all folders together, the shallowest first.
_MOST = 200


@dataclass(slots=True)
class JsonRecord:
    """One record: its `key` (empty in a list), `value`, the `line` it begins on, and its own `text`."""

    key: str
    value: object
    line: int
    text: str

    def lines_of_key(self, key: str, count: int) -> list[int]:
        """As `JsonFile.lines_of_key`, within this record; its own line where that cannot be told."""
        return [self.line + n - 1 for n in JsonFile("", self.text, None).lines_of_key(key, count)]


def json_candidates(tree: Tree) -> list[str]:
    """The JSON files by which a folder's layout is found out, the shallowest first. Never thousands of them."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for relative in tree.with_suffix(".json"):
        by_folder[folder_of(relative)].append(relative)
    chosen = [f for files in by_folder.values() for f in (files if len(files) <= _FEW else files[:_LOOKED_AT])]
    return sorted(chosen, key=lambda f: (depth_of(f), f))[:_MOST]


def starts_with(head: bytes, bracket: bytes) -> bool:
    """Whether a JSON file's first character is this one."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == bracket


def first_record(head: bytes) -> dict[str, Any] | None:
    """The first element of a list, by the beginning of its file, where it is whole and a dictionary."""
    try:
        record = next(iter_records(decode(head)[0], ""), None)
    except AnnotationError:
        return None
    return as_dict(record.value) or None if record is not None and not record.key else None


def read_text(tree: Tree, relative: str) -> str:
    """The text of a listed file. Raises AnnotationError where it cannot be read."""
    return decode(read_bytes(tree, relative))[0]


def iter_records(text: str, path: str, *, first_line: int = 1) -> Iterator[JsonRecord]:
    """The elements of a list or the entries of a dictionary, in order, for a text that is one such value. Raises
    AnnotationError, with the line, where it is no JSON, another kind of value, or beyond a limit."""
    start = _skip(text, 0)
    opening = text[start : start + 1]
    if opening not in ("[", "{"):
        parse_json(text, path, first_line=first_line)
        raise AnnotationError("neither a list nor a dictionary of records", where=f"{path}:{first_line}")
    closing = "]" if opening == "[" else "}"
    line, counted = first_line, 0
    position = _skip(text, start + 1)
    try:
        while text[position] != closing:
            key = ""
            if closing == "}":
                key, position = _key(text, position)
            begins = position
            value, position = _DECODER.raw_decode(text, position)
            line += text.count("\n", counted, begins)
            counted = begins
            yield JsonRecord(key, value, line, text[begins:position])
            position = _skip(text, position)
            if text[position] == ",":
                position = _skip(text, position + 1)
                if text[position] == closing:
                    raise ValueError
            elif text[position] != closing:
                raise ValueError
        if _skip(text, position + 1) != len(text):
            raise ValueError
    except (ValueError, IndexError, RecursionError):
        parse_json(text, path, first_line=first_line)  # tells what is wrong, and where
        raise AnnotationError("not usable JSON", where=f"{path}:{line}", fix="Export the annotations again.") from None


def parse_lines(text: str) -> Iterator[tuple[int, object]]:
    """(line, value) of every line of a JSON Lines text that is not blank; a Problem in place of the value of a line
    that is no JSON or beyond a limit."""
    # not splitlines(): U+2028 and the like may stand within a JSON string
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or line.isspace():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            yield number, Problem(UNREADABLE_ANNOTATION, f"not valid JSON ({error.msg}, column {error.colno})")
        except RecursionError:
            yield number, Problem(UNREADABLE_ANNOTATION, "not usable JSON (nested too deep)")
        except ValueError:
            yield number, Problem(UNREADABLE_ANNOTATION, "not usable JSON (a number is too long)")


def as_dict(value: object) -> dict[str, Any]:
    """The value where it is a dictionary, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """The value where it is a list, else an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []


def _key(text: str, position: int) -> tuple[str, int]:
    """A dictionary's key, and where its value begins. Raises ValueError or IndexError."""
    key, position = _DECODER.raw_decode(text, position)
    position = _skip(text, position)
    if not isinstance(key, str) or text[position] != ":":
        raise ValueError
    return key, _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    """The next position that is no white space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position
