"""Which pictures are copies of one another: the same pixels, re-encoded, resized, slightly cropped or mirrored. Takes a
small `Signature` of each picture and, for the few that look alike, the pictures themselves; gives pairs and groups.
Opens no file; different photographs of one thing are not copies.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from onebox.alignment import Floats, Remains, align, blur, compare, inverse, same_colours
from onebox.types import ImageSize

Kind: TypeAlias = Literal["exact", "near", "flipped"]
#: From a picture's number to the picture, stretched to (LOOK, LOOK, 3) uint8.
Look: TypeAlias = Callable[[int], npt.NDArray[np.uint8]]

#: Side of the grey thumbnail in a signature, and of the pictures that `look` gives, in pixels.
GREY = 24
LOOK = 64
#: Halved, pictures of a shorter side than this have less detail than LOOK pixels show: compared at half of LOOK.
_SMALL = 100
#: Candidates: cosine between low frequencies (DCT, _FREQUENCIES x _FREQUENCIES without the mean), and how many of the
#: best per picture.
_FREQUENCIES = 8
_CANDIDATE = 0.90
_MOST = 12
#: A crop is looked for by comparing with the picture's own middle, this share of each side.
_MIDDLE = 0.93
#: What may remain once two pictures lie over each other (`alignment.Remains`): (third, worst) on the thumbnails after
#: one step and after some, at LOOK pixels, at half of them. At LOOK pixels 99 % of the copies of larger pictures that
#: benchmarks/likeness.py makes lay within (.05, .09); the closest frames of one video in the real sets at .12.
_GLANCE = (2.5, 10.0)
_THUMBNAIL = (0.4, 1.5)
_FULL = (0.06, 0.15)
_HALF = (0.20, 0.50)
_GAINS = (0.6, 1.6)
_LEAST_TELLING = 3
#: RGB to luma, Cb and Cr (ITU-R BT.601), without offset.
_YCBCR = np.array([[0.299, -0.168736, 0.5], [0.587, -0.331264, -0.418688], [0.114, 0.5, -0.081312]], dtype=np.float32)
_BATCH = 256
_ROWS, _COLUMNS = 512, 1024


class Signature(NamedTuple):
    """One picture in brief: `digest` of its pixels (16 bytes), `grey`, the picture stretched to GREY x GREY luma
    (uint8), and `side`, the shorter side of the picture in pixels."""

    digest: bytes
    grey: bytes
    side: int


class Pair(NamedTuple):
    """Two pictures, by number (first < second), that are copies. `kind`: "exact" (the same pixels), "near", or
    "flipped" (near, once the second is mirrored left to right); `distance`: 0 for the same pixels, larger for rougher
    copies; `placement`: scale x, shift x, scale y, shift y of the second on the first (see `on_first`)."""

    first: int
    second: int
    kind: Kind = "exact"
    distance: float = 0.0
    placement: tuple[float, float, float, float] = (1.0, 0.0, 1.0, 0.0)

    def on_first(self, box_01: Sequence[float]) -> tuple[float, float, float, float]:
        """Where a box of the second picture (corners in 0-1) lies in the first; outside 0-1 where the first shows
        less."""
        x_min, y_min, x_max, y_max = box_01
        if self.kind == "flipped":
            x_min, x_max = 1 - x_max, 1 - x_min
        scale_x, shift_x, scale_y, shift_y = self.placement
        return (
            (x_min - 0.5 - shift_x) / scale_x + 0.5,
            (y_min - 0.5 - shift_y) / scale_y + 0.5,
            (x_max - 0.5 - shift_x) / scale_x + 0.5,
            (y_max - 0.5 - shift_y) / scale_y + 0.5,
        )


def signature(picture: Image.Image | npt.NDArray[np.uint8], size: ImageSize | None = None) -> Signature:
    """The signature of an upright RGB picture: a Pillow image, or an array (H, W, 3) uint8. `size` is the size of the
    full picture where `picture` was stretched.

    The thumbnail is the same, but for rounding, whatever the scale and the aspect at which the picture was decoded;
    the digest speaks of exactly these pixels.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    if image.mode != "RGB":
        image = image.convert("RGB")
    digest = hashlib.sha256(repr(image.size).encode())
    digest.update(image.tobytes())
    # bilinear with antialiasing, of the integer fraction that is at least twice as large: fast, and blind to the scale
    grey = image.resize((GREY, GREY), Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L").tobytes()
    return Signature(digest.digest()[:16], grey, min(size or image.size))


def thumbnail(picture: Image.Image | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What a `Look` gives of a picture: stretched to (LOOK, LOOK, 3) uint8."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.convert("RGB").resize((LOOK, LOOK), Image.Resampling.BILINEAR, reducing_gap=3.0))


def find_pairs(signatures: Sequence[Signature], look: Look, *, parts: Sequence[int] | None = None) -> list[Pair]:
    """Every picture that is a copy of another, sorted. `look` is asked for the few pictures that come into question.

    Of n identical pictures the first is paired with each of the others, and stands for all of them in near pairs: see
    `clusters` for who belongs together, and `pairs_across`. With `parts` (one number per picture) near pairs are looked
    for between different parts only, which is faster.
    """
    same: dict[bytes, list[int]] = defaultdict(list)
    for number, one in enumerate(signatures):
        same[one.digest].append(number)
    classes = list(same.values())
    pairs = [Pair(members[0], other) for members in classes for other in members[1:]]
    only = None  # the one part of each class of identical pictures, -1 where it has several
    if parts is not None:
        found_in = [{parts[i] for i in members} for members in classes]
        only = np.array([min(own) if len(own) == 1 else -1 for own in found_in])
    distinct = [signatures[members[0]] for members in classes]
    for pair in _near_pairs(distinct, lambda i: look(classes[i][0]), only):
        pairs.append(pair._replace(first=classes[pair.first][0], second=classes[pair.second][0]))
    return sorted(pairs)


def pairs_across(pairs: Sequence[Pair], parts: Sequence[int]) -> list[Pair]:
    """Of the pairs that `find_pairs` gave, those between different parts (one number per picture), sorted: here each
    picture of identical ones has a partner of its own, if its class or a near one has any elsewhere."""
    identical = clusters(len(parts), [pair[:2] for pair in pairs if pair.kind == "exact"])
    members: dict[int, list[int]] = defaultdict(list)
    for number, leader in enumerate(identical):
        members[leader].append(number)
    links = [pair for pair in pairs if pair.kind != "exact"]
    links += [Pair(leader, leader) for leader, some in members.items() if len(some) > 1]
    found: dict[tuple[int, int], Pair] = {}
    for link in links:
        some, others = members[identical[link.first]], members[identical[link.second]]
        for mine, theirs in ((some, others), (others, some)):
            first_of: dict[int, int] = {}
            for i in theirs:
                first_of.setdefault(parts[i], i)
            for i in mine:
                partner = min((j for part, j in first_of.items() if part != parts[i]), default=None)
                if partner is not None:
                    pair = (min(i, partner), max(i, partner))
                    found.setdefault(pair, link._replace(first=pair[0], second=pair[1]))
    return sorted(found.values())


def clusters(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `count` pictures the smallest number in its group, where pairs (transitively) make groups."""
    leader = list(range(count))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for a, b in pairs:
        low, high = sorted((find(a), find(b)))
        leader[high] = low
    return [find(i) for i in range(count)]


def _near_pairs(signatures: Sequence[Signature], look: Look, only: npt.NDArray[np.int64] | None) -> Iterator[Pair]:
    """Pairs among different pictures: by low frequencies, then by thumbnails laid over each other, then by the pictures
    themselves."""
    if len(signatures) < 2:
        return
    grey = np.frombuffer(b"".join(s.grey for s in signatures), dtype=np.uint8).reshape(-1, GREY, GREY)
    judge = _Judge(grey, np.array([s.side for s in signatures]), look)
    for candidates in _candidates(grey, only):
        for at in range(0, len(candidates), _BATCH):
            yield from judge(candidates[at : at + _BATCH])


def _candidates(grey: npt.NDArray[np.uint8], only: npt.NDArray[np.int64] | None) -> Iterator[npt.NDArray[np.int64]]:
    """Rows (a, b, way): pictures a < b whose low frequencies agree in one of six ways: as they are (0), a's middle with
    b (2), a with b's middle (4), or so once mirrored (1, 3, 5). In blocks: memory does not grow with their square."""
    whole, middle = _frequencies(grey)
    half = whole.shape[1] // 2
    together = ((whole, whole), (middle, whole), (whole, middle))
    for top in range(0, len(grey) - 1, _ROWS):
        rows = np.arange(top, min(top + _ROWS, len(grey)))
        kept = [np.zeros((0, 4), dtype=np.int64)]
        for left in range(top, len(grey), _COLUMNS):
            columns = np.arange(left, min(left + _COLUMNS, len(grey)))
            if only is not None and only[top] >= 0 and (only[[*rows, *columns]] == only[top]).all():
                continue
            best = np.full((len(rows), len(columns)), -1, dtype=np.float32)
            for x, y in together:
                # frequencies even in x stay when a picture is mirrored, odd ones change sign: the better is a sum
                odd = x[rows, half:] @ y[columns, half:].T
                np.maximum(best, x[rows, :half] @ y[columns, :half].T + np.abs(odd, out=odd), out=best)
            if left < rows[-1]:
                best[rows[:, None] >= columns] = -1
            if only is not None:
                best[(only[rows, None] == only[columns]) & (only[rows, None] >= 0)] = -1
            a, b = _above(best).T + np.array([[top], [left]])
            even = np.array([(x[a, :half] * y[b, :half]).sum(axis=1) for x, y in together])
            odd = np.array([(x[a, half:] * y[b, half:]).sum(axis=1) for x, y in together])
            score = np.stack([even + odd, even - odd], axis=1).reshape(6, -1)
            kept.append(np.stack([a, b, score.argmax(axis=0), score.max(axis=0) * 1e6], axis=1).astype(np.int64))
        yield _best_per_row(np.concatenate(kept))


def _above(best: Floats) -> npt.NDArray[np.int64]:
    """Where candidates stand, as (row, column); of sets where nearly all pictures agree, the best of each row only."""
    chosen = best > _CANDIDATE
    if chosen.sum() > 4 * _MOST * len(best) and best.shape[1] > _MOST:
        top = np.argpartition(-best, _MOST, axis=1)[:, :_MOST]
        few = np.zeros_like(chosen)
        np.put_along_axis(few, top, True, axis=1)
        chosen &= few
    return np.argwhere(chosen)


def _best_per_row(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The _MOST best of each first picture: rows (a, b, way, score) -> (a, b, way)."""
    rows = rows[np.lexsort((-rows[:, 3], rows[:, 0]))]
    _, starts, counts = np.unique(rows[:, 0], return_index=True, return_counts=True)
    rank = np.arange(len(rows)) - np.repeat(starts, counts)
    return rows[rank < _MOST, :3]


def _frequencies(grey: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Low DCT frequencies of each picture and of its middle, unit length: (N, F), those even in x first."""
    k, u = np.arange(_FREQUENCIES)[:, None], (np.arange(GREY) + 0.5) / GREY
    whole = np.cos(np.pi * k * u)
    middle = np.cos(np.pi * k * ((u - 0.5) / _MIDDLE + 0.5)) * (np.abs(u - 0.5) <= _MIDDLE / 2)
    out: list[Floats] = []
    for waves in (whole, middle):
        parts: list[Floats] = []
        for pictures in np.array_split(grey, max(1, len(grey) // 4096)):
            values = pictures.astype(np.float32)
            values -= values.mean(axis=(1, 2), keepdims=True)
            found = (waves @ values @ waves.T).astype(np.float32)
            found[:, 0, 0] = 0
            flat = np.concatenate(
                [found[:, :, 0::2].reshape(len(found), -1), found[:, :, 1::2].reshape(len(found), -1)], 1
            )
            parts.append(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3))
        out.append(np.concatenate(parts))
    return out[0], out[1]


class _Judge:
    """Decides on candidates. Asks for pictures only where the thumbnails, laid over each other, are alike, and keeps
    the last few hundred."""

    def __init__(self, grey: npt.NDArray[np.uint8], sides: npt.NDArray[np.int64], look: Look) -> None:
        self._grey, self._sides, self._look = grey, sides, look
        self._kept: dict[int, Floats] = {}

    def __call__(self, candidates: npt.NDArray[np.int64]) -> Iterator[Pair]:
        """The copies among rows (a, b, way)."""
        candidates, placement, turned = self._alike(candidates)
        if not len(candidates):
            return
        a, b, way = candidates.T
        flipped = way % 2 == 1
        small = np.minimum(self._sides[a], self._sides[b]) < _SMALL
        for chosen, fraction, limits in ((~small, 1, _FULL), (small, 2, _HALF)):
            rows = np.nonzero(chosen)[0]
            if not len(rows):
                continue
            mirrored = _mirror(self._planes(b[rows], fraction), flipped[rows])
            ones, others = _exchange(self._planes(a[rows], fraction), mirrored, turned[rows])
            placed = align(ones[:, 0], others[:, 0], placement[rows], 3)
            remains = compare(ones[:, 0], others[:, 0], placed)
            same = _within(remains, limits, telling=_LEAST_TELLING) & same_colours(ones[:, 1:], others[:, 1:], placed)
            on_first = np.where(turned[rows, None], inverse(placed), placed)
            for row, distance, place in zip(rows[same], remains.third[same], on_first[same], strict=True):
                scale_x, shift_x, scale_y, shift_y = (round(float(v), 4) for v in place)
                yield Pair(
                    int(a[row]),
                    int(b[row]),
                    "flipped" if flipped[row] else "near",
                    round(float(distance), 4),
                    (scale_x, shift_x, scale_y, shift_y),
                )

    def _alike(self, candidates: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.bool_]]:
        """The rows whose thumbnails are alike, their placements, and whether a is to be laid on b instead."""
        a, b, way = candidates.T
        scale = np.where(way // 2 == 0, 1, 1 / _MIDDLE).astype(np.float32)
        placement = np.stack([scale, 0 * scale, scale, 0 * scale], axis=1)
        turned = way // 2 == 2
        thumbnails = blur(self._grey[a].astype(np.float32)), blur(self._grey[b].astype(np.float32))
        first, second = _exchange(thumbnails[0], _mirror(thumbnails[1], way % 2 == 1), turned)
        # most are told apart after one step
        for steps, limits in ((1, _GLANCE), (3, _THUMBNAIL)):
            placement = align(first, second, placement, steps)
            kept = _within(compare(first, second, placement), limits, telling=0)
            first, second, placement, turned = first[kept], second[kept], placement[kept], turned[kept]
            candidates = candidates[kept]
            if not len(candidates):
                break
        # the one that shows less of the scene shows it larger: it is laid on the other, and loses what that never had
        inner = placement[:, 0] * placement[:, 2] < 1
        return candidates, np.where(inner[:, None], inverse(placement), placement), turned ^ inner

    def _planes(self, numbers: npt.NDArray[np.int64], fraction: int) -> Floats:
        """Luma and colour differences of pictures, (N, 3, S, S) with S = LOOK / fraction, smoothed."""
        side = LOOK // fraction
        planes = np.stack([self._picture(int(i)) for i in numbers])
        planes = planes.reshape(-1, side, fraction, side, fraction).mean(axis=(2, 4))
        return blur(planes).reshape(-1, 3, side, side)

    def _picture(self, number: int) -> Floats:
        if number not in self._kept:
            if len(self._kept) >= 4 * _BATCH:
                del self._kept[next(iter(self._kept))]
            self._kept[number] = (self._look(number) @ _YCBCR).astype(np.float32).transpose(2, 0, 1)
        return self._kept[number]


def _within(remains: Remains, limits: tuple[float, float], *, telling: int) -> npt.NDArray[np.bool_]:
    third, worst = limits
    fits = (remains.third <= third) & (remains.worst <= worst) & (remains.telling >= telling)
    return fits & (remains.gain >= _GAINS[0]) & (remains.gain <= _GAINS[1])


def _exchange(some: Floats, others: Floats, turned: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Both arrays with their rows exchanged where `turned`."""
    where = turned.reshape(-1, *(1,) * (some.ndim - 1))
    return np.where(where, others, some), np.where(where, some, others)


def _mirror(pictures: Floats, flipped: npt.NDArray[np.bool_]) -> Floats:
    """Those pictures of (N, ..., S) that are `flipped`, left to right."""
    return np.where(flipped.reshape(-1, *(1,) * (pictures.ndim - 1)), pictures[..., ::-1], pictures)
