"""The report's pictures: which are shown, and as what. Takes the records of an evaluation; gives groups of thumbnails,
data URIs with their captions. Opens the pictures again to draw on them; one that has gone since is said to be gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from onebox.draw import draw_thumbnail
from onebox.errors import PictureError
from onebox.evaluation import Record
from onebox.images import open_image
from onebox.pages import data_uri
from onebox.types import Box, ImageSize

#: Longer side of a thumbnail in pixels, and pictures per group. 24 of them weigh about 0.5 MB in the page.
THUMB_PX = 260
PER_GROUP = 8


@dataclass(frozen=True, slots=True)
class Thumb:
    """One picture. `uri` is empty where it could not be opened again, and `problem` says why; `score` is None where the
    model knows one class alone and so is always "sure" of it."""

    uri: str
    width: int
    height: int
    name: str
    truth: str
    answer: str
    score: float | None
    iou: float
    right: bool
    class_right: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """`title`, one line of `caption`, and up to PER_GROUP thumbnails."""

    title: str
    caption: str
    thumbs: tuple[Thumb, ...]


def galleries(records: Sequence[Record], per_group: int = PER_GROUP) -> list[Group]:
    """Worst first, around the median, best first; no picture twice. Ordered by `Record.quality`, ties by path."""
    ordered = sorted(records, key=lambda r: (r.quality, r.path))
    n = len(ordered)
    k = min(per_group, -(-n // 3))
    worst, rest = ordered[:k], ordered[k:]
    best, middle = rest[len(rest) - min(k, len(rest)) :], rest[: len(rest) - min(k, len(rest))]
    start = (len(middle) - min(k, len(middle))) // 2
    median = middle[start : start + k]
    groups = (
        ("Worst first", "Least probability of the true class times IoU: look here for wrong labels, too.", worst),
        ("In the middle", "What to expect of an ordinary picture.", median),
        ("Best", "Most probability of the true class times IoU.", best[::-1]),
    )
    return [Group(title, caption, tuple(_thumb(r) for r in chosen)) for title, caption, chosen in groups if chosen]


def _thumb(record: Record) -> Thumb:
    answer = record.prediction
    uri, width, height, problem = "", THUMB_PX, THUMB_PX, ""
    try:
        image, size = open_image(record.path, at_least=THUMB_PX)
    except PictureError as error:
        problem = error.what
    else:
        small = draw_thumbnail(image, _in(answer.box, size), px=THUMB_PX, size=size, truth=_in(record.box, size))
        uri = data_uri(small)
        width, height = small.size
    return Thumb(
        uri=uri,
        width=width,
        height=height,
        name="/".join(PurePath(record.path).parts[-2:]),
        truth=record.label,
        answer=answer.label,
        score=answer.score if len(answer.class_names) > 1 else None,
        iou=record.iou,
        right=record.right,
        class_right=record.class_right,
        problem=problem,
    )


def _in(box: Box, size: ImageSize) -> Box:
    """`box` in pixels of a picture of `size`: truths may have been measured on a resized copy."""
    if box.image_size is None or box.image_size == size:
        return box
    x_min, y_min, x_max, y_max = box.xyxyn
    return Box(x_min * size.width, y_min * size.height, x_max * size.width, y_max * size.height, size)
