"""What is wrong with the picture files themselves. Takes paths; decodes each picture once, completely, by the one
picture path, in threads; gives the facts of each, and from them findings. Keeps no pixels, follows no name that it was
not given, and writes nothing.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image

from onebox.doctor.entries import Source
from onebox.doctor.findings import LEFT_OUT, Finding, finding_at
from onebox.errors import PictureError
from onebox.formats.records import UNREADABLE_PICTURE, Problem
from onebox.images import CONTAINERS, MAX_PIXELS, Header, PictureFile
from onebox.likeness import Signature, signature
from onebox.types import ImageSize

#: Called with (pictures done, pictures in all).
Progress: TypeAlias = Callable[[int, int], None]

EMPTY = "empty-picture"
TRUNCATED = "truncated-picture"
OVERSIZED = "oversized-picture"
MISLABELLED = "mislabelled-picture"
SEVERAL_FRAMES = "several-frames"
TURNED = "turned-picture"
TINY = "tiny-picture"
GREY, CMYK, DEEP, TRANSPARENT = "grey-picture", "cmyk-picture", "deep-picture", "transparent-picture"

#: A picture with a side shorter than this shows nothing to be told apart: icons, tracking pixels, failed downloads.
SHORTEST_SIDE = 16
#: Pictures unlike the rest of their set are listed one by one where they are at most this share, or this many.
FEW_SHARE, FEW = 0.1, 5
#: JPEGs with both sides at least twice this are decoded at half scale or less: several times less memory, and whatever
#: is wrong with their data is still met on the way.
_ENOUGH = 1024
#: Other pictures of more pixels than this are decoded in a thread of their own, one at a time: each may take hundreds
#: of megabytes, and what a thread has once had in its hands the system's allocator keeps for it.
_LARGE = 2**24
_CHUNK = 32

_JPEG_FAMILY = frozenset({"JPEG", "MPO"})
_MOST_BOXES = 1000
_MODE_WORDS = {"L": "grey", "1": "black and white", "P": "palette", "LA": "grey and transparent"}
# What Pillow's decoders say when the data end too early.
_ENDED = ("truncat", "not enough image data", "broken data stream")
# What is found under a picture's name most often, by its first bytes (lower case, white space left out).
_OTHER_CONTENT = (
    ((b"version https://git-lfs",), "a Git LFS pointer: fetch the files with `git lfs pull`"),
    ((b"<!doctype html", b"<html", b"<head"), "an HTML page, such as a failed download"),
    ((b"<svg", b"<?xml"), "an XML or SVG file"),
    ((b"%pdf",), "a PDF"),
    ((b"pk\x03\x04",), "a ZIP archive"),
    ((b"{", b"["), "a JSON file"),
)


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What one look at a picture file told.

    `container`, `mode`: Pillow's names, "" where the file is no picture; `suffix`: the ending of its name, lower case;
    `stored`, `upright`: sizes before and after EXIF, None where the file is no picture; `orientation`: EXIF's 1 to 8;
    `several`, `deep`, `alpha`: more frames than one, more than 8 bits, transparency; `bytes`: the file's size;
    `digest`: of the file's bytes (16), empty where they could not be read; `problem`: why it cannot be used;
    `signature`: of the upright pixels (of a large JPEG, of reduced ones; see `onebox.likeness`), None beside a problem.
    """

    path: str
    suffix: str
    bytes: int = 0
    digest: bytes = b""
    container: str = ""
    mode: str = ""
    stored: ImageSize | None = None
    upright: ImageSize | None = None
    orientation: int = 1
    several: bool = False
    deep: bool = False
    alpha: bool = False
    problem: Problem | None = None
    signature: Signature | None = None


