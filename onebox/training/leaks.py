"""What is trained on must not be what validates. Takes the caches of a training; finds copies in them by `likeness`,
without decoding anything again; holds out pictures so that no copy or sibling of them is trained on, and refuses data
that were split otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onebox.dataset import Dataset
from onebox.errors import TrainingError
from onebox.images import Pixels
from onebox.likeness import Pair, Signature, clusters, find_pairs, pairs_across, signature, thumbnail
from onebox.splitting import merge_groups, name_groups
from onebox.training.cache import Cache
from onebox.types import ImageSize

#: Pairs named in the refusal.
SHOWN = 3


class Parts(NamedTuple):
    """What teaches and what is held out, as data sets and as pictures; `everything`: those of both, first what teaches.
    `val_cache` is None where nothing is held out."""

    train: Dataset
    val: Dataset
    train_cache: Cache
    val_cache: Cache | None
    everything: Cache


def hold_out(data: Dataset, cache: Cache, share: float, seed: int) -> Parts:
    """About `share` of each class to train on, copies and siblings on one side. At least one labelled picture is left
    to train on. `cache` is used up: its memory becomes that of the parts."""
    train, val = data.split(share, seed, groups=who_belongs_together(data, cache))
    row_of = {sample.path: row for row, sample in enumerate(cache.samples)}
    if not len(train.labelled) or not any(s.path in row_of for s in train):
        train, val = data, data.subset([])
    held = {sample.path for sample in val}
    inside = np.array([sample.path in held for sample in cache.samples])
    if not inside.any():
        return Parts(train, val, cache, None, cache)
    return Parts(train, val, *cache.parted(inside))


def who_belongs_together(data: Dataset, cache: Cache) -> list[int]:
    """One group per sample of `data`: copies, by the pixels in `cache`, and siblings of one photo, by their names."""
    copies = clusters(len(cache), [pair[:2] for pair in _pairs(cache)])
    row_of = {sample.path: row for row, sample in enumerate(cache.samples)}
    names = name_groups([data.relative_path(sample) for sample in data])
    same = [copies[row_of[s.path]] if s.path in row_of else None for s in data]
    return merge_groups(len(data), names, same)


def refuse_leaks(data: Dataset, val: Dataset, train_cache: Cache, val_cache: Cache | None) -> None:
    """Raises TrainingError where validation pictures are copies of training pictures, naming the first."""
    leaks = find_leaks(train_cache, val_cache) if val_cache is not None else []
    if not leaks or val_cache is None:
        return
    shown = "; ".join(
        f"{val.relative_path(val_cache.samples[v])} "
        f"{'is' if pair.kind == 'exact' else 'is a copy of'} {data.relative_path(train_cache.samples[t])}"
        for v, t, pair in leaks[:SHOWN]
    )
    more = f" and {len(leaks) - SHOWN} more" if len(leaks) > SHOWN else ""
    plural = "s are copies" if len(leaks) > 1 else " is a copy"
    raise TrainingError(
        f"{len(leaks)} of {len(val_cache)} validation picture{plural} of training pictures ({shown}{more}), so the "
        "scores would be too good",
        fix="`onebox split` makes parts that share no picture; --allow-leak (allow_leak=True) trains all the same.",
    )


def find_leaks(train_cache: Cache, val_cache: Cache) -> list[tuple[int, int, Pair]]:
    """(row in the validation cache, row in the training cache, pair) of each validation picture that is a copy of a
    training picture, with the first such."""
    count = len(train_cache)
    signatures = [*_signatures(train_cache), *_signatures(val_cache)]
    parts = [0] * count + [1] * len(val_cache)

    def look(i: int) -> Pixels:
        return thumbnail(train_cache.pictures[i] if i < count else val_cache.pictures[i - count])

    found: dict[int, tuple[int, int, Pair]] = {}
    for pair in pairs_across(find_pairs(signatures, look, parts=parts), parts):
        found.setdefault(pair.second, (pair.second - count, pair.first, pair))
    return [found[key] for key in sorted(found)]


def _pairs(cache: Cache) -> list[Pair]:
    return find_pairs(_signatures(cache), lambda i: thumbnail(cache.pictures[i]))


def _signatures(cache: Cache) -> list[Signature]:
    side = cache.pictures.shape[1]
    sizes = (ImageSize(min(side, s.image_size.width), min(side, s.image_size.height)) for s in cache.samples)
    return [signature(picture, size) for picture, size in zip(cache.pictures, sizes, strict=True)]
