"""Layouts whose classes are ids with names elsewhere: Open Images and ImageNet CLS-LOC."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.errors import AnnotationError, DataError
from onebox.formats.records import MISSING_PICTURE, REFUSED_NAME
from onebox.formats.synsets import distinct_names
from tests.small_sets import jpeg, load_or_explain, picture, text, voc_xml

COLUMNS = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)
APPLE, PLANE = "/m/014j1m", "/m/0cmf2"


def open_images(path: Path, *rows: str) -> Path:
    return text(path, "\n".join([COLUMNS, *rows, ""]))


def row(image: str, label: str = PLANE, box: str = "0.1,0.6,0.25,0.75", group: int = 0) -> str:
    """One row; the box is XMin, XMax, YMin, YMax."""
    return f"{image},xclick,{label},1,{box},0,0,{group},0,0"


def test_open_images(tmp_path: Path) -> None:
    open_images(tmp_path / "train-annotations-bbox.csv", row("000a"), row("000b", APPLE), row("000b", APPLE, group=1))
    open_images(tmp_path / "validation-annotations-bbox.csv", row("000c", box="0,1,0,0.5"))
    text(tmp_path / "class-descriptions-boxable.csv", f"{PLANE},Airplane\n{APPLE},Apple\n")
    for name in ("train/000a", "train/000b", "validation/000c", "validation/000d"):
        picture(tmp_path / f"{name}.jpg")
    data = load_dataset(tmp_path)
    assert data.layout == "openimages"
    assert [(Path(s.path).stem, s.label, s.split) for s in data] == [
        ("000a", "Airplane", "train"),
        ("000b", "Apple", "train"),
        ("000c", "Airplane", "val"),
        ("000d", None, "val"),
    ]
    assert data[0].box is not None
    assert data[0].box.xyxy == pytest.approx((10, 20, 60, 60))
    assert data[0].where == f"{tmp_path / 'train-annotations-bbox.csv'}:2"
    assert "1 boxes around groups of objects (IsGroupOf) passed over" in data.notes


def test_the_table_of_the_whole_collection_beside_a_few_pictures(tmp_path: Path) -> None:
    open_images(tmp_path / "a.csv", *(row(f"{i:03}") for i in range(50)))
    picture(tmp_path / "007.jpg")
    data = load_dataset(tmp_path)
    assert [s.label for s in data] == [PLANE], "no names: the ids are kept"
    assert len(data.skipped) == 1
    assert data.skipped[0].code == MISSING_PICTURE
    assert "49 pictures of this table are not here, the first 000" in data.skipped[0].reason
    assert any("called by their ids" in note for note in data.notes)


def test_few_missing_pictures_are_named(tmp_path: Path) -> None:
    open_images(tmp_path / "a.csv", row("1"), row("2"), row("3"))
    for name in "12":
        picture(tmp_path / f"{name}.jpg")
    data = load_dataset(tmp_path)
    assert [(s.code, s.path) for s in data.skipped] == [(MISSING_PICTURE, "3")]
    assert data.skipped[0].where.endswith("a.csv:4")


def test_open_images_without_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "set"  # the test's own folder has a name that pictures are looked for in
    open_images(folder / "a.csv", row("1"))
    with pytest.raises(DataError, match=r"annotations \(openimages\) but no pictures here or beside"):
        load_dataset(folder)


def test_other_tables_are_not_open_images(tmp_path: Path) -> None:
    text(tmp_path / "a.csv", "ImageID,LabelName,XMin,XMax,YMin,YMax\na.jpg,cat,1,9,2,8\n")
    picture(tmp_path / "a.jpg")
    data = load_dataset(tmp_path)
    assert data.layout == "csv"
    with pytest.raises(
        AnnotationError, match=r"b\.csv:1: no Open Images table: it needs the columns ImageID, LabelName"
    ):
        load_dataset(text(tmp_path / "b.csv", "a,b\n"), layout="openimages")


def test_two_ids_of_one_name_stay_two_classes() -> None:
    names = {"n1": "crane", "n2": "crane", "n3": "ant", "n4": ""}
    assert distinct_names(names) == {"n1": "crane (n1)", "n2": "crane (n2)", "n3": "ant", "n4": "n4"}


TENCH, CRANE, LIFT = "n01440764", "n02012849", "n03126707"
MAPPING = f"{TENCH} tench, Tinca tinca\n{CRANE} crane\n{LIFT} crane\n"


def solution(path: Path, *rows: str) -> Path:
    return text(path, "\n".join(["ImageId,PredictionString", *rows, ""]))


def kaggle(root: Path) -> None:
    """The layout of the Kaggle challenge, with four pictures."""
    solution(
        root / "LOC_train_solution.csv",
        f"{TENCH}_18,{TENCH} 10 20 40 60 ",
        f"{CRANE}_7,{CRANE} 1 2 30 40 {CRANE} 5 5 90 70 ",
    )
    solution(root / "LOC_val_solution.csv", f"ILSVRC2012_val_00000001,{LIFT} 0 0 100 80 ")
    solution(root / "LOC_sample_submission.csv", "ILSVRC2012_test_00000001,1 75 75 100 100 ")
    text(root / "LOC_synset_mapping.txt", MAPPING)
    pictures = root / "ILSVRC" / "Data" / "CLS-LOC"
    picture(pictures / "train" / TENCH / f"{TENCH}_18.JPEG")
    picture(pictures / "train" / CRANE / f"{CRANE}_7.JPEG")
    picture(pictures / "val" / "ILSVRC2012_val_00000001.JPEG")
    picture(pictures / "test" / "ILSVRC2012_test_00000001.JPEG")


def test_imagenet_tables(tmp_path: Path) -> None:
    kaggle(tmp_path)
    with pytest.raises(AnnotationError, match=r"LOC_train_solution\.csv:3: 2 objects in .*n02012849_7\.JPEG"):
        load_dataset(tmp_path)
    data = load_dataset(tmp_path, multiple="largest")
    assert data.layout == "imagenet"
    assert [(Path(s.path).stem, s.label, s.split, s.box and s.box.xyxy) for s in data] == [
        (f"{TENCH}_18", "tench", "train", (10, 20, 40, 60)),
        (f"{CRANE}_7", f"crane ({CRANE})", "train", (5, 5, 90, 70)),
        ("ILSVRC2012_val_00000001", f"crane ({LIFT})", "val", (0, 0, 100, 80)),
    ]
    assert data.class_names == ("tench", f"crane ({CRANE})", f"crane ({LIFT})")


def test_imagenet_xml_for_the_parts_without_a_table(tmp_path: Path) -> None:
    kaggle(tmp_path)
    (tmp_path / "LOC_train_solution.csv").unlink()
    xml = voc_xml((TENCH, 10, 20, 40, 60), filename=f"{TENCH}_18")
    text(tmp_path / "ILSVRC" / "Annotations" / "CLS-LOC" / "train" / TENCH / f"{TENCH}_18.xml", xml)
    other = voc_xml((LIFT, 1, 1, 9, 9), filename="ILSVRC2012_val_00000001")
    text(tmp_path / "ILSVRC" / "Annotations" / "CLS-LOC" / "val" / "ILSVRC2012_val_00000001.xml", other)
    data = load_dataset(tmp_path)
    assert [(s.label, s.split) for s in data.labelled] == [("tench", "train"), (f"crane ({LIFT})", "val")]
    assert data.labelled[1].box is not None
    assert data.labelled[1].box.xyxy == (0, 0, 100, 80), "the table's, not the XML's"


def test_imagenet_xml_alone(tmp_path: Path) -> None:
    text(tmp_path / "Annotation" / TENCH / f"{TENCH}_18.xml", voc_xml((TENCH, 10, 20, 40, 60)))
    picture(tmp_path / "train" / TENCH / f"{TENCH}_18.JPEG")
    data = load_dataset(tmp_path)
    assert (data.layout, data.class_names) == ("imagenet", (TENCH,))
    assert any("called by their WordNet ids" in note for note in data.notes)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (f"{TENCH} 10 20 40", "not four finite numbers: 10, 20, 40"),
        (f"{TENCH} 10 20 40 nan", "not four finite numbers"),
        (f"{TENCH} 50 20 40 60", "inverted"),
        (f"{TENCH} 10 20 40 60 {TENCH}", "not four finite numbers: nothing"),
    ],
)
def test_imagenet_bad_cells(tmp_path: Path, cell: str, reason: str) -> None:
    solution(tmp_path / "LOC_train_solution.csv", f"{TENCH}_1,{TENCH} 1 2 30 40", f"{TENCH}_2,{cell}", "alone")
    for number in (1, 2):
        picture(tmp_path / f"{TENCH}_{number}.JPEG")
    data = load_dataset(tmp_path, multiple="largest")
    assert len(data.labelled) == 1
    assert {s.where.rpartition(":")[2] for s in data.skipped} == {"3", "4"}
    assert any(reason in s.reason for s in data.skipped)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "C:\\a", "..\\..\\a", "https://host/a", "a/../../b", "a\x07"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    open_images(tmp_path / "oi" / "a.csv", row("a"), row(name))
    picture(tmp_path / "oi" / "a.jpg")
    solution(tmp_path / "in" / "LOC_train_solution.csv", f"a,{TENCH} 1 2 30 40", f"{name},{TENCH} 1 2 30 40")
    picture(tmp_path / "in" / "a.jpg")
    for folder in ("oi", "in"):
        data = load_dataset(tmp_path / folder)
        assert [s.code for s in data.skipped] == [REFUSED_NAME]


junk = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
cells = st.sampled_from(
    ["a", "a.jpg", PLANE, TENCH, "0.5", "nan", "inf", "1e400", "-1", "1", '"', "", "\x00", "10 20 40 60"]
)
lines = st.lists(st.one_of(junk, st.lists(cells, max_size=14).map(",".join)), max_size=5)


@settings(max_examples=300, deadline=None)
@given(lines, st.sampled_from([COLUMNS, "ImageId,PredictionString"]), st.booleans())
def test_random_tables(tmp_path_factory: pytest.TempPathFactory, rows: list[str], header: str, names: bool) -> None:
    root = tmp_path_factory.mktemp("ids")
    (root / "a.jpg").write_bytes(jpeg())
    good = row("a") if header == COLUMNS else f"a,{TENCH} 1 2 30 40"
    text(root / "train.csv", "\n".join([header, *rows, good]))
    if names:
        text(root / "class-descriptions.csv", "\n".join(rows))
        text(root / "LOC_synset_mapping.txt", "\n".join(rows))
    load_or_explain(root)
