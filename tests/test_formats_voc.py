"""Pascal VOC: finding pictures, parts, damaged XML, refused DOCTYPE, random input."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import load_dataset
from tests.small_sets import jpeg, load_or_explain, picture, text, voc_xml

CAT = ("cat", 1, 2, 30, 40)


@pytest.mark.parametrize(
    ("xml", "image"),
    [
        ("a.xml", "a.jpg"),
        ("a.xml", "a.PNG"),
        ("annotations/a.xml", "images/a.jpg"),
        ("Annotations/a.xml", "JPEGImages/a.jpg"),
        ("annotations/xmls/a.xml", "images/a.jpg"),
        ("xml/a.xml", "a.jpg"),
        ("val_annotations/a.xml", "val_images/a.jpeg"),
        ("A.xml", "a.jpg"),
    ],
)
def test_picture_places(tmp_path: Path, xml: str, image: str) -> None:
    text(tmp_path / xml, voc_xml(CAT, filename="lie.jpg"))
    picture(tmp_path / image)
    data = load_dataset(tmp_path)
    assert data.layout == "voc"
    sample = data.labelled[0]
    assert Path(sample.path) == tmp_path / image
    assert sample.label == "cat"
    assert sample.box is not None
    assert sample.box.xyxy == (1, 2, 30, 40)
    assert sample.where == f"{tmp_path / xml}:4"


def test_filename_serves_where_no_picture_has_the_xml_name(tmp_path: Path) -> None:
    text(tmp_path / "0001.xml", voc_xml(CAT, filename="robin"))
    picture(tmp_path / "robin.jpg")
    assert Path(load_dataset(tmp_path)[0].path).name == "robin.jpg"


def test_a_single_xml(tmp_path: Path) -> None:
    xml = text(tmp_path / "annotations" / "a.xml", voc_xml(CAT))
    text(tmp_path / "annotations" / "b.xml", voc_xml(CAT))
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.jpg")
    data = load_dataset(xml)
    assert [Path(s.path).name for s in data] == ["a.jpg"]
    assert "pictures taken from ../images" in data.notes


def test_parts_from_image_sets_and_from_folders(tmp_path: Path) -> None:
    one = tmp_path / "one"
    for name in "abc":
        text(one / "Annotations" / f"{name}.xml", voc_xml(CAT))
        picture(one / "JPEGImages" / f"{name}.jpg")
    text(one / "ImageSets" / "Main" / "trainval.txt", "a\nb\n")
    text(one / "ImageSets" / "Main" / "val.txt", "b\n")
    text(one / "ImageSets" / "Main" / "test.txt", "c\n")
    text(one / "ImageSets" / "Main" / "cat_train.txt", "a 1\nb -1\n")
    assert [s.split for s in load_dataset(one)] == ["train", "val", "test"]
    two = tmp_path / "two"
    for name, folder in zip("abc", ("train", "valid", "test"), strict=True):
        text(two / folder / f"{name}.xml", voc_xml(CAT))
        picture(two / folder / f"{name}.jpg")
    assert {Path(s.path).stem: s.split for s in load_dataset(two)} == {"a": "train", "b": "val", "c": "test"}


def test_an_annotation_never_takes_a_picture_of_another_part(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in "ab":
            text(tmp_path / part / f"{name}.xml", voc_xml(CAT))
            picture(tmp_path / part / f"{name}.jpg")
    (tmp_path / "train" / "a.jpg").unlink()
    data = load_dataset(tmp_path)
    assert len(data) == 3
    assert [s.code for s in data.skipped] == ["missing-picture"]


def test_parts_of_objects_do_not_pose_as_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    xml = voc_xml(("person", 10, 10, 50, 50)).replace("</object>", f"{part}</object>")
    text(tmp_path / "a.xml", xml)
    picture(tmp_path / "a.jpg")
    sample = load_dataset(tmp_path)[0]
    assert (sample.label, sample.box.xyxy if sample.box else None) == ("person", (10, 10, 50, 50))


def test_damaged_ones_are_skipped_with_their_line(tmp_path: Path) -> None:
    for name in "abcdefg":
        picture(tmp_path / f"{name}.jpg")
    text(tmp_path / "a.xml", voc_xml(CAT))
    text(tmp_path / "b.xml", voc_xml(CAT)[:90])
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]>'
    text(tmp_path / "c.xml", '<?xml version="1.0"?>\n' + bomb + voc_xml(CAT).replace("cat", "&a;"))
    text(tmp_path / "d.xml", voc_xml(("cat", "left", 1, 2, 3)))  # pyright: ignore[reportArgumentType]
    text(tmp_path / "e.xml", voc_xml(CAT).replace("<name>cat</name>", ""))
    text(tmp_path / "f.xml", voc_xml(CAT).replace("<xmin>1</xmin>", ""))
    text(tmp_path / "g.xml", '<?xml version="1.0" encoding="klingon"?>' + voc_xml(CAT))
    text(tmp_path / "other.xml", "<project><a/></project>")
    data = load_dataset(tmp_path)
    found = {Path(s.where.rpartition(":")[0]).stem: (s.code, s.where.rpartition(":")[2]) for s in data.skipped}
    assert found == {
        "b": ("unreadable-annotation", "4"),
        "c": ("unreadable-annotation", "2"),
        "d": ("bad-box", "4"),
        "e": ("no-class", "4"),
        "f": ("bad-box", "4"),
        "g": ("unreadable-annotation", "1"),
    }
    assert len(data.labelled) == 1
    assert any("no VOC annotations" in note for note in data.notes)


TOKENS = """<annotation> </annotation> <object> </object> <name>cat</name> <bndbox> </bndbox> <xmin>1</xmin>
<ymin>2</ymin> <xmax>30</xmax> <ymax>4e1</ymax> <ymax>nan</ymax>
<!DOCTYPE <![CDATA[ ]]> & &amp; <filename>../a</filename>
"""
tokens = st.sampled_from(TOKENS.split())


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.lists(tokens, max_size=25).map("\n".join), st.text(max_size=200)), st.booleans())
def test_random_text_gives_no_traceback(tmp_path_factory: pytest.TempPathFactory, content: str, whole: bool) -> None:
    root = tmp_path_factory.getbasetemp() / "voc"
    root.mkdir(exist_ok=True)
    (root / "a.jpg").write_bytes(jpeg())
    document = f"<annotation>{content}</annotation>" if whole else content
    (root / "a.xml").write_bytes(document.encode("utf-8", "surrogatepass"))
    for path in (root, root / "a.xml"):
        load_or_explain(path)
