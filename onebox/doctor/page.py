"""The doctor's page, `check.html`: from a checkup to one HTML file without scripts that loads nothing. Opens the
pictures of findings again to draw their boxes, and only those that the checkup itself looked at; what a name in an
annotation points to is never opened. Changes nothing but the page.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from onebox.doctor.clusters import clustered
from onebox.doctor.findings import CODES, LEVELS, RANKED, Checkup, Corners, Finding, Level
from onebox.draw import PREDICTION, TRUTH, Colour, draw_box, draw_thumbnail
from onebox.errors import PictureError
from onebox.formats.table import LAYOUTS
from onebox.images import open_image
from onebox.pages import data_uri, render_page, write_page
from onebox.types import Box

#: Longer side of a thumbnail in pixels, and of those in a cluster of three and more.
THUMB_PX, CLUSTER_PX = 240, 180
#: Of a picture's own boxes, and of those of the other picture of a pair.
OWN: Colour = PREDICTION
OTHER: Colour = TRUTH
# What keeps any page below 5 MB, and readable: findings drawn and listed for one code; bytes of all cards and of all
# rows, each shared equally among the codes; classes; letters of one value.
_MOST_DRAWN, _MOST_LISTED = 12, 300
_CARD_BYTES, _ROW_BYTES = 2_700_000, 1_500_000
_MARKUP_BYTES = 300
_MOST_CLASSES = 60
_MOST_OBJECTS, _MOST_NAMED = 20, 4
# Of one cluster of copies: pictures drawn, findings told.
_MOST_IN_CLUSTER, _MOST_TOLD = 4, 2
_MOST_LETTERS = 160

_TITLES: dict[Level, tuple[str, str]] = {
    "error": ("errors", "cannot be used, or teach something wrong"),
    "warning": ("warnings", "worth a look"),
    "info": ("notes", "good to know"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One finding as text. `sure` is "" where there is no doubt."""

    message: str
    place: str
    name: str
    sure: str
    fix: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """One picture in the page; `uri` is empty where it cannot be shown, and `problem` says why."""

    name: str
    uri: str = ""
    width: int = THUMB_PX
    height: int = THUMB_PX
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One finding with its picture, or all findings about a cluster of copies with several of its pictures; `more`
    counts further pictures, `below` the findings that are listed as text instead."""

    rows: tuple[Row, ...]
    pictures: tuple[Drawn, ...]
    more: int
    below: int


@dataclass(frozen=True, slots=True)
class Group:
    """All findings of one code: the first as cards, then rows; `hidden` counts those not on the page. `clusters`:
    groups of copies, where several findings speak of one; else 0."""

    code: str
    level: Level
    meaning: str
    total: int
    pictures: int
    cards: tuple[Card, ...]
    rows: tuple[Row, ...]
    hidden: int
    clusters: int


def write_check_page(path: Path, checkup: Checkup, *, root: str = "") -> None:
    """Writes the page to `path`, whole or not at all; a page already there is replaced.

    `root` is the data folder, or the annotation file, as the person gave it: it heads the page, and paths below it are
    shown from there. Raises RunFolderError where the file cannot be written. To be called as
    `write_check_page(path, check(data), root=data)`.
    """
    write_page(path, render_check_page(checkup, root=root))


def render_check_page(checkup: Checkup, *, root: str = "") -> str:
    """The page as text, at most 5 MB whatever the checkup; arguments as in `write_check_page`."""
    title, root = _title_and_folder(os.fspath(root))
    levels = Counter(finding.level for finding in checkup.findings)
    touched = {level: {f.picture for f in checkup.findings if f.level == level and f.picture} for level in LEVELS}
    classes = list(checkup.classes.items())
    groups = _groups(checkup, root)
    return render_page(
        "doctor",
        "page.html",
        styles="page.css",
        name=title,
        root=root,
        checkup=checkup,
        layout=next((row.title for row in LAYOUTS if row.name == checkup.layout), checkup.layout),
        levels=[(level, *_TITLES[level], levels[level], len(touched[level])) for level in LEVELS],
        groups=groups,
        drawn=any(group.cards for group in groups),
        pairs=any(len(card.pictures) > 1 for group in groups for card in group.cards),
        suspects=any(group.code in RANKED and group.cards for group in groups),
        classes=classes[:_MOST_CLASSES],
        more_classes=max(0, len(classes) - _MOST_CLASSES),
        largest=max(checkup.classes.values(), default=0) or 1,
        letters=_MOST_LETTERS,
    )


def _title_and_folder(root: str) -> tuple[str, str]:
    """What to call the data set, and the folder that its paths are shown from."""
    if not root:
        return "", ""
    whole = os.path.abspath(root)  # noqa: PTH100 - "." has a name, too
    return os.path.basename(whole), os.path.dirname(root) if os.path.isfile(root) else root  # noqa: PTH113, PTH119, PTH120


def _groups(checkup: Checkup, root: str) -> list[Group]:
    by_code: dict[str, list[Finding]] = {}
    for finding in checkup.findings:
        by_code.setdefault(finding.code, []).append(finding)
    drawn_codes = sum(any(f.picture in checkup.boxes for f in findings) for findings in by_code.values())
    room = (_CARD_BYTES // max(1, drawn_codes), _ROW_BYTES // max(1, len(by_code)))
    return [_group(code, findings, checkup, root, room) for code, findings in by_code.items()]


def _group(code: str, findings: Sequence[Finding], checkup: Checkup, root: str, room: tuple[int, int]) -> Group:
    """The surest findings are drawn, as many as there is room for, those about one cluster of copies on one card; the
    others are listed. `room`: bytes of cards and of rows."""
    cards: list[Card] = []
    listed: list[Finding] = []
    for_cards, for_rows = room
    clusters = clustered(sorted(findings, key=lambda f: -f.confidence))
    for cluster in clusters:
        if for_cards > 0 and cluster[0].picture in checkup.boxes and len(cards) < _MOST_DRAWN:
            card = _card(cluster, checkup, root)
            for_cards -= sum(len(picture.uri) + 3 * _bytes(picture.name) for picture in card.pictures)
            for_cards -= sum(map(_cost, card.rows))
            if for_cards > 0:
                cards.append(card)
                listed += cluster[len(card.rows) :]
                continue
        listed += cluster
    rows: list[Row] = []
    for finding in listed[:_MOST_LISTED]:
        row = _row(finding, root)
        for_rows -= _cost(row)
        if for_rows < 0:
            break
        rows.append(row)
    return Group(
        code=code,
        level=CODES[code].level,
        meaning=CODES[code].meaning,
        total=len(findings),
        pictures=len({f.picture for f in findings if f.picture}),
        cards=tuple(cards),
        rows=tuple(rows),
        hidden=len(listed) - len(rows),
        clusters=len(clusters) if len(clusters) < len(findings) else 0,
    )


def _cost(row: Row) -> int:
    """Bytes of a row in the page, or a little more."""
    return _MARKUP_BYTES + _bytes(row.message, 2) + sum(map(_bytes, (row.place, row.name, row.fix)))


def _bytes(text: str, times: int = 1) -> int:
    return len(escape(text[: times * _MOST_LETTERS]).encode("utf-8", "replace"))


def _row(finding: Finding, root: str) -> Row:
    place = f"{_shown(finding.file, root)}:{finding.line}" if finding.line else _shown(finding.file, root)
    sure = f"{finding.confidence:.0%} sure" if finding.confidence < 0.995 else ""
    return Row(finding.message, place, _shown(finding.picture, root), sure, finding.fix)


def _card(cluster: Sequence[Finding], checkup: Checkup, root: str) -> Card:
    """The first picture with its own boxes and those of the others; then the others."""
    picture = cluster[0].picture or ""
    dashed = [f.other_box for f in cluster if f.picture == picture and f.other_box is not None]
    paths = dict.fromkeys(path for f in cluster for path in (f.picture, *f.others) if path is not None)
    others = [path for path in paths if path in checkup.boxes and path != picture]
    most = 1 if len(cluster) == 1 else _MOST_IN_CLUSTER - 1
    px = CLUSTER_PX if min(most, len(others)) > 1 else THUMB_PX
    shown = [_drawn(picture, checkup.boxes[picture], dashed[:_MOST_IN_CLUSTER], root, px)]
    shown += [_drawn(path, checkup.boxes[path], (), root, px, is_other=True) for path in others[:most]]
    rows = [_row(finding, root) for finding in cluster[:_MOST_TOLD]]
    return Card(tuple(rows), tuple(shown), max(0, len(others) - most), len(cluster) - len(rows))


def _drawn(
    path: str,
    objects: Sequence[tuple[str, Corners]],
    other_boxes: Sequence[Corners],
    root: str,
    px: int,
    *,
    is_other: bool = False,
) -> Drawn:
    name = _shown(path, root)
    try:
        image, size = open_image(path, at_least=px)
    except PictureError as error:
        return Drawn(name, problem=error.what)
    small = draw_thumbnail(image, None, px=px, size=size)
    factors = (small.width / size.width, small.height / size.height)
    small = _with_boxes(small, factors, objects, other_boxes, OTHER if is_other else OWN)
    return Drawn(name, data_uri(small, quality=78), small.width, small.height)


def _with_boxes(
    small: Image.Image,
    factors: tuple[float, float],
    objects: Sequence[tuple[str, Corners]],
    other_boxes: Sequence[Corners],
    colour: Colour,
) -> Image.Image:
    """Every object that has a box of four numbers, solid in `colour`, and dashed the boxes of other pictures of a
    cluster. Of many objects the first are drawn, without their names."""
    boxes = [(label, box) for label, corners in objects if (box := _scaled(corners, factors)) is not None]
    dashed = [box for corners in other_boxes if (box := _scaled(corners, factors)) is not None]
    if not boxes:
        for box in dashed:
            small = draw_box(small, box, "", colour=OTHER)
        return small
    for label, box in boxes[:_MOST_OBJECTS]:
        text = label if len(boxes) <= _MOST_NAMED else ""
        small = draw_box(small, box, text, colour=colour, truth=dashed[0] if dashed else None)
        for other in dashed[1:]:
            small = draw_box(small, box, text, colour=colour, truth=other)
        dashed = []
    return small


def _scaled(corners: Corners, factors: tuple[float, float]) -> Box | None:
    """In pixels of the thumbnail; None for a box that is not four finite numbers."""
    x_min, y_min, x_max, y_max = corners
    if not all(math.isfinite(v) for v in corners):
        return None
    return Box(x_min * factors[0], y_min * factors[1], x_max * factors[0], y_max * factors[1])


def _shown(path: str | None, root: str) -> str:
    """A path from the root on, where it lies below it; else as it is."""
    if not path:
        return ""
    start = os.path.join(os.path.normpath(root), "") if root else ""  # noqa: PTH118 - strings may hold odd bytes
    return path.removeprefix(start).replace(os.sep, "/") if start else path
