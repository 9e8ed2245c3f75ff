"""What the doctor says: `Finding`, `Checkup`, and THE table of codes. Takes and gives plain values; a code, once
published, keeps its meaning. Examines nothing itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

#: error: cannot be used, or a training on it learns something wrong; warning: worth a look; info: good to know.
Level: TypeAlias = Literal["error", "warning", "info"]
LEVELS: tuple[Level, ...] = ("error", "warning", "info")
#: (x_min, y_min, x_max, y_max) in pixels.
Corners: TypeAlias = tuple[float, float, float, float]


#: The `fix` of every finding whose picture is not in the repaired copy at all: one that cannot be decoded, or a copy of
#: another one that is kept. `onebox.doctor.fix` goes by it.
LEFT_OUT = "The picture is left out."


class Kind(NamedTuple):
    """One row of the table: how grave it is, and one sentence that says what it means and what onebox does."""

    level: Level
    meaning: str


#: Every code that a finding can have.
CODES: dict[str, Kind] = {
    # annotations
    "unreadable-annotation": Kind("error", "An annotation, or a line of one, cannot be read; it is left out."),
    "unread-layout": Kind("info", "Annotations beside those that are read need an extra that is not installed."),
    "missing-picture": Kind("error", "An annotation speaks of a picture that is not there; it is left out."),
    "ambiguous-picture": Kind("error", "Several pictures fit the name in an annotation; it is left out."),
    "refused-name": Kind("error", "A picture's name leads out of the data folder; it is left out."),
    "no-class": Kind("error", "An object has no class, or one that is not listed; its picture is left out."),
    "class-contradicts-name": Kind("warning", "The class in the annotation is not the one in the picture's name."),
    "mixed-classes": Kind("warning", "One picture holds objects of several classes; the largest names it."),
    "several-objects": Kind("warning", "One picture holds several objects; the largest is kept."),
    "unlabelled": Kind("warning", "A picture without a label; no class and no box is learnt from it."),
    "no-object": Kind("info", "An annotation says that its picture holds no object; it teaches presence."),
    "no-annotation-file": Kind("info", "A picture that other annotations label has none in this layout."),
    "wrong-size": Kind("warning", "The size written in the annotation is not the picture's; onebox ignores it."),
    "wrong-depth": Kind("warning", "The number of channels written in the annotation is not the picture's."),
    "filename-other": Kind("warning", "The annotation's own name for its picture is that of another file."),
    "filename-extension": Kind("warning", "The annotation names its picture with another extension."),
    "filename-no-extension": Kind("info", "The annotation names its picture without an extension."),
    "repeated-id": Kind("warning", "Two rows speak of the same picture by the same number."),
    "missing-id": Kind("warning", "A series of numbered rows has a gap."),
    "layouts-disagree": Kind("warning", "Annotations side by side know other classes, or another number of them."),
    "unused-category": Kind("info", "A class is listed that no object has."),
    "unused-parent": Kind("info", "A class is listed that no object has, and that only heads the others."),
    "mixed-numbers": Kind("info", "Boxes mix whole and fractional numbers: they come from several tools."),
    "box-order": Kind("info", "The corners of the boxes stand in an order of their own, and are read in it."),
    "no-header": Kind("info", "A table without a header; its columns were told by their content."),
    "no-names": Kind("info", "The class ids have no names."),
    "same-stem": Kind("warning", "Two pictures of one folder differ in their extension only."),
    "upper-case-extension": Kind("info", "Extensions in capitals, which tools that look for .jpg overlook."),
    "repeated-names": Kind("info", "The same file names recur in several class folders."),
    # boxes
    "bad-box": Kind("error", "A box is not four finite numbers; its picture is left out."),
    "inverted-box": Kind("error", "A box ends before it begins; its picture is left out."),
    "empty-box": Kind("error", "A box has no area; its picture is left out."),
    "box-outside": Kind("error", "A box lies wholly or mostly outside its picture; the picture is left out."),
    "mixed-units": Kind("error", "A box in pixels among fractions, or the other way round."),
    "rotated-box": Kind("error", "A box fits the picture as stored, not as EXIF turns it upright."),
    "clipped-box": Kind("warning", "A box reaches over its picture's edge; it is cut there."),
    "sliver-box": Kind("warning", "A box is so thin that it can hardly hold an object."),
    "whole-picture-box": Kind("info", "A box covers the whole picture: often a stand-in for one never drawn."),
    "outlier-box": Kind("warning", "A box unlike all others of its class, in size, shape or place."),
    "inclusive-boxes": Kind("warning", "The boxes name the last pixel inside, not the edge: one pixel too small."),
    "one-based-boxes": Kind("info", "The boxes count pixels from 1: they lie one pixel too far right and down."),
    # classes
    "class-case": Kind("warning", "Class names that differ in upper and lower case only."),
    "class-space": Kind("warning", "Class names that differ in white space, hyphens or underscores only."),
    "class-spelling": Kind("warning", "Class names so alike that one may be a misspelling."),
    "tiny-class": Kind("warning", "A class of too few pictures to be learnt or judged."),
    "one-class": Kind("info", "All objects are of one class: there is nothing to tell apart."),
    # pictures: onebox.doctor.pictures
    "unreadable-picture": Kind("error", "A picture cannot be decoded; it is left out."),
    "empty-picture": Kind("error", "A picture's file has no bytes at all; it is left out."),
    "truncated-picture": Kind("error", "A picture's file ends before the picture does; it is left out."),
    "oversized-picture": Kind("error", "A picture claims more pixels than can be decoded safely; it is left out."),
    "mislabelled-picture": Kind("warning", "A file's content is not what its name says; onebox goes by the content."),
    "several-frames": Kind("warning", "An animation, or a file of several pages; only the first is used."),
    "tiny-picture": Kind("warning", "A picture of a few pixels: often an icon or a failed download."),
    "turned-picture": Kind("info", "EXIF turns the picture; onebox turns it upright and reads the boxes so."),
    "grey-picture": Kind("info", "A picture without colour in a set that has colour."),
    "cmyk-picture": Kind("info", "A picture in print colours, CMYK, in a set of others; it is converted."),
    "deep-picture": Kind("info", "More than 8 bits a channel, in a set of others; the picture is scaled to 8."),
    "transparent-picture": Kind("info", "A picture with transparency in a set of others; it is laid on white."),
    # likeness: onebox.doctor.likeness
    "leaked-copy": Kind("error", "A picture of val or test is a copy of one in train (or in val): it tests nothing."),
    "leaked-sibling": Kind("error", "Pictures made from one photo stand in different parts of the split."),
    "duplicate-classes": Kind("error", "Two copies of one picture have different classes: one is wrong."),
    "duplicate-boxes": Kind("warning", "Two copies of one picture have different boxes."),
    "exact-duplicate": Kind("warning", "The same picture, pixel by pixel, under another name."),
    "near-duplicate": Kind("warning", "A copy of another picture: re-encoded, resized, slightly cropped or mirrored."),
    "label-noise": Kind("info", "How far the labels of copies agree: a measured ceiling for any model on this set."),
    "augmented-siblings": Kind("info", "Several pictures were made from one photo; a split must keep them together."),
    # with --model: onebox.doctor.suspects
    "label-suspect": Kind("warning", "A model that never saw the picture says another class, and is sure of it."),
    "box-suspect": Kind("warning", "The box is not where a model that never saw the picture sees the object."),
}
#: Codes whose findings are a ranking: the surest first, wherever they are listed.
RANKED = ("label-suspect", "box-suspect")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or worth a look. `code` is a key of CODES; `picture` a path, None where it concerns
    none; `file` and `line` the annotation's place, None where there is none; `confidence` in 0-1; `fix` one short
    sentence saying what `--fix OUT` would write, "" where it would leave this to a person.

    For the page alone: `others`, the other pictures of a pair or cluster, and `other_box`, the box of the first of them
    (x_min, y_min, x_max, y_max) in pixels of `picture`, where the two can be laid over each other."""

    code: str
    picture: str | None
    file: str | None
    line: int | None
    message: str
    confidence: float = 1.0
    fix: str = ""
    others: tuple[str, ...] = ()
    other_box: Corners | None = None

    @property
    def level(self) -> Level:
        """How grave it is, by the table."""
        return CODES[self.code].level

    @property
    def place(self) -> str:
        """`file:line` where there is one, else the picture or nothing."""
        if self.file is not None:
            return f"{self.file}:{self.line}" if self.line is not None else self.file
        return self.picture or ""

    def to_dict(self) -> dict[str, Any]:
        """The keys of `onebox check --json`."""
        keys = ("code", "picture", "file", "line", "message", "confidence")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True, slots=True)
