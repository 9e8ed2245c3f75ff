"""The one path from a file to pixels: `open_image`, then `resize_image`. Training cache, validation, the ONNX
runtime and the server all take it, so that a model never meets a picture prepared another way. Takes paths, bytes,
Pillow images and arrays; gives upright RGB. Never writes, never follows a URL.
"""

from __future__ import annotations

import functools
import io
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from onebox.errors import PictureError
from onebox.headers import quick_size
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

#: File endings taken for pictures when a folder is listed, and what each promises to hold, by Pillow's names. The
#: decoder itself looks at the content, not at the name. "MPO" is what phones write: a JPEG with more pictures after it.
CONTAINERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), ("JPEG", "MPO")),
    **dict.fromkeys((".bmp", ".dib"), ("BMP", "DIB")),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), ("PPM",)),
    **{f".{name.lower()}": (name,) for name in ("PNG", "GIF", "WEBP", "AVIF", "TGA", "ICO", "QOI")},
    ".jp2": ("JPEG2000",),
}
PICTURE_SUFFIXES = frozenset(CONTAINERS)

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


def open_image(
    source: ImageSource, *, at_least: int | None = None, max_pixels: int | None = None
) -> tuple[Image.Image, ImageSize]:
    """Decodes one picture completely to upright RGB.

    EXIF orientation is applied; 16-bit and float pictures are scaled to 8 bits; palette and transparent pictures are
    laid on white; CMYK, grey and others are converted. Of an animation the first frame is taken. Arrays are (H, W),
    (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16 or float in 0-1, RGB order.

    `at_least`: a JPEG whose sides are both much larger than this is decoded at 1/2, 1/4 or 1/8 scale (both sides stay
    >= `at_least`), which is several times faster; the size returned is still that of the full upright picture.

    Returns the picture and its full upright size. Raises PictureError, with the reason, for anything unreadable,
    truncated (found because everything is decoded) or larger than `max_pixels` (MAX_PIXELS where None), by its header.
    """
    if isinstance(source, np.ndarray):
        image = _from_array(source)
        return image, ImageSize(*image.size)
    with PictureFile(source, max_pixels=max_pixels) as opened:
        return opened.decode(at_least), opened.size


def read_size(source: ImageSource) -> ImageSize:
    """Upright size from the header alone; nothing is decoded. Raises PictureError."""
    if isinstance(source, str):
        quick = quick_size(source, MAX_PIXELS)
        if quick is not None:
            return _shared_size(*quick)
    if isinstance(source, np.ndarray):
        return ImageSize(*_from_array(source).size)
    with PictureFile(source) as opened:
        return opened.size


@functools.lru_cache(maxsize=4096)
def _shared_size(width: int, height: int) -> ImageSize:
    """One object for all pictures of a size: there may be a million."""
    return ImageSize(width, height)


class Header(NamedTuple):
    """What a picture file says of itself before anything is decoded. `container` and `mode` are Pillow's names,
    `stored` the size as stored, `size` the upright one, `orientation` EXIF's 1 to 8; `several`: more than one frame or
    page, of which only the first is ever used; `deep`: more than 8 bits a channel; `alpha`: may be transparent."""

    container: str
    mode: str
    stored: ImageSize
    size: ImageSize
    orientation: int
    several: bool
    deep: bool
    alpha: bool


class PictureFile:
    """One picture that has been opened, not yet decoded: who needs the header only, or both, opens it once.

    Raises PictureError on opening for what is no picture, or claims more than `max_pixels`; to be used in a `with`
    block, which leaves a Pillow image or bytes given as they were.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes | Image.Image, *, max_pixels: int | None = None) -> None:
        self.name = describe_source(source)
        with _explained(self.name):
            self._image = _open(source, max_pixels)
        #: Pillow's name of the kind of file, and width and height as stored.
        self.container = self._image.format or ""
        self.stored = ImageSize(*self._image.size)
        self._deep = _is_deep(self._image)

    def __enter__(self) -> PictureFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._image.__exit__(None, None, None)  # closes the file; the pixels stay

    @functools.cached_property
    def orientation(self) -> int:
        """EXIF's, 1 to 8. Of a PNG it may stand behind the pixels: it is decoded then."""
        return _orientation(self._image)

    @property
    def size(self) -> ImageSize:
        """Width and height of the upright picture, whatever scale it is decoded at."""
        width, height = self.stored
        return ImageSize(height, width) if self.orientation in _SIDEWAYS else self.stored

    def header(self) -> Header:
        """What the file says of itself; to be asked before `decode`, which may change it."""
        image = self._image
        return Header(
            container=self.container,
            mode=image.mode,
            stored=self.stored,
            size=self.size,
            orientation=self.orientation,
            several=_has_several(image),
            deep=self._deep,
            alpha=_may_be_transparent(image),
        )

    def decode(self, at_least: int | None = None) -> Image.Image:
        """The picture, upright and RGB, as `open_image` says. Raises PictureError."""
        image, turn = self._image, _TURNS.get(self.orientation)
        with _explained(self.name):
            if at_least is not None and self.container in {"JPEG", "MPO"}:
                image.draft("RGB", (at_least, at_least))
            image.load()
            return _to_rgb(image.transpose(turn) if turn is not None else image)


