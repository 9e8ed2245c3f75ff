"""YOLO: folder orders, data.yaml in its many spellings, polygons, empty and damaged files, random input."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.errors import AnnotationError, DataError
from tests.small_sets import jpeg, load_or_explain, picture, text

LINE = "1 0.25 0.5 0.3 0.5\n"


def build(root: Path, order: str, parts: tuple[str, ...] = ("train", "val")) -> None:
    """One picture and label per part, in "images/train" or in "train/images" order."""
    for part in parts:
        image, label = (
            (f"images/{part}", f"labels/{part}") if order == "images" else (f"{part}/images", f"{part}/labels")
        )
        picture(root / image / f"{part}.jpg")
        text(root / label / f"{part}.txt", LINE)


@pytest.mark.parametrize(
    ("order", "yaml"),
    [
        ("images", "train: images/train\nval: images/val\nnames: [ant, bee]"),
        ("images", "path: .\ntrain: images/train/\nval: ./images/val\nnames: {0: ant, 1: bee}"),
        ("images", "path: /home/ada/sets/bugs\ntrain: images/train\nval: images/val\nnames: [ant, bee]"),
        ("images", "path: C:\\sets\\bugs\ntrain: images\\train\nval: images\\val\nnames: [ant, bee]"),
        ("images", "path: ../datasets/bugs\ntrain: [images/train]\nval: images/val\nnames:\n  0: ant\n  1: bee"),
        ("images", "train: /home/ada/sets/bugs/images/train\nval: images/val\nnames: [ant, bee]"),
        ("images", "names: [ant, bee]"),
        ("parts", "train: ../train/images\nval: ../val/images\nnc: 2\nnames: ['ant', 'bee']"),
        ("parts", "train: train\nval: val\nnames: [ant, bee]"),
        ("parts", "train: train.txt\nval: sub/val.txt\nnames: [ant, bee]"),
    ],
)
def test_data_yaml(tmp_path: Path, order: str, yaml: str) -> None:
    build(tmp_path, order)
    file = text(tmp_path / "data.yaml", yaml)
    if "txt" in yaml:
        text(tmp_path / "train.txt", "./train/images/train.jpg\n")
        text(tmp_path / "sub" / "val.txt", "C:\\sets\\val\\images\\val.jpg\n")
    for path in (tmp_path, file):
        data = load_dataset(path)
        assert data.layout == "yolo"
        assert [(Path(s.path).stem, s.label, s.split) for s in data] == [
            ("train", "bee", "train"),
            ("val", "bee", "val"),
        ]
        assert data[0].box is not None
        assert data[0].box.xyxy == pytest.approx((10, 20, 40, 60))
        assert any("left out: ant" in note for note in data.notes)


def test_a_path_of_another_machine_is_noted(tmp_path: Path) -> None:
    build(tmp_path, "images")
    text(tmp_path / "data.yaml", "path: /home/ada/bugs\ntrain: images/train\nval: nowhere/else\nnames: [ant, bee]")
    data = load_dataset(tmp_path)
    assert any("path: /home/ada/bugs is not here" in note for note in data.notes)
    assert any("val: nowhere/else names no folder" in note for note in data.notes)


def test_no_yaml_takes_folder_parts_and_ids_as_names(tmp_path: Path) -> None:
    build(tmp_path, "parts", ("train", "valid", "test"))
    text(tmp_path / "test" / "labels" / "test.txt", "10 0.5 0.5 0.1 0.1\n")
    text(tmp_path / "valid" / "labels" / "valid.txt", "9 0.5 0.5 0.1 0.1\n")
    data = load_dataset(tmp_path)
    assert data.class_names == ("1", "9", "10")
    assert data.parts() == ("train", "val", "test")
    assert any("called by their ids" in note for note in data.notes)
    letters = load_dataset(tmp_path, class_names=list("ABCDEFGHIJK"))
    assert sorted(s.label or "" for s in letters) == ["B", "J", "K"]
    again = load_dataset(tmp_path, class_names=data.class_names)
    assert again.counts() == data.counts()


@pytest.mark.parametrize("name", ["classes.txt", "labels/classes.txt", "obj.names"])
def test_names_files(tmp_path: Path, name: str) -> None:
    build(tmp_path, "images")
    text(tmp_path / name, "ant\nbee\n")
    data = load_dataset(tmp_path)
    assert data.class_names == ("bee",)
    assert f"class names from {name}" in data.notes


def test_the_yaml_nearest_to_the_labels_rules(tmp_path: Path) -> None:
    text(tmp_path / "other.yaml", "train: x\nnames: [wrong, worse]")
    build(tmp_path / "set", "images")
    text(tmp_path / "set" / "my.yaml", "names: [ant, bee]")
    assert load_dataset(tmp_path).class_names == ("bee",)


def test_labels_beside_the_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    text(tmp_path / "a.txt", LINE)
    text(tmp_path / "README.txt", "1 0.5 0.5 0.5 0.5 is how a line looks")
    assert len(load_dataset(tmp_path).labelled) == 1


def test_empty_missing_polygon_confidence_and_damaged(tmp_path: Path) -> None:
    lines = {
        "box": LINE,
        "empty": "",
        "blank": "\n  \n",
        "polygon": "1 0.1 0.25 0.4 0.25 0.4 0.75 0.2 0.6\n",
        "confidence": "1 0.25 0.5 0.3 0.5 0.99\n",
        "words": "bee 0.5 0.5 0.1 0.1\n",
        "pixels": "1 50 40 30 20\n",
        "short": "1 0.5 0.5\n",
        "nan": "1 0.1 nan 0.4 0.25 0.4 0.75\n",
        "stranger": "7 0.5 0.5 0.1 0.1\n",
        "gone": LINE,
    }
    for name, line in lines.items():
        text(tmp_path / "labels" / f"{name}.txt", line)
        if name != "gone":
            picture(tmp_path / "images" / f"{name}.jpg")
    picture(tmp_path / "images" / "unlabelled.jpg")
    text(tmp_path / "data.yaml", "names: [ant, bee]")
    data = load_dataset(tmp_path)
    boxes = {Path(s.path).stem: tuple(round(v, 6) for v in s.box.xyxy) if s.box else None for s in data}
    whole = (10, 20, 40, 60)
    assert boxes == {
        "box": whole,
        "polygon": whole,
        "confidence": whole,
        "empty": None,
        "blank": None,
        "unlabelled": None,
    }
    assert "polygons in 2 lines: their bounding boxes taken" in data.notes
    assert {Path(s.where.rpartition(":")[0]).stem: s.code for s in data.skipped} == {
        "words": "unreadable-annotation",
        "pixels": "bad-box",
        "short": "unreadable-annotation",
        "nan": "bad-box",
        "stranger": "unreadable-annotation",
        "gone": "missing-picture",
    }


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: [ant\ntrain: x", r"data\.yaml:2: not valid YAML"),
        ("names: 3", "empty or no list"),
        ("names: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("train: images", "no `names`"),
        ("- names", "no `names`"),
        ("a: &a [x]\nnames: 2024-99-99", "YAML"),
    ],
)
def test_a_yaml_that_is_none_stops_with_its_line(tmp_path: Path, yaml: str, message: str) -> None:
    build(tmp_path, "images")
    file = text(tmp_path / "data.yaml", yaml)
    with pytest.raises(AnnotationError, match=message):
        load_dataset(file)


def test_a_yaml_without_labels_says_so(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    with pytest.raises(DataError, match="no picture has a label"):
        load_dataset(text(tmp_path / "data.yaml", "train: images\nnames: [ant]"))


def test_a_label_never_takes_a_picture_of_another_part(tmp_path: Path) -> None:
    build(tmp_path, "parts")
    text(tmp_path / "train" / "labels" / "val.txt", LINE)
    data = load_dataset(tmp_path)
    assert [s.split for s in data] == ["train", "val"]
    assert [s.code for s in data.skipped] == ["missing-picture"]


def test_a_yaml_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    picture(tmp_path / "out" / "images" / "a.jpg")
    text(tmp_path / "out" / "labels" / "a.txt", LINE)
    build(tmp_path / "set", "images")
    text(tmp_path / "set" / "data.yaml", f"path: {tmp_path}/out\ntrain: images\nval: ../out/images\nnames: [ant, bee]")
    data = load_dataset(tmp_path / "set")
    assert {Path(s.path).stem for s in data} == {"train", "val"}


words = st.one_of(st.sampled_from(["0", "1", "0.5", "0.25", "nan", "1e999", "-1", "x", "0x1"]), st.text(max_size=4))


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.lists(words, max_size=9).map(" ".join), max_size=4).map("\n".join),
    st.one_of(st.text(max_size=60), st.just("names: [ant, bee]"), st.text(max_size=20).map(lambda t: f"names: {t}")),
)
def test_random_text_gives_no_traceback(tmp_path_factory: pytest.TempPathFactory, label: str, yaml: str) -> None:
    root = tmp_path_factory.getbasetemp() / "yolo"
    for folder in ("images", "labels"):
        (root / folder).mkdir(exist_ok=True, parents=True)
    (root / "images" / "a.jpg").write_bytes(jpeg())
    (root / "labels" / "a.txt").write_bytes(label.encode("utf-8", "surrogatepass"))
    (root / "data.yaml").write_bytes(yaml.encode("utf-8", "surrogatepass"))
    load_or_explain(root)
    load_or_explain(root / "data.yaml")
