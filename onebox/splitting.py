"""Which picture goes to which part. Takes the class, the name and the group of each picture; gives parts in which every
class has its share and no group is torn, the same for the same seed. Knows how copies of one photo are named; opens no
file and moves none.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from onebox.errors import ConfigError

#: One group per picture; None: a group of its own.
Groups = Sequence[Hashable | None]

# What exporters and augmenters put at the end of a source photo's name: these say "made from that photo".
_MADE_FROM = (
    re.compile(r"[._-](?:jpe?g|png|bmp|webp|gif|tiff?)\.rf\.[0-9a-f]{16,64}$", re.IGNORECASE),
    re.compile(r"\.rf\.[0-9a-f]{16,64}$", re.IGNORECASE),
    re.compile(r"[ ._-]+(?:aug|augmented|augmentation)[ ._-]*\d*$", re.IGNORECASE),
)
# What file managers and browsers put there: often a copy, sometimes another picture that was called the same.
_CALLED_LIKE = (
    re.compile(r"(?: - |[ _-])copy(?:[ _-]?\(?\d{1,3}\)?)?$", re.IGNORECASE),
    re.compile(r" ?\(\d{1,3}\)$"),
)


def source_name(name: str, *, sure: bool = False) -> str:
    """The name of the photo that a picture was made from, as far as its own file name tells: without extension and
    without what exporters, augmenters and file managers add (`A0_jpg.rf.292a...41.jpg`, `Cars7_aug2.jpg`,
    `x copy 2.png`, `x (1).jpg`). `sure` leaves out the last two, which other pictures have as well."""
    stem = name.rpartition(".")[0] or name
    rules = _MADE_FROM if sure else (*_MADE_FROM, *_CALLED_LIKE)
    while True:
        shorter = next((cut for rule in rules if (cut := rule.sub("", stem)) not in {stem, ""}), None)
        if shorter is None:
            return stem
        stem = shorter


def name_groups(paths: Sequence[str], *, sure: bool = False) -> list[str | None]:
    """Groups by `source_name`: pictures whose names say that they were made from the photo of the same name.

    Folders count only where the same plain name recurs in several of them (class folders number their pictures alike);
    a picture whose own name says nothing joins the group of its source's name, if there is one.
    """
    split = [path.rpartition("/")[::2] for path in paths]
    stems = [base.rpartition(".")[0] or base for _, base in split]
    sources = [source_name(base, sure=sure) for _, base in split]
    marked = {source for stem, source in zip(stems, sources, strict=True) if stem != source}
    folders: dict[str, set[str]] = defaultdict(set)
    for (folder, _), stem, source in zip(split, stems, sources, strict=True):
        if stem == source:
            folders[source].add(folder)
    groups: list[str | None] = []
    for (folder, _), source in zip(split, sources, strict=True):
        if source not in marked:
            groups.append(None)
        else:
            groups.append(f"{folder}/{source}" if len(folders[source]) > 1 else source)
    return groups


def pattern_groups(paths: Sequence[str], pattern: str) -> list[str | None]:
    """Groups by a regular expression searched in each path: its first group, or all that it matches. Raises ConfigError
    where it is none, or fits no path."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"not a regular expression: {pattern} ({error})") from None
    groups: list[str | None] = []
    for path in paths:
        match = compiled.search(path)
        groups.append(None if match is None else match.group(1 if compiled.groups else 0))
    if not any(group is not None for group in groups):
        raise ConfigError(f"the expression {pattern} fits no picture's path", fix=f"A path looks like {paths[0]}.")
    return groups


def merge_groups(count: int, *kinds: Groups) -> list[int]:
    """One grouping of `count` pictures from several: who is together in any of them is together. Each group is called
    by its first picture's number."""
    leader = list(range(count))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for groups in kinds:
        first: dict[Hashable, int] = {}
        for i, group in enumerate(groups):
            if group is not None:
                low, high = sorted((find(first.setdefault(group, i)), find(i)))
                leader[high] = low
    return [find(i) for i in range(count)]


