"""The one path from a file to pixels: `open_image`, then `resize_image`. Training cache, validation, the ONNX
runtime and the server all take it, so that a model never meets a picture prepared another way. Takes paths, bytes,
Pillow images and arrays; gives upright RGB. Never writes, never follows a URL.
"""

from __future__ import annotations

import functools
import io
import os
import warnings
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from onebox.errors import PictureError
from onebox.types import ImageSize

Pixels: TypeAlias = npt.NDArray[np.uint8]
ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.generic]"

#: A picture that claims more pixels than this is refused from its header, before anything is decoded.
#: Twice Pillow's own warning limit, which is where Pillow itself refuses.
MAX_PIXELS = 178_956_970

#: Raster decoders only. EPS, PDF and the like are left out: they run an interpreter on untrusted input.
#: MPO needs no name of its own: Pillow's JPEG decoder hands such files on, and asking for it by name is a KeyError.
DECODERS: tuple[str, ...] = (
    *("JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000", "TGA", "ICO"),
    *("PCX", "SGI", "DDS", "QOI", "MSP", "XBM", "XPM", "SPIDER", "SUN"),
)

#: File endings taken for pictures when a folder is listed; the decoder itself looks at the content, not at the name.
PICTURE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".tga", ".ico", ".qoi"),
    )
)

_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})
# EXIF 2.32, tag 0x0112: what turns the stored pixels upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(source: ImageSource, *, at_least: int | None = None) -> tuple[Image.Image, ImageSize]:
    """Decodes one picture completely to upright RGB.

    EXIF orientation is applied; 16-bit and float pictures are scaled to 8 bits; palette and transparent pictures are
    laid on white; CMYK, grey and others are converted. Of an animation the first frame is taken. Arrays are (H, W),
    (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16 or float in 0-1, RGB order.

    `at_least`: a JPEG whose sides are both much larger than this is decoded at 1/2, 1/4 or 1/8 scale (both sides stay
    >= `at_least`), which is several times faster; the size returned is still that of the full upright picture.

    Returns the picture and its full upright size. Raises PictureError, with the reason, for anything unreadable,
    truncated (found because everything is decoded) or larger than MAX_PIXELS.
    """
    if isinstance(source, np.ndarray):
        image = _from_array(source)
        return image, ImageSize(*image.size)
    name = describe_source(source)
    try:
        with _open(source) as opened:
            size = _upright_size(opened)
            if at_least is not None and opened.format in {"JPEG", "MPO"}:
                opened.draft("RGB", (at_least, at_least))
            opened.load()
            turn = _TURNS.get(_orientation(opened))
            return _to_rgb(opened.transpose(turn) if turn is not None else opened), size
    except PictureError:
        raise
    except FileNotFoundError:
        raise PictureError("no such file", where=name) from None
    except Exception as error:  # decoders raise many kinds (OSError, SyntaxError, struct.error, ...) on damaged files
        raise PictureError(f"cannot read this picture ({_reason(error)})", where=name) from error


def read_size(source: ImageSource) -> ImageSize:
    """Upright size from the header alone; nothing is decoded. Raises PictureError."""
    if isinstance(source, np.ndarray):
        return ImageSize(*_from_array(source).size)
    name = describe_source(source)
    try:
        with _open(source) as opened:
            return _upright_size(opened)
    except PictureError:
        raise
    except FileNotFoundError:
        raise PictureError("no such file", where=name) from None
    except Exception as error:
        raise PictureError(f"cannot read this picture ({_reason(error)})", where=name) from error


