"""Copies within a data set and across its parts, from the signatures of its pictures. Takes a data set and the facts of
its pictures, and looks again at the few pictures that seem alike; gives findings: what is there twice, where two copies
are labelled differently, and what stands on both sides of a split.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from onebox.boxes import iou
from onebox.copies import look_at
from onebox.dataset import Dataset
from onebox.doctor.findings import LEFT_OUT, Corners, Finding, split_place
from onebox.doctor.pictures import PictureFacts
from onebox.likeness import Pair, find_pairs, pairs_across
from onebox.splitting import name_groups
from onebox.types import Box, Sample

EXACT, NEAR = "exact-duplicate", "near-duplicate"
BOXES_DISAGREE, CLASSES_DISAGREE, NOISE = "duplicate-boxes", "duplicate-classes", "label-noise"
LEAK, SIBLING_LEAK, SIBLINGS = "leaked-copy", "leaked-sibling", "augmented-siblings"

#: Boxes of copies that overlap more than this say the same: rounding, and the last pixel of a crop.
SAME_BOX = 0.99
#: Of so many identical pictures all pairs are compared; of more, each with the first.
_ALL_PAIRS = 12
_PART_NUMBERS = {None: 0, "train": 1, "val": 2, "test": 3}
_NEAR_WORDS = {"near": "re-encoded, resized or cropped", "flipped": "mirrored"}


class _Disagreement(NamedTuple):
    """Two labelled copies: `overlap` of their boxes (IoU), `box` of the second in pixels of the first."""

    first: Sample
    second: Sample
    overlap: float
    box: Corners
    pair: Pair


def of_likeness(dataset: Dataset, facts: Mapping[str, PictureFacts]) -> list[Finding]:
    """Findings about pictures that are copies of one another."""
    seen = [(s, f.signature) for s in dataset if (f := facts.get(s.path)) is not None and f.signature is not None]
    samples = [sample for sample, _ in seen]
    pairs = find_pairs([found for _, found in seen], lambda i: look_at(samples[i].path))
    names = [dataset.relative_path(sample) for sample in samples]
    findings = [_duplicate(samples, names, pair) for pair in pairs]
    sources = name_groups(names, sure=True)
    # pictures that an exporter made from one photo share one label: they are no second opinion
    second_looks = [p for p in _all_pairs(pairs) if sources[p.first] is None or sources[p.first] != sources[p.second]]
    compared = [found for pair in second_looks if (found := _compare(samples, pair)) is not None]
    name_of = {sample.path: name for sample, name in zip(samples, names, strict=True)}
    for one in compared:
        findings.extend(_disagreements(one, name_of))
    if compared:
        findings.append(_noise(compared))
    parts = [_PART_NUMBERS[sample.split] for sample in samples]
    leaks = list(_leaks(samples, names, parts, pairs_across(pairs, parts)))
    findings.extend(leaks)
    findings.extend(_siblings(dataset, {finding.picture for finding in leaks}))
    return findings


def _duplicate(samples: Sequence[Sample], names: Sequence[str], pair: Pair) -> Finding:
    first, second = samples[pair.first], samples[pair.second]
    if pair.kind == "exact":
        message = f"the same picture as {names[pair.first]}"
        found = _finding(EXACT, second, message, (first,), 1.0)
        return dataclasses.replace(found, fix=LEFT_OUT) if _says_nothing_new(first, second) else found
    message = f"a copy of {names[pair.first]} ({_NEAR_WORDS[pair.kind]})"
    return _finding(NEAR, second, message, (first,), _confidence(pair))


def _says_nothing_new(first: Sample, second: Sample) -> bool:
    """Whether the second of two identical pictures can go: it has no other label, and stands in the same part."""
    if first.split != second.split:
        return False
    if second.box is None:
        return True
    return first.box is not None and first.label == second.label and _overlap(first.box, second.box) >= SAME_BOX


def _overlap(one: Box, other: Box) -> float:
    return float(iou([one.xyxy], [other.xyxy])[0])


def _all_pairs(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """The pairs, and those between pictures that are identical to the same first one."""
    identical: dict[int, list[int]] = defaultdict(list)
    for pair in pairs:
        if pair.kind == "exact":
            identical[pair.first].append(pair.second)
    for pair in pairs:
        if pair.kind != "exact" or len(identical[pair.first]) >= _ALL_PAIRS:
            yield pair
    for first, others in identical.items():
        if len(others) < _ALL_PAIRS:
            yield from (Pair(a, b) for a, b in combinations([first, *others], 2))


def _compare(samples: Sequence[Sample], pair: Pair) -> _Disagreement | None:
    """None where one of the two has no label."""
    first, second = samples[pair.first], samples[pair.second]
    if first.box is None or second.box is None:
        return None
    x_min, y_min, x_max, y_max = pair.on_first(second.box.xyxyn)
    width, height = first.image_size
    box = (x_min * width, y_min * height, x_max * width, y_max * height)
    return _Disagreement(first, second, float(iou([first.box.xyxy], [box])[0]), box, pair)


def _disagreements(one: _Disagreement, name_of: Mapping[str, str]) -> Iterator[Finding]:
    first, second = one.first, one.second
    copies = "the same picture" if one.pair.kind == "exact" else "a copy"
    if first.label != second.label:
        message = f"class {first.label!r}, but {second.label!r} in {name_of[second.path]}, {copies} ({second.where})"
        yield _finding(CLASSES_DISAGREE, first, message, (second,), _confidence(one.pair), one.box)
    # the edge of a crop may lie a pixel beside where it was found
    limit = SAME_BOX if one.pair.kind == "exact" else 1 - 3 * (1 - SAME_BOX)
    if one.overlap < limit:
        message = f"the box and that of {name_of[second.path]}, {copies}, overlap with IoU {one.overlap:.3f} only"
        yield _finding(BOXES_DISAGREE, first, message, (second,), _confidence(one.pair), one.box)


def _noise(compared: Sequence[_Disagreement]) -> Finding:
    """What two looks at one picture agree on: no model can be asked for more."""
    overlaps = [one.overlap for one in compared]
    agreeing = sum(one.first.label == one.second.label for one in compared)
    message = (
        f"{len(compared)} pair{'s' if len(compared) > 1 else ''} of copies labelled separately: their boxes agree with "
        f"a mean IoU of {sum(overlaps) / len(overlaps):.3f} (lowest {min(overlaps):.3f}), their classes in {agreeing} "
        f"of {len(compared)}; a model can hardly do better on such labels"
    )
    return Finding(NOISE, None, None, None, message, 1.0 if len(compared) >= 30 else 0.5)


def _leaks(
    samples: Sequence[Sample], names: Sequence[str], parts: Sequence[int], across: Sequence[Pair]
) -> Iterator[Finding]:
    """For each picture held back from training, the first copy of it on the other side."""
    told: set[int] = set()
    for pair in across:
        if 0 in (parts[pair.first], parts[pair.second]):
            continue
        earlier, later = sorted(pair[:2], key=lambda i: parts[i])
        if later not in told:
            told.add(later)
            same = "the same picture as" if pair.kind == "exact" else "a copy of"
            message = f"in {samples[later].split}, but {same} {names[earlier]} in {samples[earlier].split}"
            yield _finding(LEAK, samples[later], message, (samples[earlier],), _confidence(pair))


def _siblings(dataset: Dataset, leaked: set[str | None]) -> Iterator[Finding]:
    """Pictures made from one photo, as their names say: where they stand in different parts, and that there are any."""
    names = [dataset.relative_path(sample) for sample in dataset]
    groups = name_groups(names, sure=True)
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        if group is not None:
            members[group].append(i)
    families = {group: some for group, some in members.items() if len(some) > 1}
    if families:
        sizes = Counter(len(some) for some in families.values())
        message = (
            f"{sum(map(len, families.values()))} pictures were made from {len(families)} photos, mostly "
            f"{sizes.most_common(1)[0][0]} from each, as their names say: a random split would put one photo on both "
            "sides (`onebox split` keeps them together)"
        )
        yield Finding(SIBLINGS, None, None, None, message, 0.9)
    for some in families.values():
        placed = [i for i in some if dataset[i].split is not None]
        first = min(placed, key=lambda i: (_PART_NUMBERS[dataset[i].split], i), default=None)
        for i in placed:
            if first is None or dataset[i].split == dataset[first].split or dataset[i].path in leaked:
                continue
            message = f"in {dataset[i].split}, but made from the same photo as {names[first]} in {dataset[first].split}"
            yield _finding(SIBLING_LEAK, dataset[i], message, (dataset[first],), 0.9)


def _finding(
    code: str,
    sample: Sample,
    message: str,
    others: tuple[Sample, ...],
    confidence: float,
    box: Corners | None = None,
) -> Finding:
    file, line = split_place(sample.where)
    paths = tuple(other.path for other in others)
    return Finding(code, sample.path, file, line, message, confidence, others=paths, other_box=box)


def _confidence(pair: Pair) -> float:
    return 1.0 if pair.kind == "exact" else round(max(0.5, 1 - 4 * pair.distance), 2)
