"""`onebox calibrate`, and what `predict` and `evaluate` say of a calibrated model, as a person meets them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebox.calibration import LEVELS, auroc
from onebox.runtime import load
from tests.small_runs import BLOCKED, coloured_set, here, json_lines, python, untouched


@pytest.fixture(scope="module")
def new_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pictures that the small model was not trained on."""
    return coloured_set(tmp_path_factory.mktemp("new") / "set", count=60, seed=21)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 pictures of dim noise without a rectangle, and one file that is no picture."""
    folder = tmp_path_factory.mktemp("empty")
    for i in range(20):
        noise = np.random.default_rng(i).integers(60, 120, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i:02}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def run(tiny_run: Path, new_set: Path, empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small run, calibrated in place with negatives."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    shutil.copytree(tiny_run, folder)
    done = here("calibrate", folder, new_set, "--negatives", empty, "--in-place")
    assert done.code == 0, done.err
    assert "60 pictures (calibration): temperature" in done.err
    assert "presence: told from 20 pictures without an object" in done.err
    assert "skipped: " in done.err
    assert "broken.png" in done.err
    return folder


def test_a_calibrated_copy_stands_beside_the_model_and_nothing_else_changes(
    tiny_run: Path, new_set: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    with untouched(tiny_run):
        assert here("calibrate", run, new_set).code == 0
        assert (run / "model.onnx").read_bytes() == (tiny_run / "model.onnx").read_bytes()
    calibration = load(run / "model-calibrated.onnx").calibration
    assert calibration is not None
    assert (calibration.pictures, calibration.source) == (60, "calibration")
    with untouched(run):  # what is there is never replaced
        here("calibrate", run, new_set).says("model-calibrated.onnx: there is something already")
        here("calibrate", run, new_set, "--out", run / "model.onnx").says("there is something already")
        here("calibrate", run, new_set, "--out", run / "x.onnx", "--in-place").says("cannot be given together")
        here("calibrate", run, new_set, "--out", tmp_path / "no" / "x.onnx").says("cannot write")
    assert here("calibrate", run, new_set, "--out", tmp_path / "mine.onnx").code == 0
    assert load(tmp_path / "mine.onnx").manifest == load(run / "model-calibrated.onnx").manifest


def test_in_place_the_weights_know_it_too(run: Path) -> None:
    from onebox.training.checkpoint import load_best

    assert load_best(run / "best.safetensors")[1].calibration == load(run).manifest.calibration


def test_training_pictures_cannot_calibrate(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    done = here("calibrate", tiny_run, tiny_set, "--out", tmp_path / "x.onnx")
    done.says("trained on these very pictures.*--folds 5")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_calibrated_on_is_one_line(tiny_run: Path, new_set: Path, tmp_path: Path) -> None:
    few = coloured_set(tmp_path / "few", count=8, seed=3)
    out = ["--out", tmp_path / "x.onnx"]
    here("calibrate", tiny_run, few, *out).says("at least 9 labelled pictures .* there are 8")
    here("calibrate", tiny_run, tmp_path / "nowhere", *out).says("nowhere")
    here("calibrate", new_set, new_set, *out).says("not a readable ONNX model")
    here("calibrate", tiny_run, new_set, "--negatives", tmp_path / "few" / "none", *out).says("none")
    (tmp_path / "hollow").mkdir()
    here("calibrate", tiny_run, new_set, "--negatives", tmp_path / "hollow", *out).says("no pictures")
    here("calibrate", tiny_run, new_set, "--folds", "5", "--negatives", tmp_path, *out).says("cannot be given together")
    here("calibrate", tiny_run / "model.onnx", new_set, "--folds", "5", *out).says("needs a run folder")
    assert not (tmp_path / "x.onnx").exists()


def test_calibrating_needs_no_training_extra_but_with_folds_it_does(
    tiny_run: Path, new_set: Path, tiny_set: Path, tmp_path: Path
) -> None:
    words = ["-m", "onebox", "calibrate", str(tiny_run)]
    done = python("-c", BLOCKED, *words, str(new_set), "--out", str(tmp_path / "a.onnx"))
    assert done.code == 0, done.err
    done = python("-c", BLOCKED, *words, str(tiny_set), "--folds", "2", "--out", str(tmp_path / "b.onnx"))
    done.says(r"not installed.*pip install \"onebox\[train\]\"")


@pytest.mark.slow
def test_folds_calibrate_on_the_training_pictures(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    done = here("calibrate", run, tiny_set, "--folds", "2")
    assert done.code == 0, done.err
    calibration = load(run / "model-calibrated.onnx").calibration
    assert calibration is not None
    assert (calibration.pictures, calibration.source) == (24, "out-of-fold")


def test_predict_adds_what_was_asked_for(run: Path, new_set: Path, tmp_path: Path) -> None:
    picture = new_set.parent / "000.png"
    (plain,) = json_lines(here("predict", run, picture).out)
    assert "outer_box" not in plain
    done = here("predict", run, picture, "--coverage", "0.9", "--draw", tmp_path / "drawn")
    (row,) = json_lines(done.out)
    (answer,) = load(run).predict(picture)
    assert row == plain | {
        "presence": pytest.approx(answer.presence, abs=1e-6),
        "present": answer.present,
        "coverage": 0.9,
        "outer_box": pytest.approx(answer.outer_box(0.9).xyxy, abs=1e-3),
        "class_set": list(answer.class_set(0.9)),
    }
    with Image.open(tmp_path / "drawn" / "000.jpg") as drawn, Image.open(picture) as before:
        assert drawn.size == before.size


def test_a_csv_has_the_promises_as_columns(run: Path, new_set: Path) -> None:
    picture = new_set.parent / "000.png"
    (row,) = csv.DictReader(io.StringIO(here("predict", run, picture, "--coverage", "0.9", "--csv", "-").out))
    (answer,) = load(run).predict(picture)
    corners = [float(row[f"outer_{name}"]) for name in ("x_min", "y_min", "x_max", "y_max")]
    assert corners == pytest.approx(answer.outer_box(0.9).xyxy, abs=1e-3)
    assert row["class_set"].split(" | ") == list(answer.class_set(0.9))
    assert (row["coverage"], row["present"]) == ("0.9", str(answer.present))
    plain = here("predict", run, picture, "--csv", "-").out.splitlines()[0]
    assert plain == "path,label,score,x_min,y_min,x_max,y_max,error"


def test_predict_refuses_what_cannot_be_promised(run: Path, tiny_run: Path, new_set: Path, tmp_path: Path) -> None:
    picture = new_set.parent / "000.png"
    for asked, said in (("0.99", "needs at least 99 calibration pictures, and this model has 60"), ("90", "between 0")):
        done = here("predict", run, picture, "--coverage", asked, "--json", tmp_path / "x.json")
        done.says(said)
    here("predict", tiny_run, picture, "--coverage", "0.9").says("carries no calibration.*onebox calibrate MODEL DATA")
    assert not (tmp_path / "x.json").exists()
    for flags in (("--coverage", "0.9"), ("--only-present",)):  # it was calibrated on answers of one look
        here("predict", run, picture, "--refine", *flags).says("made the way it was calibrated. Leave out --refine")


def test_only_present_leaves_out_the_others_and_says_how_many(run: Path, new_set: Path, empty: Path) -> None:
    model = load(run)
    pictures = sorted(new_set.parent.glob("*.png"))[:10] + sorted(empty.glob("[0-9]*.png"))[:10]
    present = [str(p) for p, a in zip(pictures, model.predict(pictures), strict=True) if a.present]
    done = here("predict", run, *pictures, "--only-present")
    assert [row["path"] for row in json_lines(done.out)] == present
    if len(present) < 20:
        assert f"{20 - len(present)} of 20 pictures hold none of the model's objects" in done.err


def test_only_present_needs_a_model_that_can_tell(run: Path, new_set: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from onebox.model_file import write_with_manifest

    manifest = load(run).manifest
    without = {k: v for k, v in manifest.calibration.items() if k != "presence"}
    write_with_manifest(run / "model.onnx", replace(manifest, calibration=without), tmp_path / "m.onnx")
    done = here("predict", tmp_path / "m.onnx", new_set.parent / "000.png", "--only-present")
    done.says("not taught to tell pictures without an object")


def test_evaluate_says_how_far_the_numbers_can_be_trusted(
    run: Path, new_set: Path, empty: Path, tmp_path: Path
) -> None:
    done = here("evaluate", run, new_set, "--negatives", empty, "--json", tmp_path / "e.json")
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert 0 <= told["ece"] <= 1
    for promise in ("outer_box", "class_set", "iou_at_least"):
        assert [pair["asked"] for pair in told["coverage"][promise]] == list(LEVELS)
        assert all(pair["reached"] >= pair["asked"] for pair in told["coverage"][promise])  # its calibration pictures
    model = load(run)
    inside = [a.presence for a in model.predict(sorted(new_set.parent.glob("*.png")))]
    outside = [a.presence for a in model.predict(sorted(empty.glob("[0-9]*.png")))]
    assert told["presence_auroc"] == pytest.approx(auroc(inside, outside))
    assert 0 <= told["false_accept_95"] <= 1
    assert told["negatives"] == 20
    assert "AUROC" in done.out
    assert "broken.png" in done.err
    (tmp_path / "hollow").mkdir()
    here("evaluate", run, new_set, "--negatives", tmp_path / "hollow").says("no pictures")
