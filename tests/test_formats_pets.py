"""Oxford-IIIT Pet with heads or bodies, and Caltech-101's MATLAB files: small ones made like the real ones, the real
ones, damaged ones, random ones; and the choice of boxes."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from onebox.dataset import load_dataset
from onebox.errors import ConfigError, LayoutError
from onebox.formats.mat_files import MatError, read_row
from onebox.formats.records import (
    AMBIGUOUS_PICTURE,
    BAD_BOX,
    MISSING_PICTURE,
    NO_CLASS,
    UNREADABLE_ANNOTATION,
    UNREADABLE_PICTURE,
)
from tests.small_runs import here
from tests.small_sets import jpeg, load_or_explain, picture, text, voc_xml

# ---- Oxford-IIIT Pet

LIST = (
    "#Image CLASS-ID SPECIES BREED ID\nAbyssinian_1 1 1 1\nAbyssinian_2 1 1 1\nstaffordshire_bull_terrier_3 35 2 22\n"
)
TRAINVAL = "Abyssinian_1 1 1 1\n"
TEST = "Abyssinian_2 1 1 1\nstaffordshire_bull_terrier_3 35 2 22\n"


def trimap(
    path: Path, *, size: tuple[int, int] = (100, 80), animal: tuple[int, int, int, int] = (10, 20, 40, 60)
) -> None:
    """A trimap: background 2, a border (3) of one pixel inside `animal` (edges), the animal (1) inside that."""
    mask = np.full((size[1], size[0]), 2, np.uint8)
    x_min, y_min, x_max, y_max = animal
    mask[y_min:y_max, x_min:x_max] = 3
    mask[y_min + 1 : y_max - 1, x_min + 1 : x_max - 1] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def make_pets(root: Path) -> Path:
    """Three pictures, the first two with heads, all with bodies."""
    folder = root / "annotations"
    text(folder / "list.txt", LIST)
    text(folder / "trainval.txt", TRAINVAL)
    text(folder / "test.txt", TEST)
    text(folder / "xmls" / "Abyssinian_1.xml", voc_xml(("cat", 15, 22, 30, 35), filename="Abyssinian_1.jpg"))
    text(folder / "xmls" / "Abyssinian_2.xml", voc_xml(("cat", 1, 2, 30, 35), filename="Abyssinian_2.jpg"))
    for i, name in enumerate(("Abyssinian_1", "Abyssinian_2", "staffordshire_bull_terrier_3")):
        picture(root / "images" / f"{name}.jpg")
        trimap(folder / "trimaps" / f"{name}.png", animal=(10 + i, 20, 40, 60))
    return root


def test_heads_are_the_default(tmp_path: Path) -> None:
    make_pets(tmp_path)
    for boxes in (None, "head"):
        data = load_dataset(tmp_path, boxes=boxes)
        assert data.layout == "oxford_pets"
        assert [(Path(s.path).stem, s.label, s.split, s.box and s.box.xyxy) for s in data] == [
            ("Abyssinian_1", "Abyssinian", "train", (15, 22, 30, 35)),
            ("Abyssinian_2", "Abyssinian", "test", (1, 2, 30, 35)),
            ("staffordshire_bull_terrier_3", None, "test", None),
        ]
        assert data[0].where.endswith("Abyssinian_1.xml:4")
        assert "head boxes (--boxes body: those of the trimaps), classes by breed" in data.notes


def test_bodies(tmp_path: Path) -> None:
    data = load_dataset(make_pets(tmp_path), boxes="body")
    assert [(s.label, s.split, s.box and s.box.xyxy) for s in data] == [
        ("Abyssinian", "train", (10, 20, 40, 60)),
        ("Abyssinian", "test", (11, 20, 40, 60)),
        ("staffordshire_bull_terrier", "test", (12, 20, 40, 60)),
    ]


def test_bodies_alone_need_not_be_asked_for(tmp_path: Path) -> None:
    make_pets(tmp_path)
    for file in (tmp_path / "annotations" / "xmls").iterdir():
        file.unlink()
    data = load_dataset(tmp_path)
    assert (data.layout, len(data.labelled)) == ("oxford_pets", 3)
    with pytest.raises(LayoutError, match=r"no head boxes here: there is no folder xmls.*Use --boxes body"):
        load_dataset(tmp_path, boxes="head")


def test_a_picture_without_its_breed_in_its_name(tmp_path: Path) -> None:
    """The lists give the class number, and other pictures of that number its name."""
    make_pets(tmp_path)
    with (tmp_path / "annotations" / "list.txt").open("a") as file:
        file.write("tom 1 1 1\nstray 9 1 9\n")
    for name in ("tom", "stray"):
        picture(tmp_path / "images" / f"{name}.jpg")
        text(tmp_path / "annotations" / "xmls" / f"{name}.xml", voc_xml(("cat", 1, 2, 30, 40)))
    data = load_dataset(tmp_path)
    assert {Path(s.path).stem: s.label for s in data.labelled}["tom"] == "Abyssinian"
    assert [(s.code, Path(s.path).stem) for s in data.skipped] == [(NO_CLASS, "stray")]


def test_pets_what_is_wrong(tmp_path: Path) -> None:
    make_pets(tmp_path)
    folder = tmp_path / "annotations"
    (tmp_path / "images" / "Abyssinian_1.jpg").unlink()
    trimap(folder / "trimaps" / "Abyssinian_2.png", size=(50, 40), animal=(1, 2, 30, 30))
    bad = {"a": jpeg(), "b": b"no picture", "c": b"", "d": None}
    for name, content in bad.items():
        picture(tmp_path / "images" / f"Bombay_{name}_1.jpg")
        if content is not None:
            (folder / "trimaps" / f"Bombay_{name}_1.png").write_bytes(content)
    trimap(folder / "trimaps" / "Bombay_d_1.png", animal=(5, 5, 5, 5))
    (tmp_path / "images" / "Bombay_e_1.jpg").write_bytes(b"no picture")
    trimap(folder / "trimaps" / "Bombay_e_1.png")
    data = load_dataset(tmp_path, boxes="body")
    assert [s.label for s in data.labelled] == ["staffordshire_bull_terrier"]
    found = {Path(s.where).name.partition(".")[0]: (s.code, s.reason) for s in data.skipped}
    assert found["Abyssinian_1"] == (MISSING_PICTURE, "no such picture: Abyssinian_1 (a trimap is none)")
    assert found["Abyssinian_2"] == (BAD_BOX, "the trimap is 50x40, its picture 100x80")
    assert found["Bombay_a_1"] == (UNREADABLE_ANNOTATION, "the trimap: a mask has one channel of 8 bits; this is RGB")
    assert found["Bombay_b_1"][0] == found["Bombay_c_1"][0] == UNREADABLE_ANNOTATION
    assert found["Bombay_d_1"] == (BAD_BOX, "the trimap shows no animal")
    assert found["Bombay_e_1"][0] == UNREADABLE_PICTURE
    text(folder / "xmls" / "Abyssinian_2.xml", "<!DOCTYPE x><annotation/>")
    text(folder / "xmls" / "staffordshire_bull_terrier_3.xml", "<other/>")
    text(folder / "xmls" / "Bombay_b_1.xml", voc_xml(("cat", 1, 2, 30, 40)))
    heads = load_dataset(tmp_path)
    assert [s.label for s in heads.labelled] == ["Bombay_b"]
    reasons = {Path(s.where).name: s.reason for s in heads.skipped}
    assert "DOCTYPE" in reasons["Abyssinian_2.xml:1"]
    assert reasons["staffordshire_bull_terrier_3.xml:1"] == "this XML is no VOC annotation"


def test_a_choice_of_boxes_that_cannot_be_met(tmp_path: Path) -> None:
    make_pets(tmp_path / "pets")
    with pytest.raises(ConfigError, match=r"unknown choice of boxes 'tail'\. Use head or body"):
        load_dataset(tmp_path / "pets", boxes="tail")
    text(tmp_path / "other" / "a.csv", "file,class,xmin,ymin,xmax,ymax\na.jpg,cat,1,2,3,4\n")
    picture(tmp_path / "other" / "a.jpg")
    with pytest.raises(ConfigError, match="the layout csv has no choice of boxes, so 'head' cannot be had"):
        load_dataset(tmp_path / "other", boxes="head")
    with pytest.raises(ConfigError, match="the layout csv has no choice of boxes"):
        load_dataset(tmp_path / "other" / "a.csv", boxes="head")
    with pytest.raises(ConfigError, match="the layout voc has no choice of boxes"):
        load_dataset(tmp_path / "pets", layout="voc", boxes="head")


def test_asking_for_boxes_chooses_the_layout_that_has_them(tmp_path: Path) -> None:
    make_pets(tmp_path)
    text(tmp_path / "train.csv", "file,class,xmin,ymin,xmax,ymax\nAbyssinian_1.jpg,cat,1,2,3,4\n")
    assert load_dataset(tmp_path).layout == "csv"
    assert load_dataset(tmp_path, boxes="body").layout == "oxford_pets"


def test_the_flag_of_the_commands(tmp_path: Path, tiny_run: Path, tiny_set: Path) -> None:
    make_pets(tmp_path / "pets")
    for flags, usable in (([], 2), (["--boxes", "head"], 2), (["--boxes", "body"], 3)):
        done = here("check", tmp_path / "pets", *flags)
        assert done.code == 0, done.err
        assert f"Read as oxford_pets: 3 pictures, {usable} usable." in done.out
    for words in (
        ["train", tiny_set, "--out", tmp_path / "run"],
        ["evaluate", tiny_run, tiny_set],
        ["check", tiny_set],
    ):
        here(*words, "--boxes", "head").says("the layout csv has no choice of boxes, so 'head' cannot be had")
    assert not (tmp_path / "run").exists()


@pytest.mark.real
def test_pets_real(real_data: Path) -> None:
    root = real_data / "pets3"
    assert load_dataset(root).layout == "csv", "the tables at its root stay the choice"
    data = load_dataset(root, layout="oxford_pets", multiple="largest")
    assert data.class_names == ("Abyssinian", "Bengal", "american_bulldog")
    assert (len(data.labelled), data.unlabelled_count, data.skipped) == (296, 304, ())
    assert [Path(r.path).name for r in data.remarks] == ["Bengal_105.jpg"]
    with pytest.raises(LayoutError, match="no body boxes here: there is no folder trimaps"):
        load_dataset(root, boxes="body")


# ---- Caltech-101


def mat(path: Path, box: object = (20, 60, 10, 40), *, name: str = "box_coord", compressed: bool = True) -> Path:
    """A MATLAB file with ymin, ymax, xmin, xmax and a contour, as the real ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {name: np.array([box], np.uint16) if isinstance(box, tuple) else box, "obj_contour": np.ones((2, 9))}
    savemat(path, values, do_compression=compressed)
    return path


