"""Trainings at the edge of what can be trained: real, tiny ones. Each comes to its end with a model that answers, or is
refused with a reason; where values are no longer finite, step and pictures are named and the best epoch before is kept.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onebox
from onebox.dataset import Dataset
from onebox.errors import TrainingError
from onebox.training.config import make_config
from onebox.training.reporter import Silent
from onebox.training.run_folder import open_folder
from tests.small_runs import TINY, TINY_FLAGS, coloured_set, here
from tests.small_sets import text

ONE_EPOCH: dict[str, Any] = {**TINY, "epochs": 1}
HEADER = "filename,class,xmin,ymin,xmax,ymax"


def train(data: Dataset, out: Path, val: Dataset | None = None, **settings: Any) -> onebox.Run:
    return onebox.train(data, val, out=out, reporter=Silent(), **{**ONE_EPOCH, **settings})


def answers(run: onebox.Run, data: Dataset) -> None:
    """The model that was exported gives every picture a box that is a number."""
    for answer in onebox.load(run.model).predict([s.path for s in data]):
        assert all(math.isfinite(v) for v in (*answer.box.xyxy, answer.score))


def one_class(folder: Path) -> Path:
    path = coloured_set(folder, count=10)
    return text(path, path.read_text().replace("green", "red"))


def one_picture(folder: Path) -> Path:
    return coloured_set(folder, count=1)


def one_picture_a_class(folder: Path) -> Path:
    return coloured_set(folder, count=2)


def equal_boxes(folder: Path) -> Path:
    path = coloured_set(folder, count=10)
    rows = [f"{line.split(',')[0]},{line.split(',')[1]},10,10,40,40" for line in path.read_text().splitlines()[1:]]
    return text(path, "\n".join([HEADER, *rows, ""]))


def odd_sizes(folder: Path) -> Path:
    """One pixel; 20000 wide and 10 high; 10 wide and 20000 high."""
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for i, (width, height) in enumerate([(1, 1), (20000, 10), (10, 20000)] * 4):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]},0,0,{max(1, width // 2)},{max(1, height // 2)}")
    return text(folder / "labels.csv", "\n".join([HEADER, *rows, ""]))


@pytest.mark.parametrize(
    ("make", "trained_on"),
    [
        (one_class, 8),
        (one_picture, 1),
        (one_picture_a_class, 2),
        (equal_boxes, 8),
        (odd_sizes, 10),
    ],
)
def test_it_trains(make: Callable[[Path], Path], trained_on: int, tmp_path: Path) -> None:
    data = onebox.load_dataset(make(tmp_path / "set"))
    assert data.skipped == ()
    run = train(data, tmp_path / "run")
    answers(run, data)
    assert onebox.load(run.model).manifest.data["pictures"] == trained_on
    assert (run.metrics is None) == (trained_on == len(data))
    assert (run.folder / "report.html").stat().st_size > 1000


def test_pictures_of_one_pixel_or_20000_are_answered(tiny_run: Path, tmp_path: Path) -> None:
    data = onebox.load_dataset(odd_sizes(tmp_path / "set"))
    for answer, sample in zip(onebox.load(tiny_run).predict([s.path for s in data]), data, strict=True):
        width, height = sample.image_size
        assert 0 <= answer.box.x_min <= answer.box.x_max <= width
        assert 0 <= answer.box.y_min <= answer.box.y_max <= height


def test_validation_without_some_classes_trains(tmp_path: Path) -> None:
    val = coloured_set(tmp_path / "val", count=4, seed=9)
    text(val, "\n".join(line for line in val.read_text().splitlines() if "green" not in line) + "\n")
    data = onebox.load_dataset(coloured_set(tmp_path / "set", count=8))
    run = train(data, tmp_path / "run", onebox.load_dataset(val))
    assert run.metrics is not None
    assert run.metrics.n == 2
    assert run.metrics.per_class["green"]["top1"] is None


def test_validation_with_an_unseen_class_is_refused(tmp_path: Path) -> None:
    val = coloured_set(tmp_path / "val", count=4, seed=9)
    text(val, val.read_text().replace("green", "blue"))
    data = onebox.load_dataset(coloured_set(tmp_path / "set", count=8))
    with pytest.raises(TrainingError, match="class 'blue' is in the validation pictures only") as caught:
        train(data, tmp_path / "run", onebox.load_dataset(val))
    assert caught.value.where == f"{val}:3"
    assert not (tmp_path / "run").exists()


def test_one_picture_with_one_place_is_refused(tmp_path: Path) -> None:
    """BatchNorm would have a single value to take a mean of; a larger picture has more places."""
    data = coloured_set(tmp_path / "set", count=4)
    flags = [*TINY_FLAGS, "--batch", "1", "--epochs", "1"]
    here("train", data, "--out", tmp_path / "run", *flags).says(r"a batch of one picture of 32 px.*Use --batch 2, or")
    assert not (tmp_path / "run").exists()
    assert here("train", data, "--out", tmp_path / "run", *flags, "--imgsz", "64").code == 0


# ---- values that are no longer finite

#: Weight decay that makes every weight several times larger a step: finite for some epochs, then not.
GROWING: dict[str, Any] = {**TINY, "lr": 1.0, "weight_decay": 10.0, "epochs": 40, "patience": 0.0}


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingError]:
    """A run folder left by a training that diverged, and what it said."""
    folder = tmp_path_factory.mktemp("diverged")
    data = onebox.load_dataset(coloured_set(folder / "set"))
    with pytest.raises(TrainingError) as caught:
        train(data, folder / "run", **GROWING)
    return folder / "run", caught.value


def test_step_pictures_and_the_model_that_is_kept_are_named(diverged: tuple[Path, TrainingError]) -> None:
    run, error = diverged
    stop = json.loads((run / "stopped.json").read_text())
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert stop["step"] >= history[-1]["step"] > 0
    assert len(stop["pictures"]) == TINY["batch"]
    assert all(Path(path).is_file() for path in stop["pictures"])
    assert f"at step {stop['step']}, with the pictures {', '.join(stop['pictures'][:3])} and 5 more" in error.what
    assert f"{run / 'model.onnx'} holds the best epoch before it, {stop['best_epoch']}" in error.what
    assert error.where == str(run / "stopped.json")
    assert error.fix == "Use a smaller --lr."
    assert "\n" not in str(error)


def test_what_is_kept_is_the_best_epoch_and_works(diverged: tuple[Path, TrainingError]) -> None:
    run, _ = diverged
    best = json.loads((run / "stopped.json").read_text())["best_epoch"]
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in history if row["best"]][-1] == best
    assert all(math.isfinite(row["val_mean_iou"]) for row in history)
    data = onebox.load_dataset(run.parent / "set" / "labels.csv")
    assert onebox.evaluate(onebox.load(run), data).n == 24
    page = (run / "report.html").read_text("utf-8")
    assert "stopped early" in page
    assert "no longer finite" in page


def test_a_new_run_takes_the_trace_away(diverged: tuple[Path, TrainingError], tmp_path: Path) -> None:
    run = Path(shutil.copytree(diverged[0], tmp_path / "run"))
    open_folder(run, make_config(), {"data": "", "val": ""})
    assert [p.name for p in run.iterdir() if p.name != "evaluation.json"] == ["config.json"]


def test_in_the_first_epoch_there_is_no_model(tmp_path: Path) -> None:
    """By the command line, as a person meets it: one line, no model, what happened in the folder."""
    data = coloured_set(tmp_path / "set")
    flags = [*TINY_FLAGS, "--lr", "10", "--weight-decay", "10", "--warmup", "0", "--batch", "2", "--epochs", "30"]
    done = here("train", data, "--out", tmp_path / "run", *flags)
    done.says(r"no longer finite at step \d+, with the pictures \S+\.png, \S+\.png\. Use a smaller --lr\.$")
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"config.json", "metrics.jsonl", "stopped.json"}
    stop = json.loads((tmp_path / "run" / "stopped.json").read_text())
    assert stop["best_epoch"] == 0
    assert len(stop["pictures"]) == 2


def test_weights_that_break_at_the_end_of_an_epoch_are_not_kept(tmp_path: Path) -> None:
    """An epoch is one step here, and without validation no score is asked for: the loss of the step is fine, what it
    leaves is not."""
    data = onebox.load_dataset(coloured_set(tmp_path / "set", count=8))
    settings = {**GROWING, "lr": 10.0, "warmup": 0.0, "ema": 0.0, "epochs": 90}
    with pytest.raises(TrainingError, match="the answers of the network are no longer finite at step 0, with"):
        train(data, tmp_path / "run", data.subset([]), **settings)
    assert not (tmp_path / "run" / "model.onnx").exists()
