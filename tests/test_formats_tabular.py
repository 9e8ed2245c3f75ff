"""CSV and TSV: delimiters, headers, box spellings, fractions, header-less tables, several tables, random input."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebox.dataset import Dataset, load_dataset
from onebox.errors import AnnotationError, LayoutError
from tests.small_sets import jpeg, load_or_explain, picture, table, text


def load_text(folder: Path, content: str | bytes, name: str = "a.csv", images: tuple[str, ...] = ("a.jpg",)) -> Dataset:
    for image in images:
        picture(folder / image)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_dataset(folder)


def only_box(data: Dataset) -> tuple[float, ...]:
    assert len(data) == 1
    assert data[0].label == "cat"
    assert data[0].box is not None
    return tuple(round(v, 6) for v in data[0].box.xyxy)


@pytest.mark.parametrize(
    "header_and_row",
    [
        "filename,class,xmin,ymin,xmax,ymax|a.jpg,cat,10,20,40,60",
        "file,label,x_min,y_min,x_max,y_max|a.jpg,cat,10,20,40,60",
        "image,name,x1,y1,x2,y2|a.jpg,cat,10,20,40,60",
        "x0,y0,x1,y1,category,path|10,20,40,60,cat,a.jpg",
        "image_name,breed,Left,Top,Right,Bottom|a,cat,10,20,40,60",
        "img_path,Class Name,BBox Xmin,BBox Ymin,BBox Xmax,BBox Ymax|x/a.jpg,cat,10,20,40,60",
        "picture,class,x,y,w,h|a.jpg,cat,10,20,30,40",
        "picture,class,x,y,width,height|a.jpg,cat,10,20,30,40",
        "filename,class,bbox_x,bbox_y,bbox_width,bbox_height|a.jpg,cat,10,20,30,40",
        "filename,class,bbox_x,bbox_y,bbox_w,bbox_h,width,height|a.jpg,cat,10,20,30,40,100,80",
        "filename,width,height,class,x,y,w,h|a.jpg,100,80,cat,10,20,30,40",
        "filename,class,xmin,ymin,width,height|a.jpg,cat,10,20,30,40",
        "filename,width,height,class,xmin,ymin,xmax,ymax|a.jpg,100,80,cat,10,20,40,60",
        "image,label,x_center,y_center,width,height|a.jpg,cat,25,40,30,40",
        "image,label,cx,cy,w,h|a.jpg,cat,25,40,30,40",
        "image,label,cx,cy,w,h|a.jpg,cat,0.25,0.5,0.3,0.5",
        "image,label,xmin,ymin,xmax,ymax|a.jpg,cat,0.1,0.25,0.4,0.75",
        "breed,species,class,image_id,xmin,ymin,xmax,ymax|tabby,mammal,cat,a,10,20,40,60",
        "a.jpg,10,20,40,60,cat|",
        "a.jpg,cat,10,20,40,60|",
        "./a.jpg,10.0,2e1,40,60,cat|",
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", "])
def test_spellings_and_delimiters(tmp_path: Path, header_and_row: str, delimiter: str) -> None:
    content = header_and_row.replace(",", delimiter).replace("|", "\r\n")
    box = only_box(load_text(tmp_path, "\ufeff" + content, "a.tsv" if delimiter == "\t" else "a.csv"))
    assert box in {(10, 20, 40, 60)}


def test_fractions_are_noted_and_one_wild_row_does_not_undo_them(tmp_path: Path) -> None:
    rows = [f"{i}.jpg,x,0.1,0.1,0.5,0.5" for i in range(20)]
    table(tmp_path, [*rows, "wild.jpg,x,0.1,0.1,700,0.5"])
    data = load_dataset(tmp_path)
    assert any("fractions" in note for note in data.notes)
    assert [Path(s.path).name for s in data.skipped] == ["wild.jpg"]
    assert data[0].box is not None
    assert data[0].box.xyxy == pytest.approx((10, 8, 50, 40))


def test_whole_numbers_up_to_one_are_pixels(tmp_path: Path) -> None:
    assert only_box(load_text(tmp_path, "filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,0,0,1,1\n")) == (0, 0, 1, 1)


def test_decimal_commas(tmp_path: Path) -> None:
    content = "filename;class;xmin;ymin;xmax;ymax\na.jpg;cat;10,5;20;40;60\n"
    assert only_box(load_text(tmp_path, content)) == (10.5, 20, 40, 60)


def test_quotes_newlines_and_other_encodings(tmp_path: Path) -> None:
    content = 'filename,class,xmin,ymin,xmax,ymax\n"a.jpg","a\ncat",1,1,9,9\n\n"b.jpg","émeu",1,1,nine,9\n'
    data = load_text(tmp_path, content.encode("cp1252"), images=("a.jpg", "b.jpg"))
    assert data.class_names == ("a cat",)
    assert data[0].where.endswith("a.csv:2")
    assert data.skipped[0].where.endswith("a.csv:5")
    assert any("Windows-1252" in note for note in data.notes)


def test_empty_boxes_are_unlabelled_pictures(tmp_path: Path) -> None:
    table(tmp_path, ["a.jpg,x,1,1,9,9", "b.jpg,,,,,", "c.jpg,x,nan,nan,nan,nan", "d.jpg,x,1,,9,9"])
    data = load_dataset(tmp_path)
    assert [(Path(s.path).name, s.label) for s in data] == [("a.jpg", "x"), ("b.jpg", None), ("c.jpg", None)]
    assert [s.code for s in data.skipped] == ["bad-box"]


def test_a_split_column_and_a_tables_own_name(tmp_path: Path) -> None:
    rows = ["a.jpg,x,1,1,9,9,train", "b.jpg,x,1,1,9,9,Validation", "c.jpg,x,1,1,9,9,test", "d.jpg,x,1,1,9,9,?"]
    table(tmp_path, rows, "filename,class,xmin,ymin,xmax,ymax,set")
    assert [s.split for s in load_dataset(tmp_path)] == ["train", "val", "test", None]


def test_tables_of_like_columns_are_read_together_others_noted(tmp_path: Path) -> None:
    for i in range(3):
        table(tmp_path, [f"{i}.jpg,x,1,1,9,9"], name=f"part{i}.csv")
    text(tmp_path / "sizes.csv", "filename,width,height\n0.jpg,1,1\n")
    text(tmp_path / "other.csv", "image,label,x,y,w,h\n0.jpg,y,1,1,2,2\n")
    data = load_dataset(tmp_path)
    assert data.class_names == ("x",)
    assert "tables not read: other.csv, sizes.csv (give one as DATA to read it)" in data.notes


def test_the_class_folder_or_the_tables_name_picks_among_equal_names(tmp_path: Path) -> None:
    for kind in ("face", "plane"):
        picture(tmp_path / "images" / kind / "1.jpg")
        text(tmp_path / "annotations" / f"{kind}.csv", f"1.jpg,1,1,9,9,{kind}\n2.jpg,1,1,9,9,{kind}\n")
    picture(tmp_path / "images" / "plane" / "2.jpg")
    data = load_dataset(tmp_path)
    assert [Path(s.path).parent.name + s.label for s in data if s.label] == ["faceface", "planeplane", "planeplane"]
    # face/2.jpg does not exist, and plane/2.jpg is no face
    assert [s.code for s in data.skipped] == ["missing-picture"]
    for kind in ("face", "plane"):
        text(tmp_path / "annotations" / f"{kind}.csv", "1.jpg,1,1,9,9,thing\n")
    assert len(load_dataset(tmp_path).labelled) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("filename,xmin,ymin,xmax,ymax\na.jpg,1,1,9,9\n", r"a\.csv:1: no class column.*among: filename, xmin, ymin"),
        ("filename,class,size\na.jpg,x,9\n", "no picture and box column found among: filename, class, size"),
        ("", "no picture and box column found among: none"),
        ('filename,class,xmin,ymin,xmax,ymax\n"a.jpg' + "x" * 200_000, r"a\.csv:2: this table cannot be read"),
    ],
    ids=["class", "box", "empty", "quote"],
)
def test_a_table_that_cannot_be_read_says_what_was_seen(tmp_path: Path, content: str, message: str) -> None:
    picture(tmp_path / "a.jpg")
    with pytest.raises(AnnotationError, match=message):
        load_dataset(text(tmp_path / "a.csv", content))


def test_a_table_without_boxes_is_no_annotation_of_a_folder(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    text(tmp_path / "a.csv", "filename,class\na.jpg,x\n")
    with pytest.raises(LayoutError, match="pictures but no annotations"):
        load_dataset(tmp_path)


cells = st.one_of(
    st.sampled_from(["a.jpg", "cat", "1", "2", "30", "40", "0.5", "nan", "-1", "1e400", "../a.jpg", "class", "xmin"]),
    st.text(max_size=6),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(cells, max_size=7), max_size=6),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["filename,class,xmin,ymin,xmax,ymax", "image,label,cx,cy,w,h", "a.jpg,1,2,30,40,cat", ""]),
)
def test_random_tables_give_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str, header: str
) -> None:
    root = tmp_path_factory.getbasetemp() / "tabular"
    root.mkdir(exist_ok=True)
    (root / "a.jpg").write_bytes(jpeg())
    lines = [header.replace(",", delimiter), *(delimiter.join(row) for row in rows)]
    (root / "a.csv").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    load_or_explain(root)
    load_or_explain(root / "a.csv")