def test_caltech_beside_the_pictures(tmp_path: Path) -> None:
    for name in ("ant", "emu"):
        mat(tmp_path / name / "annotation_0001.mat", compressed=name == "ant")
        picture(tmp_path / name / "image_0001.jpg")
    picture(tmp_path / "ant" / "image_0002.jpg")
    data = load_dataset(tmp_path)
    assert data.layout == "caltech"
    assert [(data.relative_path(s), s.label, s.box and s.box.xyxy) for s in data] == [
        ("ant/image_0001.jpg", "ant", (9, 19, 40, 60)),
        ("ant/image_0002.jpg", None, None),
        ("emu/image_0001.jpg", "emu", (9, 19, 40, 60)),
    ]
    assert [s.label for s in load_dataset(tmp_path / "ant").labelled] == ["ant"], "the class from the folder given"
    assert [s.label for s in load_dataset(tmp_path / "ant" / "annotation_0001.mat")] == ["ant"]


def test_caltech_official_folders(tmp_path: Path) -> None:
    pictures = {"Faces_2": "Faces", "Faces_3": "Faces_easy", "Motorbikes_16": "Motorbikes", "ant": "ant"}
    pictures["Airplanes_Side_2"] = "airplanes"
    for folder, name in pictures.items():
        mat(tmp_path / "Annotations" / folder / "annotation_0001.mat")
        picture(tmp_path / "101_ObjectCategories" / name / "image_0001.jpg")
    picture(tmp_path / "101_ObjectCategories" / "BACKGROUND_Google" / "image_0001.jpg")
    data = load_dataset(tmp_path)
    assert sorted(s.label or "" for s in data) == sorted(pictures.values())
    assert all(s.label == Path(s.path).parent.name for s in data)


