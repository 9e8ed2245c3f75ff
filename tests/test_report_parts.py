"""What the report is made of: the error map's counts and intervals, the confusion matrix with few and with many
classes, the areas of success curves, and the page of `onebox evaluate --report` as a person gets it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest

from onebox.evaluation import Evaluation, Record, score_records
from onebox.metrics import Metrics
from onebox.predictions import Prediction
from onebox.report import RunFacts, write_report
from onebox.report.confusion import MOST_SHOWN, OTHERS, confusion, mixed_up
from onebox.report.error_map import CELLS, error_map, wilson
from onebox.report.overlap import Success
from onebox.types import Box, ImageSize
from tests.html_page import Page
from tests.small_runs import here, python, shell, untouched

pytest.importorskip("matplotlib")

SIZE = ImageSize(100, 50)
NAN = (math.nan,) * 4


def record(box: tuple[float, float, float, float], right: bool = True, iou: float = 0.8, path: str = "a") -> Record:
    answer = Prediction("x", 0.9, np.array([0.9, 0.1]), ("x", "y"), Box(*box, SIZE), NAN, path)
    return Record(path, "x", Box(*box, SIZE), answer, iou, right, right)


def test_places_are_rows_and_columns_of_the_picture() -> None:
    found = error_map([record((0, 0, 10, 8)), record((0, 0, 10, 8), right=False, iou=0.2), record((90, 40, 100, 50))])
    cells = [(y, x, p.n, p.right) for y, row in enumerate(found.places) for x, p in enumerate(row) if p.n]
    assert cells == [(0, 0, 2, 0.5), (CELLS - 1, CELLS - 1, 1, 1.0)]
    assert found.places[0][0].mean_iou == pytest.approx(0.5)
    assert found.places[1][1].right is None
    edge = error_map([record((100, 50, 100, 50))])
    assert edge.places[-1][-1].n == 1, "a centre on the far edge is inside"


def test_sizes_and_shapes_by_hand() -> None:
    """Shares of 5000 square pixels, and width over height in pixels, not in shares of the picture."""
    boxes = [(0, 0, 4, 10), (0, 0, 10, 4), (0, 0, 20, 20), (0, 0, 100, 50), (0, 0, 60, 10), (0, 0, 10, 40)]
    found = error_map([record(box) for box in boxes])
    assert {p.name: p.n for p in found.sizes} == {"up to 1 %": 2, "5 to 10 %": 2, "10 to 25 %": 1, "over 50 %": 1}
    assert {p.name: p.n for p in found.shapes} == {
        "very tall (over 3:1)": 1, "tall (over 3:2)": 1, "about square": 1, "wide (over 3:2)": 2,
        "very wide (over 3:1)": 1,
    }  # fmt: skip


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4, st.booleans()), min_size=1, max_size=40))
def test_every_picture_is_in_one_part_of_each_kind(raw: list[tuple[float, float, float, float, bool]]) -> None:
    records = [
        record((min(a, c) * 100, min(b, d) * 50, max(a, c) * 100, max(b, d) * 50), right) for a, b, c, d, right in raw
    ]
    found = error_map(records)
    for parts in ([p for row in found.places for p in row], found.sizes, found.shapes):
        assert sum(p.n for p in parts) == len(records)
        assert sum(p.n * p.right for p in parts if p.right is not None) == pytest.approx(sum(r.right for r in records))


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipy_s(counts: tuple[int, int]) -> None:
    theirs = binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert wilson(*counts) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def metrics_of(counts: np.ndarray) -> Metrics:
    names = tuple(f"c{i}" for i in range(len(counts)))
    zeros = dict.fromkeys(
        ["top1", "top5", "mean_iou", "box_acc_30", "box_acc_50", "box_acc_70", "box_acc_75", "box_acc_90",
         "max_box_acc_v2", "joint_50", "joint_top5_50", "centre_error"], 0.0,
    )  # fmt: skip
    return Metrics(n=int(counts.sum()), **zeros, class_names=names, confusion=tuple(map(tuple, counts.tolist())))


def test_confusion_of_two_of_forty_and_of_many_classes() -> None:
    assert confusion(metrics_of(np.array([[3]]))) is None
    two = confusion(metrics_of(np.array([[3, 1], [0, 0]])))
    assert two is not None
    assert [[cell.n for cell in row.cells] for row in two.rows] == [[3, 1], [0, 0]]
    assert two.rows[0].cells[1].share == 0.25
    assert two.rows[1].cells[0].share == 0.0, "a class without pictures"
    assert (two.dense, two.hidden) == (False, 0)
    forty = confusion(metrics_of(np.eye(40, dtype=int)))
    assert forty is not None
    assert (len(forty.rows), forty.dense, forty.hidden) == (40, True, 0)
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 2, (200, 200)) + 50 * np.eye(200, dtype=int)
    counts[7, 9] = 500
    many = confusion(metrics_of(counts))
    assert many is not None
    assert (len(many.rows), many.hidden, many.columns[-1]) == (MOST_SHOWN, 200 - MOST_SHOWN, OTHERS)
    assert {"c7", "c9"} <= {row.label for row in many.rows}
    for row in many.rows:
        assert sum(cell.n for cell in row.cells) == row.n == counts[int(row.label[1:])].sum()
        assert [many.columns[at] for at, cell in enumerate(row.cells) if cell.right] == [row.label]
    assert mixed_up(metrics_of(counts), 1) == [("c7", "c9", 500)]
    assert confusion(metrics_of(np.eye(200, dtype=int))) is None, "nothing is mixed up"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_area_of_a_success_curve_is_the_integral_of_its_shares(ious: list[float]) -> None:
    curve = Success("box", ious)
    fine = np.linspace(0, 1, 20_001)
    assert curve.area == pytest.approx(float(np.trapezoid(curve.shares(fine), fine)), abs=1e-3)
    assert curve.shares(np.array([1.0]))[0] == 0.0


def test_a_big_evaluation_of_large_pictures_stays_small(tmp_path: Path) -> None:
    """5,000 pictures, of which those shown are 4000 by 3000 pixels of noise, the worst that JPEG meets."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (750, 1000, 3), dtype=np.uint8))
    large = tmp_path / "large.jpg"
    small.resize((4000, 3000), Image.Resampling.NEAREST).save(large, quality=95)
    size, names = ImageSize(4000, 3000), tuple(f"class {i}" for i in range(200))
    many = []
    for i in range(5_000):
        probabilities = np.full(200, 0.1 / 199)
        probabilities[int(rng.integers(0, 200)) if i % 4 else i % 200] = 0.9
        best = int(probabilities.argmax())
        box = Box(100, 100, 3000 + i % 700, 2500, size)
        answer = Prediction(names[best], 0.9, probabilities, names, box, NAN, str(large))
        overlap = float(rng.uniform(0, 1))
        right = best == i % 200
        many.append(Record(str(large), names[i % 200], box, answer, overlap, right, right and overlap > 0.5))
    metrics = score_records(many, class_names=names, resamples=20)
    path = tmp_path / "report.html"
    write_report(path, title="big", run=RunFacts(), history=[], evaluation=Evaluation(metrics, tuple(many)))
    assert path.stat().st_size < 5_000_000
    assert len(Page(path.read_text("utf-8")).all("img")) == 24


