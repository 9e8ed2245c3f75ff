"""The command line as scripts use it: rows, files, folders, names, pipes. What goes wrong is in test_bad_input."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import onebox
from tests.small_runs import BLOCKED, TINY_FLAGS, coloured_set, environment, here, json_lines, python, shell, untouched


def fields(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two folders that hold the same names, a broken picture between good ones, and a text file."""
    folder = tmp_path / "pictures"
    coloured_set(folder / "a", count=3)
    coloured_set(folder / "b", count=3, seed=1)
    (folder / "a" / "001.png").write_bytes((folder / "a" / "001.png").read_bytes()[:500])
    return folder


# ---- predict


def test_one_row_per_picture_in_order(tiny_run: Path, pictures: Path) -> None:
    given = [pictures / "b" / "002.png", pictures / "a" / "001.png", pictures / "gone.jpg", pictures / "a" / "000.png"]
    with untouched(pictures):
        done = here("predict", tiny_run / "model.onnx", *given)
    rows = json_lines(done.out)
    assert (done.code, [row["path"] for row in rows]) == (0, [str(p) for p in given])
    assert done.err == "onebox: 2 of 4 pictures could not be read\n"
    for row in (rows[0], rows[3]):
        assert row.keys() >= {"path", "label", "score", "box", "probabilities"}
        assert len(row["box"]) == 4
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
    assert [row.keys() for row in rows[1:3]] == [{"path", "error"}] * 2
    assert "truncated" in rows[1]["error"]
    assert "no such file" in rows[2]["error"]
    direct = onebox.load(tiny_run).predict(given[3])[0]
    assert rows[3]["box"] == pytest.approx(direct.box.xyxy, abs=0.01)


def test_folders_become_their_pictures_sorted(tiny_run: Path, pictures: Path) -> None:
    (pictures / "a" / "notes.txt").write_text("no picture")
    rows = json_lines(here("predict", tiny_run, pictures, pictures / "a" / "000.png").out)
    expected = [pictures / f / f"00{i}.png" for f in "ab" for i in range(3)] + [pictures / "a" / "000.png"]
    assert [row["path"] for row in rows] == [str(p) for p in expected]


def test_rows_to_a_file(tiny_run: Path, pictures: Path, tmp_path: Path) -> None:
    done = here("predict", tiny_run, pictures, "--json", tmp_path / "out.jsonl")
    assert (done.code, done.out) == (0, "")
    assert json_lines((tmp_path / "out.jsonl").read_text("utf-8")) == json_lines(
        here("predict", tiny_run, pictures).out
    )
    done = here("predict", tiny_run, pictures, "--json", "-")
    assert len(json_lines(done.out)) == 6
    assert list(tmp_path.glob(".*")) == []


def test_csv(tiny_run: Path, pictures: Path, tmp_path: Path) -> None:
    rows = fields(here("predict", tiny_run, pictures, "--csv", "-").out)
    as_json = json_lines(here("predict", tiny_run, pictures).out)
    assert list(rows[0]) == ["path", "label", "score", "x_min", "y_min", "x_max", "y_max", "error"]
    assert [row["path"] for row in rows] == [row["path"] for row in as_json]
    for row, other in zip(rows, as_json, strict=True):
        if "error" in other:
            assert (row["error"], row["label"], row["x_min"]) == (other["error"], "", "")
        else:
            assert [float(row[k]) for k in ("x_min", "y_min", "x_max", "y_max")] == other["box"]
            assert row["error"] == ""
    here("predict", tiny_run, pictures, "--csv", tmp_path / "out.csv")
    assert fields((tmp_path / "out.csv").read_text("utf-8")) == rows


