"""What annotations claim of their pictures (file name, size, number of channels), held against the pictures. Takes a
source and the facts of the pictures; gives findings. onebox itself uses none of these claims; other tools do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath, PurePosixPath

from onebox.doctor.entries import Entry, Source
from onebox.doctor.findings import Finding, finding_at
from onebox.doctor.pictures import PictureFacts
from onebox.formats.pictures import is_picture

#: Layouts write whole pixels; a difference below one is rounding.
_ROUNDING = 0.5
#: Channels by Pillow's mode. A palette picture stores one number a pixel and shows three colours: either is right.
_CHANNELS = {
    "1": {1},
    "L": {1},
    "I": {1},
    "I;16": {1},
    "F": {1},
    "LA": {2, 1},
    "P": {1, 3},
    "RGB": {3},
    "YCbCr": {3},
    "RGBA": {4},
    "CMYK": {4, 3},
}


def of_declared(source: Source, facts: Mapping[str, PictureFacts]) -> Iterator[Finding]:
    """Wrong sizes, wrong depths, other file names."""
    for entry in source.entries:
        if entry.path is None:
            continue
        yield from _name(entry, entry.path)
        fact = facts.get(entry.path)
        if fact is not None and fact.problem is None:
            yield from _size(entry, fact)
            yield from _depth(entry, fact)


def _size(entry: Entry, fact: PictureFacts) -> Iterator[Finding]:
    width, height = entry.declared.width, entry.declared.height
    if width is None or height is None or fact.upright is None or fact.stored is None:
        return
    for right in (fact.upright, fact.stored):  # both are honest sizes of a picture with an EXIF turn
        if abs(width - right.width) <= _ROUNDING and abs(height - right.height) <= _ROUNDING:
            return
    message = f"the annotation says {width:g}x{height:g}, the picture is {fact.upright.width}x{fact.upright.height}"
    yield finding_at("wrong-size", entry.path, entry.where, message, fix="The picture's own size is written.")


def _depth(entry: Entry, fact: PictureFacts) -> Iterator[Finding]:
    depth = entry.declared.depth
    right = _CHANNELS.get(fact.mode)
    # 3 for a transparent picture is what nearly all tools write, and how they read it: no mistake a person would see
    if depth is None or right is None or depth in right or (depth == 3 and fact.mode in {"RGBA", "LA"}):
        return
    message = f"the annotation says depth {depth:g}, the picture has {max(right)} channels ({fact.mode})"
    yield finding_at("wrong-depth", entry.path, entry.where, message, fix="The picture's own depth is written.")


def _name(entry: Entry, path: str) -> Iterator[Finding]:
    """The file name written inside an annotation that has found its picture by another name."""
    name = PurePosixPath((entry.declared.name or "").replace("\\", "/")).name
    own = PurePath(path).name
    if not name or name.casefold() == own.casefold():
        return
    fix = "The picture's own name is written."
    if name.casefold() == PurePath(own).stem.casefold():
        message = f"the annotation calls its picture {name}, without an extension"
        yield finding_at("filename-no-extension", path, entry.where, message, fix=fix)
    elif is_picture(name) and PurePath(name).stem.casefold() == PurePath(own).stem.casefold():
        message = f"the annotation calls its picture {name}, which is {own}"
        yield finding_at("filename-extension", path, entry.where, message, fix=fix)
    else:
        message = f"the annotation of {own} names another file: {name}"
        yield finding_at("filename-other", path, entry.where, message, fix=fix)
