"""load_dataset and Dataset: counts of the real sets, splits, parts, fingerprints, errors, and what may be opened."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from onebox.dataset import Dataset, load_dataset
from onebox.errors import AnnotationError, ConfigError, DataError, LayoutError, OneboxError
from onebox.formats.table import LAYOUTS
from tests.small_sets import picture, table, text, voc_xml

# path below the real sets, options, layout, samples, labelled, classes, parts, skipped
REAL: list[tuple[str, dict[str, Any], str, int, int, int, dict[str, int], int]] = [
    ("tiny_vid", {}, "csv", 948, 900, 5, {"train": 750, "test": 150}, 0),
    ("tiny_vid/train.csv", {}, "csv", 750, 750, 5, {}, 0),
    ("pets3", {}, "csv", 600, 598, 3, {"train": 300, "test": 298}, 0),
    ("pets3/train.csv", {}, "csv", 300, 300, 3, {}, 0),
    ("pets3", {"layout": "voc", "multiple": "largest"}, "voc", 600, 296, 2, {}, 0),
    ("pets3", {"layout": "voc", "multiple": "skip"}, "voc", 599, 295, 2, {}, 1),
    ("caltech22_mat", {}, "csv", 1351, 1351, 22, {"train": 1014, "test": 337}, 0),
    ("caltech22_mat/train.csv", {}, "csv", 1014, 1014, 22, {}, 0),
    ("caltech3_csv", {}, "csv", 513, 513, 3, {}, 1),
    ("caltech3_csv/annotations/face.csv", {}, "csv", 110, 110, 1, {}, 0),
    ("raccoon", {"layout": "voc", "multiple": "largest"}, "voc", 200, 200, 1, {}, 0),
    ("raccoon", {"layout": "voc", "multiple": "skip"}, "voc", 184, 184, 1, {}, 16),
    ("raccoon", {"multiple": "skip"}, "csv", 184, 184, 1, {"train": 148, "test": 36}, 16),
    ("raccoon/data/raccoon_labels.csv", {"multiple": "largest"}, "csv", 200, 200, 1, {}, 0),
    ("vegetables3/training_images", {}, "voc", 186, 186, 3, {}, 0),
    ("asl_yolo", {}, "yolo", 1728, 1728, 26, {"train": 1512, "val": 144, "test": 72}, 0),
    ("toys_coco", {"multiple": "largest"}, "coco", 800, 759, 2, {"train": 638, "val": 80, "test": 82}, 0),
    ("toys_coco", {"multiple": "skip"}, "coco", 644, 603, 2, {"train": 534, "val": 44, "test": 66}, 156),
    ("fruit_voc", {"multiple": "skip"}, "voc", 173, 173, 3, {"train": 140, "test": 33}, 127),
    ("plates_voc", {"multiple": "largest"}, "voc", 550, 549, 1, {}, 0),
    ("neu_det", {"multiple": "largest"}, "voc", 273, 273, 6, {"train": 243, "val": 30}, 0),
    ("pets37", {}, "csv", 370, 370, 37, {}, 0),
    ("pets37", {"layout": "coco"}, "coco", 370, 370, 1, {}, 0),
    ("pets37", {"layout": "yolo"}, "yolo", 370, 370, 1, {"train": 120, "val": 250}, 0),
    ("pets37/coco/instances_sample.json", {}, "coco", 370, 370, 1, {}, 0),
    ("pets37/yolo_head/data.yaml", {}, "yolo", 370, 370, 1, {"train": 120, "val": 250}, 0),
]


@pytest.mark.real
@pytest.mark.parametrize("row", REAL, ids=lambda row: f"{row[0]}-{'-'.join(row[1].values())}")
def test_real_sets_load_with_the_counts_of_their_sources(real_data: Path, row: Any) -> None:
    path, options, layout, samples, labelled, classes, parts, skipped = row
    data = load_dataset(real_data / path, **options)
    assert data.layout == layout
    assert (len(data), len(data.labelled), len(data.class_names)) == (samples, labelled, classes)
    assert {part: len(data.part(part)) for part in data.parts()} == parts
    assert len(data.skipped) == skipped
    assert sum(data.counts().values()) == labelled
    assert_sound(data)


@pytest.mark.real
def test_same_file_names_in_every_class_folder_are_told_apart(real_data: Path) -> None:
    data = load_dataset(real_data / "caltech3_csv")
    assert all(Path(s.path).parent.name == s.label for s in data)
    assert data.skipped[0].where.endswith("airplane.csv:31")
    assert "no area" in data.skipped[0].reason


@pytest.mark.real
def test_several_objects_stop_the_load_and_name_the_ways_on(real_data: Path) -> None:
    with pytest.raises(AnnotationError) as caught:
        load_dataset(real_data / "neu_det")
    message = str(caught.value)
    assert "188 pictures" in message
    assert "--multiple largest" in message
    assert "--multiple skip" in message
    assert ".xml:" in message
    assert "\n" not in message


@pytest.mark.real
def test_the_choice_between_layouts_is_explained(real_data: Path) -> None:
    notes = load_dataset(real_data / "pets37").notes
    assert notes[0] == (
        "read as csv: csv/bboxes.csv; also found coco in coco, yolo in yolo_head (choose with --layout coco or yolo)"
    )


@pytest.mark.real
def test_coco_categories_keep_their_order_and_lose_the_unused_parent(real_data: Path) -> None:
    data = load_dataset(real_data / "toys_coco", multiple="largest")
    assert data.class_names == ("bull", "pig")
    assert any("objects" in note for note in data.notes)


@pytest.mark.real
def test_the_picture_named_by_filename_wins_among_equal_stems(real_data: Path) -> None:
    data = load_dataset(real_data / "plates_voc", multiple="largest")
    by_name = {Path(s.path).name: s for s in data}
    assert by_name["Cars0.png"].label == "licence"
    assert by_name["Cars0.jpg"].label is None


def assert_sound(data: Dataset) -> None:
    """What every consumer relies on."""
    paths = [s.path for s in data]
    assert paths == sorted(set(paths))
    for s in data:
        assert (s.label is None) == (s.box is None)
        if s.box is not None:
            b = s.box
            assert b.image_size == s.image_size
            assert 0 <= b.x_min < b.x_max <= s.image_size.width
            assert 0 <= b.y_min < b.y_max <= s.image_size.height
            assert s.label in data.class_names
            assert ":" in s.where


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """12 cats, 5 dogs, 2 emus, 1 fox, 2 pictures without a label."""
    kinds = {"cat": 12, "dog": 5, "emu": 2, "fox": 1}
    rows = [f"pics/{kind}{i}.jpg,{kind},1,2,30,{40 + i}" for kind, n in kinds.items() for i in range(n)]
    root = tmp_path / "animals"
    table(root, [*rows, "pics/none.jpg,,,,,"])
    picture(root / "pics" / "other.jpg")
    return root


def test_counts_labelled_and_subset(animals: Path) -> None:
    data = load_dataset(animals)
    assert_sound(data)
    assert data.counts() == {"cat": 12, "dog": 5, "emu": 2, "fox": 1}
    assert (len(data), len(data.labelled), data.unlabelled_count) == (22, 20, 2)
    assert "2 pictures without a label" in data.notes
    some = data.subset([3, 0, 3, -1])
    assert [s.path for s in some] == [data[0].path, data[3].path, data[len(data) - 1].path]
    assert some.class_names == data.class_names
    with pytest.raises(IndexError):
        data.subset([99])


def test_split_is_stratified_complete_and_disjoint(animals: Path) -> None:
    data = load_dataset(animals)
    for fraction in (0.1, 0.5, 0.8, 0.99):
        for seed in range(5):
            a, b = data.split(fraction, seed)
            assert sorted(s.path for s in (*a, *b)) == [s.path for s in data]
            for name in ("cat", "dog", "emu"):
                assert a.counts()[name] >= 1
                assert b.counts()[name] >= 1
            assert a.counts()["fox"] == 1
            assert b.unlabelled_count == 0
    assert data.split(0.8)[1].counts() == {"cat": 2, "dog": 1, "emu": 1, "fox": 0}


def test_split_depends_on_seed_and_relative_paths_only(animals: Path, tmp_path: Path) -> None:
    data = load_dataset(animals)
    elsewhere = tmp_path / "moved" / "x"
    shutil.copytree(animals, elsewhere)
    moved = load_dataset(elsewhere)
    names = [s.path for s in data.split(0.7, 3)[1]]
    assert [Path(p).name for p in names] == [Path(s.path).name for s in moved.split(0.7, 3)[1]]
    assert names == [s.path for s in data.split(0.7, 3)[1]]
    assert names != [s.path for s in data.split(0.7, 4)[1]]
    assert data.fingerprint() == moved.fingerprint()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, 2.0, float("nan")])
def test_split_refuses_impossible_fractions(animals: Path, fraction: float) -> None:
    with pytest.raises(ConfigError):
        load_dataset(animals).split(fraction)


def test_fingerprint_changes_with_label_box_and_class_names(animals: Path) -> None:
    first = load_dataset(animals)
    csv = animals / "a.csv"
    original = csv.read_text()
    seen = {first.fingerprint()}
    for old, new in (("fox0.jpg,fox", "fox0.jpg,emu"), ("fox0.jpg,fox,1", "fox0.jpg,fox,2")):
        csv.write_text(original.replace(old, new))
        seen.add(load_dataset(animals).fingerprint())
    csv.write_text(original)
    seen.add(load_dataset(animals, class_names=["fox", "emu", "dog", "cat"]).fingerprint())
    assert len(seen) == 4
    assert load_dataset(animals).fingerprint() == first.fingerprint()
    assert len(first.fingerprint()) == 64


def test_class_names_given_fix_the_order_and_refuse_strangers(animals: Path) -> None:
    data = load_dataset(animals, class_names=["gnu", "fox", "emu", "dog", "cat"])
    assert data.class_names == ("gnu", "fox", "emu", "dog", "cat")
    assert data.counts()["gnu"] == 0
    with pytest.raises(AnnotationError, match="class 'fox' is not among the 3 expected"):
        load_dataset(animals, class_names=["cat", "dog", "emu"])


def test_parts(tmp_path: Path) -> None:
    table(tmp_path, ["a.jpg,x,1,1,9,9"], name="birds_train.csv")
    table(tmp_path, ["b.jpg,x,1,1,9,9"], name="birds_valid.csv")
    data = load_dataset(tmp_path)
    assert data.parts() == ("train", "val")
    assert [Path(s.path).name for s in data.part("val")] == ["b.jpg"]
    with pytest.raises(DataError, match=r"no part 'test' in this data set \(parts: train, val\)"):
        data.part("test")


def test_a_picture_listed_in_two_parts_stays_out_of_training(tmp_path: Path) -> None:
    table(tmp_path, ["a.jpg,x,1,1,9,9", "b.jpg,x,1,1,9,9"], name="train.csv")
    table(tmp_path, ["b.jpg,x,1,1,9,9"], name="test.csv")
    data = load_dataset(tmp_path)
    assert [s.split for s in data] == ["train", "test"]
    assert any("more than one part" in note for note in data.notes)


def test_paths_may_be_relative_and_the_root_may_be_dot(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_dataset(animals).fingerprint()
    monkeypatch.chdir(animals)
    assert load_dataset(".").fingerprint() == whole
    assert load_dataset("a.csv").labelled.fingerprint() == load_dataset(animals).labelled.fingerprint()


def messages(path: Path, **options: Any) -> str:
    with pytest.raises(OneboxError) as caught:
        load_dataset(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_errors_say_what_happened_and_what_to_do(tmp_path: Path) -> None:
    assert "no such file or folder" in messages(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no pictures and no annotations" in messages(empty)
    only_pictures = picture(tmp_path / "p" / "a.jpg").parent
    message = messages(only_pictures)
    assert "pictures but no annotations" in message
    assert "seen: 1 .jpg" in message
    assert all(row.name in message for row in LAYOUTS)
    only_annotations = text(tmp_path / "q" / "deep" / "er" / "a.xml", voc_xml(("cat", 1, 1, 9, 9))).parent
    assert "annotations (voc) but no pictures here or beside" in messages(only_annotations)
    unlabelled = picture(tmp_path / "r" / "a.jpg").parent
    text(unlabelled / "a.xml", voc_xml())
    assert "no picture has a label" in messages(unlabelled)
    assert "not an annotation file" in messages(text(tmp_path / "notes.md", "hello"))
    assert "unknown layout 'cocoa'" in messages(only_pictures, layout="cocoa")
    assert "nothing here reads as coco" in messages(unlabelled, layout="coco")
    with pytest.raises(ConfigError, match="error, largest or skip"):
        load_dataset(unlabelled, multiple="both")  # pyright: ignore[reportArgumentType]


def test_nothing_usable_is_an_error_with_the_first_reasons(tmp_path: Path) -> None:
    table(tmp_path, ["a.jpg,x,9,1,1,9", "b.jpg,x,1,1,nan,9", "c.jpg,x,ten,1,5,5"])
    message = messages(tmp_path)
    assert "inverted" in message
    assert "a.csv:2" in message
    with pytest.raises(LayoutError):
        load_dataset(tmp_path, layout="voc")


def test_damaged_pictures_are_counted_not_fatal(tmp_path: Path) -> None:
    table(tmp_path, ["a.jpg,x,1,1,9,9", "b.jpg,x,1,1,9,9", "c.jpg,x,1,1,9,9"])
    (tmp_path / "b.jpg").write_bytes(b"")
    (tmp_path / "c.jpg").write_bytes(b"GIF89a, not really")
    (tmp_path / "d.jpg").write_bytes(b"nor this")
    data = load_dataset(tmp_path)
    assert len(data) == 1
    assert [(Path(s.path).name, s.code) for s in data.skipped] == [
        (name, "unreadable-picture") for name in ("b.jpg", "c.jpg", "d.jpg")
    ]


_OPENED: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _OPENED is not None and event == "open" and isinstance(arguments[0], (str, bytes)):
        _OPENED.append(arguments[0] if isinstance(arguments[0], str) else arguments[0].decode("utf-8", "replace"))


sys.addaudithook(_hook)

ESCAPES = [
    "../secret.jpg",
    "..\\secret.jpg",
    "x/../../secret.jpg",
    "x\\..\\..\\secret.jpg",
    "{outside}/secret.jpg",
    "/etc/passwd",
    "\\\\host\\share\\secret.jpg",
    "C:\\secret.jpg",
    "C:secret.jpg",
    "file:///etc/passwd",
    "https://example.org/secret.jpg",
    "..",
    ". ./secret.jpg",
    "link.jpg",
    "linked/secret.jpg",
    "a" * 5000 + ".jpg",
]


@pytest.mark.parametrize("layout", ["csv", "coco", "voc"])
@pytest.mark.parametrize("name", ESCAPES, ids=lambda name: name[:24])
def test_a_name_in_an_annotation_never_opens_a_file_outside(tmp_path: Path, layout: str, name: str) -> None:
    global _OPENED
    root, outside = tmp_path / "root", tmp_path / "outside"
    for secret in (tmp_path / "secret.jpg", outside / "secret.jpg"):
        picture(secret)
    picture(root / "good.jpg")
    (root / "link.jpg").symlink_to(outside / "secret.jpg")
    (root / "linked").symlink_to(outside)
    name = name.replace("{outside}", str(outside))
    if layout == "csv":
        text(root / "a.csv", f"filename,class,xmin,ymin,xmax,ymax\ngood.jpg,x,1,1,9,9\n{name},x,1,1,9,9\n")
    elif layout == "coco":
        images = ", ".join(f'{{"id": {i}, "file_name": {_json(n)}}}' for i, n in enumerate(["good.jpg", name]))
        boxes = ", ".join(f'{{"image_id": {i}, "category_id": 1, "bbox": [1, 1, 8, 8]}}' for i in range(2))
        text(
            root / "a.json",
            f'{{"images": [{images}], "annotations": [{boxes}], "categories": [{{"id": 1, "name": "x"}}]}}',
        )
    else:
        text(root / "good.xml", voc_xml(("x", 1, 1, 9, 9)))
        text(root / "other.xml", voc_xml(("x", 1, 1, 9, 9), filename=name))
    _OPENED = []
    try:
        data = load_dataset(root)
        opened = _OPENED
    finally:
        _OPENED = None
    assert [Path(s.path).name for s in data] == ["good.jpg"]
    assert len(data.skipped) == 1
    assert data.skipped[0].code in {"refused-name", "missing-picture"}
    assert not [path for path in opened if "secret" in path or "passwd" in path]
    assert any(path.endswith("good.jpg") for path in opened)


def _json(value: str) -> str:
    import json

    return json.dumps(value)


def test_fifos_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    import os

    table(tmp_path, ["a.jpg,x,1,1,9,9"])
    os.mkfifo(tmp_path / "b.jpg")
    os.mkfifo(tmp_path / "c.csv")
    picture(tmp_path / ".hidden" / "d.jpg")
    picture(tmp_path / "._a.jpg")
    assert [Path(s.path).name for s in load_dataset(tmp_path)] == ["a.jpg"]
    with pytest.raises(DataError, match="neither a folder nor a regular file"):
        load_dataset(tmp_path / "c.csv")


def test_importing_and_loading_a_table_costs_nothing_heavy() -> None:
    code = (
        "import sys, onebox.dataset;"
        "heavy = {'torch', 'pandas', 'yaml', 'onnxruntime', 'hypothesis', 'matplotlib'} & sys.modules.keys();"
        "sys.exit(', '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_file_names_that_are_no_utf_8(tmp_path: Path) -> None:
    import os

    stem = os.fsdecode(b"caf\xe9")
    picture(tmp_path / f"{stem}.jpg")
    text(tmp_path / f"{stem}.xml", voc_xml(("x", 1, 1, 9, 9)))
    data = load_dataset(tmp_path)
    assert len(data.labelled) == 1
    assert len(data.fingerprint()) == 64
    assert len(data.split(0.5)[0]) == 1
