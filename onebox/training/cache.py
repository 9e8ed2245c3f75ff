"""Every picture decoded and resized once. Takes labelled samples, gives uint8 pictures, labels and boxes as arrays; a
picture that cannot be read is left out and listed with its reason. Uses the one picture path; never augments.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onebox.boxes import to_01
from onebox.dataset import Dataset, Skipped
from onebox.errors import PictureError, TrainingError
from onebox.images import Pixels, load_pixels
from onebox.types import Sample


@dataclass(frozen=True, slots=True)
class Cache:
    """`pictures` (N, S, S, 3) uint8; `labels` (N,) int64, indices into the training class names; `boxes_01` (N, 4)
    float32 corners; `sizes` (N, 2) upright pixels; `samples` the rows' samples; `skipped` what could not be read."""

    pictures: Pixels
    labels: npt.NDArray[np.int64]
    boxes_01: npt.NDArray[np.float32]
    sizes: npt.NDArray[np.float64]
    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def copied(self, rows: npt.NDArray[np.int64]) -> Cache:
        """Some rows, in memory of their own; without what could not be read."""
        return self._rows(self.pictures[rows], rows, ())

    def parted(self, apart: npt.NDArray[np.bool_]) -> tuple[Cache, Cache, Cache]:
        """The rows that are not `apart` (N,), those that are, and all of them in this order. All three lie in the
        memory of this cache, which is used up: a second copy of all pictures might not fit."""
        first, second = np.nonzero(~apart)[0], np.nonzero(apart)[0]
        moved = self.pictures[second]
        for to, row in enumerate(first):
            self.pictures[to] = self.pictures[row]
        self.pictures[len(first) :] = moved
        return (
            self._rows(self.pictures[: len(first)], first, self.skipped),
            self._rows(self.pictures[len(first) :], second, ()),
            self._rows(self.pictures, np.concatenate([first, second]), self.skipped),
        )

    def _rows(self, pictures: Pixels, rows: npt.NDArray[np.int64], skipped: tuple[Skipped, ...]) -> Cache:
        samples = tuple(self.samples[i] for i in rows)
        return Cache(pictures, self.labels[rows], self.boxes_01[rows], self.sizes[rows], samples, skipped)


def build_cache(
    data: Dataset, class_names: tuple[str, ...], imgsz: int, *, progress: Callable[[int, int], None] | None = None
) -> Cache:
    """Decodes the labelled samples of `data` on all cores. `progress(done, total)` is called as pictures arrive.

    Raises TrainingError where a label is not among `class_names`, where nothing could be read, or where the pictures do
    not fit in memory.
    """
    samples = [s for s in data if s.box is not None and s.label is not None]
    index = {name: i for i, name in enumerate(class_names)}
    for sample in samples:
        if sample.label not in index:
            raise TrainingError(
                f"class {sample.label!r} is not among the training classes ({', '.join(class_names[:8])}"
                f"{', ...' if len(class_names) > 8 else ''})",
                where=sample.where or sample.path,
                fix="Give it training pictures, correct its spelling, or leave it out.",
            )
    try:
        pictures = np.empty((len(samples), imgsz, imgsz, 3), dtype=np.uint8)
    except MemoryError:
        raise TrainingError(
            f"{len(samples)} pictures of {imgsz} px do not fit in memory "
            f"({len(samples) * imgsz**2 * 3 / 2**30:.1f} GiB)",
            fix="Use a smaller --imgsz.",
        ) from None
    kept: list[int] = []
    skipped: list[Skipped] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for i, result in enumerate(pool.map(lambda s: _read(s, imgsz), samples)):
            if isinstance(result, PictureError):
                skipped.append(Skipped(samples[i].path, samples[i].where, str(result)))
            else:
                pictures[i] = result
                kept.append(i)
            if progress:
                progress(i + 1, len(samples))
    if not kept:
        first = f" (first: {skipped[0].reason})" if skipped else ""
        raise TrainingError(f"none of the {len(samples)} labelled pictures could be read{first}")
    rows = [samples[i] for i in kept]
    sizes = np.array([s.image_size for s in rows], dtype=np.float64)
    boxes = np.array([s.box.xyxy for s in rows if s.box is not None], dtype=np.float64)
    return Cache(
        pictures=pictures if len(kept) == len(samples) else pictures[kept],
        labels=np.array([index[s.label] for s in rows if s.label is not None], dtype=np.int64),
        boxes_01=to_01(boxes, sizes).astype(np.float32),
        sizes=sizes,
        samples=tuple(rows),
        skipped=tuple(skipped),
    )


def _read(sample: Sample, imgsz: int) -> Pixels | PictureError:
    try:
        return load_pixels(sample.path, imgsz)[0]
    except PictureError as error:
        return error
