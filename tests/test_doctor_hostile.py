"""Files under a picture's name that are none, or are made to harm: each is a finding with its code, and none hangs the
doctor, crashes it or fills the memory."""

from __future__ import annotations

import json
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onebox.doctor.entries import Source
from onebox.doctor.pictures import examine, facts_of, of_pictures
from tests.small_runs import here, python, untouched
from tests.small_sets import jpeg, picture
from tests.test_doctor_pictures import codes, encoded, found, noise, png, written

T = TypeVar("T")


def in_time(work: Callable[[], T], seconds: float = 20) -> T:
    """The result of `work`; a failure where it hangs."""
    results: list[T] = []
    worker = threading.Thread(target=lambda: results.append(work()), daemon=True)
    worker.start()
    worker.join(seconds)
    assert results, "it hangs, or raised"
    return results[0]


BOMB = 60_000


GIF_SCREEN = b"GIF89a" + struct.pack("<HHBBB", BOMB, BOMB, 0x80, 0, 0) + bytes(6) + b"\x2c" + bytes(8) + b"\0\x02\0;"


BMP_HEAD = (
    b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, BOMB, BOMB, 1, 24, 0, 0, 0, 0, 0, 0)
)


QOI_HEAD = b"qoif" + struct.pack(">IIBB", BOMB, BOMB, 3, 0) + b"\0" * 20


def bomb_jpeg() -> bytes:
    whole = bytearray(jpeg(64, 64))
    frame = whole.index(b"\xff\xc0")
    whole[frame + 5 : frame + 9] = struct.pack(">HH", BOMB, BOMB)
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "empty-picture", "0 bytes"),
        (b"\xff", "unreadable-picture", "not a picture"),
        (b"\0" * 5000, "unreadable-picture", "not a picture"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "unreadable-picture", "SVG"),
        (b'\xef\xbb\xbf  <?xml version="1.0"?><svg/>', "unreadable-picture", "SVG"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "unreadable-picture", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "unreadable-picture", "git lfs pull"),
        (b"%PDF-1.7\n%\xe2\xe3", "unreadable-picture", "PDF"),
        (b"PK\x03\x04" + bytes(60), "unreadable-picture", "ZIP"),
        (b'{"error": "not found"}', "unreadable-picture", "JSON"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unreadable-picture", "not a picture"),
        (png(BOMB, BOMB), "oversized-picture", "178,956,970"),
        (GIF_SCREEN, "oversized-picture", "pixels"),
        (BMP_HEAD, "oversized-picture", "pixels"),
        (QOI_HEAD, "oversized-picture", "pixels"),
        (bomb_jpeg(), "oversized-picture", "pixels"),
        (png(300, 200, zlib.compress(b"\0" * 500)), "truncated-picture", "PNG of 300x200"),
        (png(0, 0), "unreadable-picture", ""),
    ],
)
def test_a_file_that_is_no_picture_or_a_dangerous_one(content: bytes, code: str, words: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jpg", content)
    finding = in_time(lambda: found(path))[0]
    assert (finding.code, finding.picture, finding.level) == (code, path, "error")
    assert words in finding.message
    assert "\n" not in finding.message
    assert finding.fix


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.with_name("b.jpg"))
    path.with_name("b.jpg").symlink_to(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (fifo, "not a regular file"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "not a regular file"),
        (loop, "symbolic links"),
        (lambda path: path.symlink_to("gone.jpg"), "no such file"),
        (lambda _: None, "no such file"),
    ],
)
def test_what_is_no_file_is_never_waited_for(make: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    make(tmp_path / "a.jpg")
    facts = in_time(lambda: facts_of(str(tmp_path / "a.jpg")))
    assert facts.problem is not None
    assert facts.problem.code == "unreadable-picture"
    assert words in facts.problem.reason


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 5000 + ".jpg", "\udcff.jpg", "", "\n.jpg"])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    assert facts_of(os.path.join(tmp_path, name)).problem is not None  # noqa: PTH118 - Path refuses some of them


@pytest.mark.parametrize("tenths", range(1, 10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "QOI", "PPM"])
def test_a_truncated_file_is_told_from_a_damaged_one(kind: str, tenths: int, tmp_path: Path) -> None:
    whole = noise(120, 90, kind)
    facts = facts_of(written(tmp_path / "a.jpg", whole[: len(whole) * tenths // 10]))
    assert facts.problem is not None
    assert facts.problem.code == "truncated-picture", facts.problem
    damaged = bytearray(whole)
    damaged[:8] = b"notmagic"
    again = facts_of(written(tmp_path / "b.jpg", bytes(damaged)))
    assert again.problem is not None
    assert again.problem.code == "unreadable-picture"


def test_thousands_of_frames_cost_no_more_than_one(tmp_path: Path) -> None:
    frame = encoded(Image.new("P", (64, 48), 3), "GIF")
    start = frame.index(b"\x2c")
    animation = frame[:start] + frame[start:-1] * 20_000 + b";"
    path = written(tmp_path / "a.gif", animation)
    assert in_time(lambda: codes(path), seconds=5) == ["several-frames"]


KINDS = [
    noise(50, 40, kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "TGA", "ICO")
]


@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning")
@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.integers(0, 20_000), st.binary(min_size=1, max_size=6)), max_size=4),
    st.integers(0, 400),
)
def test_no_damage_raises(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, changes: list[tuple[int, bytes]], cut: int
) -> None:
    damaged = bytearray(whole)
    for place, value in changes:
        place %= len(damaged)
        damaged[place : place + len(value)] = value
    path = written(tmp_path_factory.getbasetemp() / "damaged.jpg", bytes(damaged[: len(damaged) - cut]))
    facts = facts_of(path)
    assert (facts.problem is None) == (facts.signature is not None)
    assert all("\n" not in finding.message for finding in of_pictures({path: facts}, Source("", (), ())))


