"""The doctor on what annotations say: objects, claims of the picture, names, layouts side by side, classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebox.doctor import Finding, check
from onebox.doctor.classes import merges, one_slip
from tests.small_sets import picture, text, varied_table, vary, voc_xml


def found(folder: Path, code: str) -> list[Finding]:
    return [f for f in check(folder).findings if f.code == code]


def pictures(findings: list[Finding]) -> list[str]:
    return [Path(f.picture or "").name for f in findings]


def xml(folder: Path, name: str, head: str, objects: str = "") -> None:
    """An annotation of a 100x80 picture; `head` is what stands before the one object."""
    picture(folder / "images" / f"{name}.jpg")
    box = "<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>40</xmax><ymax>40</ymax></bndbox>"
    one = objects or f"<object><name>cat</name>{box}</object>"
    text(folder / "annotations" / f"{name}.xml", f"<annotation>{head}{one}</annotation>")


def size(width: int, height: int, depth: int = 3) -> str:
    return f"<size><width>{width}</width><height>{height}</height><depth>{depth}</depth></size>"


def test_claims_of_the_picture(tmp_path: Path) -> None:
    xml(tmp_path, "right", "<filename>right.jpg</filename>" + size(100, 80))
    xml(tmp_path, "silent", "")
    xml(tmp_path, "zero", size(0, 0))
    xml(tmp_path, "grey", size(100, 80, 1))
    xml(tmp_path, "bare", "<filename>bare</filename>")
    xml(tmp_path, "png", "<filename>C:\\data\\png.png</filename>")
    xml(tmp_path, "other", "<filename>another.jpg</filename>")
    xml(tmp_path, "capital", "<filename>CAPITAL.JPG</filename>")
    assert pictures(found(tmp_path, "wrong-size")) == ["zero.jpg"]
    assert pictures(found(tmp_path, "wrong-depth")) == ["grey.jpg"]
    assert pictures(found(tmp_path, "filename-no-extension")) == ["bare.jpg"]
    assert pictures(found(tmp_path, "filename-extension")) == ["png.jpg"]
    assert pictures(found(tmp_path, "filename-other")) == ["other.jpg"]


def test_the_size_of_a_turned_picture_may_be_written_either_way(tmp_path: Path) -> None:
    from PIL import Image

    for name, width, height in (("stored", 100, 80), ("upright", 80, 100), ("neither", 90, 90)):
        xml(tmp_path, name, size(width, height))
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (100, 80)).save(tmp_path / "images" / f"{name}.jpg", exif=exif)
    assert pictures(found(tmp_path, "wrong-size")) == ["neither.jpg"]


def test_several_objects_and_several_classes(tmp_path: Path) -> None:
    rows = ["a.jpg,cat,1,1,9,9", "b.jpg,cat,1,1,9,9", "b.jpg,cat,1,1,50,50", "c.jpg,cat,1,1,9,9", "c.jpg,dog,1,1,50,50"]
    varied_table(tmp_path, [*rows, "d.jpg,dog,1,1,9,9", "d.jpg,dog,1,1,9,9"])
    several = found(tmp_path, "several-objects")
    # the line is that of the largest; the same object written twice is one
    assert [(name, f.line) for name, f in zip(pictures(several), several, strict=True)] == [("b.jpg", 4), ("c.jpg", 6)]
    (mixed,) = found(tmp_path, "mixed-classes")
    assert "1 cat, 1 dog" in mixed.message


def test_classes_that_file_names_contradict(tmp_path: Path) -> None:
    rows = [f"cat_{i}.jpg,cat,1,1,9,9" for i in range(9)] + [f"dog_{i}.jpg,dog,1,1,9,9" for i in range(9)]
    varied_table(tmp_path, [*rows, "cat_9.jpg,dog,1,1,9,9"])
    (wrong,) = found(tmp_path, "class-contradicts-name")
    assert (Path(wrong.picture or "").name, wrong.line) == ("cat_9.jpg", 20)


def test_names_that_tell_nothing_of_classes_contradict_nothing(tmp_path: Path) -> None:
    # half of the names are wrong: they are no source of classes
    varied_table(tmp_path, [f"cat_{i}.jpg,{('cat', 'dog')[i % 2]},1,1,9,9" for i in range(20)])
    assert found(tmp_path, "class-contradicts-name") == []


def test_classes_that_folders_contradict(tmp_path: Path) -> None:
    names = [f"{label}/{i}.jpg" for label in ("cat", "dog") for i in range(12)]
    for name in names:
        picture(tmp_path / name)
    file = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "annotations": [
            {"image_id": i, "category_id": int(i >= 12 or i == 3), "bbox": [1, 1, 8, 8]} for i in range(24)
        ],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    }
    text(tmp_path / "a.json", json.dumps(file))
    assert [f.picture for f in found(tmp_path, "class-contradicts-name")] == [str(tmp_path / "cat/3.jpg")]


def test_file_names_that_others_trip_over(tmp_path: Path) -> None:
    varied_table(tmp_path, ["a.jpg,cat,1,1,9,9", "b.JPG,cat,1,1,9,9", "c.jpg,cat,1,1,9,9"])
    picture(tmp_path / "a.png")
    assert pictures(found(tmp_path, "same-stem")) == ["a.png"]
    assert "1 pictures end in .JPG" in found(tmp_path, "upper-case-extension")[0].message
    assert found(tmp_path, "repeated-names") == []


def test_layouts_side_by_side(tmp_path: Path) -> None:
    varied_table(tmp_path, ["a.jpg,beagle,1,1,9,9", "b.jpg,boxer,1,1,9,9"])
    text(tmp_path / "xml" / "a.xml", voc_xml(("dog", 1, 1, 9, 9)))
    text(tmp_path / "xml" / "b.xml", voc_xml(("dog", 1, 1, 9, 9), ("dog", 10, 10, 30, 30)))
    (told,) = found(tmp_path, "layouts-disagree")
    assert "voc knows 1 class (dog); csv, which is read, knows 2 classes (beagle, boxer)" in told.message
    (several,) = found(tmp_path, "several-objects")
    assert (Path(several.file or "").name, Path(several.picture or "").name) == ("b.xml", "b.jpg")


def test_layouts_side_by_side_that_agree(tmp_path: Path) -> None:
    varied_table(tmp_path, ["a.jpg,cat,1,1,9,9", "b.jpg,dog,1,1,9,9", "c.jpg,dog,1,1,9,9"])
    for name, label in (("a", "Cat"), ("b", "dog")):
        text(tmp_path / "xml" / f"{name}.xml", voc_xml((label, 1, 1, 9, 9)))
    assert found(tmp_path, "layouts-disagree") == []
    # the third picture has no XML of its own
    assert pictures(found(tmp_path, "no-annotation-file")) == ["c.jpg"]


def test_a_layout_about_other_pictures_is_not_held_against_the_set(tmp_path: Path) -> None:
    varied_table(tmp_path, ["a.jpg,cat,1,1,9,9", "b.jpg,dog,1,1,9,9"])
    picture(tmp_path / "else" / "images" / "z.jpg")
    text(tmp_path / "else" / "labels" / "z.txt", "0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.1 0.1\n")
    counts = check(tmp_path).counts()
    assert counts.keys().isdisjoint({"layouts-disagree", "several-objects", "mixed-classes", "no-names"})


def test_a_damaged_layout_beside_a_sound_one_is_told(tmp_path: Path) -> None:
    varied_table(tmp_path, ["a.jpg,cat,1,1,9,9"])
    text(tmp_path / "xml" / "a.xml", voc_xml(("cat", 1, 1, 9, 9)))
    text(tmp_path / "xml" / "b.xml", "<annotation><object>")
    (broken,) = found(tmp_path, "unreadable-annotation")
    assert Path(broken.file or "").name == "b.xml"


def test_categories_that_nothing_uses(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    file = {
        "images": [{"id": 0, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 1, 8, 8]}],
        "categories": [
            {"id": 0, "name": "toys", "supercategory": "none"},
            {"id": 1, "name": "bull", "supercategory": "toys"},
            {"id": 2, "name": "pig", "supercategory": "toys"},
        ],
    }
    text(tmp_path / "a.json", json.dumps(file))
    assert "'toys'" in found(tmp_path, "unused-parent")[0].message
    assert ["'pig'" in f.message for f in found(tmp_path, "unused-category")] == [True]


def test_tables_without_a_header_and_ids_without_names(tmp_path: Path) -> None:
    varied_table(tmp_path / "csv", ["a.jpg,1,1,9,9,cat"], header="b.jpg,2,2,9,9,dog")
    picture(tmp_path / "csv" / "b.jpg")
    (bare,) = found(tmp_path / "csv", "no-header")
    assert bare.line == 1
    picture(tmp_path / "yolo" / "images" / "a.jpg")
    text(tmp_path / "yolo" / "labels" / "a.txt", "0 0.5 0.5 0.2 0.2\n")
    assert len(found(tmp_path / "yolo", "no-names")) == 1
    text(tmp_path / "yolo" / "data.yaml", "names: [cat]\n")
    assert found(tmp_path / "yolo", "no-names") == []


def test_whole_and_fractional_numbers(tmp_path: Path) -> None:
    varied_table(tmp_path / "mixed", ["a.jpg,cat,1,1,9,9", "b.jpg,cat,1.5,2.25,9.5,8.75"])
    varied_table(tmp_path / "whole", ["a.jpg,cat,1,1,9,9", "b.jpg,cat,1,2,9.0,8"])
    varied_table(tmp_path / "tenths", ["a.jpg,cat,0.11,0.12,0.93,0.94", "b.jpg,cat,0.1,0.2,0.5,0.6"])
    assert len(found(tmp_path / "mixed", "mixed-numbers")) == 1
    assert found(tmp_path / "whole", "mixed-numbers") == []
    assert found(tmp_path / "tenths", "mixed-numbers") == []


@pytest.mark.parametrize(
    ("names", "code", "rare"),
    [
        ({"cat": 20, "Cat": 2}, "class-case", "Cat"),
        ({"maine coon": 20, "maine_coon": 3}, "class-space", "maine_coon"),
        ({"cucumber": 30, "cucumbar": 2}, "class-spelling", "cucumbar"),
        ({"cucumber": 30, "ucumber": 2}, "class-spelling", "ucumber"),
        ({"cucumber": 30, "cucubmer": 2}, "class-spelling", "cucubmer"),
        ({"dog": 20, "dogs": 10}, "class-spelling", "dogs"),
        ({"berry": 20, "berries": 10}, "class-spelling", "berries"),
        ({"cat": 20, "car": 2}, None, ""),  # short words
        ({"mango": 20, "mangy": 15}, None, ""),  # both frequent
        ({"class 1": 20, "class 2": 1}, None, ""),  # numbered
        ({"a": 20, "A": 3}, None, ""),  # two letters of an alphabet
        ({"c++": 20, "c": 5}, None, ""),
    ],
)
def test_names_that_are_one_name(names: dict[str, int], code: str | None, rare: str, tmp_path: Path) -> None:
    rows = [f"{i}-{j}.jpg,{name},1,1,9,9" for i, (name, n) in enumerate(names.items()) for j in range(n)]
    varied_table(tmp_path, rows)
    told = [f for f in check(tmp_path).findings if f.code.startswith("class-")]
    assert [f.code for f in told] == ([code] if code else [])
    assert all(f.message.startswith(repr(rare)) for f in told)


def test_only_sure_spellings_are_merged() -> None:
    assert merges({"cat": 5, "Cat": 9, "dog": 3, "dogs": 1, "D og": 1}) == {"cat": "Cat", "D og": "dog"}


@given(st.text("abc", min_size=1, max_size=6), st.integers(0, 5), st.sampled_from("xyz"))
def test_one_slip_is_found_wherever_it_is(word: str, at: int, letter: str) -> None:
    at = min(at, len(word) - 1)
    assert one_slip(word, word[:at] + letter + word[at:])
    assert one_slip(word, word[:at] + letter + word[at + 1 :])
    assert one_slip(word[:at] + letter + word[at:], word)
    assert not one_slip(word, word)
    assert not one_slip(word, f"xx{word}")


def test_one_class_and_tiny_classes(tmp_path: Path) -> None:
    varied_table(tmp_path / "one", [f"{i}.jpg,cat,1,1,9,9" for i in range(5)])
    assert check(tmp_path / "one").counts() == {"one-class": 1}
    varied_table(tmp_path / "tiny", [f"{i}.jpg,{'cat' if i else 'dog'},1,1,9,9" for i in range(6)])
    assert check(tmp_path / "tiny").counts() == {"tiny-class": 1}


def test_pixels_in_yolo_files_and_files_without_an_object(tmp_path: Path) -> None:
    lines = ["0 0.5 0.5 0.2 0.2", "0 50 40 20 20", "", "0 0.5 0.5 0.2 oops", "0 500 400 20 20"]
    for i, line in enumerate(lines):
        picture(tmp_path / "images" / f"{i}.jpg")
        text(tmp_path / "labels" / f"{i}.txt", f"{line}\n")
    picture(tmp_path / "images" / "5.jpg")
    vary(tmp_path)
    told = {Path(f.picture or "").name: f for f in check(tmp_path).findings if f.picture}
    assert {name: f.code for name, f in told.items()} == {
        "1.jpg": "mixed-units",
        "2.jpg": "no-object",
        "3.jpg": "bad-box",
        "4.jpg": "bad-box",
        "5.jpg": "unlabelled",
    }
    assert told["2.jpg"].message == "an annotation without an object"
    assert told["5.jpg"].message == "a picture without an annotation"


def test_a_layout_beside_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    from onebox.doctor.annotations import of_annotations
    from onebox.doctor.entries import Entry, Source, Thing
    from onebox.errors import AnnotationError, MissingExtraError

    sound = Source("csv", ("a.csv",), (Entry("a.jpg", "a.jpg", "a.csv:2", [Thing("cat", (1, 1, 9, 9), "a.csv:2")]),))
    damaged = Source("coco", ("b.json",), (), problem=AnnotationError("not valid JSON", where="b.json:7"))
    extra = MissingExtraError("reading this needs scipy", fix="Run: pip install scipy")
    told = of_annotations([sound, damaged, Source("caltech", ("c.mat",), (), problem=extra)], {})
    assert [(f.code, f.file, f.line) for f in told] == [
        ("unreadable-annotation", "b.json", 7),
        ("unread-layout", "c.mat", None),
    ]
    assert told[1].message == "caltech: reading this needs scipy. Run: pip install scipy"
