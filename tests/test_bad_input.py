"""What users do wrong, by the real command line: one line that says what, where and what to do, exit code 1, no
traceback, and not one of their files changed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import onebox
from onebox.errors import ConfigError
from tests.small_runs import ROOT, coloured_set, here, python, shell, train_words, untouched
from tests.small_sets import picture, text

HEADER = "filename,class,xmin,ymin,xmax,ymax\n"


def nothing(folder: Path) -> Path:
    folder.mkdir()
    return folder


def only_text(folder: Path) -> Path:
    text(folder / "readme.txt", "no pictures here")
    return folder


def no_labels(folder: Path) -> Path:
    for i in range(3):
        picture(folder / f"{i}.jpg")
    return folder


def labels_without_pictures(folder: Path) -> Path:
    return text(folder / "labels.csv", HEADER + "a.jpg,cat,1,1,9,9\nb.jpg,dog,1,1,9,9\n")


def empty_table(folder: Path) -> Path:
    picture(folder / "a.jpg")
    return text(folder / "labels.csv", "")


def unknown_table(folder: Path) -> Path:
    picture(folder / "a.jpg")
    return text(folder / "labels.csv", "colour,price\nblue,3\nred,4\n")


def binary_table(folder: Path) -> Path:
    picture(folder / "a.jpg")
    (folder / "labels.csv").write_bytes(bytes(range(256)) * 10)
    return folder / "labels.csv"


def broken_json(folder: Path) -> Path:
    picture(folder / "a.jpg")
    return text(folder / "labels.json", '{"images": [')


def several_objects(folder: Path) -> Path:
    picture(folder / "a.jpg")
    return text(folder / "labels.csv", HEADER + "a.jpg,cat,1,1,9,9\na.jpg,dog,20,20,39,39\n")


def all_boxes_bad(folder: Path) -> Path:
    picture(folder / "a.jpg")
    return text(folder / "labels.csv", HEADER + "a.jpg,cat,9,9,1,1\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "gone", r"gone: no such file or folder"),
        (nothing, r"set: .*(empty|no pictures|no files|nothing|layout)"),
        (only_text, r"set: .*(no pictures|layout)"),
        (no_labels, r"set: pictures but no annotations that onebox knows"),
        (labels_without_pictures, r"labels.csv.*(no pictures|no such picture|not found)"),
        (empty_table, r"labels.csv:1: no picture and box column found.*Name the columns"),
        (unknown_table, r"labels.csv.*(column|header)"),
        (binary_table, r"labels.csv"),
        (broken_json, r"labels.json.*(JSON|json)"),
        (several_objects, r"labels.csv:[23].*(2 objects|several|--multiple)"),
        (all_boxes_bad, r"nothing usable.*labels.csv:2.*inverted"),
    ],
)
def test_data_that_cannot_be_used(make: Callable[[Path], Path], message: str, tiny_run: Path, tmp_path: Path) -> None:
    data = make(tmp_path / "set")
    with untouched(tmp_path):
        here(*train_words(data, tmp_path / "run")).says(message)
        here("evaluate", tiny_run, data).says(message)
    assert not (tmp_path / "run").exists()


def test_the_same_in_a_process_of_its_own(tmp_path: Path) -> None:
    """`here` runs the same `main`; that the process itself ends so is shown once."""
    done = shell(*train_words(tmp_path / "gone", tmp_path / "run"))
    done.says(r"^onebox: .*gone: no such file or folder\. Check the spelling\.$")
    assert len(done.err.splitlines()) == 1


BAD_BOXES = {
    "NaN": "nan,5,30,30",
    "infinite": "5,5,inf,30",
    "inverted": "30,5,5,30",
    "no area": "5,5,5,30",
    "outside": "500,500,600,600",
    "not a number": "5,five,30,30",
    "missing": "5,,30,30",
}


def test_bad_boxes_and_pictures_are_counted_skips_that_name_their_line(tmp_path: Path) -> None:
    """Each bad row is told of by line; what is good is trained on."""
    data = coloured_set(tmp_path / "set", count=12)
    lines = data.read_text().splitlines()
    for box in BAD_BOXES.values():
        name = f"bad{len(lines)}.png"
        shutil.copy(tmp_path / "set" / "000.png", tmp_path / "set" / name)
        lines.append(f"{name},red,{box}")
    first_bad, after = 14, 14 + len(BAD_BOXES)
    whole = (tmp_path / "set" / "000.png").read_bytes()
    (tmp_path / "set" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "set" / "rubbish.png").write_bytes(b"rubbish")
    (tmp_path / "set" / "nothing.png").touch()
    lines += [f"{name},red,5,5,30,30" for name in ("cut.png", "rubbish.png", "nothing.png", "gone.png")]
    data.write_text("\n".join(lines) + "\n")
    with untouched(tmp_path / "set"):
        done = here(*train_words(data, tmp_path / "run", "--split", "0.99", "--epochs", "1"))
    assert done.code == 0, done.err
    skipped = [line for line in done.err.splitlines() if line.startswith("skipped: ")]
    for number in range(first_bad, after + 4):
        assert [line for line in skipped if f"labels.csv:{number}:" in line], f"line {number}: {skipped}"
    assert len(skipped) == len(BAD_BOXES) + 4
    for name in ("cut.png", "rubbish.png", "nothing.png", "gone.png"):
        assert sum(name in line for line in skipped) == 1
    assert "truncated" in " ".join(skipped)
    manifest = onebox.load(tmp_path / "run").manifest
    assert manifest.data["pictures"] == 10  # one of each class validates


def test_no_picture_can_be_decoded(tmp_path: Path) -> None:
    """Sizes can be read, pixels cannot; the run that was there before is not lost, and no new one begun."""
    data = coloured_set(tmp_path / "set", count=4)
    for path in (tmp_path / "set").glob("*.png"):
        path.write_bytes(path.read_bytes()[:400])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.onnx").write_bytes(b"the earlier run")
    with untouched(tmp_path):
        here(*train_words(data, tmp_path / "run", "--overwrite")).says(
            r"none of the \d+ labelled pictures could be read"
        )
        here(*train_words(data, tmp_path / "new")).says("could be read")
    assert not (tmp_path / "new").exists()


def test_a_class_seen_only_in_validation(tiny_set: Path, tmp_path: Path) -> None:
    val = coloured_set(tmp_path / "val", count=4)
    val.write_text(val.read_text().replace("green", "grean"))
    with untouched(tmp_path):
        here(*train_words(tiny_set, tmp_path / "run", "--val", val)).says(
            r"val/labels.csv:3: class 'grean' is in the validation pictures only.*spelling"
        )


def test_a_class_the_model_does_not_know(tiny_run: Path, tmp_path: Path) -> None:
    data = coloured_set(tmp_path / "set", count=4)
    data.write_text(data.read_text().replace("green", "grean"))
    here("evaluate", tiny_run, data).says(r"labels.csv:3: the class 'grean' is unknown to the model.*green, red")


# ---- models


def not_onnx(folder: Path, run: Path) -> Path:
    return text(folder / "model.onnx", "this is text\n")


def cut_onnx(folder: Path, run: Path) -> Path:
    (folder / "model.onnx").write_bytes((run / "model.onnx").read_bytes()[:100_000])
    return folder / "model.onnx"


def foreign_onnx(folder: Path, run: Path) -> Path:
    from onnx import TensorProto, helper, save

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    return folder / "model.onnx"


def robbed_onnx(folder: Path, run: Path) -> Path:
    """Our manifest on somebody else's graph."""
    import onnx

    foreign_onnx(folder, run)
    model, ours = onnx.load(folder / "model.onnx"), onnx.load(run / "model.onnx")
    model.metadata_props.append(ours.metadata_props[0])
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder, run: folder / "gone.onnx", r"gone.onnx: no such model file"),
        (lambda folder, run: folder, r"this folder holds no model.onnx. Has its training finished\?"),
        (not_onnx, r"model.onnx: not a readable ONNX model"),
        (cut_onnx, r"model.onnx: not a readable ONNX model"),
        (foreign_onnx, r"model.onnx: this ONNX file was not made by onebox.*Use the model.onnx of a run folder"),
        (robbed_onnx, r"model.onnx: the graph lacks the inputs or outputs of a onebox model"),
        (lambda folder, run: run / "best.safetensors", r"best.safetensors: not a readable ONNX model"),
    ],
)
def test_models_that_are_none(
    make: Callable[[Path, Path], Path], message: str, tiny_run: Path, tiny_set: Path, tmp_path: Path
) -> None:
    model = make(tmp_path, tiny_run)
    with untouched(tmp_path), untouched(tiny_run):
        for words in (["predict", model, tiny_set.parent / "000.png"], ["evaluate", model, tiny_set]):
            done = here(*words)
            done.says(message)
            assert done.out == ""


