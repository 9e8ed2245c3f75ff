"""`onebox convert` and `onebox formats`: what a person sees, what happens to the pictures, and that nothing half-done
is left. That a data set written reads back the same is in tests/test_formats_writers.py."""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from PIL import Image

import onebox
from benchmarks.formats_table import LINES
from benchmarks.formats_table import table as table_of_sets
from onebox.cli.formats import formats_table
from onebox.conversion import convert, write_dataset
from onebox.dataset import load_dataset
from onebox.errors import ConfigError, OneboxError, PictureError, RunFolderError
from onebox.formats.table import LAYOUTS
from tests.small_runs import ROOT, here, python, untouched
from tests.small_sets import picture, table, text, voc_xml
from tests.test_formats_writers import WRITERS, same
from tests.test_full_disk import LIMITED


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Three pictures in a CSV: two of class folders with the same file name, one with two objects."""
    rows = ["robin/1.jpg,robin,10,20,50,60", "wren/1.jpg,wren,0,0,100,80"]
    rows += ["wren/2.jpg,wren,1,2,11,12", "wren/2.jpg,robin,5,5,90,70"]
    table(tmp_path / "birds", rows)
    return tmp_path / "birds"


# ---- the command


def test_what_a_person_sees(birds: Path, tmp_path: Path) -> None:
    with untouched(birds):
        done = here("convert", birds, tmp_path / "out", "--to", "yolo", "--multiple", "largest")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        f"Read: {birds} as csv, 3 pictures, 3 labelled, 2 classes",
        "Changed: several-objects 1",
        f"Written: {tmp_path / 'out'} as yolo, 3 pictures copied, 3 under another name",
        "Annotations: data.yaml, labels/robin_1.txt, labels/wren_1.txt, labels/wren_2.txt",
    ]
    again = load_dataset(tmp_path / "out")
    assert [(Path(s.path).name, s.label) for s in again] == [
        *(("robin_1.jpg", "robin"), ("wren_1.jpg", "wren"), ("wren_2.jpg", "robin"))
    ]


def test_what_is_left_out_is_counted_by_its_reason(birds: Path, tmp_path: Path) -> None:
    with (birds / "a.csv").open("a") as file:
        file.write("wren/3.jpg,wren,1,1,5,5\nrobin/9.jpg,robin,50,5,9,9\n")
    picture(birds / "robin/9.jpg")
    done = here("convert", birds, tmp_path / "out", "--to", "coco", "--multiple", "skip")
    line = done.out.splitlines()[1]
    assert line == f"Left out: bad-box 1, missing-picture 1, several-objects 1 (onebox check {birds} lists them)"
    assert len(load_dataset(tmp_path / "out")) == 2


def test_many_files_are_counted_and_parts_are_shown(tmp_path: Path) -> None:
    for part, count in (("train", 7), ("val", 2)):
        for i in range(count):
            picture(tmp_path / f"in/{part}/{part}{i}.jpg")
            text(tmp_path / f"in/{part}/{part}{i}.xml", voc_xml(("cat", 1, 2, 30, 40)))
    done = here("convert", tmp_path / "in", tmp_path / "out", "--to", "voc")
    assert done.out.splitlines()[0].endswith("as voc, 9 pictures, 9 labelled, 1 classes (train 7, val 2)")
    assert done.out.splitlines()[-1].startswith("Annotations: Annotations/*.xml (9), ImageSets/Main/train.txt, ")


def test_several_objects_stop_it_and_nothing_is_written(birds: Path, tmp_path: Path) -> None:
    here("convert", birds, tmp_path / "out", "--to", "voc").says(r"a\.csv:5: 2 objects in .*2\.jpg.*--multiple largest")
    assert not (tmp_path / "out").exists()


def test_one_annotation_file_may_be_given(birds: Path, tmp_path: Path) -> None:
    done = here("convert", birds / "a.csv", tmp_path / "out", "--to", "onebox", "--multiple", "skip")
    assert (done.code, len(load_dataset(tmp_path / "out"))) == (0, 2)


def test_an_unknown_format_and_one_that_is_only_read(birds: Path, tmp_path: Path) -> None:
    here("convert", birds, tmp_path / "out", "--to", "vocc").says(r"unknown layout 'vocc'; did you mean voc\?.*coco")
    only_read = next(row.name for row in LAYOUTS if not row.write)
    here("convert", birds, tmp_path / "out", "--to", only_read).says(f"{only_read} can be read, but not written")


def test_the_list_of_formats_has_every_layout() -> None:
    lines = here("formats").out.splitlines()
    assert [line.split()[0] for line in lines] == ["layout", *(row.name for row in LAYOUTS)]
    for row, line in zip(LAYOUTS, lines[1:], strict=True):
        assert row.shape, f"{row.name} shows no example of its files"
        assert all(part in line for part in (row.title, row.shape, *row.endings)), line
        assert all(writer.name in line for writer in row.write)


def test_the_docs_list_what_the_code_lists() -> None:
    assert formats_table() in (ROOT / "docs/formats.md").read_text("utf-8"), (
        "docs/formats.md is behind the table of layouts: put the output of formats_table() there"
    )


@pytest.mark.real
@pytest.mark.slow
def test_every_real_set_is_in_the_docs_and_reads_as_they_say(real_data: Path) -> None:
    """Each set under the folder, by one command line whose flags `onebox train` takes."""
    sets = {path.name for path in real_data.iterdir() if path.is_dir()}
    assert sets <= {line.split()[0].split("/")[0] for line in LINES}
    made = table_of_sets(real_data)
    assert made in (ROOT / "docs/formats.md").read_text("utf-8"), (
        "docs/formats.md is behind: put the output of `python -m benchmarks.formats_table` there"
    )
    assert [row for row in made.splitlines() if "refused" in row] == [
        "| `cub_annotations_only` | refused: annotations (cub) but no pictures here or beside | | | | | |"
    ]


def test_the_function_is_public_and_stays_one(birds: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        done = onebox.convert(birds, tmp_path / name, "csv", multiple="largest")
        same(done)


# ---- the pictures


def _encoded(kind: str, size: tuple[int, int] = (100, 80), orientation: int | None = None) -> bytes:
    out = io.BytesIO()
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", size, (9, 90, 30)).save(out, kind, exif=exif.tobytes())
    return out.getvalue()


@pytest.mark.parametrize("to", WRITERS)
def test_pictures_are_copied_byte_for_byte_whatever_they_are(to: str, tmp_path: Path) -> None:
    """A GIF named .jpg, and a camera picture that lies on its side: the size and the box are the upright one's."""
    source = tmp_path / "in"
    source.mkdir()
    lying, turned = _encoded("GIF"), _encoded("JPEG", orientation=6)
    (source / "gif.jpg").write_bytes(lying)
    (source / "turned.jpg").write_bytes(turned)
    text(source / "a.csv", "filename,class,xmin,ymin,xmax,ymax\ngif.jpg,cat,0,0,100,80\nturned.jpg,cat,0,0,80,100\n")
    done = convert(source, tmp_path / "out", to)
    same(done)
    new = {Path(old).name: Path(done.out, place).read_bytes() for old, place in done.names.items()}
    assert new == {"gif.jpg": lying, "turned.jpg": turned}


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, in the name of a picture and of both folders."""
    source, out = tmp_path / os.fsdecode(b"in\xff"), tmp_path / os.fsdecode(b"out\xfe")
    picture(source / os.fsdecode(b"a\xff.jpg"))
    text(source / os.fsdecode(b"a\xff.xml"), voc_xml(("cat", 1, 2, 30, 40)))
    done = python("-m", "onebox", "convert", source, out, "--to", "coco")
    assert (done.code, done.err) == (0, "")
    (again,) = load_dataset(out)
    assert (again.path, again.label) == (str(out / "images/a_.jpg"), "cat")


def test_links_are_the_files_themselves(birds: Path, tmp_path: Path) -> None:
    done = convert(birds, tmp_path / "out", "coco", multiple="largest", link=True)
    for old, place in done.names.items():
        assert Path(old).samefile(tmp_path / "out" / place)
    same(done)


def test_links_to_another_disk_are_refused(birds: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == birds.stat().st_dev:
        pytest.skip("only one disk here")
    with tempfile.TemporaryDirectory(dir=memory) as place:
        done = here("convert", birds, Path(place, "out"), "--to", "voc", "--multiple", "largest", "--link")
        done.says("no hard link can be made here.*leave out --link")
        assert list(Path(place).iterdir()) == []


def test_a_picture_that_vanished_is_named(birds: Path, tmp_path: Path) -> None:
    data = load_dataset(birds, multiple="largest")
    (birds / "wren/2.jpg").unlink()
    with pytest.raises(PictureError, match=r"cannot read this picture \(No such file") as caught:
        write_dataset(data, tmp_path / "out", "csv")
    assert "wren/2.jpg" in str(caught.value)
    assert {p.name for p in tmp_path.iterdir()} == {"birds"}


# ---- where it may write


@pytest.mark.parametrize("out", ["birds", "birds/out", "birds/wren", ".", "link/out"])
def test_neither_folder_may_contain_the_other(out: str, birds: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(birds)
    with untouched(tmp_path):
        done = here("convert", birds, tmp_path / out, "--to", "csv", "--multiple", "largest")
        done.says("this folder (is|lies in|lies around) the data set's")


def test_pictures_that_lie_beside_the_annotations_are_guarded_too(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.jpg")
    text(tmp_path / "tables/labels.csv", "filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,1,2,30,40\n")
    with pytest.raises(ConfigError, match="lies in the data set's"):
        convert(tmp_path / "tables", tmp_path / "images/new", "csv")
    same(convert(tmp_path / "tables", tmp_path / "new", "csv"))


def test_a_name_that_begins_like_the_data_set_s_is_another_folder(birds: Path, tmp_path: Path) -> None:
    same(convert(birds, tmp_path / "birds-coco", "coco", multiple="largest"))


def test_what_is_there_is_never_overwritten(birds: Path, tmp_path: Path) -> None:
    text(tmp_path / "out/old.txt", "old")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for out in ("out", "out/old.txt", "dangling"):
        with untouched(tmp_path / "out"):
            here("convert", birds, tmp_path / out, "--to", "csv", "--multiple", "largest").says(
                "there is something already"
            )


def test_folders_above_are_made(birds: Path, tmp_path: Path) -> None:
    same(convert(birds, tmp_path / "new" / "deep" / "out", "voc", multiple="largest"))


# ---- nothing half-done


@pytest.mark.parametrize("existed", [False, True])
def test_a_full_disk_leaves_nothing(existed: bool, birds: Path, tmp_path: Path) -> None:
    if existed:
        (tmp_path / "out").mkdir()
    size = (birds / "robin/1.jpg").stat().st_size
    words = ["convert", birds, tmp_path / "out", "--to", "csv", "--multiple", "largest"]
    done = python("-c", LIMITED, str(size - 1), *words)
    done.says("out: the disk is full; nothing that was there before has been changed")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["birds", *(["out"] if existed else [])]
    assert not existed or list((tmp_path / "out").iterdir()) == []


def test_a_stop_in_the_middle_leaves_nothing(birds: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert total == 3
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(birds, tmp_path / "out", "yolo", multiple="largest", progress=stop)
    assert {p.name for p in tmp_path.iterdir()} == {"birds"}


def test_a_place_that_cannot_be_written(birds: Path, tmp_path: Path) -> None:
    text(tmp_path / "file", "")
    with pytest.raises(RunFolderError, match="cannot write"):
        convert(birds, tmp_path / "file" / "out", "csv", multiple="largest")


# ---- real sets

#: (set, what it needs, format), so that every format and every kind of trouble comes up.
REAL = [
    ("caltech3_csv", {}, "coco"),  # the same names in every class folder; one box without height
    ("raccoon", {"multiple": "largest"}, "voc"),
    ("toys_coco", {"multiple": "largest"}, "yolo"),  # three parts
    ("plates_voc", {"multiple": "largest"}, "createml"),
    ("pets3", {}, "csv"),  # a GIF and an RGBA PNG named .jpg; pictures without a label
    ("neu_det", {"multiple": "largest"}, "onebox"),
]


@pytest.mark.real
@pytest.mark.parametrize(("name", "wishes", "to"), REAL)
def test_a_real_set_survives_a_conversion(
    name: str, wishes: dict[str, str], to: str, real_data: Path, tmp_path: Path
) -> None:
    done = convert(real_data / name, tmp_path / "out", to, **wishes)  # pyright: ignore[reportArgumentType]
    assert len(done.data) >= 200
    same(done)


@pytest.mark.real
def test_there_and_back_through_every_format(real_data: Path, tmp_path: Path) -> None:
    """Whole pixels survive the fractions of YOLO as well."""
    first = load_dataset(real_data / "vegetables3")
    place: Path = real_data / "vegetables3"
    for to in WRITERS:
        convert(place, tmp_path / to, to, link=place != real_data / "vegetables3")
        place = tmp_path / to
    last = load_dataset(place)
    assert last.class_names == first.class_names
    assert [(Path(s.path).name, s.label, s.split) for s in last] == [
        (Path(s.path).name, s.label, s.split) for s in first
    ]
    for a, b in zip(last, first, strict=True):
        assert a.box is not None
        assert b.box is not None
        assert a.box.xyxy == pytest.approx(b.box.xyxy, abs=1e-6)


def test_errors_are_one_line_each(birds: Path, tmp_path: Path) -> None:
    for out, to in (("out", "nope"), ("birds", "csv")):
        with pytest.raises(OneboxError) as caught:
            convert(birds, tmp_path / out, to)
        assert not re.search(r"[\r\n]", str(caught.value))
    shutil.rmtree(birds)
    with pytest.raises(OneboxError, match="no such file or folder"):
        convert(birds, tmp_path / "out", "csv")
