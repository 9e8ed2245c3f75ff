"""Label Studio exports: the full one and JSON-MIN, names of pictures, turned rectangles, several annotations, lines,
damaged files, random input. Expected boxes are worked out by hand on pictures of 100x80 pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import Dataset, load_dataset
from onebox.errors import AnnotationError, DataError, OneboxError
from tests.small_sets import jpeg, load_or_explain, picture, text


def region(label: str = "cat", **value: Any) -> dict[str, Any]:
    """A result as Label Studio 1.x writes it: x 10 %, y 25 %, width 30 %, height 50 %."""
    return {
        "original_width": 100,
        "original_height": 80,
        "image_rotation": 0,
        "value": {"x": 10, "y": 25, "width": 30, "height": 50, "rotation": 0, "rectanglelabels": [label], **value},
        "id": "hq3BDt9Rgz",
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "origin": "manual",
    }


def annotation(*results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "completed_by": 1,
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-05-01T10:00:00.000000Z",
        "lead_time": 4.2,
        "result_count": len(results),
        **changes,
    }


def task(name: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": 7,
        "annotations": list(annotations),
        "file_upload": name.rpartition("/")[2],
        "drafts": [],
        "predictions": [],
        "data": {"image": name},
        "meta": {},
        "project": 1,
    }


def load(folder: Path, *tasks: dict[str, Any], indent: int | None = None, **options: Any) -> Dataset:
    text(folder / "project-1-at-2026-05-01-10-00-1a2b3c4d.json", json.dumps(list(tasks), indent=indent))
    return load_dataset(folder, **options)


def box_of(data: Dataset) -> tuple[float, ...]:
    (sample,) = data.labelled
    assert sample.box is not None
    return sample.box.xyxy


@pytest.mark.parametrize(
    ("written", "image"),
    [
        ("/data/upload/1/1a2b3c4d-robin.jpg", "1a2b3c4d-robin.jpg"),
        ("/data/upload/1/1a2b3c4d-robin.jpg", "robin.jpg"),
        ("/data/upload/1/1a2b3c4d-robin.jpg", "images/robin.JPG"),
        ("/data/upload/1a2b3c4d-robin.jpg", "robin.jpg"),
        ("/label-studio/data/upload/12/1a2b3c4d-robin.jpg", "robin.jpg"),
        ("upload/3/1a2b3c4d-robin.jpg", "images/1a2b3c4d-robin.jpg"),
        ("/data/local-files/?d=birds/garden/robin.jpg", "robin.jpg"),
        ("/data/local-files/?d=birds/garden%20birds/robin.jpg", "garden birds/robin.jpg"),
        ("http://localhost:8080/data/local-files/?d=birds/robin.jpg", "birds/robin.jpg"),
        ("http://localhost:8080/data/upload/1/1a2b3c4d-robin.jpg", "robin.jpg"),
        ("https://example.org/a/robin.jpg?X-Amz-Expires=3600", "robin.jpg"),
        ("s3://bucket/birds/robin.jpg", "birds/robin.jpg"),
        ("robin.jpg", "images/robin.jpg"),
    ],
)
def test_names_of_pictures(tmp_path: Path, written: str, image: str) -> None:
    picture(tmp_path / image)
    data = load(tmp_path, task(written, annotation(region())))
    assert data.layout == "labelstudio"
    assert data[0].path == str(tmp_path / image)
    assert box_of(data) == (10, 20, 40, 60)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/robin.jpg",
        "../robin.jpg",
        "/data/local-files/?d=../robin.jpg",
        "/data/local-files/?d=%2Fetc%2Frobin.jpg",
        "/data/local-files/?d=..%2F..%2Frobin.jpg",
        "/data/upload/1/../../robin.jpg",
        "https://example.org/../robin.jpg",
        "C:\\pictures\\robin.jpg",
        "file:///etc/robin.jpg",
        "/data/upload/1/1a2b3c4d-%00robin.jpg",
    ],
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "robin.jpg")
    picture(tmp_path / "other.jpg")
    data = load(tmp_path, task("other.jpg", annotation(region())), task(name, annotation(region())))
    assert [s.code for s in data.skipped] == ["refused-name"]
    assert [Path(s.path).name for s in data.labelled] == ["other.jpg"]


def test_the_box_of_a_turned_rectangle_is_around_it(tmp_path: Path) -> None:
    """50 % x 25 % of 100x80 are 50x20 pixels, turned clockwise around the corner (50, 20): by 90 degrees it reaches 20
    to the left and 50 down; by 30 it has the corners (50, 20), (50 + 50 cos, 20 + 50 sin), ..."""
    picture(tmp_path / "a.jpg")
    turned = region(x=50, y=25, width=50, height=25, rotation=90)
    data = load(tmp_path, task("a.jpg", annotation(turned)))
    assert box_of(data) == pytest.approx((30, 20, 50, 70))
    assert "rotated rectangles, their bounding boxes taken: 1" in data.notes
    turned["value"]["rotation"] = 30
    turned["value"]["width"] = 30
    cos, sin = 0.8660254037844387, 0.5
    expected = (50 - 20 * sin, 20, 50 + 30 * cos, 20 + 30 * sin + 20 * cos)
    assert box_of(load(tmp_path, task("a.jpg", annotation(turned)))) == pytest.approx(expected)


def test_a_turned_rectangle_without_the_pictures_size_is_left_out(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    turned = region(rotation=30)
    del turned["original_width"]
    data = load(tmp_path, task("a.jpg", annotation(turned)), task("b.jpg", annotation(region())))
    assert [(s.code, "cannot be known" in s.reason) for s in data.skipped] == [("bad-box", True)]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ({"points": [[10, 25], [40, 30], [20, 75]], "polygonlabels": ["cat"]}, "polygonlabels", (10, 20, 40, 60)),
        (
            {"x": 25, "y": 50, "radiusX": 15, "radiusY": 25, "rotation": 0, "ellipselabels": ["cat"]},
            "ellipselabels",
            (10, 20, 40, 60),
        ),
    ],
)
def test_other_shapes_give_their_bounding_box(tmp_path: Path, value: Any, kind: str, expected: Any) -> None:
    picture(tmp_path / "a.jpg")
    data = load(tmp_path, task("a.jpg", annotation({**region(), "value": value, "type": kind})))
    assert box_of(data) == pytest.approx(expected)
    assert "polygons and ellipses, their bounding boxes taken: 1" in data.notes


def test_brush_masks_and_turned_pictures_are_left_out_and_told(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    brush = {**region(), "type": "brushlabels", "value": {"format": "rle", "rle": [0, 1], "brushlabels": ["cat"]}}
    data = load(
        tmp_path,
        task("a.jpg", annotation(brush)),
        task("b.jpg", annotation({**region(), "image_rotation": 90})),
        task("c.jpg", annotation(region())),
    )
    assert sorted("brush" in s.reason or "turned by 90" in s.reason for s in data.skipped) == [True, True]
    assert len(data) == 1


def test_rectangle_and_labels_are_two_results_of_one_region(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    bare = region()
    del bare["value"]["rectanglelabels"]
    labels = {**bare, "type": "labels", "value": {**bare["value"], "labels": ["dog"]}}
    data = load(tmp_path, task("a.jpg", annotation({**bare, "type": "rectangle"}, labels)))
    assert [s.label for s in data] == ["dog"]


def test_a_rectangle_without_a_label_takes_the_choice_for_the_picture(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    bare = {**region(), "type": "rectangle"}
    del bare["value"]["rectanglelabels"]
    choice = {"id": "c1", "from_name": "kind", "to_name": "image", "type": "choices", "value": {"choices": ["dog"]}}
    data = load(tmp_path, task("a.jpg", annotation(bare, choice)))
    assert [s.label for s in data] == ["dog"]
    assert "regions without a label, named by the choice made for the picture: 1" in data.notes


def test_of_several_annotations_the_ground_truth_or_the_first_counts(tmp_path: Path) -> None:
    for name in "abcd":
        picture(tmp_path / f"{name}.jpg")
    cat, dog = annotation(region("cat")), annotation(region("dog"))
    data = load(
        tmp_path,
        task("a.jpg", cat, dog),
        task("b.jpg", cat, {**dog, "ground_truth": True}),
        task("c.jpg", {**cat, "was_cancelled": True}, dog),
        task("d.jpg", {**cat, "was_cancelled": True}),
    )
    assert [(Path(s.path).stem, s.label) for s in data] == [("a", "cat"), ("b", "dog"), ("c", "dog"), ("d", None)]
    assert "tasks with several annotations, of which the ground truth or else the first counts: 2" in data.notes
    assert "cancelled (skipped) annotations passed over: 2" in data.notes


def test_json_min(tmp_path: Path) -> None:
    for name in ("robin.jpg", "wren.jpg", "none.jpg"):
        picture(tmp_path / name)
    label = {"x": 10, "y": 25, "width": 30, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]}
    label |= {"original_width": 100, "original_height": 80}
    common = {"annotator": 1, "annotation_id": 3, "created_at": "2026-05-01T10:00:00Z", "lead_time": 2.5}
    bare = {key: value for key, value in label.items() if key != "rectanglelabels"}
    data = load(
        tmp_path,
        {"image": "/data/upload/1/1a2b3c4d-robin.jpg", "id": 1, "label": [label], **common},
        {"image": "/data/upload/1/1a2b3c4d-wren.jpg", "id": 2, "label": [bare], "choice": "dog", **common},
        {"image": "/data/upload/1/1a2b3c4d-none.jpg", "id": 3, **common},
    )
    assert data.layout == "labelstudio"
    assert [(Path(s.path).stem, s.label) for s in data] == [("none", None), ("robin", "cat"), ("wren", "dog")]
    assert data[1].box is not None
    assert data[1].box.xyxy == (10, 20, 40, 60)


def test_one_file_per_task(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.jpg")
        text(tmp_path / f"{i + 100}.json", json.dumps(task(f"{i}.jpg", annotation(region("cat")))))
    assert len(load_dataset(tmp_path).labelled) == 3


def test_every_object_has_its_line(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    data = load(tmp_path, task("a.jpg", annotation(region("cat"))), task("b.jpg", annotation(region("dog"))), indent=1)
    lines = (tmp_path / "project-1-at-2026-05-01-10-00-1a2b3c4d.json").read_text().splitlines()
    for sample in data:
        number = int(sample.where.rpartition(":")[2])
        assert sample.label is not None
        assert sample.label in "".join(lines[number - 1 : number + 12])
        assert '"value"' in lines[number - 1]


def test_a_task_without_a_picture_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    nameless = {**task("", annotation(region())), "data": {"text": "hello"}, "file_upload": None}
    data = load(tmp_path, nameless, task("a.jpg", annotation(region())))
    assert [(s.code, s.where.rpartition(":")[2]) for s in data.skipped] == [("unreadable-annotation", "1")]


@pytest.mark.parametrize("cut", [30, 200, -1, -2])
def test_a_cut_file_stops_with_its_line(tmp_path: Path, cut: int) -> None:
    picture(tmp_path / "a.jpg")
    whole = json.dumps([task("a.jpg", annotation(region()))], indent=2)
    path = text(tmp_path / "a.json", whole[:cut])
    with pytest.raises(AnnotationError, match=r"a.json:\d+: not valid JSON"):
        load_dataset(path, layout="labelstudio")


def test_text_tasks_are_explained(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="a task that names no picture"):
        load(tmp_path, {**task("", annotation(region())), "data": {"text": "hello"}, "file_upload": None})


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.sampled_from(["a.jpg", 90])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["x", "y", "width", "height", "rotation", "points", "radiusX", "radiusY", "rle", "choices"]
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=8,
)
FIELDS = ("id", "type", "value", "original_width", "original_height", "image_rotation")
results = st.dictionaries(st.sampled_from(FIELDS), values)
tasks = st.dictionaries(
    st.sampled_from(["annotations", "completions", "data", "image", "label", "file_upload"]), values
)


@settings(max_examples=80, deadline=None)
@given(st.lists(results, max_size=3), st.lists(tasks, max_size=3), st.booleans())
def test_random_tasks_give_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, random_results: Any, random_tasks: Any, sound: bool
) -> None:
    root = tmp_path_factory.getbasetemp() / "labelstudio"
    root.mkdir(exist_ok=True)
    (root / "a.jpg").write_bytes(jpeg())
    content = [task("a.jpg", annotation(*([region()] if sound else []), *random_results)), *random_tasks]
    load_or_explain(text(root / "a.json", json.dumps(content)))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_random_text_gives_no_traceback(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    path = tmp_path_factory.getbasetemp() / "labelstudio.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(OneboxError):
        load_dataset(path, layout="labelstudio")
