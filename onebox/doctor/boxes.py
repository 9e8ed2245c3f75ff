"""Findings from boxes and the sizes of their pictures, one box at a time: where it lies, how it is shaped, in which
unit it is written, whether it follows the picture's EXIF turn. Takes sources and facts; opens nothing. What needs the
other boxes of the set is in box_statistics.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from onebox.doctor.box_statistics import Measured, off_by_one, outliers
from onebox.doctor.entries import Entry, Source, Thing
from onebox.doctor.findings import Finding, finding_at
from onebox.doctor.pictures import PictureFacts
from onebox.formats.assembly import judge_box
from onebox.formats.records import BAD_BOX, Problem
from onebox.types import ImageSize

#: A pixel box all within this is a box in fractions: no one draws a box of a pixel in the top left corner.
_LARGEST_01 = 1.0
#: A fraction beyond this is a pixel; between the two it may just reach over the edge.
_SMALLEST_PIXEL = 2.0
#: A box thinner than this share of its picture's side, or than this many pixels, is a sliver ...
_SLIVER_SHARE, _SLIVER_PIXELS = 0.015, 3.0
#: ... unless objects are that thin in this set: the usual thickness must be this many times as much.
_SLIVER_FACTOR = 4.0
#: Edges this close to the picture's are on it.
_AT_EDGE_SHARE, _AT_EDGE_PIXELS = 0.005, 1.0
_CLIP = "The box is cut at the picture's edge."
_UNIT = "The box is brought to the unit of the others."


def of_boxes(sources: Sequence[Source], facts: Mapping[str, PictureFacts]) -> list[Finding]:
    """All findings of this kind. What several layouts say of one picture is told once, by the first."""
    findings: dict[object, Finding] = {}
    used = {entry.path for entry in sources[0].labelled()}
    for source in sources:
        if source is not sources[0] and not source.speaks_of(used):
            continue
        main = source is sources[0]
        for finding in _of_source(source, facts, main=main):
            if not main and finding.picture is not None and finding.picture not in used:
                continue
            # two layouts may be made of the same files, and say the same of the whole set
            findings.setdefault((finding.code, finding.picture or finding.message), finding)
    return list(findings.values())


def _of_source(source: Source, facts: Mapping[str, PictureFacts], *, main: bool) -> Iterator[Finding]:
    """`main`: of the layout whose boxes are used. What is only odd about the boxes of another is nobody's worry."""
    unturned = _boxes_ignore_exif(source, facts)
    sound: list[Measured] = []
    for entry in source.labelled():
        fact = facts.get(entry.path or "")
        if fact is None or fact.upright is None:
            continue
        turned = _rotated(entry, fact, unturned)
        if turned is not None:
            yield turned
            continue
        for thing in entry.things:
            finding = _of_box(entry, thing, fact.upright)
            if finding is not None:
                yield finding
            if thing.problem is None and (finding is None or finding.code == "clipped-box"):
                sound.append(Measured.of(entry, thing, fact.upright))
    if main:
        yield from _by_shape(sound)
    yield from off_by_one(source, sound)


def _of_box(entry: Entry, thing: Thing, size: ImageSize) -> Finding | None:
    """What is wrong with where this box lies, or None."""
    if not thing.finite:
        return None  # told with what the annotations say
    where, path = thing.where, entry.path
    if thing.problem is not None and thing.problem.code != BAD_BOX:
        return None
    units = other_unit(entry, thing, size)
    if units is not None:
        return finding_at("mixed-units", path, where, units, fix=_UNIT)
    if thing.problem is not None:
        return finding_at(BAD_BOX, path, where, thing.problem.reason)
    x_min, y_min, x_max, y_max = box = entry.pixels(thing, size)
    judged = judge_box(box, size)
    shown = f"({x_min:g}, {y_min:g}, {x_max:g}, {y_max:g})"
    if x_max < x_min or y_max < y_min:
        straight = (min(x_min, x_max), min(y_min, y_max), max(x_min, x_max), max(y_min, y_max))
        fits = not isinstance(judge_box(straight, size), Problem)
        fix = "The corners are put in order." if fits else ""
        return finding_at("inverted-box", path, where, f"the box ends before it begins: {shown}", fix=fix)
    if x_max == x_min or y_max == y_min:
        side = "width" if x_max == x_min else "height"
        return finding_at("empty-box", path, where, f"the box has no {side}: {shown}")
    if isinstance(judged, Problem):
        code = "box-outside" if judged.code == BAD_BOX else judged.code
        return finding_at(code, path, where, judged.reason)
    if judged[1]:
        over = max(-x_min, -y_min, x_max - size.width, y_max - size.height)
        message = f"the box reaches {over:g} pixels over the edge of the picture ({size.width}x{size.height}): {shown}"
        return finding_at("clipped-box", path, where, message, fix=_CLIP)
    return None