def read_fractions(fractions: float | Sequence[float]) -> tuple[float, ...]:
    """A single share means (share, rest); several add up to 1. Raises ConfigError otherwise."""
    if isinstance(fractions, (int, float)):
        if not 0 < fractions < 1:
            raise ConfigError(f"a split must lie between 0 and 1, not {fractions:g}", fix="Use --split 0.8.")
        return (fractions, 1 - fractions)
    shares = tuple(fractions)
    if len(shares) < 2 or not all(0 < share < 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        shown = ", ".join(f"{share:g}" for share in shares)
        raise ConfigError(f"the shares of a split must be positive and add up to 1, not {shown}", fix="Use .8,.1,.1.")
    return shares


@dataclass(slots=True)
class _Group:
    members: list[int]
    counts: Counter[str]
    rank: bytes

    @property
    def main(self) -> str:
        """The class that decides where it goes: the most frequent, then the first by name."""
        return min(self.counts, key=lambda name: (-self.counts[name], name))


def assign(
    labels: Sequence[str | None], names: Sequence[str], fractions: Sequence[float], *, seed: int, groups: Groups
) -> list[int]:
    """The part (0, 1, ...) of each picture: about `fractions` of each class in each part, none with as much as one of
    its groups too many; every group whole.

    A class of enough groups is in every part, a class of one group in the first; pictures without a label go with
    their group, and to the first part where they have none. Depends on the seed, the names and the groups only, not on
    the order of the pictures.
    """
    made = _groups(labels, names, seed, groups)
    parts = range(len(fractions))
    totals = Counter(label for label in labels if label is not None)
    left = {name: _quotas(n, fractions) for name, n in totals.items()}
    waiting = Counter(group.main for group in made if group.counts)
    empty = {name: {part for part in parts if left[name][part] > 0} for name in totals}
    result = [0] * len(labels)
    # of several classes first, then the large ones: what is placed last evens out the rest
    for group in sorted(made, key=lambda g: (len(g.counts) < 2, -len(g.members), g.rank)):
        if not group.counts:
            continue
        name, size = group.main, group.counts[group.main]
        part = _choose(left[name], size, empty[name], waiting[name], fractions)
        waiting[name] -= 1
        for label, count in group.counts.items():
            left[label][part] -= count
            empty[label].discard(part)
        for i in group.members:
            result[i] = part
    _learn_all(made, result)
    return result


def _learn_all(made: Sequence[_Group], result: list[int]) -> None:
    """Moves groups to the first part until it has every class: those that are met beside others only may lack there."""
    known = {name for group in made if result[group.members[0]] == 0 for name in group.counts}
    for group in sorted(made, key=lambda g: (len(g.members), g.rank)):
        if not known.issuperset(group.counts):
            known.update(group.counts)
            for i in group.members:
                result[i] = 0


def _groups(labels: Sequence[str | None], names: Sequence[str], seed: int, groups: Groups) -> list[_Group]:
    together: dict[Hashable, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        together[("alone", i) if group is None else ("group", group)].append(i)
    made: list[_Group] = []
    for members in together.values():
        key = f"{seed}\0{min(names[i] for i in members)}".encode("utf-8", "surrogateescape")
        counts = Counter(label for i in members if (label := labels[i]) is not None)
        made.append(_Group(members, counts, hashlib.sha256(key).digest()))
    return made


def _quotas(count: int, fractions: Sequence[float]) -> list[int]:
    """How many of a class's `count` pictures each part should get: at least one, and the first at least one of all."""
    quotas = [0] * len(fractions)
    rest = count
    for part in range(1, len(fractions)):
        quotas[part] = min(max(round(count * fractions[part]), 1), rest - 1)
        rest -= quotas[part]
    quotas[0] = rest
    return quotas


def _choose(left: list[int], size: int, empty: set[int], waiting: int, fractions: Sequence[float]) -> int:
    """The part for the next group of a class: one that still has none of it where there are no more groups than such
    parts; else the last part that a single picture fits in; else, of the parts that it fits in, the one that has got
    the least of its share; else the one that lacks most."""
    pressing = 0 < waiting <= len(empty)
    if pressing and waiting == 1 and 0 in empty:
        return 0
    open_parts = sorted(empty) if pressing else list(range(len(left)))
    if size == 1:
        return max((part for part in open_parts if left[part] > 0), default=open_parts[0])
    fitting = [part for part in open_parts if left[part] >= size]
    if fitting:
        return max(fitting, key=lambda part: (left[part] / fractions[part], fractions[part], -part))
    return max(open_parts, key=lambda part: (left[part], -part))


def part_names(count: int) -> tuple[str, ...]:
    """The names of two or three parts. Raises ConfigError for more: layouts know no others."""
    names = {2: ("train", "val"), 3: ("train", "val", "test")}.get(count)
    if names is None:
        raise ConfigError(f"{count} parts cannot be named", fix="Give two or three shares: train, val and test.")
    return names
