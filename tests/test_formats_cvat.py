"""CVAT XML for images: shapes of every kind, subsets, the video flavour, damaged files, random input."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from onebox.errors import AnnotationError
from tests.small_sets import jpeg, load_or_explain, picture, text

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>7</id>
      <name>bugs</name>
      <mode>annotation</mode>
      <labels>
        <label>
          <name>wasp</name>
          <attributes><attribute><name>sting</name></attribute></attributes>
        </label>
        <label><name>bee</name></label>
        <label><name>left wing</name><parent>bee</parent></label>
        <label><name>ant</name></label>
      </labels>
    </task>
    <dumped>2026-01-01 00:00:00</dumped>
  </meta>
"""
BOX = '<box label="bee" source="manual" occluded="0" xtl="10.5" ytl="20" xbr="40" ybr="60.25" z_order="0"></box>'


def cvat(root: Path, *images: tuple[str, str, str], name: str = "annotations.xml") -> Path:
    """Writes an export with these (picture, further attributes, shapes); image i opens on line 21 + i."""
    lines = [
        f'  <image id="{i}" name="{file}" width="100" height="80" {more}>{shapes}</image>'
        for i, (file, more, shapes) in enumerate(images)
    ]
    return text(root / name, HEAD + "\n".join([*lines, "</annotations>", ""]))


def test_boxes_labels_and_subsets(tmp_path: Path) -> None:
    cvat(
        tmp_path,
        ("a.jpg", 'subset="Train"', BOX),
        ("sub/b.jpg", 'subset="Validation"', BOX.replace("bee", "wasp")),
        ("c.jpg", 'subset="Test"', ""),
    )
    for name in ("a.jpg", "sub/b.jpg", "c.jpg"):
        picture(tmp_path / "images" / name)
    data = load_dataset(tmp_path)
    assert data.layout == "cvat"
    assert data.class_names == ("wasp", "bee"), "the task's own order, parts of skeletons left out"
    a, c, b = data
    assert a.box is not None
    assert a.box.xyxy == (10.5, 20, 40, 60.25)
    assert a.where == f"{tmp_path / 'annotations.xml'}:21"
    assert (a.split, b.split, c.split) == ("train", "val", "test")
    assert (b.label, c.label) == ("wasp", None)
    assert "1 picture without a label" in data.notes


SQUARE = 'xtl="40" ytl="30" xbr="60" ybr="50"'  # around (50, 40)
SKELETON = (
    '<skeleton label="bee"><points label="l" outside="0" points="12,14"/><points label="x" outside="1" points="99,79"/>'
    '<points label="r" outside="0" points="30.5,44"/></skeleton>'
)
DIAGONAL = 10 * math.sqrt(2)


@pytest.mark.parametrize(
    ("shape", "box", "note"),
    [
        ('<polygon label="bee" points="10,20;30.5,5;25,40"/>', (10, 5, 30.5, 40), "1 of kind polygon"),
        ('<polyline label="bee" points="10,20;30,40"/>', (10, 20, 30, 40), "1 of kind polyline"),
        ('<points label="bee" points="10,20;30,40;20,60"/>', (10, 20, 30, 60), "1 of kind points"),
        (
            '<mask label="bee" rle="3, 5" left="10" top="20" width="30" height="25"/>',
            (10, 20, 40, 45),
            "1 of kind mask",
        ),
        ('<ellipse label="bee" cx="50" cy="40" rx="20" ry="10"/>', (30, 30, 70, 50), "1 of kind ellipse"),
        ('<ellipse label="bee" cx="50" cy="40" rx="20" ry="10" rotation="90"/>', (40, 20, 60, 60), "1 of kind ellipse"),
        (SKELETON, (12, 14, 30.5, 44), "1 of kind skeleton"),
        (f'<box label="bee" {SQUARE} rotation="360"/>', (40, 30, 60, 50), "1 of kind rotated box"),
        (
            f'<box label="bee" {SQUARE} rotation="45.0"/>',
            (50 - DIAGONAL, 40 - DIAGONAL, 50 + DIAGONAL, 40 + DIAGONAL),
            "1 of kind rotated box",
        ),
        (
            '<cuboid label="bee" xtl1="10" ytl1="20" xbl1="10" ybl1="40" xtr1="30" ytr1="21" xbr1="30" ybr1="41" '
            'xtl2="50" ytl2="15" xbl2="50" ybl2="35" xtr2="20" ytr2="16" xbr2="20" ybr2="36"/>',
            (10, 15, 50, 41),
            "1 of kind cuboid",
        ),
    ],
)
def test_the_box_around_other_shapes(
    tmp_path: Path, shape: str, box: tuple[float, float, float, float], note: str
) -> None:
    cvat(tmp_path, ("a.jpg", "", shape))
    picture(tmp_path / "a.jpg")
    data = load_dataset(tmp_path)
    assert data[0].box is not None
    assert data[0].box.xyxy == pytest.approx(box)
    assert any(note in line and "box around each" in line for line in data.notes)


