"""Findings from what annotations say, of every layout found: what could not be read, what is there too often or not at
all, and layouts side by side that contradict one another. Takes sources and the facts of the pictures; opens nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from onebox.doctor.declared import of_declared
from onebox.doctor.entries import Entry, Source
from onebox.doctor.findings import CODES, Finding, finding_at
from onebox.doctor.naming import of_naming
from onebox.doctor.pictures import PictureFacts
from onebox.errors import MissingExtraError
from onebox.formats.records import BAD_BOX, Problem
from onebox.formats.tree import enumerate_some

#: Whole numbers and fractions are a mixture where each kind has more than this share.
_LEAST_SHARE_OF_A_KIND = 0.05
_ROUNDING = 1e-3
_LARGEST = "Only the largest object is written."
#: Below this share of annotated pictures, a folder is not one that the layout means to cover.
_LEAST_SHARE_ANNOTATED = 0.2


def of_annotations(sources: Sequence[Source], facts: Mapping[str, PictureFacts]) -> list[Finding]:
    """All findings of this kind. What several layouts say of one picture is told once, by the first."""
    findings: dict[object, Finding] = {}
    used = {entry.path for entry in sources[0].labelled()}
    for source in sources:
        told = list(_unreadable(source))
        # of pictures that the first layout does not use, the others have nothing to warn of
        if source is sources[0] or source.speaks_of(used):
            told += [*_of_objects(source), *of_declared(source, facts), *of_naming(source), *_of_set(source)]
        for finding in told:
            if source is sources[0] or finding.picture is None or finding.picture in used:
                findings.setdefault((finding.code, finding.picture) if finding.picture else finding, finding)
    found = list(findings.values())
    for other in sources[1:]:
        found.extend(_disagreement(sources[0], other))
        found.extend(_without_file(other, used, facts))
    return found


def _unreadable(source: Source) -> Iterator[Finding]:
    """What the reader itself could not use: whole files, names of pictures, objects."""
    if source.problem is not None:
        code = "unread-layout" if isinstance(source.problem, MissingExtraError) else "unreadable-annotation"
        where = source.problem.where or (source.files[0] if source.files else "")
        message = ". ".join(filter(None, (f"{source.layout}: {source.problem.what}", source.problem.fix)))
        yield finding_at(code, None, where, message)
    if source.reading is not None:
        for entry in source.reading.skipped:
            yield finding_at(entry.code, None, entry.where, entry.reason)
    for entry in source.entries:
        if entry.path is None and entry.problem is not None:
            yield finding_at(entry.problem.code, entry.name, entry.where, entry.problem.reason)
        for thing in entry.things:
            # where there are four numbers, boxes.py says more
            if thing.problem is not None and entry.path is not None and not (thing.finite and _is_box(thing.problem)):
                yield finding_at(thing.problem.code, entry.path, thing.where, thing.problem.reason)


def _is_box(problem: Problem) -> bool:
    return problem.code == BAD_BOX


def _of_objects(source: Source) -> Iterator[Finding]:
    """Pictures of several objects, and of several classes."""
    for entry in source.labelled():
        count = len(entry.things)
        if count < 2:
            continue
        largest = max(entry.things, key=lambda t: (t.box[2] - t.box[0]) * (t.box[3] - t.box[1]) if t.finite else 0.0)
        yield finding_at(
            "several-objects", entry.path, largest.where, f"{count} objects, the largest kept", fix=_LARGEST
        )
        classes = Counter(t.label for t in entry.things)
        if len(classes) > 1:
            told = ", ".join(f"{n} {name}" for name, n in sorted(classes.items()))
            yield finding_at("mixed-classes", entry.path, largest.where, f"objects of {len(classes)} classes: {told}")


def _of_set(source: Source) -> Iterator[Finding]:
    """Findings about a whole layout: listed classes that nothing uses, what the reader remarked, kinds of numbers."""
    reading = source.reading
    if reading is None:
        return
    first = source.files[0] if source.files else ""
    for remark in reading.remarks:
        if remark.code in CODES:
            yield finding_at(remark.code, None, remark.where, remark.reason)
    told = {remark.path for remark in reading.remarks if remark.code == "unused-parent"}
    used = set(source.labels())
    for name in reading.class_order:
        if name not in used and name not in told:
            yield finding_at("unused-category", None, first, f"no object is of the class {name!r}")
    if not any(entry.is_01 for entry in source.entries):
        yield from _mixed_numbers(source, first)


def _mixed_numbers(source: Source, where: str) -> Iterator[Finding]:
    """Told by the top left corners and sizes, whole to a thousandth: a file may write 12 as 12.0."""
    whole = total = 0
    for entry in source.labelled():
        for thing in entry.things:
            if thing.finite:
                x_min, y_min, x_max, y_max = thing.box
                total += 4
                whole += sum(abs(v - round(v)) < _ROUNDING for v in (x_min, y_min, x_max - x_min, y_max - y_min))
    if min(whole, total - whole) > _LEAST_SHARE_OF_A_KIND * total:
        share = f"{whole / total:.0%}"
        yield finding_at("mixed-numbers", None, where, f"{share} of the numbers are whole, the others are not")


def _disagreement(first: Source, other: Source) -> Iterator[Finding]:
    """Whether two layouts call the objects of the same pictures by different classes. Bare ids have no names to
    compare: there the number of classes counts."""
    ours, theirs = _classes_by_picture(first.entries), _classes_by_picture(other.entries)
    shared = ours.keys() & theirs.keys()
    here = {name for path in shared for name in ours[path]}
    there = {name for path in shared for name in theirs[path]}
    if not here or not there:
        return
    bare = all(name.isdecimal() for name in there) != all(name.isdecimal() for name in here)
    same = len(here) == len(there) if bare else {n.casefold() for n in here} == {n.casefold() for n in there}
    if not same:
        where = other.files[0] if other.files else ""
        message = (
            f"{other.layout} knows {_listed(there)}; {first.layout}, which is read, knows {_listed(here)} "
            f"of the same {len(shared)} pictures"
        )
        yield finding_at("layouts-disagree", None, where, message)


def _classes_by_picture(entries: Iterable[Entry]) -> dict[str, set[str]]:
    return {e.path: {t.label for t in e.things if t.label} for e in entries if e.path is not None and e.things}


def _listed(names: set[str]) -> str:
    noun = "class" if len(names) == 1 else "classes"
    return f"{len(names)} {noun} ({enumerate_some(sorted(names), 5)})"


def _without_file(source: Source, used: set[str | None], facts: Mapping[str, PictureFacts]) -> Iterator[Finding]:
    """Pictures beside annotated ones that have no file of their own, in a layout of one file per picture."""
    annotated = {entry.path for entry in source.entries if entry.path is not None}
    files = {entry.where.rpartition(":")[0] for entry in source.entries}
    if not annotated & used or len(files) < len(source.entries):
        return
    all_of, some_of = Counter(map(os.path.dirname, facts)), Counter(map(os.path.dirname, annotated))
    for path in facts:
        folder = os.path.dirname(path)  # noqa: PTH120 - paths are the strings the user gave
        if path not in annotated and some_of[folder] >= _LEAST_SHARE_ANNOTATED * all_of[folder]:
            yield finding_at("no-annotation-file", path, "", f"no {source.layout} annotation of its own")