def bomb() -> bytes:
    """A MATLAB file whose one compressed variable claims and holds much more than its size."""
    packed = zlib.compress(b"\0" * 30_000_000)
    head = b"MATLAB 5.0 MAT-file".ljust(124, b" ") + b"\x00\x01IM"
    return head + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        ((30, 20, 10, 40), BAD_BOX, "inverted: (9, 29, 40, 20)"),
        ((20, 60, 200, 300), BAD_BOX, "outside the picture"),
        (np.array([[1.0, np.nan, 3, 4]]), BAD_BOX, "not four finite numbers"),
        (np.array([[1.0, 2, 3]]), UNREADABLE_ANNOTATION, "no row of 4 numbers, but 1x3"),
        (np.array([[1.0, 2], [3, 4]]), UNREADABLE_ANNOTATION, "no row of 4 numbers, but 2x2"),
        (np.array([[1 + 2j, 2, 3, 4]]), UNREADABLE_ANNOTATION, "no array of real numbers"),
        ("1234", UNREADABLE_ANNOTATION, "no array of real numbers"),
        ({"a": 1}, UNREADABLE_ANNOTATION, "no array of real numbers"),
        (b"MATLAB 5.0 MAT-file", UNREADABLE_ANNOTATION, "not a MATLAB 5 file"),
        (
            b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\x00\x02IM" + b"\x89HDF",
            UNREADABLE_ANNOTATION,
            "version 7.3 is another format",
        ),
        (b"no MATLAB at all", UNREADABLE_ANNOTATION, "not a MATLAB 5 file"),
        (b"", UNREADABLE_ANNOTATION, "not a MATLAB 5 file"),
        (b"MATLAB 5.0" + b"x" * 70_000, UNREADABLE_ANNOTATION, "more than 64 KB"),
        (bomb(), UNREADABLE_ANNOTATION, "a compressed element of more than 1 MiB"),
    ],
)
def test_caltech_damaged(tmp_path: Path, content: object, code: str, reason: str) -> None:
    mat(tmp_path / "ant" / "annotation_0001.mat")
    file = tmp_path / "ant" / "annotation_0002.mat"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        mat(file, content)
    for i in (1, 2):
        picture(tmp_path / "ant" / f"image_000{i}.jpg")
    data = load_dataset(tmp_path)
    assert [Path(s.path).name for s in data.labelled] == ["image_0001.jpg"]
    assert [(s.code, s.where) for s in data.skipped] == [(code, f"{file}:1")]
    assert reason in data.skipped[0].reason


