"""The second look: once the first has said where the object is, the window around it is cut out of the picture,
enlarged and shown to the same network. Takes the first look's outputs and the pictures in more detail than the network
sees; gives outputs of the same names. Knows no files, and asks nothing of the network but to be run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from onebox.boxes import Floats
from onebox.images import Pixels

Outputs: TypeAlias = Mapping[str, npt.NDArray[np.float32]]

#: Side of the window over the side of the first box. Between 1.15 and 1.7 on validation pictures of pets3 and tiny_vid
#: (docs/log.md, 2026-11-22): 1.35 to 1.4 is the best that is good on both.
ROOM = 1.4
#: No window is smaller than this share of the picture: a tiny first box is often a wrong one.
LEAST = 0.1
#: Pictures for the second look are kept at this many times the network's input size.
DETAIL = 2


def second_look(run: Callable[[Pixels], Outputs], first: Outputs, pictures: Sequence[Pixels], imgsz: int) -> Outputs:
    """`first`: what `run` gave for B pictures; `pictures`: the same, B of (DETAIL imgsz, DETAIL imgsz, 3) uint8.

    Boxes and sigmas are `both_looks` of the two, in 0-1 of the whole picture; the logits are their mean; whatever else
    the network says stays the first's, which saw all of the picture.
    """
    second = look_into(run, windows(first["boxes_01"]), pictures, imgsz)
    boxes, sigmas = both_looks((first["boxes_01"], first["sigmas_01"]), (second["boxes_01"], second["sigmas_01"]))
    logits = ((first["logits"] + second["logits"]) / 2).astype(np.float32)
    return {
        **first,
        "logits": logits,
        "boxes_01": boxes.astype(np.float32),
        "sigmas_01": sigmas.astype(np.float32),
    }


def both_looks(
    first: tuple[npt.ArrayLike, npt.ArrayLike], second: tuple[npt.ArrayLike, npt.ArrayLike]
) -> tuple[Floats, Floats]:
    """Edges (B, 4) and their sigmas (B, 4) of two looks -> those of both: each edge the mean of the two, weighed by
    1 / sigma^2; its variance the product of both sigmas and, so that looks which disagree are unsure together, the
    edges' variance with these weights. Where a sigma is NaN (a box head without distributions), or both are 0, the
    second look's alone.

    The window adds nothing where pictures have no more pixels than the network sees, and the first look counts more
    then. Where the second is sure of a wrong window, the first look's doubt is all there is (docs/log.md, 2026-12-01).
    """
    (e1, s1), (e2, s2) = (tuple(np.asarray(part, dtype=np.float64) for part in look) for look in (first, second))
    v1, v2 = s1**2, s2**2
    usable = v1 + v2 > 0  # False where either is NaN
    share = np.divide(v1, v1 + v2, out=np.ones_like(v1), where=usable)  # of the second look
    variance = s1 * s2 + share * (1 - share) * (e2 - e1) ** 2
    return np.where(usable, e1 + share * (e2 - e1), e2), np.where(usable, np.sqrt(variance), s2)


def look_into(run: Callable[[Pixels], Outputs], around: Floats, pictures: Sequence[Pixels], imgsz: int) -> Outputs:
    """What `run` says of the windows `around` (B, 4) alone, in 0-1 of `pictures`, B of (DETAIL imgsz, DETAIL imgsz, 3)
    uint8; box and sigmas are in 0-1 of the whole picture."""
    said = run(cut_out(pictures, around, imgsz))
    origin, size = np.tile(around[:, :2], 2), np.tile(around[:, 2:] - around[:, :2], 2)
    return {
        **said,
        "boxes_01": (origin + said["boxes_01"] * size).astype(np.float32),
        "sigmas_01": (said["sigmas_01"] * size).astype(np.float32),
    }


def windows(boxes_01: npt.ArrayLike, room: float = ROOM) -> Floats:
    """(B, 4) boxes in 0-1, clipped or not, crossed or not -> (B, 4) windows around them, `room` times as wide and as
    high, inside the picture."""
    b = np.clip(np.nan_to_num(np.asarray(boxes_01, dtype=np.float64), nan=0.5), 0.0, 1.0)
    centre, side = (b[:, :2] + b[:, 2:]) / 2, np.abs(b[:, 2:] - b[:, :2])
    half = np.maximum(room * side, LEAST) / 2
    return np.clip(np.concatenate([centre - half, centre + half], axis=1), 0.0, 1.0)


def cut_out(pictures: Sequence[Pixels], around: Floats, imgsz: int) -> Pixels:
    """The windows `around` (B, 4) of B pictures, stretched to (B, imgsz, imgsz, 3)."""
    return np.stack([_cut(picture, window, imgsz) for picture, window in zip(pictures, around, strict=True)])


def _cut(picture: Pixels, window: Floats, imgsz: int) -> Pixels:
    """One window (4,) in 0-1 of a picture, stretched to (imgsz, imgsz, 3)."""
    height, width = picture.shape[:2]
    left, top, right, bottom = window * (width, height, width, height)
    cut = Image.fromarray(picture).resize((imgsz, imgsz), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    return np.asarray(cut, dtype=np.uint8)