def test_evaluate_writes_a_report_and_its_answers(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    report, scores = tmp_path / "r.html", tmp_path / "s.json"
    with untouched(tiny_run), untouched(tiny_set.parent):
        done = here("evaluate", tiny_run, tiny_set, "--report", report, "--json", scores)
    assert done.code == 0, done.err
    page = Page(report.read_text("utf-8"))
    for words in (
        "run on set", "Scoreboard", "Where it goes wrong", "Size of the object", "Confusion", "Is it as sure as it is",
        "If the unsure are left", "Picture size 64 × 48 pixels", "Fingerprint", "onebox evaluate", "Trunk plain, 32 px",
        "24 pictures judged", "onnxruntime",
    ):  # fmt: skip
        assert words in page.text, words
    raw = json.loads(scores.read_text("utf-8"))
    assert len(raw["answers"]) == raw["n"] == 24
    assert raw["joint_50"] == pytest.approx(sum(a["rank"] == 0 and a["iou"] > 0.5 for a in raw["answers"]) / 24)
    assert raw["mean_iou"] == pytest.approx(sum(a["iou"] for a in raw["answers"]) / 24)
    assert {a["path"] for a in raw["answers"]} == {f"{i:03}.png" for i in range(24)}


def test_a_report_of_training_pictures_says_so(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    assert here("evaluate", tiny_run, tiny_set, "--report", tmp_path / "r.html").code == 0
    assert "PICTURES ARE THOSE THE MODEL WAS TRAINED ON" in Page((tmp_path / "r.html").read_text("utf-8")).text


def test_a_report_that_cannot_be_written_is_known_at_once(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    here("evaluate", tiny_run, tiny_set, "--report", tmp_path / "no" / "r.html").says("no such folder")
    here("evaluate", tiny_run, tiny_set, "--report", tmp_path).says("cannot write")


def test_without_matplotlib_the_figures_are_there_and_the_report_names_what_is_missing(
    tiny_run: Path, tiny_set: Path, tmp_path: Path
) -> None:
    from tests.small_runs import BLOCKED

    words = ("-c", BLOCKED, "-m", "onebox", "evaluate", str(tiny_run), str(tiny_set))
    done = python(*words, "--report", str(tmp_path / "r.html"))
    done.says(r'matplotlib, which is not installed.*pip install "onebox\[report\]"')
    assert done.out == "", "said before anything is judged"
    assert python(*words).code == 0
    assert shell("evaluate", "--help").code == 0


def test_the_training_report_names_what_stopped_it(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", title="t", run=replace(RunFacts(), stopped="step 3"), history=[], evaluation=None)
    assert "The run stopped early: step 3." in Page((tmp_path / "r.html").read_text("utf-8")).text
