"""Copies planted among the pictures of the real sets: how many are found, how many pairs are reported that are none,
and how long it takes. Writes nothing.

    python -m benchmarks.likeness [SET ...]

Needs the real sets beside the checkout. A copy counts as found where it is paired with its original, or with a picture
that was a copy of the original before.
"""

from __future__ import annotations

import io
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.accuracy import SHARED
from onebox.errors import PictureError
from onebox.images import PICTURE_SUFFIXES, Pixels, load_pixels, open_image
from onebox.likeness import Pair, Signature, clusters, find_pairs, pairs_across, signature, thumbnail
from onebox.splitting import source_name
from onebox.types import ImageSize

IMGSZ = 160
PLANTED_PER_SET = 60
Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Quality 50-95."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=int(rng.integers(50, 96)))
    return Image.open(io.BytesIO(out.getvalue())).convert("RGB")


def resize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """0.5-2 times, by any of three filters."""
    scale = 2 ** rng.uniform(-1, 1)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    filters = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
    return image.resize(size, filters[rng.integers(3)])


def flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Left to right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """5 % of width and of height taken away, anywhere."""
    width, height = round(image.width * 0.95), round(image.height * 0.95)
    x, y = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
    return image.crop((x, y, x + width, y + height))


def crop_all_sides(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """5 % taken from each of the four sides."""
    x, y = round(image.width * 0.05), round(image.height * 0.05)
    return image.crop((x, y, image.width - x, image.height - y))


CHANGES: dict[str, Change] = {c.__name__: c for c in (jpeg, resize, flip, crop, crop_all_sides)}
KINDS = [(name,) for name in CHANGES] + [
    pair for pair in permutations(CHANGES, 2) if not (pair[0].startswith("crop") and pair[1].startswith("crop"))
]


def read(folder: Path) -> tuple[list[Path], list[Pixels], list[ImageSize]]:
    """Every readable picture below a folder, stretched as for training."""
    paths: list[Path] = []
    pictures: list[Pixels] = []
    sizes: list[ImageSize] = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES):
        try:
            pixels, size = load_pixels(path, IMGSZ)
        except PictureError as error:
            print(f"  left out: {error}")
            continue
        paths.append(path)
        pictures.append(pixels)
        sizes.append(size)
    return paths, pictures, sizes


def plant(paths: list[Path], rng: np.random.Generator) -> tuple[list[Pixels], list[ImageSize], list[tuple[str, int]]]:
    """Copies of some pictures, one of each kind, and for each its kind and its original's number."""
    pictures: list[Pixels] = []
    sizes: list[ImageSize] = []
    origins: list[tuple[str, int]] = []
    for i in rng.choice(len(paths), min(PLANTED_PER_SET, len(paths)), replace=False):
        original, _ = open_image(paths[i])
        for kind in KINDS:
            image = original
            for name in kind:
                image = CHANGES[name](image, rng)
            pixels, size = load_pixels(image, IMGSZ)
            pictures.append(pixels)
            sizes.append(size)
            origins.append((" + ".join(kind), int(i)))
    return pictures, sizes, origins


def natural(folder: Path, paths: list[Path], signatures: list[Signature], pictures: list[Pixels]) -> list[Pair]:
    """The pairs of a set as it is, and what finding them took."""
    started = time.perf_counter()
    pairs = find_pairs(signatures, lambda i: thumbnail(pictures[i]))
    seconds = time.perf_counter() - started
    near = [p for p in pairs if p.kind != "exact"]
    siblings = sum(source_name(paths[p.first].name) == source_name(paths[p.second].name) for p in near)
    tested = len(paths) * (len(paths) - 1) // 2
    print(
        f"{folder.name}: {len(paths)} pictures, {tested} pairs: {len(pairs) - len(near)} exact, {len(near)} near "
        f"({siblings} of one source name; the others {(len(near) - siblings) / tested:.5%} of all pairs); "
        f"{seconds / len(paths) * 1e3:.2f} ms a picture",
        flush=True,
    )
    return pairs


def main() -> None:
    """The command."""
    print(f"{time.strftime('%Y-%m-%d')}, copies: {PLANTED_PER_SET} pictures of each set x {len(KINDS)} kinds")
    wanted = sys.argv[1:]
    hits: dict[str, list[bool]] = defaultdict(list)
    wrong = tested = 0
    for folder in sorted(p for p in (SHARED / "data").iterdir() if p.is_dir() and (not wanted or p.name in wanted)):
        paths, pictures, sizes = read(folder)
        if not paths:
            continue
        started = time.perf_counter()
        own = [signature(p, s) for p, s in zip(pictures, sizes, strict=True)]
        took = (time.perf_counter() - started) / len(own) * 1e3
        group = clusters(len(own), [(p.first, p.second) for p in natural(folder, paths, own, pictures)])
        copies, copy_sizes, origins = plant(paths, np.random.default_rng(0))
        signatures = [signature(p, s) for p, s in zip(copies, copy_sizes, strict=True)] + own
        everything = copies + pictures
        parts = [1] * len(copies) + [0] * len(own)
        found: dict[int, set[int]] = defaultdict(set)
        pairs = find_pairs(signatures, lambda i, p=everything: thumbnail(p[i]), parts=parts)
        for pair in pairs_across(pairs, parts):
            if pair.first < len(copies) <= pair.second:
                found[pair.first].add(group[pair.second - len(copies)])
        here: list[bool] = []
        for i, (kind, origin) in enumerate(origins):
            here.append(group[origin] in found[i])
            hits[kind].append(here[-1])
            wrong += len(found[i] - {group[origin]})
        tested += len(copies) * (len(own) - 1)
        print(f"  planted: {np.mean(here):.2%} found; signature {took:.2f} ms a picture", flush=True)
    print(f"pairs of a copy with another picture: {wrong} reported of {tested} ({wrong / max(tested, 1):.5%})")
    for kind, found_of_kind in hits.items():
        print(f"  {kind:24} {np.mean(found_of_kind):.2%} of {len(found_of_kind)}")


if __name__ == "__main__":
    main()