def test_caltech_pictures_are_never_guessed(tmp_path: Path) -> None:
    """Every class has an image_0001."""
    for name in ("ant", "emu", "owl"):
        mat(tmp_path / "Annotations" / name / "annotation_0001.mat")
    picture(tmp_path / "pictures" / "ant" / "image_0001.jpg")
    for place in ("one", "two"):
        picture(tmp_path / place / "owl" / "image_0001.jpg")
    mat(tmp_path / "ant" / "annotation_0007.mat", name="other")
    picture(tmp_path / "ant" / "image_0007.jpg")
    data = load_dataset(tmp_path)
    assert [data.relative_path(s) for s in data.labelled] == ["pictures/ant/image_0001.jpg"]
    assert sorted((s.code, Path(s.where).parent.name) for s in data.skipped) == [
        (AMBIGUOUS_PICTURE, "owl"),
        (MISSING_PICTURE, "emu"),
        (UNREADABLE_ANNOTATION, "ant"),
    ]


@pytest.mark.real
def test_caltech_real(real_data: Path) -> None:
    root = real_data / "caltech22_mat"
    table = load_dataset(root)
    assert table.layout == "csv", "the tables at its root stay the choice"
    data = load_dataset(root, layout="caltech")
    assert (len(data.labelled), len(data.class_names), data.skipped, data.remarks) == (1351, 22, (), ())
    for one, other in zip(data, table, strict=True):
        assert one.box is not None
        assert other.box is not None
        assert (one.path, one.label) == (other.path, other.label)
        x_min, y_min, x_max, y_max = other.box.xyxy
        assert one.box.xyxy == (x_min - 1, y_min - 1, x_max, y_max), "the table has the file's numbers as they stand"


_DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "u8", "i8"]


@given(st.sampled_from(_DTYPES), st.lists(st.integers(0, 127), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_every_kind_of_number_in_a_mat_file(kind: str, numbers: list[int], compressed: bool, column: bool) -> None:
    out = io.BytesIO()
    array = np.array(numbers, kind)
    variables = {"before": np.eye(3), "row": array[:, None] if column else array[None], "text": "abc"}
    savemat(out, variables, do_compression=compressed)
    assert read_row(out.getvalue(), "row", len(numbers)) == numbers
    with pytest.raises(MatError, match="no row of 9 numbers, but "):
        read_row(out.getvalue(), "row", 9)
    with pytest.raises(MatError, match="no variable rows in this MATLAB file"):
        read_row(out.getvalue(), "rows", 4)


# ---- random bytes


def _mat_bytes() -> tuple[bytes, bytes]:
    found = []
    for compressed in (False, True):
        out = io.BytesIO()
        savemat(out, {"box_coord": np.array([[20, 60, 10, 40]], np.uint16)}, do_compression=compressed)
        found.append(out.getvalue())
    return found[0], found[1]


MAT_BYTES = _mat_bytes()
changes = st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=6)), min_size=1, max_size=4)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(MAT_BYTES), changes, st.integers(0, 300))
def test_random_mat(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, changed: list[tuple[int, bytes]], cut: int
) -> None:
    root = tmp_path_factory.mktemp("mat")
    content = bytearray(raw)
    for at, new in changed:
        at %= len(content)
        content[at : at + len(new)] = new
    (root / "annotation_0001.mat").write_bytes(
        bytes(content[: len(content) - cut % len(content)] if cut % 3 == 0 else content)
    )
    (root / "image_0001.jpg").write_bytes(jpeg())
    load_or_explain(root)


rows = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.sampled_from(
            ["a_1 1 1 1", "a_1 2 1 1", "../a_1 1 1 1", "/etc/passwd 1 1 1", "x 1 2 3", "a_1", "# a", "\x00 1 1 1"]
        ),
    ),
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(rows, rows, st.binary(max_size=40), st.sampled_from([None, "head", "body"]))
def test_random_pets(
    tmp_path_factory: pytest.TempPathFactory, listed: list[str], parts: list[str], mask: bytes, boxes: str | None
) -> None:
    root = tmp_path_factory.mktemp("pets")
    text(root / "annotations" / "list.txt", "\n".join([*listed, "a_1 1 1 1"]))
    text(root / "annotations" / "test.txt", "\n".join(parts))
    text(root / "annotations" / "xmls" / "a_1.xml", voc_xml(("cat", 1, 2, 30, 40)))
    (root / "annotations" / "trimaps").mkdir()
    (root / "annotations" / "trimaps" / "a_1.png").write_bytes(mask)
    (root / "a_1.jpg").write_bytes(jpeg())
    load_or_explain(root, boxes=boxes)
