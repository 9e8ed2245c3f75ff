"""The one path from file to pixels: every orientation, mode and format comes out upright RGB, and every way in which a
picture can be bad is one PictureError that names it."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onebox import images
from onebox.errors import PictureError
from onebox.images import load_pixels, open_image, read_size, resize_image
from onebox.types import ImageSize

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def quarters(width: int = 40, height: int = 24) -> Image.Image:
    """Red at the top left, green at the top right, blue at the bottom left, white at the bottom right."""
    image = Image.new("RGB", (width, height), WHITE)
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def near(pixel: object, expected: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.asarray(pixel, dtype=int) - expected).max() <= 12)


# How a camera stores the upright picture under each EXIF orientation: the inverse of what turns it upright again.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("as_pillow", [False, True])
@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_exif_orientation_comes_out_upright(orientation: int, kind: str, as_pillow: bool) -> None:
    turn = STORED_AS[orientation]
    stored = quarters().transpose(turn) if turn is not None else quarters()
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(stored, kind, exif=exif)
    source = Image.open(io.BytesIO(content)) if as_pillow else content
    image, size = open_image(source)
    assert image.size == size == read_size(source) == (40, 24)
    for point, colour in (((4, 4), RED), ((35, 4), GREEN), ((4, 19), BLUE), ((35, 19), WHITE)):
        assert near(image.getpixel(point), colour), (orientation, point)


@pytest.mark.parametrize("junk", [b"garbage", b"", b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_cost_the_picture(junk: bytes, kind: str) -> None:
    source = encoded(quarters(), kind, exif=b"Exif\0\0" + junk)
    image, size = open_image(source)
    assert size == read_size(source) == (40, 24)
    assert near(image.getpixel((4, 4)), RED)


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000", "TGA", "PCX", "SGI", "QOI"]
)
def test_formats_are_known_by_content_not_by_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded(quarters(), kind))
    image, size = open_image(path)
    assert image.mode == "RGB"
    assert image.size == size == read_size(str(path)) == (40, 24)
    assert near(np.asarray(image)[4, 4], RED), "the pixels outlive the file handle"
    assert near(np.asarray(image)[19, 35], WHITE)


def test_every_decoder_named_is_one_pillow_has() -> None:
    """Pillow raises KeyError for a name it lacks, and with it loses every format that comes after."""
    Image.init()
    assert set(images.DECODERS) <= set(Image.OPEN)
    assert not {"EPS", "PDF", "WMF"} & set(images.DECODERS)


def test_a_phones_multi_picture_file_gives_its_first() -> None:
    source = encoded(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (40, 24), BLUE)])
    assert Image.open(io.BytesIO(source)).format == "MPO"
    assert near(open_image(source)[0].getpixel((4, 4)), RED)
    big = encoded(quarters(800, 480), "MPO", save_all=True, append_images=[quarters(800, 480)])
    image, size = open_image(big, at_least=100)
    assert size == (800, 480)
    assert min(image.size) >= 100


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (10, 8), c) for c in (GREEN, BLUE)]
    source = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert near(open_image(source)[0].getpixel((5, 5)), GREEN)


def test_transparency_is_laid_on_white() -> None:
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert near(open_image(encoded(half, "PNG"))[0].getpixel((0, 0)), (127, 127, 127))
    clear = Image.new("LA", (4, 4), (7, 0))
    assert open_image(encoded(clear, "PNG"))[0].getpixel((0, 0)) == WHITE
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    assert open_image(encoded(palette, "PNG"))[0].getpixel((0, 0)) == (200, 0, 0)
    assert open_image(encoded(palette, "PNG", transparency=1))[0].getpixel((0, 0)) == WHITE
    grey = Image.new("L", (4, 4), 7)
    assert open_image(encoded(grey, "PNG", transparency=7))[0].getpixel((0, 0)) == WHITE
    keyed = Image.new("RGB", (4, 4), RED)
    assert open_image(encoded(keyed, "PNG", transparency=RED))[0].getpixel((0, 0)) == WHITE


def test_grey_cmyk_and_bilevel_become_rgb() -> None:
    assert open_image(encoded(Image.new("L", (3, 3), 77), "PNG"))[0].getpixel((1, 1)) == (77, 77, 77)
    assert near(open_image(encoded(quarters().convert("CMYK"), "JPEG"))[0].getpixel((4, 4)), RED)
    assert near(open_image(encoded(quarters().convert("CMYK"), "TIFF"))[0].getpixel((4, 19)), BLUE)
    assert open_image(encoded(Image.new("1", (3, 3), 1), "PNG"))[0].getpixel((1, 1)) == WHITE


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    image, _ = open_image(encoded(Image.fromarray(values), kind))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_float_and_32_bit_pictures() -> None:
    unit = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    assert np.asarray(open_image(encoded(Image.fromarray(unit), "TIFF"))[0])[0, :, 0].tolist() == [0, 128, 255]
    wild = np.array([[-10.0, 0.0, 10.0, np.nan]], dtype=np.float32)
    assert np.asarray(open_image(encoded(Image.fromarray(wild), "TIFF"))[0])[0, :, 0].tolist() == [0, 128, 255, 128]
    flat = np.full((2, 2), 70000, dtype=np.int32)
    assert open_image(encoded(Image.fromarray(flat), "TIFF"))[0].getpixel((0, 0)) == (0, 0, 0)
    small = np.array([[0, 100, 255]], dtype=np.int32)
    assert np.asarray(open_image(encoded(Image.fromarray(small), "TIFF"))[0])[0, :, 0].tolist() == [0, 100, 255]


def test_arrays_of_every_allowed_kind_agree() -> None:
    base = np.asarray(quarters())
    same = [base, base.astype(np.uint16) * 257, base / 255, (base / 255).astype(np.float32), base[::1, ::1]]
    same.append(np.dstack([base, np.full(base.shape[:2], 255, dtype=np.uint8)]))
    same.append(np.asfortranarray(base))
    for array in same:
        image, size = open_image(array)
        assert np.array_equal(np.asarray(image), base)
        assert size == read_size(array) == (40, 24)
    grey = base[:, :, 0]
    for array in (grey, grey[:, :, None], grey == 255):
        assert np.array_equal(np.asarray(open_image(array)[0])[:, :, 2], grey)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 4, 3), dtype=np.uint8),
        np.zeros((3, 8, 8), dtype=np.uint8),
        np.zeros((4, 4, 2), dtype=np.uint8),
        np.zeros((1, 4, 4, 3), dtype=np.uint8),
        np.zeros(5, dtype=np.uint8),
        np.array(3),
        np.full((4, 4, 3), 200.0),
        np.full((4, 4, 3), -0.1),
        np.full((4, 4), np.nan),
        np.zeros((4, 4, 3), dtype=np.int64),
        np.zeros((4, 4, 3), dtype=object),
    ],
)
def test_other_arrays_are_refused_with_a_reason(array: np.ndarray) -> None:
    with pytest.raises(PictureError, match="array"):
        open_image(array)


def test_a_pillow_picture_is_left_as_it_was(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "side.jpg"
    path.write_bytes(encoded(quarters(), "JPEG", exif=exif))
    with Image.open(path) as given_image:
        image, size = open_image(given_image)
        assert size == image.size == (24, 40)
        assert given_image.size == (40, 24)
        assert np.array_equal(np.asarray(image), np.asarray(open_image(path)[0]))
    held = quarters()
    image, _ = open_image(held)
    image.putpixel((0, 0), BLUE)
    assert held.getpixel((0, 0)) == RED


def test_the_four_kinds_of_source_agree(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    noise(33, 21).save(path)
    sources = [path, str(path), path.read_bytes(), Image.open(path), np.asarray(Image.open(path))]
    first = load_pixels(path, 16)[0]
    for source in sources:
        pixels, size = load_pixels(source, 16)
        assert size == (33, 21)
        assert np.array_equal(pixels, first)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 300), st.sampled_from([1, 6, 3]))
def test_reduced_decoding_never_falls_below_what_is_needed(w: int, h: int, at_least: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    source = encoded(Image.new("RGB", (w, h), RED), "JPEG", exif=exif)
    image, size = open_image(source, at_least=at_least)
    assert size == read_size(source) == ((h, w) if turn == 6 else (w, h))
    assert image.width >= min(size.width, at_least)
    assert image.height >= min(size.height, at_least)


def test_reduced_decoding_looks_the_same() -> None:
    smooth = quarters(1600, 1200).resize((1600, 1200), Image.Resampling.BICUBIC, box=(300, 300, 1300, 900))
    source = encoded(smooth, "JPEG", quality=95)
    assert open_image(source, at_least=160)[0].size == (200, 150) or open_image(source, at_least=160)[0].width >= 160
    reduced, _ = load_pixels(source, 160)
    full = resize_image(open_image(source)[0], 160)
    assert np.abs(reduced.astype(int) - full).mean() < 1.0


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (5, 2), (1000, 30)])
def test_resize_stretches_to_a_square(size: tuple[int, int]) -> None:
    pixels, full = load_pixels(Image.new("RGB", size, GREEN), 64)
    assert full == size
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == GREEN).all()


def test_resize_keeps_places() -> None:
    """No shift of half a pixel: a mirrored picture gives the mirrored result, an edge at a half stays at a half."""
    picture = noise(317, 201)
    mirrored = picture.transpose(Image.Transpose.ROTATE_180)
    difference = resize_image(mirrored, 40)[::-1, ::-1].astype(int) - resize_image(picture, 40)
    assert np.abs(difference).mean() < 2.5, "half a pixel off would cost about 9 on this noise"
    pixels = resize_image(quarters(320, 200), 40)
    assert near(pixels[18, 18], RED)
    assert near(pixels[21, 21], WHITE)


@pytest.mark.parametrize("cut", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_truncated_files_are_found(kind: str, cut: float, tmp_path: Path) -> None:
    whole = encoded(noise(120, 90), kind)
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: int(len(whole) * cut)])
    with pytest.raises(PictureError) as caught:
        open_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"hello", b"\x00" * 400, b"<svg xmlns='...'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"%PDF-1.7"]
)
def test_what_is_not_a_picture_is_said_not_to_be(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for read in (open_image, read_size):
        with pytest.raises(PictureError, match="not a picture"):
            read(path)


def test_files_that_are_not_there_or_not_files(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jpg"
    empty.touch()
    cases: list[tuple[object, str]] = [
        (tmp_path / "none.jpg", "no such file"),
        (tmp_path, "not a regular file"),
        (empty, "0 bytes"),
        (b"", "0 bytes"),
        ("https://example.org/a.jpg", "no such file"),
        (42, "cannot take a picture from int"),
        ("a" * 5000, "cannot read|no such file"),
    ]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        cases.append((tmp_path / "pipe.jpg", "not a regular file"))
    for source, reason in cases:
        for read in (open_image, read_size):
            with pytest.raises(PictureError, match=reason):
                read(source)  # type: ignore[arg-type]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [13_400, 60_000, 2_000_000_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused_from_the_header(side: int) -> None:
    for read in (open_image, read_size):
        with pytest.raises(PictureError, match=r"pixels|limit|range"):
            read(png_header(side, side))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_pixel_limit_itself_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 24 * 40)
    assert open_image(quarters())[1] == ImageSize(40, 24)
    with pytest.raises(PictureError, match="41x24 pixels is more than the 960 allowed"):
        open_image(encoded(quarters(41, 24), "PNG"))


@pytest.mark.real
def test_real_pictures_open_and_agree_with_their_headers(real_data: Path) -> None:
    checked = 0
    for folder in ("pets3/images", "tiny_vid/dog", "caltech22_mat"):
        found = (p for p in sorted((real_data / folder).rglob("*")) if p.suffix.lower() in images.PICTURE_SUFFIXES)
        for path in list(found)[::12]:
            pixels, size = load_pixels(path, 96)
            assert pixels.shape == (96, 96, 3)
            assert size == read_size(path) == open_image(path)[0].size
            checked += 1
    assert checked > 30
