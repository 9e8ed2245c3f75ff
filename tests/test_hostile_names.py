"""A name in an annotation never leads out of the data set: every layout with every name of `tests.hostile.NAMES`, while
an audit hook watches what is opened; and FIFOs, devices and odd bytes in the names of files themselves."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from onebox.dataset import load_dataset
from onebox.errors import DataError, LayoutError, OneboxError, PictureError
from onebox.formats.table import LAYOUTS
from onebox.images import open_image, read_size
from tests.hostile import NAMES, WRITERS, fill, make_set, put_picture, put_rows
from tests.small_runs import python
from tests.small_sets import table

LAYOUT_NAMES = [row.name for row in LAYOUTS]
#: Layouts that go by the names of their own files, by numbers or by folders: `fine.jpg` is none of theirs.
WITHOUT_NAMES = {"caltech", "class_text", "oxford_pets", "yolo"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """By layout: what came of the sound set (case None), then of every name."""
    base = tmp_path_factory.mktemp("hostile")
    done = python("-m", "tests.hostile", base)
    assert done.code == 0, done.err
    found: dict[str, list[dict[str, Any]]] = {}
    for line in done.out.splitlines():
        one = json.loads(line)
        found.setdefault(one["layout"], []).append(one)
    return found


def test_every_layout_has_a_writer_and_there_are_names_enough() -> None:
    assert set(WRITERS) == set(LAYOUT_NAMES)
    assert len(set(NAMES)) == len(NAMES) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_no_name_leads_out(layout: str, outcomes: dict[str, list[dict[str, Any]]]) -> None:
    sound, *cases = outcomes[layout]
    assert [one["case"] for one in cases] == list(range(len(NAMES)))
    # `fine.jpg` is found in the sound set, but where it lies in no folder of a class
    usual = len(sound["paths"]) - (layout not in WITHOUT_NAMES | {"class_folders"})
    assert usual >= 1
    unpacked = f"{tempfile.gettempdir()}/onebox-unpacked-"
    for one in cases:
        name = NAMES[one["case"]]
        outside = [e for e in one["events"] if not e.partition(" ")[2].startswith(unpacked)]
        assert outside == [], name
        if one["error"]:  # the whole file is damaged by such a name
            assert "not well-formed" in one["error"], name
        else:
            assert len(one["paths"]) == usual, name
        for path in one["paths"]:
            assert "/set/" in path or (layout == "parquet" and path.startswith(unpacked)), name
            assert Path(path).name not in {"secret.jpg", "link.jpg", "fifo.jpg", "folder.jpg"}, name


@pytest.mark.parametrize("layout", sorted(set(LAYOUT_NAMES) - WITHOUT_NAMES))
def test_a_refused_name_is_told(layout: str, tmp_path: Path) -> None:
    root = make_set(layout, tmp_path / "set", "nowhere.jpg")
    missing = load_dataset(root, layout=layout).skipped
    root = make_set(layout, tmp_path / "set", fill("../outside/secret.jpg", tmp_path))
    refused = load_dataset(root, layout=layout).skipped
    assert len(missing) == len(refused) >= 1
    assert {s.code for s in missing} == {"missing-picture"}
    assert {s.code for s in refused} <= {"refused-name", "missing-picture"}  # of some tools' "../" the end is looked up


# ---- files that are none


def test_fifos_and_devices_do_not_hang(tmp_path: Path) -> None:
    """In a process of its own, which would be stopped."""
    root = tmp_path / "set"
    table(root, ["a.jpg,cat,10,20,40,60", "b.jpg,cat,10,20,40,60"])
    (root / "b.jpg").unlink()
    for name in ("b.jpg", "x.csv", "labels.json", "x.jsonl", "data.yaml", "a.xml", "folder", "LOC_synset_mapping.txt"):
        os.mkfifo(root / name)
    for name in ("zero.jpg", "zero.csv", "zero.json"):
        (root / name).symlink_to("/dev/zero")
    (root / "to-fifo.jpg").symlink_to(root / "b.jpg")
    code = (
        "import onebox, sys\n"
        "data = onebox.load_dataset(sys.argv[1])\n"
        "print([s.path[-5:] for s in data], [s.code for s in data.skipped])\n"
    )
    done = python("-c", code, root)
    assert (done.code, done.out.strip()) == (0, "['a.jpg'] ['missing-picture']"), done.err


def test_fifos_and_devices_given_by_name_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("/dev/zero"), Path("/dev/tty"), Path("/dev/null")):
        with pytest.raises(DataError, match=r"neither a folder nor a regular file|no such file"):
            load_dataset(path)
        for read in (read_size, open_image):
            with pytest.raises(PictureError, match=r"not a regular file|no such file"):
                read(str(path))


def test_names_that_are_not_utf_8_and_very_long_ones(tmp_path: Path) -> None:
    root = tmp_path / "set"
    put_picture(root / "good.jpg")
    odd = os.fsdecode(b"caf\xe9.jpg")
    long = "x" * 251 + ".jpg"
    deep = "/".join(["d" * 200] * 12)
    for name in (odd, long, "sp ace.jpg", "quo'te\".jpg"):
        put_picture(root / name)
    put_picture(root / deep / "deep.jpg")
    put_picture(root / "/".join(["e"] * 40) / "too-deep.jpg")
    header = ("filename", "class", "xmin", "ymin", "xmax", "ymax")
    names = ["good.jpg", long, "sp ace.jpg", "quo'te\".jpg", f"{deep}/deep.jpg", "too-deep.jpg", "y" * 300 + ".jpg"]
    put_rows(root / "labels.csv", header, *((name, "cat", 10, 20, 40, 60) for name in names))
    data = load_dataset(root)
    assert {Path(s.path).name for s in data.labelled} == {"good.jpg", long, "sp ace.jpg", "quo'te\".jpg", "deep.jpg"}
    assert [Path(s.path).name for s in data if s.label is None] == [odd], "listed, though nothing can name it"
    assert [s.code for s in data.skipped] == ["missing-picture"] * 2
    assert max(len(s.reason) for s in data.skipped) < 200
    for sample in data:
        assert read_size(sample.path) == (100, 80)


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_a_folder_that_links_out_holds_nothing(layout: str, tmp_path: Path) -> None:
    """The whole data set lies outside, and only links lead to it."""
    there = make_set(layout, tmp_path / "there")
    root = tmp_path / "set"
    root.mkdir()
    for entry in there.iterdir():
        (root / entry.name).symlink_to(entry)
    with pytest.raises(LayoutError, match="links out of the folder, not followed"):
        load_dataset(root)
    with pytest.raises(OneboxError):
        load_dataset(root, layout=layout)
