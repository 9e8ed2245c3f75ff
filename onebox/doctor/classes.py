"""Findings from class names and their numbers: names that a person would take for one, classes too small, one class
only. Takes counts per name; opens nothing.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations

from onebox.doctor.entries import Source
from onebox.doctor.findings import Finding, finding_at

#: A class of fewer labelled pictures can be neither learnt nor judged.
FEWEST_PER_CLASS = 5
#: Names shorter than this differ by a letter for good reason: cat and car, "A" and "B".
_SHORTEST_WORD = 5
#: A misspelling is rare beside the right name: at most this share of it.
_RARE = 0.2
#: Pairs of names compared at most, so that a thousand classes take no minutes.
_MOST_NAMES = 2000
_MARKS = re.compile(r"[\s_-]+")
_FIGURES = re.compile(r"\d+")


def of_classes(pictures: Mapping[str, int], source: Source) -> list[Finding]:
    """All findings of this kind. `pictures` is usable labelled pictures per class; `source` says what else is written,
    as the class of an object that is not the largest of its picture."""
    objects = Counter(source.labels())
    examples: dict[str, str] = {}
    for entry in source.entries:
        for thing in entry.things:
            examples.setdefault(thing.label, thing.where)
    # a class that is another's misspelling is told as that
    merged = merges(objects)
    return [*_alike(objects, examples), *_small({n: c for n, c in pictures.items() if n not in merged}, examples)]


def merges(counts: Mapping[str, int]) -> dict[str, str]:
    """Which names are surely one and the same: name -> the most frequent spelling, for those that differ in case,
    white space, hyphens or underscores only."""
    found: dict[str, str] = {}
    for group in _same_key(counts).values():
        best = max(group, key=lambda name: (counts[name], name))
        found.update((name, best) for name in group if name != best)
    return found


def _same_key(counts: Mapping[str, int]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        groups[_key(name)].append(name)
    # "a" and "A" are two letters, not two spellings
    return {key: group for key, group in groups.items() if len(group) > 1 and len(key) > 1}


def _alike(counts: Mapping[str, int], examples: Mapping[str, str]) -> Iterator[Finding]:
    for rare, best in sorted(merges(counts).items()):
        code = "class-case" if rare.casefold() == best.casefold() else "class-space"
        yield _pair(code, rare, best, counts, examples, 0.95, f"Both are written {best!r}.")
    keys = sorted({_key(name): name for name in counts}.items())[:_MOST_NAMES]
    by_length: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for key, name in keys:
        by_length[len(key)].append((key, name))
    for length, group in sorted(by_length.items()):
        longer = by_length.get(length + 1, []) + by_length.get(length + 2, [])
        pairs = [*combinations(group, 2), *((a, b) for a in group for b in longer)]
        for (key_a, a), (key_b, b) in pairs:
            confidence = _same_word(key_a, key_b, counts[a], counts[b])
            if confidence:
                rare, best = sorted((a, b), key=lambda name: (counts[name], name))
                yield _pair("class-spelling", rare, best, counts, examples, confidence, "")


def _same_word(a: str, b: str, count_a: int, count_b: int) -> float:
    """How sure it is that two names are one word: a plural, or a slip of the keyboard in a rare one. 0: they are
    not."""
    short, long = sorted((a, b), key=len)
    if len(short) > 2 and long in {short + "s", short + "es", short[:-1] + "ies" if short.endswith("y") else ""}:
        return 0.8
    if len(short) < _SHORTEST_WORD or _FIGURES.findall(a) != _FIGURES.findall(b):
        return 0.0
    if min(count_a, count_b) > _RARE * max(count_a, count_b):
        return 0.0
    return 0.7 if one_slip(a, b) else 0.0


def one_slip(a: str, b: str) -> bool:
    """Whether one letter left out, added, changed or swapped with its neighbour makes `a` of `b`."""
    short, long = sorted((a, b), key=len)
    if len(long) - len(short) > 1 or a == b:
        return False
    start = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    if len(long) > len(short):
        return short[start:] == long[start + 1 :]
    if short[start + 1 :] == long[start + 1 :]:
        return True
    swapped = short[start : start + 2][::-1]
    return swapped == long[start : start + 2] and short[start + 2 :] == long[start + 2 :]


def _small(counts: Mapping[str, int], examples: Mapping[str, str]) -> Iterator[Finding]:
    for name, count in counts.items():
        if count < FEWEST_PER_CLASS:
            message = f"class {name!r} has {count} labelled picture{'s' if count != 1 else ''}"
            yield finding_at("tiny-class", None, examples.get(name, ""), message)
    if len(counts) == 1:
        yield finding_at("one-class", None, "", f"all objects are of the class {next(iter(counts))!r}")


def _pair(
    code: str,
    rare: str,
    best: str,
    counts: Mapping[str, int],
    examples: Mapping[str, str],
    confidence: float,
    fix: str,
) -> Finding:
    message = f"{rare!r} ({counts[rare]} objects) beside {best!r} ({counts[best]})"
    return finding_at(code, None, examples.get(rare, ""), message, confidence=confidence, fix=fix)


def _key(name: str) -> str:
    return _MARKS.sub("", name).casefold()
