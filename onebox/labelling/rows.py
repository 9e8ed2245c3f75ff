"""The label file's text: onebox's own `.jsonl` (onebox/formats/jsonl.py), line by line. Takes its bytes and changes of
single pictures; gives the new bytes. Lines that nobody changed stay byte for byte, those that cannot be read as well.
Reads and writes no file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, cast

from onebox.errors import AnnotationError
from onebox.formats.jsonl import VERSION
from onebox.formats.records import clean_label, to_number
from onebox.formats.writing import plain_number

#: (x_min, y_min, x_max, y_max) in pixels of the upright picture.
Corners: TypeAlias = tuple[float, float, float, float]


class Mark(NamedTuple):
    """What somebody said of one picture: `label` and `box` together, `empty` for "no object here", or nothing yet."""

    label: str | None = None
    box: Corners | None = None
    empty: bool = False


#: Nobody has labelled the picture yet.
OPEN = Mark()
EMPTY = Mark(empty=True)


class Damage(NamedTuple):
    """A line that says nothing usable, and why. It stays in the file as it is."""

    line: int
    reason: str


@dataclass(slots=True)
class _Line:
    """One line as it stands in the file; `picture` is the folder's picture that it speaks of."""

    raw: bytes
    picture: str | None = None
    content: dict[str, Any] | None = None


class _First(NamedTuple):
    """What the file said of a picture before the first change, and the lines that said it."""

    mark: Mark
    at: list[int]
    lines: list[_Line | None]