def read_mask(source: ImageSource) -> Pixels:
    """The numbers stored in a picture of one channel, as masks and trimaps are: (H, W) uint8, as they stand, without
    palette or EXIF. Raises PictureError, also for pictures of another kind."""
    name = describe_source(source)
    with _explained(name), _open(source) as opened:
        if opened.mode not in {"L", "P", "1"}:
            raise PictureError(f"a mask has one channel of 8 bits; this is {opened.mode}", where=name)
        opened.load()
        return np.asarray(opened, dtype=np.uint8)


def resize_image(image: Image.Image, imgsz: int) -> Pixels:
    """Plain stretch of an RGB picture to (imgsz, imgsz, 3) uint8, bilinear with antialiasing (Pillow's)."""
    resized = image.resize((imgsz, imgsz), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(resized, dtype=np.uint8)


def load_pixels(source: ImageSource, imgsz: int, *, max_pixels: int | None = None) -> tuple[Pixels, ImageSize]:
    """`open_image` then `resize_image`: (imgsz, imgsz, 3) uint8 and the full upright size. Raises PictureError."""
    image, size = open_image(source, at_least=imgsz, max_pixels=max_pixels)
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


def _open(source: object, max_pixels: int | None = None) -> Image.Image:
    _silence_pillow()
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
    most = MAX_PIXELS if max_pixels is None else max_pixels
    if opened.width * opened.height > most:
        raise PictureError(
            f"{opened.width}x{opened.height} pixels is more than the {most:,} allowed",
            where=describe_source(source),
            fix="Shrink the picture first.",
        )
    return opened


@functools.cache
def _silence_pillow() -> None:
    # Once, on first use: warnings.catch_warnings is not safe in decoding threads. We refuse bombs by MAX_PIXELS
    # ourselves, and its remarks on damaged metadata end in an error of ours or concern nobody.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@contextmanager
def _explained(name: str) -> Generator[None, None, None]:
    """Whatever a decoder raises on a damaged file, as a PictureError; the decoder's own error is its cause."""
    try:
        yield
    except PictureError:
        raise
    except FileNotFoundError:
        raise PictureError("no such file", where=name) from None
    except Image.DecompressionBombError as error:  # Pillow's own limit, which comes before ours
        raise PictureError("more pixels than are allowed", where=name, fix="Shrink the picture first.") from error
    except Exception as error:  # decoders raise many kinds (OSError, SyntaxError, struct.error, ...)
        raise PictureError(f"cannot read this picture ({_reason(error)})", where=name) from error


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1 (upright) where EXIF says nothing of it, or nonsense: that does not make the pixels unreadable."""
    if image.format == "TIFF":  # Pillow's TIFF reader turns pixels and size by itself
        return 1
    try:
        value = int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # Pillow raises SyntaxError, struct.error and others here
        return 1
    return value if value in _TURNS else 1


def _may_be_transparent(image: Image.Image) -> bool:
    return image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info


def _has_several(image: Image.Image) -> bool:
    if image.format == "MPO":  # its further pictures are other views of the first
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # looking for a second frame in a damaged file; the first may be sound
        return False


def _is_deep(image: Image.Image) -> bool:
    """By the mode, or, where Pillow drops the lower bits in decoding (RGB of 16 bits), by the decoder's raw mode."""
    if image.mode == "F" or image.mode.startswith("I"):
        return True
    tiles: list[Any] = getattr(image, "tile", [])
    return any(";16" in str(tile[3]) for tile in tiles)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_to_8_bits(np.asarray(image))
    if _may_be_transparent(image):
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
