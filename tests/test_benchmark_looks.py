"""`benchmarks.looks` sees what the product sees, and its figures are those of hand-made answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import onebox
from benchmarks.looks import FIGURES, WAYS, both_answers, figures, table
from onebox.refine import both_looks


def test_its_two_looks_make_the_products_answers(tiny_run: Path, tiny_set: Path) -> None:
    data = onebox.load_dataset(tiny_set)
    first, second = both_answers(onebox.load(tiny_run), data)
    boxes, _ = both_looks((first["boxes_01"], first["sigmas_01"]), (second["boxes_01"], second["sigmas_01"]))
    answers = onebox.load(tiny_run, refine=True).predict([sample.path for sample in data])
    pairs = zip(answers, data, strict=True)
    said = np.array([np.divide(answer.box.xyxy, (*s.image_size, *s.image_size)) for answer, s in pairs])
    ordered = np.hstack([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])])
    assert said == pytest.approx(np.clip(ordered, 0, 1), abs=1e-5)


def test_figures_by_hand() -> None:
    """Twenty pictures: the first four have less than half their box and double sigmas, one of them the wrong class."""
    truths = np.tile([0.2, 0.2, 0.6, 0.6], (20, 1))
    boxes, sigmas, labels = truths.copy(), np.full((20, 4), 0.01), np.arange(20) % 2
    boxes[:4, 2] = 0.38
    sigmas[:4] = 0.02
    logits = np.where(np.eye(2)[labels] == 1, 2.0, 0.0)
    logits[0] = logits[0, ::-1]
    found = figures(logits, boxes, sigmas, labels, truths)
    assert found["top1"] == pytest.approx(19 / 20)
    assert found["joint_50"] == pytest.approx(16 / 20)
    assert found["mean_iou"] == pytest.approx((4 * 0.45 + 16) / 20)
    # one mistake in twenty: at its best temperature the model is as sure as it is right
    assert found["nll"] == pytest.approx(-(0.95 * np.log(0.95) + 0.05 * np.log(0.05)), abs=5e-3)
    assert found["doubt"] == 1.0  # the worst tenth, all of it among the unsure


def test_the_table_takes_means_over_draws() -> None:
    row: dict[str, Any] = {"set": "pets3", "draw": 0, "count": 30, "minutes": 1.5, "few": 90, "judged": 210}
    rows = [{**row, "draw": d, "ways": {w: dict.fromkeys(FIGURES, 0.2 + 0.2 * d) for w in WAYS}} for d in (0, 1)]
    lines = table(rows).splitlines()
    assert len(lines) == 2 + len(WAYS)
    assert lines[2] == "| pets3 | 90, 210 | 1.5 | 2 | first | " + " | ".join(["0.300"] * len(FIGURES)) + " |"
