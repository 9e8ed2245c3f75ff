"""Writing a data set and reading it again is the identity: the same pictures, byte for byte, labels, parts, boxes and
class order, for every layout that can be written and for names of every kind."""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from onebox.conversion import Converted, find_writer, write_dataset
from onebox.dataset import Dataset, load_dataset
from onebox.errors import ConfigError, DataError, OneboxError, RunFolderError
from onebox.formats.class_list import order_classes
from onebox.formats.naming import new_names
from onebox.formats.records import RawObject, RawPicture, Reading, clean_label
from onebox.formats.spreadsheet import plain_cell, safe_cell
from onebox.formats.table import LAYOUTS
from onebox.formats.tree import scan
from onebox.types import Box, ImageSize, Sample
from tests.small_sets import jpeg, text

WRITERS = [writer.name for row in LAYOUTS for writer in row.write]
#: How far a coordinate may move, in pixels: fractions, centre and size, corner and size cannot hold every pair of edges
#: to the last bit. Edges of up to ten binary places they can, all but the fractions.
WITHIN = {"yolo": 1e-6, "createml": 1e-9, "coco": 1e-12}
SIZES = [ImageSize(100, 80), ImageSize(33, 57), ImageSize(1, 640)]


def sample(path: Path, label: str | None = None, corners: Sequence[float] = (), split: str | None = None) -> Sample:
    """A sample of a picture of 100x80 that is there; the bytes of each are its own."""
    return _on_disk(path, ImageSize(100, 80), label, corners, split)


def _on_disk(path: Path, size: ImageSize, label: str | None, corners: Sequence[float], split: str | None) -> Sample:
    path.parent.mkdir(parents=True, exist_ok=True)
    # decoders stop at the end mark of a JPEG: what follows makes each file another one
    path.write_bytes(jpeg(*size) + str(path).encode("utf-8", "surrogateescape"))
    box = Box(*corners, size) if corners else None
    return Sample(str(path), size, label, box, split=split)


def dataset(samples: Sequence[Sample], class_names: Sequence[str] | None = None, root: Path | None = None) -> Dataset:
    names = class_names if class_names is not None else sorted({s.label for s in samples if s.label is not None})
    ordered = tuple(sorted(samples, key=lambda s: s.path))
    return Dataset(ordered, tuple(names), "made", str(root or Path(samples[0].path).parent))


def same(done: Converted) -> None:
    """What stands in `done.out` reads as what was written there."""
    again = load_dataset(done.out)
    assert again.skipped == again.remarks == ()
    assert again.class_names == done.data.class_names
    assert len(again) == len(done.data) == len(set(done.names.values()))
    found = {s.path: s for s in again}
    for before in done.data:
        after = found[str(Path(done.out, done.names[before.path]))]
        assert Path(after.path).read_bytes() == Path(before.path).read_bytes()
        assert (after.image_size, after.label, after.split) == (before.image_size, before.label, before.split)
        assert (after.box is None) == (before.box is None)
        if after.box is not None and before.box is not None:
            if done.to in WITHIN:
                assert after.box.xyxy == pytest.approx(before.box.xyxy, rel=0, abs=WITHIN[done.to])
            else:
                assert after.box.xyxy == before.box.xyxy


# ---- any data set