def other_unit(entry: Entry, thing: Thing, size: ImageSize) -> str | None:
    """Whether a box is in pixels among fractions, or the other way round; what to say of it, or None."""
    numbers = thing.box
    if entry.is_01:
        if max(numbers) > _SMALLEST_PIXEL and not isinstance(judge_box(numbers, size), Problem):
            return f"pixels among fractions: {_shown(numbers)}"
        return None
    fractional = any(v % 1 for v in numbers)
    if fractional and min(numbers) >= 0 and max(numbers) <= _LARGEST_01 and min(size) > _SMALLEST_PIXEL:
        return f"fractions among pixels: {_shown(numbers)}"
    return None


def _shown(numbers: Sequence[float]) -> str:
    return f"({', '.join(f'{v:g}' for v in numbers)})"


def _rotated(entry: Entry, fact: PictureFacts, unturned: bool) -> Finding | None:
    """A picture that EXIF lays on its side, with boxes drawn on it as it is stored."""
    if fact.stored is None or fact.upright is None or fact.stored == fact.upright:
        return None
    inside_stored = _all_inside(entry, fact.stored)
    inside_upright = _all_inside(entry, fact.upright)
    declared = (entry.declared.width, entry.declared.height)
    sure = inside_stored and not inside_upright
    if not sure and not (inside_stored and (declared == tuple(fact.stored) or unturned)):
        return None
    told = "the annotation gives the stored size" if declared == tuple(fact.stored) else "others of this set do so"
    reason = "the boxes fit only the picture as stored" if sure else f"{told}, and these boxes may as well"
    message = (
        f"EXIF turns this picture ({fact.stored.width}x{fact.stored.height} stored, "
        f"{fact.upright.width}x{fact.upright.height} upright); {reason}"
    )
    where = entry.things[0].where
    fix = "The boxes are turned with the picture." if sure else ""
    return finding_at("rotated-box", entry.path, where, message, confidence=0.95 if sure else 0.7, fix=fix)


def _boxes_ignore_exif(source: Source, facts: Mapping[str, PictureFacts]) -> bool:
    """Whether boxes of pictures on their side fit these as stored, always, and upright not always."""
    fits_stored = fits_upright = turned = 0
    for entry in source.labelled():
        fact = facts.get(entry.path or "")
        if fact is not None and fact.stored is not None and fact.upright is not None and fact.stored != fact.upright:
            turned += 1
            fits_stored += _all_inside(entry, fact.stored)
            fits_upright += _all_inside(entry, fact.upright)
    return 0 < turned == fits_stored > fits_upright


def _all_inside(entry: Entry, size: ImageSize) -> bool:
    """Whether all boxes fit; always so for fractions, which fit any size."""
    if entry.is_01:
        return True
    right, bottom = size.width + _AT_EDGE_PIXELS, size.height + _AT_EDGE_PIXELS
    return all(t.finite and max(t.box[0::2]) <= right and max(t.box[1::2]) <= bottom for t in entry.things)


def _by_shape(sound: Sequence[Measured]) -> Iterator[Finding]:
    """Slivers, boxes of the whole picture, and outliers among the others."""
    if not sound:
        return
    usual = median(one.thinness for one in sound)
    others: list[Measured] = []
    for one in sound:
        x_min, y_min, x_max, y_max = one.box
        width, height = x_max - x_min, y_max - y_min
        thin = one.thinness < _SLIVER_SHARE or min(width, height) < _SLIVER_PIXELS
        if thin and one.thinness * _SLIVER_FACTOR < usual:
            edge = one.touches_edge
            message = f"a sliver of {width:g}x{height:g} pixels{' at the edge of the picture' if edge else ''}"
            yield finding_at("sliver-box", one.path, one.where, message, confidence=0.95 if edge else 0.8)
        elif _is_whole(one):
            message = f"the box covers the whole picture ({one.size.width}x{one.size.height})"
            yield finding_at("whole-picture-box", one.path, one.where, message, confidence=0.5)
        else:
            others.append(one)
    # of several objects only the largest is used, and the small ones beside it are unlike it by nature
    largest: dict[str, Measured] = {}
    for one in others:
        known = largest.get(one.path)
        largest[one.path] = one if known is None or one.area > known.area else known
    yield from outliers(list(largest.values()))


def _is_whole(one: Measured) -> bool:
    x_min, y_min, x_max, y_max = one.box
    width, height = one.size
    slack_x = max(_AT_EDGE_SHARE * width, min(_AT_EDGE_PIXELS, _SLIVER_SHARE * width))
    slack_y = max(_AT_EDGE_SHARE * height, min(_AT_EDGE_PIXELS, _SLIVER_SHARE * height))
    return x_min <= slack_x and y_min <= slack_y and x_max >= width - slack_x and y_max >= height - slack_y
