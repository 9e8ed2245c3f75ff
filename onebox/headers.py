"""The upright size of plain JPEG and PNG files straight from their first bytes, some fifty times as fast as opening
them with Pillow: a data set of a million pictures has a million headers to read. Takes a path; gives the size, or None
for whatever is not entirely ordinary (other containers, damage, metadata that need interpretation), which is then
Pillow's to judge. Never decodes, and never contradicts Pillow: the tests compare the two.
"""

from __future__ import annotations

import os
import re
import struct
import zlib

_HEAD = 2048
_MORE = 1024
#: Not to wait for a FIFO's writer, nor to become the owner of a terminal.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_segment = struct.Struct(">BBH").unpack_from
_frame = struct.Struct(">BHHB").unpack_from
_chunk = struct.Struct(">I4s").unpack_from
_crc = struct.Struct(">I").unpack_from

# JPEG markers (ITU-T T.81, table B.1) that say nothing of size or orientation, once their length is known.
_DHT, _DQT, _DRI, _COM, _SOS = 0xC4, 0xDB, 0xDD, 0xFE, 0xDA
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_SIMPLE = frozenset({_DHT, _DRI, _COM})
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})

#: What libjpeg writes by default, most JPEGs in most data sets, recognised in one step: APP0 of JFIF, quantization
#: tables of 8 bits, a frame of one or three components, the Huffman tables of T.81 annex K.3, start of scan.
_ORDINARY_JPEG = re.compile(
    rb"\xff\xd8\xff\xe0\x00\x10JFIF\0.{9}"
    rb"(?:\xff\xdb\x00\x43[\x00-\x0f].{64})+"
    rb"\xff[\xc0-\xc2]\x00(?:\x0b(?=.{5}\x01)|\x11(?=.{5}\x03))\x08(.{4})(?:\x01.{3}|\x03.{9})"
    rb"(?:\xff\xc4\x00(?:\x1f.{29}|\xb5.{179}))*"
    rb"\xff\xda\x00(?:\x08.{6}|\x0c.{10})",
    re.DOTALL,
)
_size = struct.Struct(">HH").unpack_from

_PNG = b"\x89PNG\r\n\x1a\n"
#: Bit depth and colour type (PNG specification, table 11.1).
_PNG_KINDS = frozenset(
    (depth, kind)
    for kind, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items()
    for depth in depths
)
#: Chunks that say nothing of size or orientation, with the least length Pillow asks of them.
_PNG_SIMPLE = {
    b"PLTE": 0,
    b"gAMA": 4,
    b"cHRM": 32,
    b"sRGB": 1,
    b"pHYs": 9,
    b"tRNS": 6,
    b"bKGD": 0,
    b"sBIT": 0,
    b"tIME": 0,
    b"hIST": 0,
}
#: A larger file of one chunk after another is Pillow's.
_MOST_CHUNKS = 4096

#: Bytes of a value of each EXIF type (TIFF 6.0, section 2).
_FORM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


def quick_size(path: str, most_pixels: int) -> tuple[int, int] | None:
    """(width, height) of the upright picture; None where Pillow must look: also for everything unreadable, and for
    pictures of more than `most_pixels`. Never raises."""
    try:
        fd = os.open(path, _FLAGS)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None
    try:
        head = os.read(fd, _HEAD)
        if head.startswith(b"\xff\xd8\xff"):
            match = _ORDINARY_JPEG.match(head)
            if match:
                height, width = _size(head, match.start(1))
                size = (width, height)
            else:
                size = _jpeg(fd, head)
        elif head.startswith(_PNG):
            size = _png(fd, head)
        else:
            return None
    except (OSError, struct.error, IndexError):
        return None
    finally:
        os.close(fd)
    return size if size is not None and 0 < size[0] * size[1] <= most_pixels else None