_LABELS = st.one_of(
    st.sampled_from(
        ["cat", "images", "train", "yes", "1", "null", "a, b", 'the "cat"', "'s", "=1+1", "+x", "-x", "@x"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"), max_size=12).map(clean_label),
).filter(bool)
_STEMS = st.one_of(
    st.sampled_from(["a", "A", "a.jpg", "classes", "readme2", "train", "a-2", "=1", " b", "b ", "b c", "ö", "o\u0308"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12),
).filter(lambda stem: not stem.startswith("."))
_FOLDERS = st.sampled_from(["", "a", "a/b", "train", "test", "labels", "images"])


@st.composite
def _boxes(draw: st.DrawFn, size: ImageSize) -> tuple[float, ...]:
    def pair(length: int) -> tuple[float, float]:
        low = draw(st.floats(0, length - 0.5))
        return low, draw(st.floats(low + 0.25, length))

    (left, right), (top, bottom) = pair(size.width), pair(size.height)
    return left, top, right, bottom


@st.composite
def _plans(draw: st.DrawFn) -> list[tuple[str, ImageSize, str | None, tuple[float, ...], str | None]]:
    """(path, size, label, box, part) of some pictures; parts are those of a set that was read: none at all, or those of
    the labelled pictures are at least two, train among them."""
    count = draw(st.integers(2, 7))
    names = draw(
        st.lists(
            st.tuples(_FOLDERS, _STEMS, st.sampled_from([".jpg", ".JPEG", ".png"])),
            min_size=count, max_size=count, unique=True,
        )
    )  # fmt: skip
    parts = draw(st.sampled_from([None, "val", "test"]))
    others = st.sampled_from([None, "train", "val", "test"]) if parts else st.none()
    plan = []
    for i, (folder, stem, ending) in enumerate(names):
        size = draw(st.sampled_from(SIZES))
        label = draw(_LABELS if i < 2 else st.one_of(st.none(), _LABELS))
        box = draw(_boxes(size)) if label is not None else ()
        part = draw(others) if i > 1 or not parts else ("train", parts)[i]
        plan.append((f"{folder}/{stem}{ending}".lstrip("/"), size, label, box, part))
    return plan


_ODD: Any = [
    ("a/x.jpg", SIZES[0], "=cmd", (0.0, 0.0, 100.0, 80.0), "train"),
    ("b/x.jpg", SIZES[1], "'=cmd", (0.1, 0.2, 7.7, 1.3), "test"),
    ("b/y z.jpg", SIZES[1], None, (), "val"),
    ("b/classes.jpg", SIZES[2], "a\u2028b".replace("\u2028", " "), (0.1, 600.3, 0.9, 639.9), None),
]


@pytest.mark.parametrize("to", WRITERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=_plans(), order=st.randoms(use_true_random=False))
@example(plan=_ODD, order=None)
def test_what_was_written_reads_back_the_same(to: str, plan: Any, order: Any) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "in")
        try:
            samples = [_on_disk(root / path, *rest) for path, *rest in plan]
        except (OSError, ValueError):  # a name that this file system does not hold
            assume(False)
            raise
        names = sorted({s.label for s in samples if s.label is not None})
        if order is not None:
            order.shuffle(names)
        try:
            done = write_dataset(dataset(samples, names, root), Path(place, "out"), to)
        except DataError as error:
            assume(to != "createml" or "as fractions" not in str(error))  # see below
            raise
        same(done)


@pytest.mark.parametrize("to", WRITERS)
def test_a_part_without_any_label_is_kept(to: str, tmp_path: Path) -> None:
    """Thirty empty pictures in a part of their own, and first in the order of names."""
    samples = [
        sample(tmp_path / "in" / f"z{i}.jpg", "cat", (1, 2, 30, 40), part) for i, part in enumerate(("train", "test"))
    ]
    samples += [sample(tmp_path / "in" / f"a{i:02}.jpg", split="val") for i in range(30)]
    samples += [sample(tmp_path / "in" / f"b{i:02}.jpg", split="train") for i in range(30)]
    same(write_dataset(dataset(samples), tmp_path / "out", to))


@pytest.mark.parametrize("to", [to for to in WRITERS if to != "yolo"])
def test_a_box_of_binary_fractions_loses_no_bit(to: str, tmp_path: Path) -> None:
    corners = (1 / 1024, 3.125, 99 + 1023 / 1024, 79.5)
    write_dataset(dataset([sample(tmp_path / "in/a.jpg", "cat", corners)]), tmp_path / "out", to)
    (again,) = load_dataset(tmp_path / "out")
    assert again.box is not None
    assert again.box.xyxy == corners


# ---- what other tools will read, by hand


def _two_parts(tmp_path: Path) -> Dataset:
    return dataset(
        [
            sample(tmp_path / "in/a.jpg", "dog", (10, 20, 50.5, 60), "train"),
            sample(tmp_path / "in/b b.jpg", "cat", (0, 0, 100, 80), "val"),
            sample(tmp_path / "in/c.jpg", split="val"),
        ],
        ["dog", "cat"],
    )


def _files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_yolo_by_hand(tmp_path: Path) -> None:
    out = Path(write_dataset(_two_parts(tmp_path), tmp_path / "out", "yolo").out)
    assert _files(out) == {
        *("data.yaml", "images/train/a.jpg", "images/val/b b.jpg", "images/val/c.jpg"),
        *("labels/train/a.txt", "labels/val/b b.txt", "labels/val/c.txt"),
    }
    assert (out / "labels/train/a.txt").read_text() == "0 0.3025 0.5 0.405 0.5\n"
    assert (out / "labels/val/c.txt").read_text() == ""
    assert (
        out / "data.yaml"
    ).read_text() == "train: images/train\nval: images/val\nnc: 2\nnames:\n  0: dog\n  1: cat\n"


def test_yolo_says_what_ultralytics_will_miss(tmp_path: Path) -> None:
    samples = [sample(tmp_path / f"in/{part}.jpg", "cat", (1, 2, 3, 4), part) for part in ("train", "test")]
    out = Path(write_dataset(dataset(samples), tmp_path / "out", "yolo").out)
    assert "no val part" in (out / "data.yaml").read_text().splitlines()[0]


def test_voc_by_hand(tmp_path: Path) -> None:
    out = Path(write_dataset(_two_parts(tmp_path), tmp_path / "out", "voc").out)
    assert _files(out) == {
        *("JPEGImages/a.jpg", "JPEGImages/b_b.jpg", "JPEGImages/c.jpg"),
        *("Annotations/a.xml", "Annotations/b_b.xml", "Annotations/c.xml", "classes.txt"),
        *("ImageSets/Main/train.txt", "ImageSets/Main/val.txt", "ImageSets/Main/trainval.txt"),
    }
    assert (out / "ImageSets/Main/val.txt").read_text() == "b_b\nc\n"
    assert (out / "ImageSets/Main/trainval.txt").read_text() == "a\nb_b\nc\n"
    xml = (out / "Annotations/a.xml").read_text()
    assert "<size><width>100</width><height>80</height></size>" in xml
    assert "<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>50.5</xmax><ymax>60</ymax></bndbox>" in xml
    assert "<object>" not in (out / "Annotations/c.xml").read_text()


def test_coco_by_hand(tmp_path: Path) -> None:
    out = Path(write_dataset(_two_parts(tmp_path), tmp_path / "out", "coco").out)
    assert _files(out) == {
        *("images/a.jpg", "images/b b.jpg", "images/c.jpg"),
        *("annotations/instances_train.json", "annotations/instances_val.json"),
    }
    val = json.loads((out / "annotations/instances_val.json").read_text())
    assert val["images"] == [
        {"id": 1, "file_name": "b b.jpg", "width": 100, "height": 80},
        {"id": 2, "file_name": "c.jpg", "width": 100, "height": 80},
    ]
    assert [(c["id"], c["name"]) for c in val["categories"]] == [(1, "dog"), (2, "cat")]
    (one,) = val["annotations"]
    assert (one["image_id"], one["category_id"], one["bbox"], one["area"]) == (1, 2, [0, 0, 100, 80], 8000)


def test_csv_by_hand(tmp_path: Path) -> None:
    out = Path(write_dataset(_two_parts(tmp_path), tmp_path / "out", "csv").out)
    assert _files(out) == {"train.csv", "val.csv", "classes.txt", "images/a.jpg", "images/b b.jpg", "images/c.jpg"}
    assert (out / "val.csv").read_text() == (
        "filename,width,height,class,xmin,ymin,xmax,ymax,written_by_onebox\n"
        "images/b b.jpg,100,80,cat,0,0,100,80,1\n"
        "images/c.jpg,100,80,,,,,,1\n"
    )
    assert (out / "classes.txt").read_text() == "dog\ncat\n"


def test_createml_by_hand(tmp_path: Path) -> None:
    out = Path(write_dataset(_two_parts(tmp_path), tmp_path / "out", "createml").out)
    assert "val/_annotations.createml.json" in _files(out)
    assert json.loads((out / "train/_annotations.createml.json").read_text()) == [
        {
            "image": "a.jpg",
            "annotations": [{"label": "dog", "coordinates": {"x": 30.25, "y": 40, "width": 40.5, "height": 40}}],
        }
    ]


def test_onebox_s_own_by_hand(tmp_path: Path) -> None:
    out = Path(write_dataset(_two_parts(tmp_path), tmp_path / "out", "onebox").out)
    lines = (out / "labels.jsonl").read_text().splitlines()
    assert lines[0] == '{"onebox": 1, "classes": ["dog", "cat"]}'
    assert json.loads(lines[1]) == {
        "picture": "images/a.jpg",
        "label": "dog",
        "box": [10, 20, 50.5, 60],
        "split": "train",
        "width": 100,
        "height": 80,
    }
    assert "label" not in json.loads(lines[3])


# ---- cells that a spreadsheet would run


@pytest.mark.parametrize("label", ["=1+1", "+x", "-x", "@SUM(A1)", "'quoted", "'=1"])
@pytest.mark.parametrize("to", ["csv", "tsv"])
def test_no_cell_begins_as_a_formula(label: str, to: str, tmp_path: Path) -> None:
    done = write_dataset(dataset([sample(tmp_path / "in/=a.jpg", label, (1, 2, 30, 40))]), tmp_path / "out", to)
    same(done)
    with (tmp_path / "out" / f"labels.{to}").open(newline="") as file:
        cells = [cell for row in csv.reader(file, delimiter="\t" if to == "tsv" else ",") for cell in row]
    assert f"'{label}" in cells
    assert not [cell for cell in cells if re.match(r"[=+@\t\r]|-(?!\d)", cell)]


@given(st.text())
def test_a_safe_cell_is_harmless_and_gives_the_text_back(content: str) -> None:
    assert safe_cell(content)[:1] not in set("=+-@\t\r\n")
    assert plain_cell(safe_cell(content)) == content


def test_an_apostrophe_in_another_s_table_stays(tmp_path: Path) -> None:
    sample(tmp_path / "a.jpg")
    text(tmp_path / "labels.csv", "filename,class,xmin,ymin,xmax,ymax\na.jpg,'=x,1,2,30,40\n")
    assert load_dataset(tmp_path).class_names == ("'=x",)


def test_our_own_table_is_in_pixels_however_small_the_boxes(tmp_path: Path) -> None:
    done = write_dataset(dataset([sample(tmp_path / "in/a.jpg", "cat", (0.25, 0, 1, 1))]), tmp_path / "out", "csv")
    same(done)


# ---- what cannot be written is refused


@pytest.mark.parametrize("name", ["two\nlines", "", " padded", "tab\there", "lone \ud800"])
def test_a_class_name_that_no_file_holds_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        write_dataset(dataset([sample(tmp_path / "in/a.jpg", name, (1, 2, 3, 4))]), tmp_path / "out", "csv")
    assert not (tmp_path / "out").exists()


def test_xml_cannot_hold_every_character(tmp_path: Path) -> None:
    data = dataset([sample(tmp_path / "in/a.jpg", "cat\uffff", (1, 2, 3, 4))])
    with pytest.raises(DataError, match="XML cannot hold"):
        write_dataset(data, tmp_path / "voc", "voc")
    same(write_dataset(data, tmp_path / "coco", "coco"))


def test_createml_refuses_what_would_read_as_fractions(tmp_path: Path) -> None:
    data = dataset([sample(tmp_path / "in/a.jpg", "cat", (0.25, 0, 1, 1))])
    with pytest.raises(DataError, match="fractions"):
        write_dataset(data, tmp_path / "out", "createml")


@pytest.mark.parametrize(
    ("corners", "split", "message"),
    [
        ((1, 2, float("nan"), 4), None, "finite"),
        ((5, 2, 4, 4), None, "inverted"),
        ((5, 2, 120, 40), None, "over the picture's edge"),
        ((5, 2, 50, 40), "holdout", "unknown part"),
    ],
)
def test_a_sample_that_would_read_otherwise_is_refused(
    corners: tuple[float, ...], split: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        write_dataset(dataset([sample(tmp_path / "in/a.jpg", "cat", corners, split)]), tmp_path / "out", "onebox")
    assert not (tmp_path / "out").exists()


def test_an_unknown_layout_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean coco"):
        find_writer("cocoo")
    only_read = next(row.name for row in LAYOUTS if not row.write)
    with pytest.raises(ConfigError, match=f"{only_read} can be read, but not written"):
        find_writer(only_read)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    text(tmp_path / "out/mine.txt", "mine")
    with pytest.raises(RunFolderError, match="something already"):
        write_dataset(dataset([sample(tmp_path / "in/a.jpg", "cat", (1, 2, 3, 4))]), tmp_path / "out", "csv")
    assert _files(tmp_path / "out") == {"mine.txt"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    same(write_dataset(dataset([sample(tmp_path / "in/a.jpg", "cat", (1, 2, 3, 4))]), tmp_path / "out", "yolo"))
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"data.yaml", "images", "labels"}


# ---- names


def test_names_by_hand() -> None:
    assert new_names(["d/x/1.jpg", "d/y/2.PNG"]) == ["1.jpg", "2.PNG"]
    assert new_names(["d/x/1.jpg", "d/y/1.jpg", "d/y/2.PNG"]) == ["x_1.jpg", "y_1.jpg", "y_2.PNG"]
    assert new_names(["d/1.jpg", "d/1.png", "d/1-2.gif"]) == ["1.jpg", "1-3.png", "1-2.gif"]
    assert new_names(["d/C:\\a?.jpg", "d/ b .jpg"]) == ["C__a_.jpg", "_b_.jpg"]
    with pytest.raises(DataError, match="not named as a picture"):
        new_names(["d/a.txt"])


@given(st.lists(st.text(st.sampled_from("aAbB./ -2ıİßẞé\u0301"), min_size=1, max_size=5), max_size=12))
def test_new_names_are_unique_however_they_are_compared(stems: list[str]) -> None:
    names = new_names([f"/d/{stem}{'.jpg' if i % 2 else '.png'}" for i, stem in enumerate(stems)])
    for fold in (str, str.lower, str.casefold, str.upper):
        assert len({fold(name.rpartition(".")[0]) for name in names}) == len(names)


def test_a_class_list_that_lacks_a_class_is_passed_over(tmp_path: Path) -> None:
    text(tmp_path / "classes.txt", "dog\ncat\n")
    tree = scan(str(tmp_path))
    for label, expected in (("cat", ("dog", "cat")), ("bird", ())):
        reading = Reading([RawPicture("a", "a.jpg", "", [RawObject(label, (0, 0, 1, 1), "")])])
        order_classes(tree, reading)
        assert reading.class_order == expected


def test_every_error_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OneboxError) as caught:
        write_dataset(dataset([sample(tmp_path / "in/a.jpg", "a\nb", (1, 2, 3, 4))]), tmp_path / "out", "csv")
    assert "\n" not in str(caught.value)