def examine(
    paths: Sequence[str], progress: Progress | None = None, *, workers: int | None = None
) -> Iterator[PictureFacts]:
    """The facts of every picture, in the order of `paths`; `progress` is called after each.

    Works in `workers` threads (one a core), for Pillow decodes without holding Python's lock. A few pictures at a time
    are in hand, so memory does not grow with their number. Never raises for a file, whatever is in it.
    """
    workers = workers or _cores()
    with ThreadPoolExecutor(1) as for_large, ThreadPoolExecutor(workers) as pool:
        try:
            for done, facts in enumerate(_in_order(pool, paths, workers, for_large), start=1):
                if progress is not None:
                    progress(done, len(paths))
                yield facts
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def facts_of(path: str, for_large: Executor | None = None) -> PictureFacts:
    """The facts of one picture; large ones are decoded in `for_large`, where it is given. Never raises for a file,
    whatever is in it."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - paths are strings, and many
    try:
        size, digest = _bytes_of(path)
    except PictureError as error:
        return PictureFacts(path, suffix, problem=Problem(UNREADABLE_PICTURE, error.what))
    if size == 0:
        return PictureFacts(path, suffix, problem=Problem(EMPTY, "the file is empty: 0 bytes"))
    header: Header | None = None
    found: Signature | None = None
    problem: Problem | None = None
    try:
        with PictureFile(path) as opened:
            # of a PNG the header may lie behind the pixels: it is asked for where they are decoded
            asked = for_large.submit(_look, opened) if for_large and _is_large(opened) else None
            header, found, error = asked.result() if asked else _look(opened)
    except PictureError as unopened:
        error = unopened
    if error is not None:
        problem = _problem(error, header, path, size)
    if header is None:
        return PictureFacts(path, suffix, size, digest, problem=problem)
    return PictureFacts(
        path=path,
        suffix=suffix,
        bytes=size,
        digest=digest,
        container=header.container,
        mode=header.mode,
        stored=header.stored,
        upright=header.size,
        orientation=header.orientation,
        several=header.several,
        deep=header.deep,
        alpha=header.alpha,
        problem=problem,
        signature=found,
    )


def of_pictures(facts: Mapping[str, PictureFacts], source: Source) -> list[Finding]:
    """What is wrong with these files (path -> facts). Each finding stands at the first line of `source` that speaks of
    the picture, where there is one."""
    places = {entry.path: entry.where for entry in reversed(source.entries) if entry.path is not None}
    findings: list[Finding] = []
    for one in facts.values():
        where = places.get(one.path, "")
        if one.problem is not None:
            code, reason = one.problem
            findings.append(finding_at(code, one.path, where, reason, fix=LEFT_OUT))
        findings += [finding_at(code, one.path, where, message, fix=fix) for code, message, fix in _oddities(one)]
    findings += _unlike_the_rest(list(facts.values()), places)
    return findings


def _oddities(facts: PictureFacts) -> Iterator[tuple[str, str, str]]:
    """(code, message, what a fix would write) of one picture, whether it can be used or not."""
    if facts.upright is None or facts.stored is None:
        return
    expected = CONTAINERS.get(facts.suffix)
    if expected is not None and facts.container not in expected:
        mode = _MODE_WORDS.get(facts.mode, facts.mode)
        message = f"the content is {facts.container} ({mode}), the name says {facts.suffix}"
        yield MISLABELLED, message, "The copy is named after its content."
    if facts.several:
        yield SEVERAL_FRAMES, "more than one frame or page; only the first is used", ""
    if facts.orientation != 1:
        width, height = facts.upright
        message = f"EXIF orientation {facts.orientation}: upright it is {width}x{height}, and boxes are read so"
        yield TURNED, message, ""
    if min(facts.upright) < SHORTEST_SIDE:
        yield TINY, f"only {facts.upright.width}x{facts.upright.height} pixels", ""


def _unlike_the_rest(facts: Sequence[PictureFacts], places: Mapping[str, str]) -> Iterator[Finding]:
    """Pictures of another colour kind than the set: each by itself where they are few, one line where they are many,
    nothing where the whole set is so."""
    decoded = [one for one in facts if one.problem is None]
    kinds: tuple[tuple[str, str, Callable[[PictureFacts], bool]], ...] = (
        (GREY, "no colour", lambda one: one.mode in {"L", "1", "LA"} and not one.deep),
        (CMYK, "print colours", lambda one: one.mode == "CMYK"),
        (DEEP, "more than 8 bits a channel", lambda one: one.deep),
        (TRANSPARENT, "transparency", lambda one: one.alpha),
    )
    for code, words, is_so in kinds:
        odd = [one for one in decoded if is_so(one)]
        if not odd or len(odd) == len(decoded) > 1:
            continue
        if len(odd) <= max(FEW, FEW_SHARE * len(decoded)):
            for one in odd:
                yield finding_at(code, one.path, places.get(one.path, ""), f"{words} ({one.mode})")
        else:
            yield Finding(code, None, None, None, f"{len(odd):,} of {len(decoded):,} pictures: {words}")


def _in_order(pool: Executor, paths: Sequence[str], workers: int, for_large: Executor) -> Iterator[PictureFacts]:
    """The facts in the order of `paths`; for each worker no more than two chunks are in hand or wait to be taken."""
    chunk = max(1, min(_CHUNK, len(paths) // (4 * workers)))
    pending: deque[Future[list[PictureFacts]]] = deque()
    for start in range(0, len(paths), chunk):
        pending.append(pool.submit(_facts_of_chunk, paths[start : start + chunk], for_large))
        if len(pending) >= 2 * workers:
            yield from pending.popleft().result()
    while pending:
        yield from pending.popleft().result()


def _facts_of_chunk(paths: Sequence[str], for_large: Executor) -> list[PictureFacts]:
    return [facts_of(path, for_large) for path in paths]


def _look(opened: PictureFile) -> tuple[Header | None, Signature | None, PictureError | None]:
    """Decodes it, and keeps nothing of the pixels but the signature."""
    header: Header | None = None
    try:
        header = opened.header()
        return header, signature(opened.decode(at_least=_ENOUGH), opened.size), None
    except PictureError as error:
        return header, None, error


def _is_large(opened: PictureFile) -> bool:
    width, height = opened.stored
    reduced = 2 if opened.container in _JPEG_FAMILY and min(opened.stored) >= 2 * _ENOUGH else 1
    return width * height > _LARGE * reduced**2


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bytes_of(path: str) -> tuple[int, bytes]:
    """Size and digest of a regular file. Raises PictureError for anything else: a FIFO or a device would hang."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a string, and many
            raise PictureError("not a regular file", where=path)
        with open(path, "rb") as file:  # noqa: PTH123
            digest = hashlib.file_digest(file, _blake2b_128)
            return file.tell(), digest.digest()
    except FileNotFoundError:
        raise PictureError("no such file", where=path) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise PictureError(f"cannot read this picture ({reason})", where=path) from None


