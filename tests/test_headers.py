"""Sizes read straight from headers: never another than Pillow's, whatever the file holds, and given for what is
ordinary."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from onebox.errors import PictureError
from onebox.formats.pictures import is_picture
from onebox.formats.tree import scan
from onebox.headers import quick_size
from onebox.images import MAX_PIXELS, PictureFile, read_size

XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def by_pillow(path: Path) -> tuple[int, int] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF: here all warnings are errors, which would end the reading
        try:
            with PictureFile(path) as opened:
                return tuple(opened.size)
        except PictureError:
            return None


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def plain(mode: str = "RGB", size: tuple[int, int] = (90, 60)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


def turned(orientation: int, **more: Any) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A camera maker of a long name"
    for tag, value in more.items():
        exif[int(tag[1:], 16)] = value
    return exif


def png_text(**chunks: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for key, value in chunks.items():
        info.add_text(key, value)
    return info


#: Files that must be read without Pillow's help.
ORDINARY: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: saved(plain(), "JPEG"),
    "grey jpeg": lambda: saved(plain("L"), "JPEG"),
    "cmyk jpeg": lambda: saved(plain("CMYK"), "JPEG"),
    "progressive": lambda: saved(plain(), "JPEG", progressive=True),
    "optimized": lambda: saved(plain(), "JPEG", optimize=True, quality=95),
    "restarts": lambda: saved(plain(), "JPEG", restart_marker_rows=1),
    "comment": lambda: saved(plain(), "JPEG", comment=b"c" * 5000),
    "profile": lambda: saved(plain(), "JPEG", icc_profile=b"p" * 90_000),
    **{f"orientation {i}": lambda i=i: saved(plain(), "JPEG", exif=turned(i)) for i in range(1, 9)},
    "exif without": lambda: saved(plain(), "JPEG", exif=Image.Exif().tobytes() + b"II*\0\x08\0\0\0\0\0\0\0\0\0"),
    **{f"png {m}": lambda m=m: saved(plain(m), "PNG") for m in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16")},
    "png dpi": lambda: saved(plain(), "PNG", dpi=(300, 300)),
    "large png": lambda: saved(Image.effect_noise((700, 500), 90), "PNG"),
}  # fmt: skip
#: Files that Pillow must look at: what they hold may turn them.
SPECIAL: dict[str, Callable[[], bytes]] = {
    "xmp alone": lambda: saved(plain(), "JPEG", xmp=XMP),
    "long orientation": lambda: saved(plain(), "JPEG", exif=turned(6)).replace(
        b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00", b"\x01\x12\x00\x04\x00\x00\x00\x01\x00\x00\x00\x06"
    ),
    "png exif": lambda: saved(plain(), "PNG", exif=turned(6)),
    "png xmp": lambda: saved(plain(), "PNG", pnginfo=png_text(**{"XML:com.adobe.xmp": XMP.decode()})),
    "png raw exif": lambda: saved(
        plain(), "PNG", pnginfo=png_text(**{"Raw profile type exif": "\nexif\n 40\n" + turned(6).tobytes().hex()})
    ),
    "gif": lambda: saved(plain(), "GIF"),
    "webp": lambda: saved(plain(), "WEBP", exif=turned(6)),
    "bmp": lambda: saved(plain(), "BMP"),
    "tiff": lambda: saved(plain(), "TIFF"),
    "empty": lambda: b"",
    "rubbish": lambda: b"rubbish",
}


@pytest.mark.parametrize("kind", [*ORDINARY, *SPECIAL])
def test_the_same_as_pillow(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes({**ORDINARY, **SPECIAL}[kind]())
    quick = quick_size(str(path), MAX_PIXELS)
    expected = by_pillow(path)
    if kind in ORDINARY:
        assert quick == expected
        assert expected is not None
        assert read_size(str(path)) == expected
    else:
        assert quick is None


def test_orientation_turns_the_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for orientation in range(1, 9):
        for both in (saved(plain(), "JPEG", exif=turned(orientation)),
                     saved(plain(), "JPEG", exif=turned(orientation), xmp=XMP)):  # fmt: skip
            path.write_bytes(both)
            assert quick_size(str(path), MAX_PIXELS) == ((60, 90) if orientation >= 5 else (90, 60))


def test_exif_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    whole = saved(plain(), "PNG", exif=turned(6))
    start = whole.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(whole[start : start + 4], "big")
    without = whole[:start] + whole[end:]
    path.write_bytes(without[:-12] + whole[start:end] + without[-12:])
    assert quick_size(str(path), MAX_PIXELS) is None
    assert read_size(str(path)) == by_pillow(path) == (60, 90)


def test_exif_behind_the_frame_of_a_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    whole = saved(plain(), "JPEG", exif=turned(6))
    start = whole.index(b"Exif") - 4
    end = start + 2 + int.from_bytes(whole[start + 2 : start + 4], "big")
    scan_start = whole.index(b"\xff\xda")
    path.write_bytes(whole[:start] + whole[end:scan_start] + whole[start:end] + whole[scan_start:])
    assert quick_size(str(path), MAX_PIXELS) == by_pillow(path) == (60, 90)


def test_limits_and_what_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(plain(), "PNG"))
    assert quick_size(str(path), 90 * 60) == (90, 60)
    assert quick_size(str(path), 90 * 60 - 1) is None
    for wrong in (str(tmp_path), str(tmp_path / "gone.jpg"), "a\0b.jpg", "", "/dev/null"):
        assert quick_size(wrong, MAX_PIXELS) is None


FILES = [make() for make in {**ORDINARY, **SPECIAL}.values()]


@settings(max_examples=1500, deadline=None)
@example(list({**ORDINARY, **SPECIAL}).index("orientation 5"), 4475, 1)  # the camera's name lies beyond the file's end
@given(st.integers(0, len(FILES) - 1), st.integers(0, 2**32), st.integers(1, 6))
def test_damaged_files_are_never_given_another_size(
    tmp_path_factory: pytest.TempPathFactory, which: int, seed: int, changes: int
) -> None:
    """Most changes fall on the header, where they matter."""
    content, rng = bytearray(FILES[which]), random.Random(seed)
    for _ in range(changes):
        reach = min(len(content), rng.choice((40, 200, 800, 10**6)))
        at = rng.randrange(reach + 1) if reach else 0
        way = rng.randrange(4)
        if way == 0 and at < len(content):
            content[at] = rng.randrange(256)
        elif way == 1 and at < len(content):
            content[at] = rng.choice((0, 1, 2, 0xC0, 0xD8, 0xDA, 0xDB, 0xE0, 0xE1, 0xFE, 0xFF))
        elif way == 2:
            del content[at : at + rng.choice((1, 2, 60, 10**6))]
        else:
            content[at:at] = rng.choice((b"\xff", b"\0", b"\xff\xe1\0\x08Exif\0\0", bytes(content[:at])[-70:]))
    path = tmp_path_factory.getbasetemp() / "damaged.jpg"
    path.write_bytes(content)
    quick = quick_size(str(path), MAX_PIXELS)
    assert quick is None or quick == by_pillow(path)


@pytest.mark.real
def test_the_real_sets(real_data: Path) -> None:
    """A sample of every set; nearly all are read without Pillow's help."""
    looked_at = quick_ones = 0
    for folder in sorted(p for p in real_data.iterdir() if p.is_dir()):
        tree = scan(str(folder))
        for relative in [f for f in tree.files if is_picture(f)][::29]:
            quick = quick_size(tree.path(relative), MAX_PIXELS)
            looked_at += 1
            if quick is not None:
                quick_ones += 1
                assert quick == by_pillow(Path(tree.path(relative))), relative
    assert looked_at > 300
    assert quick_ones > 0.6 * looked_at
