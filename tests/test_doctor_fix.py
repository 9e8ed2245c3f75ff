"""`onebox check` as a person runs it, and the repaired copy: what is put right, what is left, what stays untouched."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from onebox.dataset import load_dataset
from onebox.doctor import check, diagnose
from onebox.doctor.findings import LEFT_OUT, Finding
from onebox.doctor.fix import fix, repair, turn_box
from onebox.errors import OneboxError
from onebox.types import ImageSize, Sample
from tests.small_runs import here, untouched
from tests.small_sets import picture, text, varied_table


def boxes(folder: Path) -> dict[str, tuple[str, tuple[float, ...]]]:
    """Picture -> class and corners, of a folder read again."""
    data = load_dataset(folder)
    return {Path(s.path).name: (s.label or "", s.box.xyxy if s.box else ()) for s in data}


def test_what_is_sure_is_put_right(tmp_path: Path) -> None:
    rows = [f"cat{i}.jpg,cat,{10 + i},10,50,60" for i in range(5)]
    rows += [
        "over.jpg,cat,50,50,110,79",
        "inverted.jpg,cat,60,50,20,10",
        "fraction.jpg,cat,0.1,0.25,0.5,0.75",
        "spelling.jpg,Cat,10,10,50,60",
        "flat.jpg,cat,10,10,10,60",
    ]
    varied_table(tmp_path / "set", rows)
    with untouched(tmp_path / "set"):
        done = fix(diagnose(tmp_path / "set"), tmp_path / "out")
    assert boxes(tmp_path / "out") == {
        **{f"cat{i}.jpg": ("cat", (10 + i, 10, 50, 60)) for i in range(5)},
        "over.jpg": ("cat", (50, 50, 100, 79)),
        "inverted.jpg": ("cat", (20, 10, 60, 50)),
        "fraction.jpg": ("cat", (10, 20, 50, 60)),
        "spelling.jpg": ("cat", (10, 10, 50, 60)),
    }
    assert {f.code for f in done.done} >= {"clipped-box", "inverted-box", "mixed-units", "class-case"}
    assert [f.code for f in done.left] == ["empty-box"]


def test_the_copy_has_none_of_what_was_put_right(tmp_path: Path) -> None:
    rows = [f"cat{i}.jpg,cat,{10 + i},10,50,60" for i in range(5)]
    varied_table(tmp_path / "set", [*rows, "over.jpg,CAT,50,50,110,79", "inverted.jpg,cat,60,50,20,10"])
    first = check(tmp_path / "set").counts()
    assert first == {"class-case": 1, "clipped-box": 1, "inverted-box": 1, "one-class": 1}
    fix(diagnose(tmp_path / "set"), tmp_path / "out")
    assert check(tmp_path / "out").counts() == {"one-class": 1}


def test_pictures_are_named_after_their_content(tmp_path: Path) -> None:
    rows = [f"{i}.jpg,cat,10,10,50,60" for i in range(6)]
    varied_table(tmp_path / "set", rows)
    Image.new("RGB", (100, 80)).save(tmp_path / "set" / "3.jpg", "PNG")
    (tmp_path / "set" / "5.jpg").write_bytes(b"")
    content = (tmp_path / "set" / "3.jpg").read_bytes()
    fix(diagnose(tmp_path / "set"), tmp_path / "out")
    assert sorted(boxes(tmp_path / "out")) == ["0.jpg", "1.jpg", "2.jpg", "3.png", "4.jpg"]
    assert next((tmp_path / "out").rglob("3.png")).read_bytes() == content


def test_boxes_turn_with_their_picture(tmp_path: Path) -> None:
    """A red rectangle drawn on the stored pixels lies, upright, where the turned box says."""
    box = (20.0, 10.0, 50.0, 25.0)
    for orientation in range(1, 9):
        image = Image.new("RGB", (96, 64), (0, 0, 255))
        ImageDraw.Draw(image).rectangle((20, 10, 49, 24), fill=(255, 0, 0))
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(tmp_path / f"{orientation}.png", exif=exif)
        from onebox.images import open_image

        upright, _ = open_image(tmp_path / f"{orientation}.png")
        assert upright.getchannel("R").getbbox() == turn_box(box, ImageSize(96, 64), orientation)


def test_a_set_that_ignores_exif(tmp_path: Path) -> None:
    rows: list[str] = []
    (tmp_path / "set").mkdir()
    for i in range(6):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (100, 80), (i * 40, 90, 90)).save(tmp_path / "set" / f"{i}.jpg", exif=exif)
        rows.append(f"{i}.jpg,cat,60,{10 + i},95,50")
    text(tmp_path / "set" / "a.csv", "\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows, ""]))
    repaired = repair(diagnose(tmp_path / "set"))
    # EXIF 6: (x, y) of the stored 100x80 is (80 - y, x) of the upright 80x100
    assert [s.box.xyxy for s in repaired if s.box] == [(30, 60, 70 - i, 95) for i in range(6)]
    assert {s.image_size for s in repaired} == {ImageSize(80, 100)}


def test_parts_and_pictures_without_a_label_stay(tmp_path: Path) -> None:
    header = "filename,class,xmin,ymin,xmax,ymax,split"
    rows = [f"{i}.jpg,cat,10,10,50,60,{'train' if i < 4 else 'test'}" for i in range(6)]
    varied_table(tmp_path / "set", rows, header=header)
    picture(tmp_path / "set" / "bare.jpg")
    fix(diagnose(tmp_path / "set"), tmp_path / "out")

    def parts(samples: tuple[Sample, ...]) -> list[tuple[str, str | None]]:
        return [(Path(s.path).name, s.split) for s in samples]

    again, before = load_dataset(tmp_path / "out"), load_dataset(tmp_path / "set")
    assert sorted(parts(again.labelled.samples)) == sorted(parts(before.labelled.samples))
    assert len(again) == len(before) == 7


def test_nothing_is_written_over(tmp_path: Path) -> None:
    varied_table(tmp_path / "set", [f"{i}.jpg,cat,10,10,50,60" for i in range(5)])
    text(tmp_path / "full" / "mine.txt", "mine")
    diagnosis = diagnose(tmp_path / "set")
    for out in (tmp_path / "full", tmp_path / "set", tmp_path / "set" / "inside"):
        with untouched(tmp_path), pytest.raises(OneboxError):
            fix(diagnosis, out)


def test_the_command_line_writes_what_was_asked_for_and_nothing_else(tmp_path: Path) -> None:
    rows = [f"long-name-of-a-picture-{i}.jpg,cat,1,1,9,9" for i in range(6)]
    varied_table(tmp_path / "set", [*rows, "flat.jpg,cat,5,9,50,9", "over.jpg,cat,50,50,110,79"])
    with untouched(tmp_path):
        done = here("check", tmp_path / "set")
    assert done.code == 0
    # places are whole, to be copied, and the picture is named where the place does not
    assert f"{tmp_path / 'set' / 'a.csv'}:8  flat.jpg: the box has no height" in done.out
    assert done.out.index("empty-box") < done.out.index("clipped-box") < done.out.index("one-class")
    with untouched(tmp_path / "set"):
        done = here(
            *("check", tmp_path / "set", "--json", tmp_path / "c.json", "--page", tmp_path / "c.html"),
            *("--fix", tmp_path / "out"),
        )
    assert done.code == 0
    assert "clipped-box 1: The box is cut at the picture's edge." in done.out
    assert "Left for you: empty-box 1" in done.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.html", "c.json", "out", "set"]
    written = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert {f["code"] for f in written["findings"]} == {"empty-box", "clipped-box", "one-class"}


@pytest.mark.real
def test_a_real_set_is_repaired(real_data: Path, tmp_path: Path) -> None:
    before = check(real_data / "fruit_voc").counts()
    fix(diagnose(real_data / "fruit_voc"), tmp_path / "out")
    after = check(tmp_path / "out").counts()
    assert before["mislabelled-picture"] == before["wrong-size"] == 37
    assert after.keys().isdisjoint({"mislabelled-picture", "wrong-size", "several-objects"})
    assert len(list((tmp_path / "out").rglob("*.png"))) == 37


def test_a_picture_that_a_finding_leaves_out_is_not_in_the_copy(tmp_path: Path) -> None:
    varied_table(tmp_path / "set", [f"{i}.jpg,cat,10,10,50,60" for i in range(6)])
    diagnosis = diagnose(tmp_path / "set")
    path = str(tmp_path / "set" / "2.jpg")
    told = Finding("one-class", path, None, None, "as where another picture is the same", fix=LEFT_OUT)
    checkup = dataclasses.replace(diagnosis.checkup, findings=(told,))
    kept = repair(dataclasses.replace(diagnosis, checkup=checkup))
    assert [Path(s.path).name for s in kept] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg", "5.jpg"]


def test_of_identical_pictures_with_the_same_label_one_is_kept(tmp_path: Path) -> None:
    rows = [f"{i}.jpg,{'cat' if i < 6 else 'dog'},10,10,50,60" for i in range(12)]
    varied_table(tmp_path / "set", [*rows, "copy.jpg,cat,10,10,50,60", "other.jpg,cat,20,10,50,60"])
    for name in ("copy.jpg", "other.jpg"):
        (tmp_path / "set" / name).write_bytes((tmp_path / "set" / "0.jpg").read_bytes())
    done = fix(diagnose(tmp_path / "set"), tmp_path / "out")
    kept = {Path(s.path).name for s in load_dataset(tmp_path / "out")}
    # the third has another box: which of them is right, only a person can say
    assert kept == {*(f"{i}.jpg" for i in range(12)), "other.jpg"}
    assert "duplicate-boxes" in {f.code for f in done.left}