def _blake2b_128() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _problem(error: PictureError, header: Header | None, path: str, size: int) -> Problem:
    """Which of the problems this is, and why, in a person's words."""
    if isinstance(error.__cause__, Image.DecompressionBombError):
        return Problem(OVERSIZED, f"claims more than the {MAX_PIXELS:,} pixels allowed; nothing of it was decoded")
    text = error.what.lower()
    if (header is not None and any(words in text for words in _ENDED)) or _ends_early(path, size):
        what = f"{header.container} of {header.stored.width}x{header.stored.height}, " if header else ""
        return Problem(TRUNCATED, f"the file ends before the picture does ({what}{size:,} bytes are there)")
    instead = _content_instead(path) if header is None else None
    return Problem(UNREADABLE_PICTURE, f"not a picture but {instead}" if instead else error.what)


def _ends_early(path: str, size: int) -> bool:
    """Whether a WebP or AVIF file says that it is longer than it is: Pillow does not even open those."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            head = file.read(12)
            if head[:4] == b"RIFF" and head[8:] == b"WEBP":
                return int.from_bytes(head[4:8], "little") + 8 > size
            if head[4:8] != b"ftyp":
                return False
            # ISO 14496-12, 4.2: a chain of boxes, each with its length in front; 0: to the end of the file
            place = 0
            for _ in range(_MOST_BOXES):
                file.seek(place)
                start = file.read(16)
                length = int.from_bytes(start[:4], "big")
                if length == 1:
                    length = int.from_bytes(start[8:16], "big")
                if length < 8:
                    return False
                place += length
                if place >= size:
                    return place > size
    except OSError:
        pass
    return False


def _content_instead(path: str) -> str | None:
    """What a file that is no picture seems to be."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            head = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    except OSError:
        return None
    return next((what for starts, what in _OTHER_CONTENT if head.startswith(starts)), None)
