"""The raw records every reader gives and the shared assembly judges: objects, pictures, a whole reading. Takes what a
file says (text or numbers of any kind) and keeps it with its `file:line`; never raises for a bad value and never
decides whether a picture is used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

#: Stable codes, also those of the doctor's findings.
BAD_BOX = "bad-box"
MISSING_PICTURE = "missing-picture"
AMBIGUOUS_PICTURE = "ambiguous-picture"
REFUSED_NAME = "refused-name"
UNREADABLE_ANNOTATION = "unreadable-annotation"
UNREADABLE_PICTURE = "unreadable-picture"
NO_CLASS = "no-class"
SEVERAL_OBJECTS = "several-objects"
CLIPPED_BOX = "clipped-box"
NO_HEADER = "no-header"
NO_NAMES = "no-names"
UNUSED_PARENT = "unused-parent"
BOX_ORDER = "box-order"
REPEATED_ID = "repeated-id"
MISSING_ID = "missing-id"
INCLUSIVE_BOXES = "inclusive-boxes"
ONE_BASED_BOXES = "one-based-boxes"

_NAN = float("nan")
#: The box of an object that has a problem anyway.
NO_BOX = (_NAN, _NAN, _NAN, _NAN)
_WHITE_OR_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class Problem(NamedTuple):
    """Why something cannot be used: a stable code and one sentence without a full stop."""

    code: str
    reason: str


class Skipped(NamedTuple):
    """Something about one picture that a person should know: `path` of the picture (or its name as written, where
    there is no such picture), `where` as `file:line`, `reason`, and a stable `code`."""

    path: str
    where: str
    reason: str
    code: str = BAD_BOX

    def __str__(self) -> str:
        """One line: where it is written, which picture, why; nothing twice."""
        name = PurePath(self.path).name
        named = name in self.where or name in self.reason
        # names may hold anything, line breaks included
        return clean_label(": ".join(part for part in (self.where, "" if named else name, self.reason) if part))


@dataclass(slots=True)
class RawObject:
    """One object as written: `box` is (x_min, y_min, x_max, y_max), in the unit of its picture record, not yet judged.
    `problem` is set where the reader already knows that it cannot be used."""

    label: str
    box: tuple[float, float, float, float]
    where: str
    problem: Problem | None = None


class Declared(NamedTuple):
    """What an annotation claims of its picture: file name, width and height in pixels, number of channels; None where
    it claims nothing. Never trusted in reading; the doctor compares it with the picture."""

    name: str | None = None
    width: float | None = None
    height: float | None = None
    depth: float | None = None


#: Of layouts, or pictures, that claim nothing.
NOTHING_DECLARED = Declared()


@dataclass(slots=True)
class RawPicture:
    """One picture as an annotation speaks of it.

    `name` is the reference as written (for messages); `path` the picture found for it, relative to the root with
    forward slashes, or None with `problem` saying why; `is_01` means that the boxes are fractions of the picture;
    `declared` is what the annotation claims of the picture beyond its name.
    """

    name: str
    path: str | None
    where: str
    objects: list[RawObject] = field(default_factory=list[RawObject])
    split: str | None = None
    is_01: bool = False
    problem: Problem | None = None
    declared: Declared = NOTHING_DECLARED


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a caller may want of a reader. `class_names` name bare ids where the data do not; `boxes` chooses among
    kinds of boxes that one data set offers side by side ("head" or "body" of the Oxford-IIIT pets), None: the layout's
    own choice."""

    class_names: tuple[str, ...] | None = None
    boxes: str | None = None


#: No wishes.
DEFAULT_OPTIONS = ReadOptions()


@dataclass(slots=True)
class Reading:
    """All that one reader found.

    `class_order` fixes the order of the classes where the layout has one (empty: sorted); classes of it that no
    object uses are dropped. `list_unlabelled` asks for the other pictures of the same folders as unlabelled samples.
    `remarks` are for the doctor alone: what is odd about the files although everything could be read; their codes are
    rows of `onebox.doctor.findings.CODES`, their `path` is the picture, or whatever else they are about.
    """

    pictures: list[RawPicture] = field(default_factory=list[RawPicture])
    class_order: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list[str])
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    list_unlabelled: bool = True
    remarks: list[Skipped] = field(default_factory=list[Skipped])


def to_number(value: object) -> float:
    """A float, finite or not, from a number or its text; NaN where it is neither (so that the box is refused)."""
    if isinstance(value, bool) or value is None:
        return _NAN
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    if isinstance(value, str):
        text = value.strip()
        # float() also takes "1_0" and other digits than 0-9: nobody means those in an annotation
        if not text.isascii() or "_" in text:
            return _NAN
        try:
            return float(text)
        except ValueError:
            return _NAN
    return _NAN


def raw_object(label: object, values: Sequence[object], where: str, *, order: str = "xyxy") -> RawObject:
    """An object from four values as written, any type. `order` is "xyxy" (corners), "xywh" (top left corner and size)
    or "cxcywh" (centre and size). Values that are no finite numbers become a `bad-box` problem."""
    name = clean_label(label)
    box = corners_of(values, order)
    if box is None:
        shown = ", ".join(_shorten(value) for value in values) or "nothing"
        return RawObject(name, NO_BOX, where, Problem(BAD_BOX, f"the box is not four finite numbers: {shown}"))
    return RawObject(name, box, where, None if name else Problem(NO_CLASS, "an object without a class"))


def corners_of(values: Sequence[object], order: str = "xyxy") -> tuple[float, float, float, float] | None:
    """(x_min, y_min, x_max, y_max) from four values as written, in the orders of `raw_object`; None where they are not
    four finite numbers."""
    if len(values) != 4:
        return None
    a, b, c, d = values
    if not (type(a) is float and type(b) is float and type(c) is float and type(d) is float):
        a, b, c, d = map(to_number, values)
    # not finite where one of them is not, or where they are so large that it takes a closer look
    if not math.isfinite(a + b + c + d) and not all(map(math.isfinite, (a, b, c, d))):
        return None
    if order == "xywh":
        return (a, b, a + c, b + d)
    if order == "cxcywh":
        return (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
    return (a, b, c, d)


def clean_label(label: object) -> str:
    """A class name fit to be printed: one line, no control characters, no lone surrogates. "" where there is none."""
    if label is None:
        return ""
    if isinstance(label, str) and label.isalnum():
        return label  # nothing to clean in most of them
    text = _WHITE_OR_CONTROL.sub(" ", str(label)).strip()
    return text.encode("utf-8", "replace").decode("utf-8")


def _shorten(value: object) -> str:
    text = clean_label(value) or "nothing"
    return text if len(text) <= 24 else text[:21] + "..."
