"""COCO JSON: places, parts, categories, lines, damaged files, random input."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.errors import AnnotationError, OneboxError
from onebox.formats import coco
from onebox.formats.json_files import typed_json
from onebox.formats.tree import scan
from tests.small_sets import jpeg, load_or_explain, picture, text


def document(names: list[str], **changes: Any) -> dict[str, Any]:
    """One cat [10, 20, 30, 40] on each picture."""
    return {
        "images": [{"id": i, "file_name": name, "width": 1, "height": 1} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 7, "bbox": [10, 20, 30, 40.0]} for i in range(len(names))
        ],
        "categories": [{"id": 7, "name": "cat"}],
        **changes,
    }


def write(path: Path, content: object, indent: int | None = None) -> Path:
    return text(path, json.dumps(content, indent=indent))


@pytest.mark.parametrize(
    ("file", "name", "image"),
    [
        ("a.json", "x.jpg", "x.jpg"),
        ("_annotations.coco.json", "x.jpg", "x.jpg"),
        ("annotations/instances_default.json", "x.jpg", "images/x.jpg"),
        ("annotations/a.json", "images/x.jpg", "images/x.jpg"),
        ("annotations/a.json", "cats/x.jpg", "images/cats/x.jpg"),
        ("annotations/instances_val2017.json", "x.jpg", "val2017/x.jpg"),
    ],
)
def test_picture_places(tmp_path: Path, file: str, name: str, image: str) -> None:
    path = write(tmp_path / file, document([name]))
    picture(tmp_path / image)
    for given_path in (tmp_path, path):
        if given_path == path and not image.startswith(("images", "x")):
            continue  # a folder called val2017 beside a single file is not looked into
        sample = load_dataset(given_path)[0]
        assert sample.label == "cat"
        assert sample.box is not None
        assert sample.box.xyxy == (10, 20, 40, 60)
        assert Path(sample.path).resolve() == (tmp_path / image).resolve()


def test_roboflow_folders_are_parts_and_equal_names_stay_apart(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        write(tmp_path / part / "_annotations.coco.json", document(["same.jpg"]))
        picture(tmp_path / part / "same.jpg")
    data = load_dataset(tmp_path)
    assert [(Path(s.path).parent.name, s.split) for s in data] == [
        ("test", "test"),
        ("train", "train"),
        ("valid", "val"),
    ]


def test_only_instances_are_read_where_there_are_any(tmp_path: Path) -> None:
    for part in ("train2017", "val2017"):
        write(tmp_path / "annotations" / f"instances_{part}.json", document([f"{part}.jpg"]))
        write(tmp_path / "annotations" / f"person_keypoints_{part}.json", document([f"{part}.jpg"]))
        picture(tmp_path / part / f"{part}.jpg")
    data = load_dataset(tmp_path)
    assert [s.split for s in data] == ["train", "val"]
    assert not data.skipped


def test_categories_in_id_order_without_the_unused(tmp_path: Path) -> None:
    content = document(["a.jpg", "b.jpg", "c.jpg"])
    content["categories"] = [
        {"id": 10, "name": "ant"},
        {"id": 9, "name": "zebra"},
        {"id": 0, "name": "parent"},
        {"id": 2, "name": "cat"},
    ]
    for annotation, category in zip(content["annotations"], (10, 9, 2), strict=True):
        annotation["category_id"] = category
    write(tmp_path / "a.json", content)
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    data = load_dataset(tmp_path)
    assert data.class_names == ("cat", "zebra", "ant")
    assert any("left out: parent" in note for note in data.notes)


def test_problems_are_skipped_with_the_line_on_which_the_annotation_begins(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(8)]
    content = document(names)
    a = content["annotations"]
    a[1]["bbox"] = [1, 2, "x", 4]
    a[2]["bbox"] = []
    a[3]["category_id"] = 99
    a[4]["image_id"] = 1000
    a[5]["iscrowd"] = 1
    a[6]["bbox"] = [1, 2, -3, 4]
    path = write(tmp_path / "a.json", content, indent=1)
    for name in names[:7]:
        picture(tmp_path / name)
    data = load_dataset(tmp_path)
    lines = path.read_text().splitlines()
    # the line is that of the record's opening brace; the image's id is the second field below it
    starts = [int(s.where.rpartition(":")[2]) - 1 for s in data.skipped]
    assert {lines[start].strip() for start in starts} == {"{"}
    told = {f"{s.code} {lines[start + 2].strip()}" for s, start in zip(data.skipped, starts, strict=True)}
    assert told == {
        'bad-box "image_id": 1,',
        'bad-box "image_id": 2,',
        'no-class "image_id": 3,',
        'unreadable-annotation "image_id": 1000,',
        'bad-box "image_id": 6,',
        'missing-picture "image_id": 7,',
    }
    assert [Path(s.path).name for s in data if s.label is None] == ["4.jpg", "5.jpg"]
    assert "1 crowd regions (iscrowd) passed over" in data.notes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [{"file_name": "a.jpg"}],\n "annotations": [', r"a\.json:2: not valid JSON"),
        ('{"images": [{"file_name": 1}]}', "needs the lists images, annotations and categories"),
        ("[1, 2]", "no COCO file"),
        ("[" * 200_000, "JSON"),
        ('{"images": ' + "9" * 5000 + "}", "number is too long"),
        ("", "not valid JSON"),
    ],
    ids=["cut", "lists", "array", "deep", "digits", "empty"],
)
def test_a_file_that_is_none_stops_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        load_dataset(text(tmp_path / "a.json", content))


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("a.jpg"), st.just(1)),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=6,
)
KEYS = ("id", "file_name", "image_id", "category_id", "bbox", "iscrowd", "name")
records = st.dictionaries(st.sampled_from(KEYS), values)


@settings(max_examples=150, deadline=None)
@given(st.lists(records, max_size=3), st.lists(records, max_size=4), st.lists(records, max_size=3), st.booleans())
def test_random_documents_give_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, images: Any, annotations: Any, categories: Any, sound: bool
) -> None:
    root = tmp_path_factory.getbasetemp() / "coco"
    root.mkdir(exist_ok=True)
    (root / "a.jpg").write_bytes(jpeg())
    content = document(["a.jpg"]) if sound else {"images": [], "annotations": [], "categories": []}
    content["images"] += images
    content["annotations"] += annotations
    content["categories"] += categories
    load_or_explain(write(root / "a.json", content))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_random_text_gives_no_traceback(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    path = tmp_path_factory.getbasetemp() / "coco.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(OneboxError):
        load_dataset(path)


# ---- files of one line are read on a short way

odd = st.sampled_from([None, True, False, 1, 0, -3, 7.5, 1e300, 10**30, 2**63, "7", "", "x.jpg", [], {}, [1, 2]])
records = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers(-3, 3) | odd,
        "file_name": st.text(max_size=3) | odd,
        "width": st.integers(0, 99) | st.floats(allow_nan=False, allow_infinity=False) | odd,
        "image_id": st.integers(0, 3) | odd,
        "category_id": st.integers(0, 3) | odd,
        "bbox": st.lists(st.integers(0, 50) | st.floats(allow_nan=False, allow_infinity=False) | odd, max_size=5) | odd,
        "iscrowd": st.integers(0, 1) | odd,
    },
)
usual = st.fixed_dictionaries(
    {
        "id": st.integers(0, 5),
        "file_name": st.text(max_size=3),
        "width": st.integers(0, 99) | st.none(),
        "image_id": st.integers(0, 5),
        "category_id": st.integers(0, 5),
        "bbox": st.lists(st.integers(0, 50) | st.floats(0, 50), min_size=3, max_size=5) | st.none(),
        "iscrowd": st.integers(0, 1),
    }
)
lists = st.lists(usual, max_size=4) | st.lists(usual | records | odd, max_size=4)


def held(folder: Path, content: str) -> object:
    """What the file holds, without lines; or that it is refused."""
    text(folder / "a.json", content)
    try:
        found = coco._Content(scan(str(folder)), "a.json")
    except AnnotationError:
        return "refused"
    objects = {key: [entry[:2] for entry in entries] for key, entries in found.objects.items()}
    return repr(([image[:4] for image in found.images], objects, found.categories, found.crowds))


@settings(max_examples=200, deadline=None)
@given(lists, lists, st.lists(st.fixed_dictionaries({"id": odd, "name": odd}), max_size=2), st.data())
def test_the_short_way_gives_what_the_long_one_gives(
    images: list[Any], annotations: list[Any], categories: list[Any], data: st.DataObject
) -> None:
    content = json.dumps(
        {"images": images, "annotations": annotations, "categories": categories}, ensure_ascii=data.draw(st.booleans())
    )
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(content)))
        change = data.draw(
            st.sampled_from(["", "{", "}", "[", "]", ",", ":", '"', "1", "\\", ' "images": []', "\ufeff"])
        )
        content = content[:at] + change + content[at + data.draw(st.integers(0, 2)) :]
    with tempfile.TemporaryDirectory() as folder:
        one_line = held(Path(folder), content)
        assert held(Path(folder), content.replace("{", "{\n", 1)) == one_line


def test_what_takes_the_short_way(tmp_path: Path) -> None:
    """So that the test above compares two ways and not one with itself."""
    for content, short in ((json.dumps(document(["x.jpg"])), True), (json.dumps(document(["x.jpg"]), indent=1), False)):
        text(tmp_path / "a.json", content)
        found = typed_json(scan(str(tmp_path)), "a.json", coco._quick_type(), once=(b"images",))
        assert (found is not None) == short