def test_onnxruntime_says_nothing_of_its_own(tiny_set: Path, tmp_path: Path) -> None:
    done = shell("predict", not_onnx(tmp_path, tmp_path), tiny_set.parent / "000.png")
    done.says("not a readable ONNX model")
    assert len(done.err.splitlines()) == 1


# ---- run folders


def test_a_folder_that_holds_a_run(tiny_set: Path, tiny_run: Path) -> None:
    with untouched(tiny_run):
        here(*train_words(tiny_set, tiny_run)).says(r"already holds a run .*--resume.*--overwrite.*another --out")


def test_overwrite_removes_the_run_and_nothing_else(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    text(run / "notes.txt", "mine")
    old = (run / "model.onnx").read_bytes()
    done = here(*train_words(tiny_set, run, "--overwrite", "--epochs", "1"))
    assert done.code == 0, done.err
    assert (run / "notes.txt").read_text() == "mine"
    assert (run / "model.onnx").read_bytes() != old
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1


def test_resume_only_continues_what_began(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    more = coloured_set(tmp_path / "more", count=30)
    other = coloured_set(tmp_path / "other", count=8, seed=5)
    with untouched(tiny_run), untouched(tmp_path):
        for flags, message in (
            (["--lr", "0.5"], r"this run began with lr = .*, not 0.5.*--overwrite"),
            (["--epochs", "9"], r"this run began with epochs = 4, not 9"),
            (["--val", other], r"data is not what this run began with.*--overwrite"),
        ):
            here(*train_words(tiny_set, tiny_run, "--resume", *flags)).says(message)
        here(*train_words(more, tiny_run, "--resume")).says("the training data is not what this run began with")
        here(*train_words(tiny_set, tmp_path / "none", "--resume")).says(r"no run here to resume.*Leave out --resume")


def test_other_validation_pictures_are_another_run(tiny_set: Path, tmp_path: Path) -> None:
    """They choose the best epoch and when to stop, so they belong to what a resumed run must share."""
    one, other = coloured_set(tmp_path / "one", count=4, seed=4), coloured_set(tmp_path / "other", count=4, seed=5)
    assert here(*train_words(tiny_set, tmp_path / "run", "--val", one, "--epochs", "1")).code == 0
    done = here(*train_words(tiny_set, tmp_path / "run", "--val", other, "--epochs", "1", "--resume"))
    done.says("the validation data is not what this run began with")


@pytest.mark.parametrize("name", ["last.safetensors", "metrics.jsonl", "config.json"])
def test_resuming_a_damaged_run(name: str, tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    (run / name).write_bytes((run / name).read_bytes()[:50])
    with untouched(run):
        here(*train_words(tiny_set, run, "--resume")).says(rf"{name}: (a )?damaged.*--overwrite")


def test_out_is_a_file_or_cannot_be_made(tiny_set: Path, tmp_path: Path) -> None:
    text(tmp_path / "file", "mine")
    with untouched(tmp_path):
        here(*train_words(tiny_set, tmp_path / "file")).says(
            r"file: this is a file, not a folder. Choose another --out"
        )
        here(*train_words(tiny_set, tmp_path / "file" / "run")).says(r"file/run: .*(cannot write|not a folder)")


def test_predict_s_own_outputs(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    one = tiny_set.parent / "000.png"
    text(tmp_path / "file", "mine")
    with untouched(tmp_path):
        here("predict", tiny_run, one, "--json", tmp_path / "no" / "x.json").says(
            r"no: no such folder. Create it first"
        )
        here("predict", tiny_run, one, "--draw", tmp_path / "file").says(r"file: cannot write")
        here("predict", tiny_run, one, "--json", "-", "--csv", "-").says("--json and --csv cannot be given together")
        (tmp_path / "empty").mkdir()
        here("predict", tiny_run, tmp_path / "empty").says("no pictures in what was given")


# ---- settings


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--val", "set", "--split", "0.5"], "--val and --split cannot be given together"),
        (["--recipe", "plane"], r"recipe is 'plane'.*did you mean plain\?"),
        (["--imgsz", "8"], "imgsz is 8; it must be a number from 32 to 2048"),
        (["--epochs", "0"], "epochs is 0"),
        (["--minutes", "nan"], "minutes is nan"),
        (["--lr", "-1"], r"lr is -1\.0"),
        (["--layout", "cocoa"], "cocoa"),
        (["--split", "0"], "a split must lie between 0 and 1"),
        (["--backbone", "resnet99"], "timm knows no backbone 'resnet99'"),
        (["--weights", "/nowhere/w.safetensors"], "the plain trunk has no pretrained weights"),
        (["--backbone", "resnet10t", "--weights", "/nowhere/w.safetensors"], "w.safetensors: no such weights file"),
    ],
)
def test_settings(flags: list[str], message: str, tiny_set: Path, tmp_path: Path) -> None:
    given = [str(tiny_set) if flag == "set" else flag for flag in flags]
    here(*train_words(tiny_set, tmp_path / "run", *given)).says(message)
    assert list(tmp_path.iterdir()) == []


def test_a_choice_that_is_none_names_the_choices(tiny_set: Path, tmp_path: Path) -> None:
    done = python("-m", "onebox", *train_words(tiny_set, tmp_path / "run", "--multiple", "first"))
    assert done.code == 2, "a usage error, as for an unknown flag"
    assert all(choice in done.err for choice in ("error", "largest", "skip"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["evaluate", "m", "d", "--json", "--refine"], ["train", "d", "--out", "--minutes"]])
def test_a_flag_is_no_file_name(words: list[str]) -> None:
    done = here(*words)
    assert done.code == 2
    assert f"Invalid value for {words[-2]}: it needs a value, and {words[-1]} is a flag" in done.err
    assert not Path(words[-1]).exists()


def test_an_unknown_setting_names_the_nearest(tiny_set: Path, tmp_path: Path) -> None:
    data = onebox.load_dataset(tiny_set)
    with pytest.raises(ConfigError, match=r"unknown setting 'backbon'; did you mean backbone\?"):
        onebox.train(data, out=tmp_path / "run", backbon="plain")
    done = here("train", tiny_set, "--out", tmp_path / "run", "--backbon", "plain")
    assert done.code == 2  # a usage error, the shell's own convention
    assert "--backbone" in done.err


def test_line_numbers_stay_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """Rich reads `:100:` as the name of an emoji unless told not to."""
    from onebox.training.reporter import Terminal

    Terminal().say("skipped: labels.csv:100: a.png: 2 objects")
    assert "labels.csv:100: a.png" in capsys.readouterr().err
    for path in (ROOT / "onebox").rglob("*.py"):
        for call in re.findall(r"\bConsole\(.*", path.read_text("utf-8")):
            assert "emoji=False" in call, path
