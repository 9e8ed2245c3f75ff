"""labelme: one JSON per picture; places of pictures, shapes, lines, folders of thousands, damaged files, random input.
Pictures have 100x80 pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.errors import AnnotationError, OneboxError
from onebox.formats import labelme
from onebox.formats.pictures import Pictures
from onebox.formats.tree import scan
from tests.small_sets import jpeg, load_or_explain, picture, text


def shape(label: object = "cat", kind: str = "rectangle", points: object = None) -> dict[str, Any]:
    """As labelme 5 writes it."""
    return {
        "label": label,
        "points": [[10.0, 20.0], [40.0, 60.0]] if points is None else points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


def document(image: str, *shapes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image,
        "imageData": None,
        "imageHeight": 80,
        "imageWidth": 100,
        **changes,
    }


def write(path: Path, content: object) -> Path:
    """With two spaces a level, as labelme does."""
    return text(path, json.dumps(content, indent=2))


@pytest.mark.parametrize(
    ("file", "written", "image"),
    [
        ("a.json", "a.jpg", "a.jpg"),
        ("a.json", "a.png", "a.jpg"),
        ("labels/a.json", "..\\images\\a.jpg", "images/a.jpg"),
        ("labels/a.json", "../images/a.jpg", "images/a.jpg"),
        ("a.json", "/home/somebody/pictures/a.jpg", "a.jpg"),
        ("train/a.json", "a.jpg", "train/a.jpg"),
        ("annotations/copy of a.json", "a.jpg", "images/a.jpg"),
    ],
)
def test_picture_places(tmp_path: Path, file: str, written: str, image: str) -> None:
    picture(tmp_path / image)
    write(tmp_path / file, document(written, shape()))
    data = load_dataset(tmp_path)
    assert data.layout == "labelme"
    (sample,) = data.labelled
    assert sample.path == str(tmp_path / image)
    assert sample.box is not None
    assert sample.box.xyxy == (10, 20, 40, 60)


def test_a_name_that_leads_out_is_refused_where_nothing_is_called_like_the_file(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.json", document("a.jpg", shape()))
    write(tmp_path / "b.json", document("../../a.jpg", shape()))
    assert [s.code for s in load_dataset(tmp_path).skipped] == ["refused-name"]


@pytest.mark.parametrize(
    ("kind", "points", "expected"),
    [
        ("rectangle", [[40, 60], [10, 20]], (10, 20, 40, 60)),  # drawn from the lower right
        ("rectangle", [[10, 20], [40, 20], [40, 60], [10, 60]], (10, 20, 40, 60)),  # X-AnyLabeling
        ("polygon", [[10, 30], [25, 20], [40, 60]], (10, 20, 40, 60)),
        ("circle", [[25, 40], [28, 44]], (20, 35, 30, 45)),  # the centre and a point 5 pixels away
        ("line", [[10, 20], [40, 60]], (10, 20, 40, 60)),
        ("linestrip", [[10, 20], [40, 60], [20, 30]], (10, 20, 40, 60)),
    ],
)
def test_shapes(tmp_path: Path, kind: str, points: Any, expected: Any) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.json", document("a.jpg", shape(kind=kind, points=points)))
    data = load_dataset(tmp_path)
    assert data[0].box is not None
    assert data[0].box.xyxy == expected
    told = any("no rectangles" in note and kind in note for note in data.notes)
    assert told == (kind != "rectangle")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (shape(kind="point", points=[[10, 20]]), "bad-box"),
        (shape(kind="circle", points=[[10, 20]]), "bad-box"),
        (shape(points=[[10, 20], [40, "x"]]), "bad-box"),
        (shape(points=[[10, 20], [40, float("nan")]]), "bad-box"),
        (shape(points=[]), "bad-box"),
        (shape(label=None), "no-class"),
    ],
)
def test_what_is_no_box_is_left_out_with_its_line(tmp_path: Path, changed: Any, code: str) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    write(tmp_path / "a.json", document("a.jpg", changed))
    write(tmp_path / "b.json", document("b.jpg", shape()))
    (skipped,) = load_dataset(tmp_path).skipped
    assert skipped.code == code
    assert skipped.where == f"{tmp_path / 'a.json'}:6"  # the shape's label


def test_no_shapes_mean_no_object_and_the_packed_picture_is_left_alone(tmp_path: Path) -> None:
    """labelme 3 sorted its keys: the packed picture comes before everything else."""
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    packed = document("a.jpg", imageData="/9j/" + "A" * 200_000, lineColor=[0, 255, 0, 128])
    write(tmp_path / "a.json", dict(sorted(packed.items())))
    write(tmp_path / "b.json", document("b.jpg", {key: shape()[key] for key in ("label", "points")}))
    assert [(s.label, s.where.rpartition("/")[2]) for s in load_dataset(tmp_path)] == [
        (None, "a.json:1"),
        ("cat", "b.json:6"),
    ]


def test_what_it_claims_is_kept_for_the_doctor(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.json", document("x\\a.png", shape(), imageWidth=640))
    tree = scan(str(tmp_path))
    (record,) = labelme.read(tree, ["a.json"], Pictures(tree)).pictures
    assert record.declared[:3] == ("a.png", 640, 80)


def test_other_json_and_damaged_files_among_them_are_told(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    write(tmp_path / "a.json", document("a.jpg", shape()))
    write(tmp_path / "classes.json", ["cat"])
    text(tmp_path / "b.json", '{"shapes": [\n{"label": ')
    data = load_dataset(tmp_path)
    assert [(s.code, s.where) for s in data.skipped] == [("unreadable-annotation", f"{tmp_path / 'b.json'}:2")]
    assert "JSON files that are not labelme's, passed over: 1" in data.notes
    assert [s.label for s in data.labelled] == ["cat"]


def test_another_json_given_alone_is_explained(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"cats": 3})
    with pytest.raises(AnnotationError, match="no labelme file"):
        load_dataset(path, layout="labelme")


def test_of_many_files_few_are_looked_at_to_find_the_layout(tmp_path: Path) -> None:
    for i in range(300):
        write(tmp_path / f"{i:03d}.json", document(f"{i:03d}.jpg", shape()))
    picture(tmp_path / "000.jpg")
    tree = scan(str(tmp_path))
    assert len(labelme.detect(tree)) == 300
    assert len(tree._heads) <= 20


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=8,
)
kinds = st.sampled_from(["rectangle", "circle", "polygon", "mask", "", 3])
shapes = st.dictionaries(st.sampled_from(["label", "points", "flags"]), values)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(shapes, kinds), max_size=3), values, values, st.booleans())
def test_random_documents_give_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, written: Any, image: Any, size: Any, sound: bool
) -> None:
    root = tmp_path_factory.getbasetemp() / "labelme"
    root.mkdir(exist_ok=True)
    (root / "a.jpg").write_bytes(jpeg())
    random_shapes = [{**one, "shape_type": kind} for one, kind in written]
    content = document(image, *([shape()] if sound else []), *random_shapes, imageWidth=size)
    load_or_explain(write(root / "a.json", content))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_random_text_gives_no_traceback(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    path = tmp_path_factory.getbasetemp() / "labelme.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(OneboxError):
        load_dataset(path, layout="labelme")