def test_tags_are_no_objects(tmp_path: Path) -> None:
    cvat(tmp_path, ("a.jpg", "", f'{BOX}<tag label="ant" source="manual"></tag>'))
    picture(tmp_path / "a.jpg")
    data = load_dataset(tmp_path)
    assert [s.label for s in data] == ["bee"]
    assert "1 tags (labels without a box) passed over" in data.notes


def test_the_video_flavour_is_refused(tmp_path: Path) -> None:
    track = (
        '  <track id="0" label="bee" source="manual">\n    <box frame="0" xtl="1" ytl="2" xbr="3" ybr="4"/></track>\n'
    )
    text(tmp_path / "annotations.xml", HEAD + track + "</annotations>\n")
    picture(tmp_path / "frame_000000.jpg")
    with pytest.raises(AnnotationError, match=r"annotations\.xml:21: CVAT for video.*CVAT for images 1\.1"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (BOX.replace("10.5", "nan"), "not four finite numbers: nan, 20, 40, 60.25"),
        (BOX.replace('xtl="10.5"', ""), "not four finite numbers: nothing, 20"),
        (BOX.replace("10.5", "50"), "inverted: (50, 20, 40, 60.25)"),
        (f'<box label="bee" {SQUARE} rotation="inf"/>', "not four finite numbers"),
        (f'<box label="bee" {SQUARE.replace("60", "20")} rotation="30"/>', "inverted: (40, 30, 20, 50)"),
        ('<box label="bee" xtl="-1e308" ytl="0" xbr="1e308" ybr="9" rotation="30"/>', "not four finite numbers"),
        ('<polygon label="bee" points="10,20;x,5"/>', "not four finite numbers"),
        ('<polygon label="bee" points="10,20;5"/>', "not four finite numbers"),
        ('<polygon label="bee" points=""/>', "not four finite numbers"),
        ('<points label="bee" points="10,20"/>', "no area"),
        ('<cuboid label="bee" xtl1="10"/>', "not four finite numbers"),
        ('<skeleton label="bee"/>', "not four finite numbers"),
        (BOX.replace('label="bee"', ""), "without a class"),
    ],
)
def test_what_is_wrong_with_a_shape(tmp_path: Path, shape: str, reason: str) -> None:
    cvat(tmp_path, ("a.jpg", "", shape), ("b.jpg", "", BOX))
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / name)
    data = load_dataset(tmp_path)
    assert [Path(s.path).name for s in data] == ["b.jpg"]
    assert reason in data.skipped[0].reason
    assert data.skipped[0].where.endswith("annotations.xml:21")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEAD + "<image", r"annotations\.xml:21: not well-formed XML"),
        (
            "<!DOCTYPE x [<!ENTITY e 'boo'>]>\n" + HEAD + "</annotations>",
            r"annotations\.xml:1: a DOCTYPE is not allowed",
        ),
        ("<annotations><version>1.1</version>" + "<a>" * 70, r"nested more than 64 deep"),
    ],
)
def test_damaged_files(tmp_path: Path, content: str, message: str) -> None:
    text(tmp_path / "annotations.xml", content)
    picture(tmp_path / "a.jpg")
    with pytest.raises(AnnotationError, match=message):
        load_dataset(tmp_path, layout="cvat" if "<annotations>" in content else None)


def test_voc_and_cvat_are_told_apart(tmp_path: Path) -> None:
    file = cvat(tmp_path, ("a.jpg", "", BOX))
    picture(tmp_path / "a.jpg")
    assert load_dataset(file).layout == "cvat"
    voc = text(tmp_path / "b.xml", "<annotation><filename>b.jpg</filename></annotation>")
    with pytest.raises(AnnotationError, match=r"no CVAT file: its outermost element is not <annotations>"):
        load_dataset(voc, layout="cvat")


shapes = st.sampled_from(["box", "polygon", "mask", "ellipse", "cuboid", "points", "skeleton", "tag", "image", "track"])
attributes = st.sampled_from(
    [
        "xtl",
        "ytl",
        "xbr",
        "ybr",
        "points",
        "label",
        "rotation",
        "cx",
        "cy",
        "rx",
        "ry",
        "left",
        "top",
        "width",
        "height",
    ]
)
values = st.one_of(
    st.sampled_from(["1", "10", "70", "-5", "nan", "inf", "1e308", "-1e400", "1,2;3,4", "1,2;;nan,3", "bee", ""]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='<&"'), max_size=6),
)
elements = st.tuples(shapes, st.dictionaries(attributes, values, max_size=8))


@settings(max_examples=300, deadline=None)
@given(st.lists(elements, max_size=4), st.booleans())
def test_random_shapes_never_get_through_unsound(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[str, dict[str, str]]], cut: bool
) -> None:
    root = tmp_path_factory.mktemp("cvat")
    (root / "a.jpg").write_bytes(jpeg())
    body = ""
    for kind, named in found:
        written = " ".join(f'{key}="{value}"' for key, value in named.items())
        body += f"<{kind} {written}/>"
    content = HEAD + f'<image id="0" name="a.jpg">{body}</image></annotations>'
    text(root / "annotations.xml", content[: len(content) * 2 // 3] if cut else content)
    load_or_explain(root)
