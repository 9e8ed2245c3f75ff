"""`benchmarks.balance` and `benchmarks.speed` run from end to end, on a house of small pictures; no other test sees
them, and what they need of the product had moved away from both unseen."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from PIL import Image

from benchmarks import balance, speed
from tests.small_runs import SMALL_TRUNK, as_pretrained


@pytest.fixture
def small_house(tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folders like those of the real sets and weights: the tiny set for each set, a picture, and a small trunk."""
    shared = tmp_path / "shared"
    for name in ("tiny_vid", "pets3"):
        shutil.copytree(tiny_set.parent, shared / "data" / name)
        (shared / "data" / name / "labels.csv").rename(shared / "data" / name / "train.csv")
    picture = shared / "data" / "caltech22_mat" / "airplanes" / "image_0001.jpg"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (120, 80), (90, 140, 200)).save(picture)
    (shared / "weights").mkdir()
    weights = as_pretrained(shared / "weights" / f"{SMALL_TRUNK}.safetensors")
    for module in (balance, speed):
        monkeypatch.setattr(module, "SHARED", shared)
        monkeypatch.setattr(module, "TRUNK", SMALL_TRUNK)
    monkeypatch.setattr(speed, "WEIGHTS", str(weights))
    yield shared
    torch.set_flush_denormal(False)


@pytest.mark.usefixtures("small_house")
def test_every_way_to_balance_trains_has_its_row_and_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["balance", "--only", "pets3", "--seeds", "2", "--epochs", "1", "--threads", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    balance.main()
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["way"], row["seed"]) for row in rows] == [(way, seed) for seed in (0, 1) for way in balance.WAYS]
    assert all(0 <= row[score] <= 1 and math.isfinite(row[score]) for row in rows for score in balance.SCORES)
    # the same pictures, steps and first weights: what differs is the backward pass
    assert len({row["quality"] for row in rows if row["seed"] == 0}) > 1
    capsys.readouterr()
    balance.main()
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(rows)
    said = capsys.readouterr().out
    for way in balance.WAYS:
        assert re.search(rf"^\| pets3 \| {way} \| 2 \| ", said, re.MULTILINE)


@pytest.mark.usefixtures("small_house")
def test_speed_prints_every_figure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    alternate = speed.alternate
    monkeypatch.setattr(speed, "alternate", lambda *runs, times: alternate(*runs, times=min(times, 2)))
    monkeypatch.setattr(speed, "EPOCHS", 2)
    monkeypatch.setattr(speed, "BARE_STEPS", 1)
    speed.main()
    said = capsys.readouterr().out
    figures = re.findall(r"ratio (\d+\.\d\d)", said)
    assert len(figures) == 3
    assert all(float(figure) > 0 for figure in figures)
    for what in ("training: ", "a small photo", "a 12-megapixel photo", "import onebox", "--help", "cold start"):
        assert what in said