def _jpeg(fd: int, head: bytes) -> tuple[int, int] | None:
    """Walks the segments to the start of scan: what stands behind it cannot change size or orientation. Raises
    struct.error or IndexError where the file ends before that."""
    start, at = 0, 2  # `head` begins at byte `start` of the file
    width = height = 0
    turned: int | None = None
    has_xmp = False
    while True:
        try:
            mark, kind, length = _segment(head, at)
        except struct.error:
            head, start, at = os.pread(fd, _MORE, start + at), start + at, 0
            mark, kind, length = _segment(head, at)
        if mark != 0xFF or length < 2:
            return None
        if kind in _SIMPLE:
            pass
        elif kind == _SOS:
            if at + 2 + length > len(head) and len(os.pread(fd, length, start + at + 2)) < length:
                return None
            if not width or (has_xmp and turned is None):
                return None
            return (height, width) if turned in _SIDEWAYS else (width, height)
        else:
            body = head[at + 4 : at + 2 + length]
            if len(body) < length - 2:
                body = os.pread(fd, length - 2, start + at + 4)
                if len(body) < length - 2:
                    return None
            if kind in _FRAMES:
                bits, tall, wide, layers = _frame(body)
                if width or bits != 8 or layers not in (1, 3, 4) or len(body) != 6 + 3 * layers or not tall * wide:
                    return None
                width, height = wide, tall
            elif kind == _APP1 and body.startswith(b"Exif\0\0"):
                if turned is not None:  # in two parts
                    return None
                turned = _orientation(body[6:])
                if turned is None:
                    return None
                turned = turned or None
            elif kind == _APP1:
                has_xmp = has_xmp or body.startswith(b"http://ns.adobe.com/xap/1.0/\0")
            elif not _harmless(kind, body):
                return None
        at += 2 + length


def _harmless(kind: int, body: bytes) -> bool:
    """Whether Pillow takes this segment without complaint and without its saying anything of size or orientation."""
    if kind == _DQT:
        return bool(body) and len(body) % 65 == 0 and all(body[i] < 16 for i in range(0, len(body), 65))
    if kind == _APP0:
        return not body.startswith(b"JFIF") or len(body) >= 14
    if kind == _APP2:
        return body.startswith(b"ICC_PROFILE\0") and len(body) >= 14
    return kind == _APP14 and (not body.startswith(b"Adobe") or len(body) >= 12)


def _orientation(tiff: bytes) -> int | None:
    """EXIF's orientation (EXIF 2.32, tag 0x0112), 0 where it gives none; None where it needs interpretation."""
    if tiff.startswith(b"II*\0"):
        order = "<"
    elif tiff.startswith(b"MM\0*"):
        order = ">"
    else:
        return None
    (offset,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, offset)
    if offset < 8 or offset + 2 + 12 * count > len(tiff):
        return None
    found = 0
    for i in range(count):
        at = offset + 2 + 12 * i
        tag, form, values, value = struct.unpack_from(order + "HHIH", tiff, at)
        (place,) = struct.unpack_from(order + "I", tiff, at + 8)
        taken = values * _FORM_BYTES.get(form, len(tiff))
        if taken > 4 and place + taken > len(tiff):  # cut off: Pillow reads no entry behind it
            return None
        if tag == _ORIENTATION:
            if found or form != 3 or values != 1 or not value:
                return None
            found = value
    return found


def _png(fd: int, head: bytes) -> tuple[int, int] | None:
    """Looks at every chunk, for EXIF may stand behind the pixels too. Raises struct.error where the file ends early."""
    length, name = _chunk(head, 8)
    width, height, depth, kind, _, method, _ = struct.unpack_from(">IIBBBBB", head, 16)
    if name != b"IHDR" or length != 13 or (depth, kind) not in _PNG_KINDS or method or not _sound(head, 8, 13):
        return None
    at = 33
    while True:
        length, name = _chunk(head, at)
        if name == b"IDAT":
            break
        if length < _PNG_SIMPLE.get(name, 1 << 32) or not _sound(head, at, length):
            return None
        at += 12 + length
    for _ in range(_MOST_CHUNKS):
        at += 12 + length
        length, name = _chunk(head, at) if at + 8 <= len(head) else _chunk(os.pread(fd, 8, at))
        if name == b"IEND":
            return width, height
        if name not in (b"IDAT", b"tIME"):
            return None
    return None


def _sound(head: bytes, at: int, length: int) -> bool:
    """Whether the chunk lies in `head` as a whole and its checksum is right."""
    end = at + 8 + length
    return end + 4 <= len(head) and zlib.crc32(head[at + 4 : end]) == _crc(head, end)[0]