def test_bad_files_leave_nothing_open(tmp_path: Path) -> None:
    whole = noise(60, 60)
    contents = [
        b"",
        b"\xff",
        whole[:400],
        png(BOMB, BOMB),
        b"<svg/>",
        whole,
        encoded(Image.new("I;16", (40, 30)), "PNG"),
        GIF_SCREEN,
    ]
    paths = [written(tmp_path / f"{i}.jpg", content) for i, content in enumerate(contents)]
    before = len(list(Path("/dev/fd").iterdir()))
    facts = list(examine(paths * 5))
    assert len(facts) == 40
    assert len(list(Path("/dev/fd").iterdir())) == before


# VmHWM, not ru_maxrss: that one a process inherits from the one that starts it, and pytest is large by then
PEAK = """
import re, sys
from pathlib import Path
from onebox.doctor.pictures import examine
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text()).group(1))
"""
FLAT = (
    PEAK
    + """
good, *bombs = sys.argv[1:]
list(examine([good] * 4, workers=2))
before = peak()
assert all(one.problem for one in examine(bombs * 20, workers=2))
print(peak() - before)
"""
)


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    contents = [png(BOMB, BOMB), GIF_SCREEN, BMP_HEAD, QOI_HEAD, bomb_jpeg()]
    bombs = [written(tmp_path / f"{i}.png", content) for i, content in enumerate(contents)]
    done = python("-c", FLAT, str(picture(tmp_path / "good.jpg")), *bombs)
    assert done.code == 0, done.err
    assert int(done.out) < 30_000, "kilobytes"


ONE_BY_ONE = (
    PEAK
    + """
small, workers, *large = sys.argv[1:]
list(examine([small] * 8, workers=2))
before = peak()
assert not any(one.problem for one in examine(large, workers=int(workers)))
print(peak() - before)
"""
)


def test_large_pictures_are_decoded_one_at_a_time(tmp_path: Path) -> None:
    large = written(tmp_path / "large.png", encoded(Image.new("L", (4200, 4000)), "PNG"))
    small = str(picture(tmp_path / "small.jpg"))
    alone, together = (int(python("-c", ONE_BY_ONE, small, n, *[large] * 3).out) for n in ("1", "3"))
    assert 50_000 < together < 1.5 * alone, "kilobytes"


def test_what_pillow_remarks_on_damaged_metadata_stays_unsaid(tmp_path: Path) -> None:
    damaged = encoded(Image.new("RGB", (40, 30)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    code = "import sys; from onebox.images import open_image; open_image(sys.argv[1])"
    done = python("-c", code, written(tmp_path / "a.jpg", damaged))
    assert (done.code, done.err) == (0, "")


def test_a_folder_full_of_traps_is_checked_to_the_end(tmp_path: Path) -> None:
    """By the command line, page included: every trap that an annotation names is a finding, nothing hangs."""
    folder = tmp_path / "set"
    contents = {
        "good.jpg": jpeg(),
        "second.jpg": jpeg(),
        "empty.jpg": b"",
        "cut.jpg": noise(90, 70)[:900],
        "bomb.jpg": png(BOMB, BOMB),
        "page.jpg": b"<html>",
    }
    rows = [f"{name},cat,1,1,50,50" for name in (*contents, "fifo.jpg", "folder.jpg", "loop.jpg", "zero.jpg")]
    folder.mkdir()
    (folder / "a.csv").write_text("\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows, ""]))
    for name, content in contents.items():
        written(folder / name, content)
    os.mkfifo(folder / "fifo.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    with untouched(folder):
        done = here("check", folder, "--page", tmp_path / "check.html", "--json", tmp_path / "check.json")
    assert done.code == 0, done.err
    found_there = json.loads((tmp_path / "check.json").read_text())["findings"]
    by_name = {Path(f["picture"]).name: f["code"] for f in found_there if f["picture"]}
    assert {name: by_name.get(name) for name in ("empty.jpg", "cut.jpg", "bomb.jpg", "page.jpg")} == {
        "empty.jpg": "empty-picture",
        "cut.jpg": "truncated-picture",
        "bomb.jpg": "oversized-picture",
        "page.jpg": "unreadable-picture",
    }
    for name in ("fifo.jpg", "folder.jpg", "loop.jpg", "zero.jpg"):
        assert by_name.get(name) == "missing-picture", "no file of the data set"
    assert (tmp_path / "check.html").stat().st_size < 200_000
