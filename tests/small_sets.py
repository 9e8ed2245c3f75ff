"""Tiny data sets for the tests of the readers: pictures of a given size, text files, a whole set in one call. Writes
only below the folder it is given."""

from __future__ import annotations

import io
import random
from functools import cache
from pathlib import Path

from PIL import Image

from onebox.dataset import load_dataset
from onebox.errors import OneboxError
from onebox.images import PICTURE_SUFFIXES


@cache
def jpeg(width: int = 100, height: int = 80) -> bytes:
    """A plain grey JPEG of this size."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), (90, 90, 90)).save(out, "JPEG")
    return out.getvalue()


def picture(path: Path, width: int = 100, height: int = 80) -> Path:
    """Writes a picture; its content is JPEG whatever its name says, as readers may not care."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(width, height))
    return path


def text(path: Path, content: str) -> Path:
    """Writes a text file, UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def voc_xml(*objects: tuple[str, float, float, float, float], filename: str = "") -> str:
    """A VOC annotation with these (class, xmin, ymin, xmax, ymax); object i starts on line 4 + 2 * i."""
    lines = ["<annotation>", f"<filename>{filename}</filename>", "<size><width>1</width><height>1</height></size>"]
    for label, *corners in objects:
        tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
        lines += [f"<object><name>{label}</name>", f"<bndbox>{box}</bndbox></object>"]
    return "\n".join([*lines, "</annotation>", ""])


def table(
    folder: Path, rows: list[str], header: str = "filename,class,xmin,ymin,xmax,ymax", name: str = "a.csv"
) -> Path:
    """A CSV with these rows, and a picture for each different first cell."""
    for row in rows:
        picture(folder / row.split(",")[0])
    return text(folder / name, "\n".join([header, *rows, ""]))


def varied_table(
    folder: Path, rows: list[str], header: str = "filename,class,xmin,ymin,xmax,ymax", name: str = "a.csv"
) -> Path:
    """As `table`, but no picture is like another."""
    path = table(folder, rows, header, name)
    vary(folder)
    return path


def vary(folder: Path) -> None:
    """Gives every picture below the folder, of those that can be read, a content of its own; its size stays."""
    for number, path in enumerate(sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)):
        with Image.open(path) as image:
            size = image.size
        blocks = Image.frombytes("RGB", (8, 8), random.Random(number).randbytes(192))
        blocks.resize(size, Image.Resampling.NEAREST).save(path, "JPEG", quality=90)


def load_or_explain(path: Path, *, boxes: str | None = None, layout: str | None = None) -> None:
    """Loads whatever lies there: either every box is sound, or the error is one line. Anything else raises."""
    try:
        data = load_dataset(path, multiple="largest", boxes=boxes, layout=layout)
    except OneboxError as error:
        message = str(error)
    else:
        message = ""
        for sample in data.labelled:
            assert sample.label
            assert sample.box is not None
            assert 0 <= sample.box.x_min < sample.box.x_max <= sample.image_size.width
            assert 0 <= sample.box.y_min < sample.box.y_max <= sample.image_size.height
    assert "\n" not in message