def test_a_file_name_is_no_formula(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    for name in ("=HYPERLINK(1).png", "+1.png", "-1.png", "@SUM(A1).png", 'quo"te, comma.png'):
        shutil.copy(tiny_set.parent / "000.png", tmp_path / name)
    done = python(
        "-m",
        "onebox",
        "predict",
        tiny_run,
        "--csv",
        "-",
        "--",
        *sorted(p.name for p in tmp_path.iterdir()),
        cwd=tmp_path,
    )
    cells = [row["path"] for row in fields(done.out)]
    assert cells == ["'+1.png", "'-1.png", "'=HYPERLINK(1).png", "'@SUM(A1).png", 'quo"te, comma.png'], done.err


def test_drawn_pictures_and_crops(tiny_run: Path, pictures: Path, tmp_path: Path) -> None:
    with untouched(pictures):
        done = here("predict", tiny_run, pictures, "--draw", tmp_path / "d" / "drawn", "--crop", tmp_path / "crops")
    assert done.code == 0
    for folder in (tmp_path / "d" / "drawn", tmp_path / "crops"):
        # a/000 and b/000 are two pictures; a/001 cannot be read
        assert sorted(p.name for p in folder.iterdir()) == ["000-2.jpg", "000.jpg", "001.jpg", "002-2.jpg", "002.jpg"]
    for path in (tmp_path / "d" / "drawn").iterdir():
        with Image.open(path) as drawn:
            assert drawn.size == (64, 48)
    with Image.open(tmp_path / "d" / "drawn" / "000.jpg") as one, Image.open(pictures / "a" / "000.png") as other:
        assert one.convert("RGB").tobytes() != other.convert("RGB").tobytes()


def test_drawing_never_writes_over_the_pictures(tiny_run: Path, pictures: Path, tmp_path: Path) -> None:
    with Image.open(pictures / "b" / "000.png") as image:
        image.save(pictures / "b" / "000.jpg")
    with untouched(pictures):
        for flag in ("--draw", "--crop"):
            here("predict", tiny_run, pictures / "b", flag, pictures / "b").says("would write among the pictures")
            here("predict", tiny_run, pictures / "b" / "000.jpg", flag, pictures / "a" / ".." / "b").says("among the")
    done = here("predict", tiny_run, pictures, "--draw", tmp_path / "x", "--crop", tmp_path / "x")
    done.says("cannot write to the same folder")


def test_when_no_picture_at_all_can_be_read(tiny_run: Path, tmp_path: Path) -> None:
    done = here("predict", tiny_run, tmp_path / "gone.jpg")
    done.says("1 of 1 pictures could not be read")
    assert len(json_lines(done.out)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_file_names_that_are_no_utf_8(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "odd")
    Path(os.fsdecode(folder)).mkdir()
    name = folder + b"/caf\xe9.png"
    Path(os.fsdecode(name)).write_bytes((tiny_set.parent / "000.png").read_bytes())
    Path(os.fsdecode(folder + b"/b\xe9d.png")).write_bytes(b"rubbish")
    for to in (["--json", tmp_path / "out"], ["--csv", tmp_path / "out"], []):
        words = [sys.executable, "-m", "onebox", "predict", tiny_run, folder, *to, "--draw", tmp_path / "drawn"]
        done = subprocess.run(words, env=environment(), capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stderr == b"onebox: 1 of 2 pictures could not be read\n"
        written = (tmp_path / "out").read_bytes() if to else done.stdout
        if "--csv" in to:
            assert name in written  # the very bytes of the name
        else:
            rows = [json.loads(line) for line in written.decode("utf-8").splitlines()]
            assert [os.fsencode(row["path"]) for row in rows] == [folder + b"/b\xe9d.png", name]
    assert b"caf\xe9.jpg" in {os.fsencode(p.name) for p in (tmp_path / "drawn").iterdir()}
    single = subprocess.run(
        [sys.executable, "-m", "onebox", "predict", tiny_run, folder + b"/b\xe9d.png"],
        env=environment(), capture_output=True, timeout=60,
    )  # fmt: skip
    assert single.returncode == 1
    assert b"Traceback" not in single.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_terminal_can_show_any_name(encoding: str, tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_set.parent / "000.png", tmp_path / "鳥 é.png")
    for flags in ([], ["--csv", "-"]):
        done = subprocess.run(
            [sys.executable, "-m", "onebox", "predict", tiny_run, tmp_path / "鳥 é.png", *flags],
            env=environment(PYTHONIOENCODING=encoding, PYTHONUTF8="0"), capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        if not flags:
            assert json.loads(done.stdout.decode(encoding))["path"] == str(tmp_path / "鳥 é.png")


def test_a_reader_that_goes_away_is_no_error(tiny_run: Path, tiny_set: Path) -> None:
    """`onebox predict ... | head -1`: enough rows that writing meets the closed pipe."""
    words = [sys.executable, "-m", "onebox", "predict", tiny_run, *[tiny_set.parent] * 40]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=60)
    assert err == b""


# ---- evaluate and check


def test_evaluate_writes_the_names_that_scripts_rely_on(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    done = here("evaluate", tiny_run, tiny_set, "--json", tmp_path / "scores.json")
    assert done.code == 0, done.err
    scores = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert scores.keys() >= {"n", "top1", "mean_iou", "box_acc_50", "box_acc_75", "joint_50", "baseline"}
    assert scores["n"] == 24
    assert scores["baseline"].keys() >= {"top1", "mean_iou", "joint_50"}
    assert "24 pictures judged" in done.out
    here("evaluate", tiny_run, tiny_set, "--part", "test").says("no part 'test'")


def test_evaluate_counts_what_it_left_out(tiny_run: Path, tmp_path: Path) -> None:
    data = coloured_set(tmp_path / "set", count=6)
    (tmp_path / "set" / "002.png").write_bytes(b"rubbish")
    with untouched(tmp_path):
        done = here("evaluate", tiny_run, data)
    assert done.code == 0
    assert "002.png" in done.err
    assert "skipped: " in done.err
    assert "5 pictures judged" in done.out


def test_check_says_what_is_wrong_and_exits_0(tmp_path: Path) -> None:
    data = coloured_set(tmp_path / "set", count=6)
    with data.open("a") as file:
        file.write("000.png,blue,5,5,1,1\n")
    with untouched(tmp_path / "set"):
        done = here("check", data, "--json", tmp_path / "findings.json")
    assert done.code == 0, done.err
    assert f"{data}:8  000.png: the box ends before it begins" in done.out  # in one piece, however narrow the terminal
    assert json.loads((tmp_path / "findings.json").read_text("utf-8"))
    here("check", tmp_path / "nowhere").says("nowhere: no such file or folder")


# ---- train: what the flags mean (no training is needed to see that)


def test_every_setting_is_a_flag_with_its_default_in_the_help() -> None:
    done = shell("train", "--help", COLUMNS="200", TERM="dumb")
    assert done.code == 0
    from dataclasses import fields as settings

    from onebox.training.config import TrainConfig, make_config

    for setting in settings(TrainConfig):
        assert f"--{setting.name.replace('_', '-')}" in done.out
    assert "--out" in done.out
    assert f"[default: {make_config().bins}]" in " ".join(done.out.split())


def test_help_version_and_nothing() -> None:
    assert shell("--version").out == f"onebox {onebox.__version__}\n"
    for words in (["--help"], ["-h"], ["predict", "--help"]):
        assert shell(*words).code == 0
    done = shell("predcit")
    assert done.code == 2
    assert "No such command" in done.err
    assert "Traceback" not in shell().err


def test_a_split_that_the_data_have_is_used_and_said(tmp_path: Path) -> None:
    from onebox.cli.train import choose_parts
    from onebox.dataset import load_dataset

    coloured_set(tmp_path / "images", count=6)
    rows = (tmp_path / "images" / "labels.csv").read_text().splitlines()
    (tmp_path / "images" / "labels.csv").write_text(
        "\n".join(
            [f"{rows[0]},split", *(f"{r},{s}" for r, s in zip(rows[1:], ["train"] * 4 + ["val", "test"], strict=True))]
        )
    )
    data = load_dataset(tmp_path / "images" / "labels.csv")
    if not data.parts():
        pytest.skip("tables do not name parts yet")
    train, val = choose_parts(data, None, None)
    assert (len(train), len(val or [])) == (4, 1)


def test_val_and_split(tiny_set: Path, tmp_path: Path) -> None:
    from onebox.cli.train import choose_parts
    from onebox.dataset import load_dataset

    data = load_dataset(tiny_set)
    other = load_dataset(coloured_set(tmp_path / "v", count=4))
    assert choose_parts(data, other, None) == (data, other)
    # the share is held out later, when the pictures have been seen: copies stay on one side
    assert choose_parts(data, None, 0.75) == (data, None)
    train, val = choose_parts(data, None, 1.0)
    assert (len(train), val is not None, len(val or [])) == (24, True, 0)
    assert choose_parts(data, None, None) == (data, None)


def test_the_ground_floor_s_commands_run_without_the_extra(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    for words in (
        ("predict", tiny_run, tiny_set.parent, "--draw", tmp_path / "drawn"),
        ("evaluate", tiny_run, tiny_set),
        ("check", tiny_set),
        ("train", "--help"),
    ):
        done = python("-c", BLOCKED, "-m", "onebox", *words)
        assert done.code == 0, done.err
    for words in (("train", tiny_set, "--out", tmp_path / "run", *TINY_FLAGS), ("export", tiny_run), ("demo",)):
        done = python("-c", BLOCKED, "-m", "onebox", *words, cwd=tmp_path)
        done.says(r'(needs|training needs) .*not installed\. Run: pip install "onebox\[train\]"$')
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "onebox-demo").exists()
