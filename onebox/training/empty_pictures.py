"""Real pictures without an object: which of the user's there are, and their pixels. Takes a loaded data set and the
folder named; gives pictures that the presence head may take for negatives. A picture that nobody has spoken of is never
one of them, nor one with a label.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onebox.dataset import Dataset, Skipped
from onebox.errors import DataError, PictureError, TrainingError
from onebox.formats.pictures import is_picture
from onebox.formats.tree import scan
from onebox.images import Pixels, load_pixels
from onebox.splitting import assign, name_groups

#: A folder of this name, beside the annotations, holds pictures without an object.
FOLDER = "negatives"
#: More than this many are not read; which ones is a matter of the seed.
MOST = 2000


@dataclass(frozen=True, slots=True)
class EmptyPictures:
    """`pictures` (N, S, S, 3) uint8; `held_out` (N,) bool, those kept from fitting, for the threshold; `skipped`, what
    could not be read."""

    pictures: Pixels
    held_out: np.ndarray[tuple[int], np.dtype[np.bool_]]
    skipped: tuple[Skipped, ...]

    def __len__(self) -> int:
        return len(self.pictures)


def find_empty(data: Dataset, folder: str | None = None) -> list[str]:
    """Paths, sorted: the pictures whose annotation says that they hold no object, and those below `folder` (default:
    `negatives` in the root of `data`, where there is such a folder and it holds none of the labelled pictures).

    Raises DataError where `folder` is none or holds no picture, TrainingError where a labelled picture lies in it.
    """
    found = {os.path.realpath(s.path): s.path for s in data.without_object}
    place = folder or str(Path(data.root or ".") / FOLDER)
    if not Path(place).is_dir():
        if folder is None:
            return sorted(found.values())
        raise DataError("no such folder of pictures without an object", where=place, fix="Check the spelling.")
    tree = scan(place)
    inside = {os.path.realpath(tree.path(f)): tree.path(f) for f in tree.files if is_picture(f)}
    labelled = {os.path.realpath(s.path): s for s in data.labelled}
    both = sorted(inside.keys() & labelled.keys())
    if folder is None and both:  # a class, or a part, that happens to have this name
        return sorted(found.values())
    if both:
        raise TrainingError(
            "a picture of the folder of pictures without an object has a label",
            where=labelled[both[0]].where or inside[both[0]],
            fix="Take it out of that folder, or remove its label.",
        )
    if folder is not None and not inside:
        raise DataError("no pictures in the folder of pictures without an object", where=place)
    return sorted((found | inside).values())


def gather_empty(data: Dataset, val: Dataset | None, folder: str | None) -> tuple[list[str], list[str]]:
    """Paths for fitting, of `data` and `folder`, and paths for the threshold, of `val`; none in both. Raises as
    `find_empty`."""
    theirs = [s.path for s in val.without_object] if val is not None else []
    known = {os.path.realpath(path) for path in theirs}
    return [path for path in find_empty(data, folder) if os.path.realpath(path) not in known], theirs


def load_empty(
    paths: Sequence[str], held_out_paths: Sequence[str], imgsz: int, *, share: float, seed: int
) -> EmptyPictures:
    """Decodes up to MOST of each on all cores. Where no path is held out already, about the `share` of `paths`,
    siblings of one photo together, is."""
    one = _load(paths, imgsz, share=0.0 if held_out_paths else share, seed=seed)
    if not held_out_paths:
        return one
    other = _load(held_out_paths, imgsz, share=0.0, seed=seed)
    held_out = np.arange(len(one) + len(other)) >= len(one)
    return EmptyPictures(np.concatenate([one.pictures, other.pictures]), held_out, one.skipped + other.skipped)


def _load(paths: Sequence[str], imgsz: int, *, share: float, seed: int) -> EmptyPictures:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(paths))[:MOST])
    taken: list[str] = [paths[int(i)] for i in chosen]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        read = list(pool.map(lambda path: _read(path, imgsz), taken))
    good = [path for path, one in zip(taken, read, strict=True) if not isinstance(one, PictureError)]
    pixels = [one for one in read if not isinstance(one, PictureError)]
    skipped = tuple(Skipped(p, "", str(e)) for p, e in zip(taken, read, strict=True) if isinstance(e, PictureError))
    names = [Path(path).name for path in good]
    out = np.zeros(len(good), dtype=np.bool_)
    if share > 0 and len(good) > 1:
        parts = assign([FOLDER] * len(good), names, (1 - share, share), seed=seed, groups=name_groups(names))
        out = np.asarray(parts) == 1
    pictures = np.stack(pixels) if pixels else np.zeros((0, imgsz, imgsz, 3), dtype=np.uint8)
    return EmptyPictures(pictures, out, skipped)


def _read(path: str, imgsz: int) -> Pixels | PictureError:
    try:
        return load_pixels(path, imgsz)[0]
    except PictureError as error:
        return error
