"""Copies among picture files. Takes paths; decodes each picture once, in threads, by the one picture path; gives the
pairs that `likeness` finds. Passes over what cannot be read, keeps no picture, and writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from onebox.errors import PictureError
from onebox.images import open_image
from onebox.likeness import LOOK, Pair, Signature, clusters, find_pairs, signature, thumbnail

_CHUNK = 256


def copy_groups(paths: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> list[int | None]:
    """For each picture the smallest number in its group of copies; None where it has no copy, or cannot be read.
    `progress(done, total)` is called as pictures are read."""
    pairs = find_copies(paths, progress=progress)
    groups = clusters(len(paths), [(pair.first, pair.second) for pair in pairs])
    paired = {i for pair in pairs for i in pair[:2]}
    return [group if i in paired else None for i, group in enumerate(groups)]


def find_copies(paths: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> list[Pair]:
    """The pairs of copies, by position in `paths` (see `likeness.find_pairs`)."""
    signatures: list[Signature] = []
    kept: list[int] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(paths), _CHUNK):
            for i, found in enumerate(pool.map(_signature, paths[start : start + _CHUNK]), start):
                if found is not None:
                    signatures.append(found)
                    kept.append(i)
                if progress:
                    progress(i + 1, len(paths))
    pairs = find_pairs(signatures, lambda i: look_at(paths[kept[i]]))
    return [pair._replace(first=kept[pair.first], second=kept[pair.second]) for pair in pairs]


def look_at(path: str) -> npt.NDArray[np.uint8]:
    """A picture as `likeness.find_pairs` wants to see it; all black where it cannot be read any more."""
    try:
        return thumbnail(open_image(path, at_least=2 * LOOK)[0])
    except PictureError:
        return np.zeros((LOOK, LOOK, 3), dtype=np.uint8)


def _signature(path: str) -> Signature | None:
    try:
        return signature(open_image(path)[0])
    except PictureError:
        return None
