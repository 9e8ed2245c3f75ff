"""VGG Image Annotator: projects, exports as JSON and CSV, shapes, which attribute names the class, lines, damaged
files, random input. Pictures have 100x80 pixels."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.errors import AnnotationError, OneboxError
from tests.small_sets import jpeg, load_or_explain, picture, text

RECT = {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 40}
DEFAULTS = {"caption": "", "public_domain": "no", "image_url": ""}


def region(attributes: dict[str, Any] | None = None, shape: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "shape_attributes": RECT if shape is None else shape,
        "region_attributes": {"class": "cat"} if attributes is None else attributes,
    }


def entry(name: str, *regions: dict[str, Any], **about: str) -> dict[str, Any]:
    return {"filename": name, "size": 22024, "regions": list(regions), "file_attributes": {**DEFAULTS, **about}}


def export(*entries: dict[str, Any]) -> dict[str, Any]:
    return {f"{one['filename']}22024": one for one in entries}


def project(*entries: dict[str, Any], options: dict[str, str] | None = None) -> dict[str, Any]:
    attribute = {"type": "dropdown", "description": "", "options": options or {}, "default_options": {}}
    return {
        "_via_settings": {"ui": {}, "core": {"filepath": {}}, "project": {"name": "birds"}},
        "_via_img_metadata": export(*entries),
        "_via_attributes": {"region": {"class": attribute}, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": [f"{one['filename']}22024" for one in entries],
    }


def write(path: Path, content: object, indent: int | None = None) -> Path:
    return text(path, json.dumps(content, indent=indent))


def numbered(one: dict[str, Any]) -> dict[str, Any]:
    """As VIA 1 wrote it."""
    return {**one, "fileref": "", "base64_img_data": "", "regions": {str(i): r for i, r in enumerate(one["regions"])}}


@pytest.mark.parametrize(
    "content",
    [
        project(entry("a.jpg", region())),
        export(entry("a.jpg", region())),
        [entry("a.jpg", region())],
        export(numbered(entry("a.jpg", region()))),
    ],
    ids=["project", "dictionary", "list", "VIA 1"],
)
@pytest.mark.parametrize("image", ["a.jpg", "images/a.JPG"])
def test_json(tmp_path: Path, content: Any, image: str) -> None:
    picture(tmp_path / image)
    path = write(tmp_path / "via.json", content)
    for given_path in (tmp_path, path):
        data = load_dataset(given_path)
        assert data.layout == "via"
        assert data[0].label == "cat"
        assert data[0].box is not None
        assert data[0].box.xyxy == (10, 20, 40, 60)
        assert "classes from the regions' attribute 'class'" in data.notes


def csv_text(rows: list[tuple[str, Any, Any]], header: str = "filename") -> str:
    """As VIA writes it: every picture's regions after one another, JSON in quoted cells."""
    out = io.StringIO()
    out.write(f"{header},file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n")
    for i, (name, shape, attributes) in enumerate(rows):
        cells = [name, 22024, json.dumps(DEFAULTS), 1, i, json.dumps(shape), json.dumps(attributes)]
        csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


@pytest.mark.parametrize("header", ["filename", "#filename", "\ufefffilename"])
def test_csv_is_not_taken_for_a_table_and_has_its_lines(tmp_path: Path, header: str) -> None:
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    rows = [("a.jpg", RECT, {"class": "cat"}), ("b.jpg", {}, {}), ("c.jpg", {**RECT, "x": 12}, {"class": "dog"})]
    path = text(tmp_path / "via_region_data.csv", csv_text(rows, header))
    for given_path in (tmp_path, path):
        data = load_dataset(given_path)
        assert data.layout == "via"
        assert [(s.label, s.where.rpartition(":")[2]) for s in data] == [("cat", "2"), (None, "3"), ("dog", "4")]
        assert data[2].box is not None
        assert data[2].box.xyxy == (12, 20, 42, 60)


def test_csv_and_json_of_one_project_are_one_data_set(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    text(tmp_path / "via_region_data.csv", csv_text([("a.jpg", RECT, {"class": "cat"})]))
    write(tmp_path / "via_project.json", project(entry("a.jpg", region())))
    assert load_dataset(tmp_path).notes[0] == "read as via: via_project.json"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"name": "circle", "cx": 25, "cy": 40, "r": 10}, (15, 30, 35, 50)),
        ({"name": "ellipse", "cx": 25, "cy": 40, "rx": 15, "ry": 20}, (10, 20, 40, 60)),
        ({"name": "ellipse", "cx": 25, "cy": 40, "rx": 20, "ry": 15, "theta": 1.5707963267948966}, (10, 20, 40, 60)),
        ({"name": "polygon", "all_points_x": [10, 40, 20], "all_points_y": [30, 20, 60]}, (10, 20, 40, 60)),
        ({"name": "polyline", "all_points_x": [10, 40], "all_points_y": [20, 60]}, (10, 20, 40, 60)),
    ],
)
def test_shapes(tmp_path: Path, shape: Any, expected: Any) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.json", export(entry("a.jpg", region(shape=shape))))
    data = load_dataset(tmp_path)
    assert data[0].box is not None
    assert data[0].box.xyxy == pytest.approx(expected)
    assert f"shapes that are no rectangles, their bounding boxes taken: 1 {shape['name']}" in data.notes


