"""Experiment trackers: off, nothing of them is imported and nothing is asked of the network; on, TensorBoard holds what
metrics.jsonl holds; a package that is missing is named before anything is read."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

pytest.importorskip("torch")

from onebox.errors import ConfigError, MissingExtraError
from onebox.training.config import make_config
from onebox.training.reporter import Silent, Tell
from onebox.training.session import EpochRow
from onebox.training.trackers import need_tracker, tracked
from tests.small_runs import TINY_FLAGS, here, python


def row(epoch: int, val: float | None = 0.5) -> EpochRow:
    return EpochRow(
        epoch=epoch, epochs=9, step=8 * epoch, seconds=1.0, images_per_second=9.0, lr=0.1, loss_class=1 / epoch,
        loss_box=float("nan"), grad_class=1.0, grad_box=2.0, grad_ratio=2.0, grad_cosine=0.0, box_weight=1.0,
        val_top1=val, val_mean_iou=val, val_joint_50=val, best=True,
    )  # fmt: skip


class Told(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.epochs: list[int] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def epoch(self, row: EpochRow) -> None:
        self.epochs.append(row.epoch)

    def bar(self, title: str) -> AbstractContextManager[Tell]:
        return super().bar(title)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's own reader finds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


# Trains with every socket and every tracker refused: `sys.addaudithook` cannot be taken off again.
OFF = """
import sys
refused = []
def hook(event, args):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        refused.append((event, args[1:]))
    if event == "import" and args[0].partition(".")[0] in {"tensorboard", "mlflow", "wandb", "tensorboardX"}:
        frame = sys._getframe(1)
        while frame and "importlib" in frame.f_globals["__name__"]:
            frame = frame.f_back
        # timm looks by itself whether wandb is there, whenever it is imported
        if not frame.f_globals["__name__"].startswith("timm."):
            refused.append((event, args[0], frame.f_globals["__name__"]))
sys.addaudithook(hook)
sys.argv = ["onebox", *sys.argv[1:]]
from onebox.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert refused == [], refused
assert not {"tensorboard", "mlflow"} & set(sys.modules)
"""


def test_off_nothing_is_imported_and_nothing_is_contacted(tiny_set: Path, tmp_path: Path) -> None:
    done = python("-c", OFF, "train", str(tiny_set), "--out", str(tmp_path / "run"), *TINY_FLAGS, "--epochs", "1")
    assert done.code == 0, done.err
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["config"]["tracker"] is None


@pytest.mark.slow
def test_tensorboard_holds_what_was_logged_and_a_resumed_run_goes_on(tiny_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", tiny_set, "--out", out, *TINY_FLAGS]
    done = here(*words, "--epochs", "2", "--tracker", "tensorboard")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    found = scalars(out / "tensorboard")
    for name in ("loss_class", "loss_box", "grad_class", "grad_box", "grad_ratio", "val_mean_iou"):
        assert [step for step, _ in found[name]] == [1, 2], name
        assert [value for _, value in found[name]] == pytest.approx([row[name] for row in rows], rel=1e-5), name
    assert "best" not in found
    assert here(*words, "--epochs", "2", "--resume").code == 0, "who is told is no part of what a run is"
    assert here(*words, "--epochs", "1", "--overwrite", "--tracker", "tensorboard").code == 0
    assert [step for step, _ in scalars(out / "tensorboard")["loss_class"]] == [1], "the earlier run's are gone"


def test_what_an_interrupted_run_logged_twice_stands_once(tmp_path: Path) -> None:
    config = make_config(tracker="tensorboard", epochs=9)
    (tmp_path / "mine.txt").write_text("stays")
    for before, epochs in ((0, (1, 2, 3)), (1, (2, 3, 4))):  # the checkpoint knew of one epoch only
        with tracked(Silent(), config, tmp_path, main=True, epochs_before=before) as reporter:
            for epoch in epochs:
                reporter.epoch(row(epoch, None))
    found = scalars(tmp_path / "tensorboard")
    assert [step for step, _ in found["loss_class"]] == [1, 2, 3, 4]
    assert "loss_box" not in found, "not a number is not logged"
    assert "val_top1" not in found
    assert (tmp_path / "mine.txt").read_text() == "stays"


def test_other_processes_and_no_tracker_change_nothing(tmp_path: Path) -> None:
    mine = Told()
    for config, main in ((make_config(), True), (make_config(tracker="tensorboard"), False)):
        with tracked(mine, config, tmp_path, main=main) as reporter:
            assert reporter is mine
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_fails_is_told_of_once_and_the_training_goes_on(tmp_path: Path) -> None:
    mine = Told()
    with tracked(mine, make_config(tracker="tensorboard"), tmp_path, main=True) as reporter:
        reporter.epoch(row(1))
        for file in sorted((tmp_path / "tensorboard").rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        (tmp_path / "tensorboard").rmdir()
        (tmp_path / "tensorboard").write_text("a file where the folder was")
        reporter._tracker.finish()  # type: ignore[attr-defined]  # so that the next row must open a new file
        for epoch in (2, 3):
            reporter.epoch(row(epoch))
    assert mine.epochs == [1, 2, 3]
    assert len(mine.said) == 1
    assert "the training goes on without it" in mine.said[0]


def test_a_missing_package_is_named_before_anything_is_read(tiny_set: Path, tmp_path: Path) -> None:
    absent = next((name for name in ("wandb", "mlflow") if not _there(name)), None)
    if absent is None:
        pytest.skip("every tracker is installed here")
    with pytest.raises(MissingExtraError, match=f"pip install {absent}"):
        need_tracker(absent)
    done = here("train", tiny_set, "--out", tmp_path / "run", *TINY_FLAGS, "--tracker", absent)
    done.says(f"needs the package {absent}.*pip install {absent}")
    assert not (tmp_path / "run").exists()
    need_tracker(None)


def _there(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def test_an_unknown_tracker_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="did you mean tensorboard"):
        make_config(tracker="tensorbord")
