"""The loop of `onebox label` with real trainings: from labels to a model to proposals, told as it goes; cancelled,
failed, and where training is not installed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from onebox.dataset import load_dataset
from onebox.labelling import training
from tests.label_client import Client, at_work
from tests.small_runs import COLOURS, TINY_FLAGS, coloured_set


@contextmanager
def half_labelled(folder: Path, *flags: str, **options: Any) -> Generator[tuple[Client, dict[str, Any]], None, None]:
    """A tab on 24 pictures, the labels of 14 of them just said; and the truth by file name."""
    truth = {Path(s.path).name: s for s in load_dataset(coloured_set(folder))}
    (folder / "labels.csv").unlink()
    with at_work(folder, *COLOURS, flags=[*TINY_FLAGS, *flags], **options) as tab:
        for name, picture in sorted(tab.pictures().items())[:14]:
            box = list(truth[name].box.xyxy)
            assert tab.put(picture, state="box", label=truth[name].label, box=box).status == 200
        yield tab, truth


def wait(tab: Client, done: Callable[[dict[str, Any]], bool], seconds: float = 240) -> dict[str, Any]:
    """The progress once it is as wanted."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        said = tab.ask("GET", "/api/progress?since=0").data
        if done(said):
            return said
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {said}")


def ended(said: dict[str, Any]) -> bool:
    model = said["model"]
    return said["training"]["state"] != "running" and (model is None or model["done"] == model["total"])


@pytest.mark.slow
def test_from_labels_to_a_model_to_proposals(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with half_labelled(folder, "--epochs", "40") as (tab, _):
        before = tab.ask("GET", "/api/order").data["order"]
        assert tab.ask("POST", "/api/train").data["training"]["state"] == "running"
        assert tab.ask("POST", "/api/train").status == 422  # one at a time
        said = wait(tab, ended)
        assert said["training"]["state"] == "done", said["training"]["message"]
        assert [row["epoch"] for row in said["training"]["epochs"]] == list(range(1, 41))
        assert said["training"]["labels"] == 14
        assert said["model"]["name"] == ".onebox/runs/001"
        assert tab.ask("GET", "/api/order").data["order"] == before  # 14 labels: a model is not asked yet
        assert said["model"]["ordered"] is False
        pictures = tab.pictures()
        waiting = [name for name, picture in pictures.items() if picture["state"] == "open"]
        assert len(waiting) == 10
        waiting = [name for name in waiting if "proposal" in pictures[name]]
        assert len(waiting) >= 5
        assert all(set(pictures[name]["proposal"]) == {"label", "score", "box"} for name in waiting)
        assert [p["state"] for p in tab.state()["pictures"]] == ["box"] * 14 + ["open"] * 10
        # what a person takes or corrects is counted for the model
        first, second = waiting[:2]
        taken = pictures[first]["proposal"]
        answer = tab.put(pictures[first], state="box", label=taken["label"], box=taken["box"])
        assert answer.status == 200, (answer.data, taken)
        other = next(name for name in COLOURS if name != pictures[second]["proposal"]["label"])
        tab.put(pictures[second], state="box", label=other, box=pictures[second]["proposal"]["box"])
        model = tab.ask("GET", "/api/progress?since=0").data["model"]
        assert (model["fitting"], model["judged"]) == (1, 2)
    assert load_dataset(folder).layout == "onebox"  # what is in .onebox is nobody's data
    assert not (folder / ".onebox" / "runs" / "001" / "last.safetensors").exists()
    with at_work(folder) as tab:  # the next day the last run proposes again
        said = wait(tab, ended)
        assert said["model"]["name"] == ".onebox/runs/001"
        assert sum("proposal" in picture for picture in tab.state()["pictures"]) > 12


@pytest.mark.slow
def test_a_training_that_is_cancelled_leaves_nothing_and_one_that_fails_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with half_labelled(folder, "--epochs", "5000") as (tab, _):
        tab.ask("POST", "/api/train")
        wait(tab, lambda said: len(said["training"]["epochs"]) > 1)
        assert tab.ask("DELETE", "/api/train").status == 200
        assert wait(tab, ended)["training"]["state"] == "cancelled"
        assert list((folder / ".onebox" / "runs").iterdir()) == []
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    with half_labelled(tmp_path / "again", "--backbone", "tf_mobilenetv3_small_100", "--weights", "gone") as (tab, _):
        tab.ask("POST", "/api/train")
        said = wait(tab, ended)["training"]
        assert said["state"] == "failed"
        assert "no such weights file" in said["message"]
        assert "Traceback" not in said["message"]


def test_too_few_labels_and_no_torch_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coloured_set(tmp_path)
    (tmp_path / "labels.csv").unlink()
    with at_work(tmp_path, "red") as tab:
        assert "too few to train on" in tab.ask("POST", "/api/train").data["error"]["what"]
        assert "no label to check" in tab.ask("POST", "/api/check").data["error"]["what"]
        monkeypatch.setattr(training, "find_spec", lambda name: None if name == "torch" else sys)
        assert tab.ask("GET", "/api/progress?since=0").data["can_train"] == (
            'torch is not installed: pip install "onebox[train]"'
        )
        assert "torch is not installed" in tab.ask("POST", "/api/train").data["error"]["what"]


@pytest.mark.slow
def test_labels_that_look_odd_are_shown_again_until_confirmed(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with half_labelled(folder) as (tab, _):
        name, picture = next((n, p) for n, p in sorted(tab.pictures().items()) if p["state"] == "box")
        picture = tab.put(picture, state="box", label="red", box=[0, 0, 64, 48]).data
        assert tab.ask("POST", "/api/check").status == 200
        wait(tab, lambda said: not said["checking"], 120)
        wait(tab, lambda _: "doubt" in tab.pictures()[name], 20)
        assert "whole picture" in tab.pictures()[name]["doubt"]
        assert "doubt" not in tab.ask("POST", f"/api/pictures/{picture['id']}/confirm").data
        tab.ask("POST", "/api/check")
        wait(tab, lambda said: not said["checking"], 120)
        time.sleep(0.5)
        assert "doubt" not in tab.pictures()[name]