@pytest.mark.parametrize(
    ("attributes", "label", "told"),
    [
        ({"kind_of_thing": "cat"}, "cat", "'kind_of_thing'"),
        ({"colour": "red", "Label": "cat"}, "cat", "'Label' (others: colour)"),
        ({"quality": "good", "type": "cat", "class": "tom"}, "tom", "'class' (others: quality, type)"),
        ({"colour": "red", "bird_species": "robin"}, "robin", "'bird_species' (others: colour)"),
        ({"class": {"cat": True, "dog": False}}, "cat", "'class'"),
        ({"class": 3}, "3", "'class'"),
        ({"confirmed_cat": ""}, "confirmed_cat", "names of the regions' attributes"),
    ],
)
def test_which_attribute_names_the_class(tmp_path: Path, attributes: Any, label: str, told: str) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.json", export(entry("a.jpg", region(attributes))))
    data = load_dataset(tmp_path)
    assert data[0].label == label
    assert any(told in note for note in data.notes), data.notes


def test_a_class_of_the_whole_picture(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.json", export(entry("a.jpg", region({}), species="robin")))
    data = load_dataset(tmp_path)
    assert data[0].label == "robin"
    assert "classes from the pictures' attribute 'species'" in data.notes


def test_numbered_options_have_their_titles(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.json", project(entry("a.jpg", region({"class": "1"})), options={"1": "cat", "2": "dog"}))
    assert load_dataset(tmp_path)[0].label == "cat"


def test_several_attributes_without_a_telling_name_are_not_guessed(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.json", export(entry("a.jpg", region({"colour": "red", "size": "big"}))))
    with pytest.raises(AnnotationError, match=r"several attributes.*colour, size.*Rename"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (region({}), "no-class"),
        (region({"class": {"cat": True, "dog": True}}), "no-class"),
        (region(shape={"name": "rect", "x": 1}), "bad-box"),
        (region(shape={"name": "point", "cx": 3, "cy": 4}), "bad-box"),
        (region(shape={"name": "spline", "x": 1}), "bad-box"),
        (region(shape={"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1]}), "bad-box"),
    ],
)
def test_what_is_no_object_is_left_out_with_its_line(tmp_path: Path, one: Any, code: str) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    path = write(tmp_path / "a.json", export(entry("a.jpg", one), entry("b.jpg", region())), indent=1)
    (skipped,) = load_dataset(tmp_path).skipped
    assert skipped.code == code
    number = int(skipped.where.rpartition(":")[2])
    assert '"shape_attributes"' in path.read_text().splitlines()[number - 1]


def test_damaged_cells_and_rows_are_left_out(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    good = csv_text([("a.jpg", RECT, {"class": "cat"}), ("b.jpg", RECT, {"class": "cat"})]).splitlines()
    damaged = good[2].replace('""name"": ', '""name"" ')
    text(tmp_path / "a.csv", "\n".join([good[0], good[1], damaged, "c.jpg,22024", ""]))
    data = load_dataset(tmp_path)
    assert sorted((s.code, s.where.rpartition(":")[2]) for s in data.skipped) == [
        ("unreadable-annotation", "3"),
        ("unreadable-annotation", "4"),
    ]
    assert [(Path(s.path).name, s.label) for s in data] == [("a.jpg", "cat"), ("c.jpg", None)]


def test_a_name_that_is_an_address_or_leads_out_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    names = ["https://example.org/a.jpg", "/etc/a.jpg", "../a.jpg", "C:\\a.jpg"]
    write(tmp_path / "a.json", export(entry("a.jpg", region()), *(entry(name, region()) for name in names)))
    assert [s.code for s in load_dataset(tmp_path).skipped] == ["refused-name"] * 4


def test_a_table_that_is_none_is_explained(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="none of VIA's: it needs filename"):
        load_dataset(text(tmp_path / "a.csv", "a,b\n1,2\n"), layout="via")


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["class", "x", "0", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)
SHAPE_KEYS = ["x", "y", "width", "height", "cx", "cy", "r", "rx", "ry", "theta", "all_points_x", "all_points_y"]
random_shapes = st.tuples(
    st.dictionaries(st.sampled_from(SHAPE_KEYS), values),
    st.sampled_from(["rect", "circle", "ellipse", "polygon", "point", ""]),
)
random_regions = st.tuples(random_shapes, st.dictionaries(st.sampled_from(["class", "colour", "b"]), values))


@settings(max_examples=100, deadline=None)
@given(st.lists(random_regions, max_size=3), values, st.booleans(), st.booleans())
def test_random_regions_give_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, written: Any, odd: Any, sound: bool, as_csv: bool
) -> None:
    root = tmp_path_factory.getbasetemp() / ("via_csv" if as_csv else "via")
    root.mkdir(exist_ok=True)
    (root / "a.jpg").write_bytes(jpeg())
    made = [({**shape, "name": name}, attributes) for (shape, name), attributes in written]
    made = [(RECT, {"class": "cat"}), *made] if sound else made
    if as_csv:
        rows: list[tuple[str, Any, Any]] = [("a.jpg", *one) for one in made]
        load_or_explain(text(root / "a.csv", csv_text([*rows, ("a.jpg", odd, odd)])), layout="via")
    else:
        regions = [region(attributes, shape) for shape, attributes in made]
        content = {**export(entry("a.jpg", *regions)), "b": odd, "c": {"filename": "a.jpg", "regions": odd}}
        load_or_explain(write(root / "a.json", content), layout="via")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_random_text_gives_no_traceback(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    for ending in ("json", "csv"):
        path = tmp_path_factory.getbasetemp() / f"via.{ending}"
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        with pytest.raises(OneboxError):
            load_dataset(path, layout="via")
