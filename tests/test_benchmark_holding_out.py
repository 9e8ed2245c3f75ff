"""The pictures that `benchmarks.holding_out` teaches and judges by, and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import onebox
from benchmarks.accuracy import SHARED
from benchmarks.holding_out import JUDGED, WAYS, parts, table
from onebox.training.config import make_config


@pytest.mark.skipif(not SHARED.exists(), reason="needs the real sets")
def test_what_is_judged_was_not_taught() -> None:
    few, others, imgsz = parts("pets3", 1, 30)
    assert imgsz is None
    assert set(few.counts().values()) == {30}
    assert not {s.path for s in few} & {s.path for s in others}
    assert 0 < len(others) <= JUDGED
    train = {Path(s.path).name for s in onebox.load_dataset(SHARED / "data" / "pets3" / "train.csv")}
    assert {Path(s.path).name for s in (*few, *others)} <= train


def test_the_table_takes_means_over_draws_and_leaves_out_what_is_not_known() -> None:
    row: dict[str, Any] = {
        "set": "pets3", "way": "apart", "draw": 0, "count": 30, "minutes": 1.5, "few": 90, "judged": 210,
        "joint_50": 0.8, "mean_iou": 0.7, "top1": 0.9, "ece": 0.1, "nll": 0.5, "reached": {"outer_box": 0.9},
    }  # fmt: skip
    other = {**row, "draw": 1, "joint_50": 0.9, "reached": {}, "refused": 0.04}
    lines = table([row, other]).splitlines()
    assert len(lines) == 3
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == [
        "pets3", "90, 210", "1.5", "apart", "2", "0.850", "0.700", "0.900", "0.500", "0.100", "0.900", "", "", "0.040",
    ]  # fmt: skip


def test_every_way_is_one_of_the_product() -> None:
    for settings in WAYS.values():
        make_config(**{k: v for k, v in settings.items() if k != "split"})
