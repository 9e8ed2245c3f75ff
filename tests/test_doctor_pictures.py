"""The doctor's look at picture files: what it notes of good ones and odd ones, and where its findings stand."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebox.doctor.entries import Entry, Source
from onebox.doctor.findings import CODES, Finding
from onebox.doctor.pictures import PictureFacts, examine, facts_of, of_pictures
from tests.small_sets import jpeg, picture


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def noise(width: int, height: int, kind: str = "JPEG") -> bytes:
    return encoded(Image.effect_noise((width, height), 80).convert("RGB"), kind)


def found(*paths: str) -> list[Finding]:
    return of_pictures({one.path: one for one in examine(paths)}, Source("csv", (), ()))


def codes(*paths: str) -> list[str]:
    return [finding.code for finding in found(*paths)]


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that claims this size, with these compressed data."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_the_facts_of_a_good_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.new("RGB", (40, 24), (200, 10, 10)), "JPEG", exif=exif)
    facts = facts_of(written(tmp_path / "A.JPG", content))
    assert (facts.container, facts.suffix, facts.mode) == ("JPEG", ".jpg", "RGB")
    assert (facts.stored, facts.upright, facts.orientation) == ((40, 24), (24, 40), 6)
    assert facts.bytes == len(content)
    assert (facts.several, facts.deep, facts.alpha, facts.problem) == (False, False, False, None)
    assert facts.signature is not None
    copy = facts_of(written(tmp_path / "copy.png", content))
    assert (copy.digest, copy.signature) == (facts.digest, facts.signature)
    other = facts_of(written(tmp_path / "other.jpg", content + b"\0"))
    assert other.digest != facts.digest
    assert other.signature == facts.signature, "the pixels are the same"


def test_the_order_is_kept_and_progress_told(tmp_path: Path) -> None:
    paths = [str(picture(tmp_path / f"{i:03}.jpg", 20 + i, 30)) for i in range(150)]
    told: list[tuple[int, int]] = []
    facts = list(examine(paths[::-1], lambda done, total: told.append((done, total)), workers=3))
    assert [one.path for one in facts] == paths[::-1]
    assert [one.upright and one.upright.width for one in facts] == list(range(169, 19, -1))
    assert told == [(i + 1, 150) for i in range(150)]
    assert list(examine([])) == []


def test_a_large_jpeg_is_looked_at_in_reduced_scale(tmp_path: Path) -> None:
    """Half the sides, and the same facts; a cut is met all the same."""
    smooth = Image.effect_noise((9, 7), 90).resize((2200, 2100), Image.Resampling.BICUBIC).convert("RGB")
    content = encoded(smooth, "JPEG", quality=90)
    large = facts_of(written(tmp_path / "large.jpg", content))
    lossless = facts_of(written(tmp_path / "large.png", encoded(Image.open(io.BytesIO(content)), "PNG")))
    assert (large.stored, large.upright) == (lossless.stored, lossless.upright) == ((2200, 2100), (2200, 2100))
    assert large.signature is not None
    assert lossless.signature is not None
    assert large.signature.side == lossless.signature.side == 2100
    assert large.signature.digest != lossless.signature.digest, "other pixels were looked at"
    small, full = (np.frombuffer(one.signature.grey, np.uint8).astype(int) for one in (large, lossless))
    assert np.abs(small - full).max() <= 4
    assert np.abs(small - full).mean() < 1
    cut = facts_of(written(tmp_path / "cut.jpg", content[: len(content) * 9 // 10]))
    assert cut.problem is not None
    assert cut.problem.code == "truncated-picture"


def test_who_stops_early_leaves_no_thread_behind(tmp_path: Path) -> None:
    paths = [str(picture(tmp_path / f"{i}.jpg")) for i in range(100)]
    before = threading.active_count()
    looking = examine(paths, workers=2)
    next(looking)
    looking.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("image", "kind", "name", "expected"),
    [
        (Image.new("RGB", (40, 30)), "PNG", "a.jpg", ["mislabelled-picture"]),
        (Image.new("P", (40, 30)), "GIF", "a.jpg", ["mislabelled-picture"]),
        (Image.new("RGB", (40, 30)), "WEBP", "a.jpeg", ["mislabelled-picture"]),
        (Image.new("RGB", (40, 30)), "JPEG", "a.png", ["mislabelled-picture"]),
        (Image.new("RGB", (40, 30)), "JPEG", "a.JFIF", []),
        (Image.new("RGB", (40, 30)), "MPO", "a.jpg", []),
        (Image.new("RGB", (40, 30)), "TIFF", "a.TIF", []),
        (Image.new("RGB", (40, 30)), "JPEG", "a", []),
        (Image.new("RGB", (1, 1)), "PNG", "a.png", ["tiny-picture"]),
        (Image.new("RGB", (400, 15)), "PNG", "a.png", ["tiny-picture"]),
        (Image.new("RGB", (16, 16)), "PNG", "a.png", []),
    ],
)
def test_what_is_odd_about_a_sound_picture(
    image: Image.Image, kind: str, name: str, expected: list[str], tmp_path: Path
) -> None:
    path = written(tmp_path / name, encoded(image, kind))
    assert codes(path, str(picture(tmp_path / "another.jpg"))) == expected


def test_the_message_names_both_containers_and_the_mode(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jpg", encoded(Image.new("P", (40, 30)), "GIF"))
    assert found(path)[0].message == "the content is GIF (palette), the name says .jpg"


@pytest.mark.parametrize("orientation", range(9))
def test_exif_that_turns_is_a_note(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = written(tmp_path / "a.jpg", encoded(Image.new("RGB", (40, 30)), "JPEG", exif=exif))
    notes = found(path)
    assert [finding.code for finding in notes] == (["turned-picture"] if orientation > 1 else [])
    if orientation > 4:
        assert "30x40" in notes[0].message


MODES = {
    "grey-picture": encoded(Image.new("L", (40, 30)), "PNG"),
    "cmyk-picture": encoded(Image.new("CMYK", (40, 30)), "TIFF"),
    "deep-picture": encoded(Image.new("I;16", (40, 30)), "PNG"),
    "transparent-picture": encoded(Image.new("RGBA", (40, 30)), "PNG"),
}


@pytest.mark.parametrize("code", MODES)
def test_colours_unlike_the_rest_of_the_set(code: str, tmp_path: Path) -> None:
    def named(n_odd: int, n: int) -> list[str | None]:
        paths = [written(tmp_path / f"{i}.dat", MODES[code] if i < n_odd else jpeg()) for i in range(n)]
        notes = found(*paths)
        assert {finding.code for finding in notes} <= {code}
        return [finding.picture and Path(finding.picture).name for finding in notes]

    assert named(0, 20) == []
    assert named(2, 20) == ["0.dat", "1.dat"]
    assert named(10, 100) == [f"{i}.dat" for i in range(10)], "a tenth is few"
    assert named(11, 100) == [None], "one line for many"
    assert named(20, 20) == [], "all alike: nothing is odd"


def test_rgb_of_16_bits_is_deep(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + bytes(6 * 20) for _ in range(20))
    deep = bytearray(png(20, 20, zlib.compress(rows)))
    deep[24] = 16
    deep[29:33] = struct.pack(">I", zlib.crc32(deep[12:29]))
    facts = facts_of(written(tmp_path / "a.png", bytes(deep)))
    assert (facts.problem, facts.mode, facts.deep) == (None, "RGB", True)


def test_findings_stand_where_the_annotation_speaks_of_the_picture(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jpg", b"")
    other = written(tmp_path / "b.jpg", b"")
    source = Source("csv", ("a.csv",), (Entry(path, "a.jpg", "a.csv:7"), Entry(None, "gone.jpg", "a.csv:8")))
    first, second = of_pictures({one.path: one for one in examine([path, other])}, source)
    assert (first.file, first.line) == ("a.csv", 7)
    assert (second.file, second.line) == (None, None)


def test_every_code_is_in_the_table() -> None:
    from onebox.doctor import pictures

    used = {value for name, value in vars(pictures).items() if isinstance(value, str) and name.isupper()}
    assert {code for code in used if code.endswith(("-picture", "-frames"))} <= set(CODES)


def real_findings(folder: Path, *suffixes: str) -> dict[str, list[str]]:
    paths = sorted(str(p) for p in folder.rglob("*") if p.suffix.lower() in suffixes)
    facts: dict[str, PictureFacts] = {one.path: one for one in examine(paths)}
    named: dict[str, list[str]] = {}
    for finding in of_pictures(facts, Source("", (), ())):
        named.setdefault(finding.code, []).append(Path(finding.picture or "").name)
    return named


@pytest.mark.real
def test_the_real_sets_own_mistakes(real_data: Path) -> None:
    pets = real_findings(real_data / "pets3", ".jpg")
    assert pets["mislabelled-picture"] == ["Abyssinian_34.jpg", "Abyssinian_5.jpg"]
    assert pets["transparent-picture"] == ["Abyssinian_5.jpg"]
    fruit = real_findings(real_data / "fruit_voc", ".jpg")
    assert len(fruit.pop("mislabelled-picture")) == 37
    assert set(fruit) == {"transparent-picture"}
    raccoons = {"grey-picture": ["raccoon-150.jpg", "raccoon-152.jpg", "raccoon-161.jpg"]}
    assert real_findings(real_data / "raccoon", ".jpg") == raccoons
    assert real_findings(real_data / "plates_voc", ".jpg", ".png") == {}
    assert real_findings(real_data / "neu_det", ".jpg") == {}


@pytest.mark.real
def test_grey_pictures_of_a_large_real_set(real_data: Path) -> None:
    notes = real_findings(real_data / "tiny_imagenet20", ".jpeg")
    assert {code: len(names) for code, names in notes.items()} == {"grey-picture": 112}