def resize_image(image: Image.Image, imgsz: int) -> Pixels:
    """Plain stretch of an RGB picture to (imgsz, imgsz, 3) uint8, bilinear with antialiasing (Pillow's)."""
    resized = image.resize((imgsz, imgsz), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(resized, dtype=np.uint8)


def load_pixels(source: ImageSource, imgsz: int) -> tuple[Pixels, ImageSize]:
    """`open_image` then `resize_image`: (imgsz, imgsz, 3) uint8 and the full upright size. Raises PictureError."""
    image, size = open_image(source, at_least=imgsz)
    return resize_image(image, imgsz), size


def describe_source(source: object) -> str:
    """A name for messages: the path, or what kind of thing was given."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>"
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or "<Pillow image>"
    if isinstance(source, np.ndarray):
        return f"<array {source.shape} {source.dtype}>"
    return f"<{type(source).__name__}>"


def _open(source: object) -> Image.Image:
    _silence_bomb_warning()
    if isinstance(source, Image.Image):
        opened = source.copy()
        opened.format = source.format
    elif isinstance(source, bytes):
        if not source:
            raise PictureError("empty: 0 bytes", where=describe_source(source))
        opened = Image.open(io.BytesIO(source), formats=DECODERS)
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not path.exists():
            raise PictureError("no such file", where=str(path))
        if not path.is_file():  # a FIFO or device would hang; a folder is not a picture
            raise PictureError("not a regular file", where=str(path))
        if path.stat().st_size == 0:
            raise PictureError("empty: 0 bytes", where=str(path))
        opened = Image.open(path, formats=DECODERS)
    else:
        raise PictureError(
            f"cannot take a picture from {type(source).__name__}", fix="Give a path, bytes, a Pillow image or an array."
        )
    if opened.width * opened.height > MAX_PIXELS:
        raise PictureError(
            f"{opened.width}x{opened.height} pixels is more than the {MAX_PIXELS:,} allowed",
            where=describe_source(source),
            fix="Shrink the picture first.",
        )
    return opened


@functools.cache
def _silence_bomb_warning() -> None:
    # Once, on first use: we refuse by MAX_PIXELS ourselves. warnings.catch_warnings is not safe in decoding threads.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def _upright_size(image: Image.Image) -> ImageSize:
    width, height = image.size
    if _orientation(image) in _SIDEWAYS:
        width, height = height, width
    return ImageSize(width, height)


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1 (upright) where EXIF says nothing, or is damaged: that does not make the pixels unreadable."""
    if image.format == "TIFF":  # Pillow's TIFF reader turns pixels and size by itself
        return 1
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # Pillow raises SyntaxError, struct.error and others here
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_to_8_bits(np.asarray(image))
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _scale_to_8_bits(values: npt.NDArray[np.generic]) -> Image.Image:
    """16-bit integers by their full range; other ranges (32-bit, float beyond 0-1) by the picture's own range."""
    v = np.asarray(values, dtype=np.float64)
    v = np.nan_to_num(v, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(v.min()), float(v.max())
    if np.issubdtype(values.dtype, np.floating) and low >= 0 and high <= 1:
        scaled = v * 255
    elif np.issubdtype(values.dtype, np.integer) and low >= 0 and high <= 255 and values.dtype.itemsize != 2:
        scaled = v
    elif np.issubdtype(values.dtype, np.integer) and low >= 0 and high <= 65535:
        scaled = v / 65535 * 255
    else:
        scaled = (v - low) / (high - low) * 255 if high > low else np.zeros_like(v)
    return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")


def _from_array(array: npt.NDArray[np.generic]) -> Image.Image:
    """Pixels the caller already holds. Raises PictureError for shapes and types that are not a picture."""
    where = describe_source(array)
    shape: tuple[int, ...] = array.shape
    good_shape = len(shape) == 2 or (len(shape) == 3 and shape[2] in {1, 3, 4})
    if not good_shape or 0 in shape:
        raise PictureError(
            "an array picture must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not empty",
            where=where,
            fix="Move the colour axis to the end.",
        )
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[:, :, 0]
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = np.rint(array.astype(np.float64) / 257).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise PictureError("a float array picture must be finite and in 0-1", where=where, fix="Divide by 255.")
        array = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise PictureError("an array picture must be uint8, uint16 or float in 0-1", where=where)
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)))


def _reason(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "cannot identify image file" in text:
        return "not a picture, or a damaged one"
    return text