class Rows:
    """The lines, and what they say. `find` gives the folder's own path for a picture's name in the file, None where
    there is no such picture."""

    def __init__(self, raw: bytes, find: Callable[[str], str | None], where: str) -> None:
        self.classes: list[str] = []
        self.damaged: list[Damage] = []
        #: Pictures with more than one object -> how many.
        self.several: dict[str, int] = {}
        self._marks: dict[str, Mark] = {}
        self._at: dict[str, list[int]] = {}
        self._first: dict[str, _First] = {}
        self._lines: list[_Line | None] = []
        self._labels: set[str] = set()
        self._header = -1
        self._byte_order_mark = raw.startswith(b"\xef\xbb\xbf")
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise AnnotationError("this file is UTF-16", where=where, fix="Save it as UTF-8 first.")
        for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            self._read(number, line, find, where)
        while self._lines and self._lines[-1] is not None and not self._lines[-1].raw.strip():
            self._lines.pop()  # what follows the last line's end
        self.classes += sorted(self._labels.difference(self.classes))

    def mark(self, picture: str) -> Mark:
        """What the file says of a picture of the folder."""
        return self._marks.get(picture, OPEN)

    def marks(self) -> dict[str, Mark]:
        """Of every picture that anything is said of."""
        return {picture: mark for picture, mark in self._marks.items() if mark != OPEN}

    def set_mark(self, picture: str, mark: Mark, more: dict[str, Any]) -> None:
        """Says something else of a picture. `more` (size, part) is written where the line does not have it yet; keys
        that the line has beside them stay. Of several objects the first line remains. Saying again what the file said
        at first brings its own lines back."""
        at = self._at.get(picture, [])
        first = self._first.setdefault(picture, _First(self.mark(picture), at, [self._lines[i] for i in at]))
        self._marks[picture] = mark
        if mark == first.mark and first.at:
            for i, line in zip(first.at, first.lines, strict=True):
                self._lines[i] = line
            self._at[picture] = first.at
            return
        content = dict((self._content(at[0]) if at else None) or {"picture": picture})
        said: dict[str, Any] = {"label": None} if mark.empty else {}
        if mark.box is not None:
            said = {"label": mark.label, "box": [plain_number(v) for v in mark.box]}
        others = {key: value for key, value in content.items() if key not in {"picture", "label", "box"}}
        content = {"picture": content["picture"], **said, **more, **others}
        for extra in at[1:]:
            self._lines[extra] = None
        # a line that says no more than "there is this picture" is one that nobody needs
        keeps = mark != OPEN or set(content) - {"picture", "width", "height"}
        line = _Line(_dump(content), picture, content) if keeps else None
        if at:
            self._lines[at[0]] = line
        elif line is not None:
            self._lines.append(line)
        if line is None:
            self._at.pop(picture, None)
        else:
            self._at[picture] = [at[0] if at else len(self._lines) - 1]

    def add_class(self, name: str) -> None:
        """A further class, behind the others."""
        self.classes.append(name)

    def remove_class(self, name: str) -> None:
        """Takes a class away that no picture has."""
        self.classes.remove(name)

    def to_bytes(self) -> bytes:
        """The whole file, its first line naming the version and the classes."""
        header = self._content(self._header) if self._header >= 0 else None
        if header is None or header.get("classes") != self.classes:
            line = _Line(_dump({**(header or {"onebox": VERSION}), "classes": self.classes}))
            line.content = {**(header or {"onebox": VERSION}), "classes": list(self.classes)}
            if self._header >= 0:
                self._lines[self._header] = line
            else:
                self._lines.insert(0, line)
                self._header = 0
                self._at = {picture: [i + 1 for i in at] for picture, at in self._at.items()}
                self._first = {p: _First(f.mark, [i + 1 for i in f.at], f.lines) for p, f in self._first.items()}
        text = b"\n".join([*(line.raw for line in self._lines if line is not None), b""])
        return b"\xef\xbb\xbf" + text if self._byte_order_mark else text

    def _content(self, at: int) -> dict[str, Any] | None:
        line = self._lines[at]
        return line.content if line is not None else None

    def _read(self, number: int, raw: bytes, find: Callable[[str], str | None], where: str) -> None:
        line = _Line(raw)
        self._lines.append(line)
        if not raw.strip():
            return
        try:
            value: object = json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError:
            return self.damaged.append(Damage(number, "not UTF-8"))
        except (ValueError, RecursionError) as error:
            return self.damaged.append(Damage(number, f"not valid JSON ({str(error)[:80]})"))
        content = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if "onebox" in content and "picture" not in content:
            self._read_header(number, line, content, where)
            return
        name = content.get("picture")
        if not isinstance(name, str):
            return self.damaged.append(Damage(number, 'no JSON object with a "picture" text'))
        picture = find(name)
        if picture is None:
            return self.damaged.append(Damage(number, f"no such picture: {clean_label(name)[:80]}"))
        mark = _mark(content)
        if isinstance(mark, str):
            self.damaged.append(Damage(number, mark))
            mark = OPEN
        line.picture, line.content = picture, content
        if mark.label is not None:
            self._labels.add(mark.label)
        known = self._at.setdefault(picture, [])
        known.append(number - 1)
        if mark.box is not None and self._marks.get(picture, OPEN).box is not None:
            self.several[picture] = self.several.get(picture, 1) + 1
            if _area(mark.box) <= _area(self._marks[picture].box):
                return None
        if len(known) == 1 or mark != OPEN:
            self._marks[picture] = mark
        return None

    def _read_header(self, number: int, line: _Line, content: dict[str, Any], where: str) -> None:
        version = content["onebox"]
        if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
            raise AnnotationError(
                f"version {clean_label(version)[:24]} of this format is not known here (known: {VERSION})",
                where=f"{where}:{number}",
                fix="Update onebox.",
            )
        classes = content.get("classes")
        names = cast("list[object]", classes) if isinstance(classes, list) else []
        self.classes += [name for name in dict.fromkeys(map(clean_label, names)) if name and name not in self.classes]
        if self._header < 0:
            line.content, self._header = content, number - 1


def _mark(content: dict[str, Any]) -> Mark | str:
    """What a line says, or why that cannot be used."""
    label, box = content.get("label"), content.get("box")
    if label is None and box is None:
        return EMPTY if "label" in content else OPEN
    name = "" if isinstance(label, (dict, list, bool)) else clean_label(label)
    if not name:
        return "the label is no text"
    numbers = [to_number(v) for v in cast("list[object]", box)] if isinstance(box, list) else []
    if len(numbers) != 4 or not all(math.isfinite(v) for v in numbers):
        return "the box is not four finite numbers"
    x_min, y_min, x_max, y_max = numbers
    if not (x_min < x_max and y_min < y_max):
        return "the box has no area"
    return Mark(name, (x_min, y_min, x_max, y_max))


def _area(box: Corners | None) -> float:
    return 0.0 if box is None else (box[2] - box[0]) * (box[3] - box[1])


def _dump(content: dict[str, Any]) -> bytes:
    try:
        return json.dumps(content, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:  # a file name that is no UTF-8: escapes say the same
        return json.dumps(content).encode("ascii")
