"""A real, tiny training that learns its held-out pictures late (`benchmarks.late`), and the pictures that
`benchmarks.holding_out` teaches and judges by.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onebox
from benchmarks.accuracy import SHARED
from benchmarks.holding_out import JUDGED, parts
from benchmarks.late import late, together
from onebox.training.cache import build_cache
from onebox.training.checkpoint import load_best
from onebox.training.reporter import Silent
from tests.small_runs import TINY, coloured_set

#: Forty pictures held out of two hundred: enough for a calibration.
SETTINGS: dict[str, Any] = {**TINY, "epochs": 4, "patience": 0.0}


def test_held_out_pictures_judge_until_they_are_learnt(tmp_path: Path) -> None:
    api = importlib.import_module("onebox.training.api")
    before = api.train_epochs
    data = onebox.load_dataset(coloured_set(tmp_path / "set", count=200))
    with late(0.5):
        run = onebox.train(data, out=tmp_path / "late", reporter=Silent(), **SETTINGS)
    assert api.train_epochs is before
    judged = [row.val_mean_iou is not None for row in run.history]
    assert judged == sorted(judged, reverse=True)
    assert judged[0]
    assert not judged[-1]
    # steps of an epoch: of 160 pictures while 40 are held out, of 200 after that
    steps = np.diff([0, *(row.step for row in run.history)]).tolist()
    batch = TINY["batch"]
    assert steps == [160 // batch if held else 200 // batch for held in judged]
    # best.safetensors keeps what the finished model says of pictures that it has learnt; model.onnx must not
    told = onebox.load(run.model).manifest.calibration
    learnt = load_best(run.folder / "best.safetensors")[1].calibration
    assert told["pictures"] == learnt["pictures"] == 40
    assert told["scores"] != learnt["scores"]


def test_both_caches_are_there(tmp_path: Path) -> None:
    data = onebox.load_dataset(coloured_set(tmp_path / "set", count=6))
    one, other = (build_cache(data.subset(rows), data.class_names, 32) for rows in ([0, 1, 2, 3], [4, 5]))
    both, whole = together(one, other), build_cache(data, data.class_names, 32)
    assert both.samples == whole.samples
    for name in ("pictures", "labels", "boxes_01", "sizes"):
        np.testing.assert_array_equal(getattr(both, name), getattr(whole, name))


@pytest.mark.skipif(not SHARED.exists(), reason="needs the real sets")
def test_what_is_judged_was_not_taught() -> None:
    few, others = parts("pets3", 1, 30)
    assert set(few.counts().values()) == {30}
    assert not {s.path for s in few} & {s.path for s in others}
    assert 0 < len(others) <= JUDGED
    train = {Path(s.path).name for s in onebox.load_dataset(SHARED / "data" / "pets3" / "train.csv")}
    assert {Path(s.path).name for s in (*few, *others)} <= train