class Checkup:
    """The result: `pictures` met in all, `usable` ones with a label that decode, labelled pictures per class, and the
    findings, errors first, then by code and picture. `boxes`: path of every picture that was looked at -> its objects
    (class, box in pixels as written), for drawing; only these paths may be opened again."""

    layout: str
    pictures: int
    usable: int
    classes: dict[str, int]
    findings: tuple[Finding, ...]
    boxes: Mapping[str, tuple[tuple[str, Corners], ...]] = field(default_factory=dict[str, Any], repr=False)

    def counts(self) -> dict[str, int]:
        """Findings per code, sorted by code."""
        return dict(sorted(Counter(f.code for f in self.findings).items()))

    def by_code(self) -> dict[str, list[Finding]]:
        """The findings under their codes, errors first."""
        grouped: dict[str, list[Finding]] = {}
        for finding in self.findings:
            grouped.setdefault(finding.code, []).append(finding)
        return grouped

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: layout, pictures, usable, classes (name -> labelled pictures), findings."""
        return {
            "layout": self.layout,
            "pictures": self.pictures,
            "usable": self.usable,
            "classes": dict(self.classes),
            "findings": [finding.to_dict() for finding in self.findings],
        }


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then by code, picture and line, or by sureness where the code is one of RANKED; the same finding
    once."""

    def key(finding: Finding) -> tuple[int, str, float, str, str, int, str]:
        f = finding
        first = -f.confidence if f.code in RANKED else 0.0
        return (LEVELS.index(f.level), f.code, first, f.picture or "", f.file or "", f.line or 0, f.message)

    return tuple(sorted(dict.fromkeys(findings), key=key))


def split_place(where: str) -> tuple[str | None, int | None]:
    """ "file:12" -> ("file", 12); a file without a line, or nothing at all, as they are."""
    file, _, line = where.rpartition(":")
    if file and line.isdecimal():
        return file, int(line)
    return where or None, None


def finding_at(
    code: str, picture: str | None, where: str, message: str, *, confidence: float = 1.0, fix: str = ""
) -> Finding:
    """A finding from a `file:line`."""
    file, line = split_place(where)
    return Finding(code, picture, file, line, message, confidence, fix)


def codes_table() -> str:
    """CODES as the Markdown table of docs/checking.md."""
    rows = [f"| `{code}` | {kind.level} | {kind.meaning} |" for code, kind in CODES.items()]
    return "\n".join(["| code | level | what it means |", "|---|---|---|", *rows, ""])
