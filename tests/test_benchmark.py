"""The accuracy benchmark: which pictures it cuts where, how answers become figures, what it says of rows, that a run is
not done twice. Figures are worked out by hand or by scipy; the peers' own training is tried in `slow` tests."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.accuracy import paired, tasks
from benchmarks.accuracy.answers import Answers, Job, median_answers, score
from benchmarks.accuracy.methods import METHODS, REFERENCE, Tools
from benchmarks.accuracy.plan import plan, steps
from benchmarks.accuracy.rows import append_row, read_rows, watched
from benchmarks.accuracy.table import circumstances, few_table, from_scratch, paired_table, report, summary
from benchmarks.accuracy.tasks import SETS, Task, copies_across, make_tasks, take_few
from onebox.dataset import load_dataset
from onebox.errors import DataError
from onebox.metrics import compute_metrics
from tests.small_runs import ROOT, coloured_set, environment, python

# ---- rows made by hand


def row(method: str, iou: Sequence[float], right: str, **more: Any) -> dict[str, Any]:
    """A row as `rows.jsonl` holds it."""
    joint = "".join("1" if r == "1" and v > 0.5 else "0" for r, v in zip(right, iou, strict=True))
    facts = {"task": "s", "set": "s", "seed": 0, "minutes": 1.0, "few": None, "test": "fingerprint", "seconds": 60.0}
    facts |= {"date": "2026-01-01 10:00", "machine": "M", "cores": 2, "onebox": "0", "load": 0.1, "others": 0.0}
    return {**facts, "method": method, "pictures": {"iou": list(iou), "right": right, "joint": joint}, **more}


HIGH, LOW = [0.9, 0.8, 0.7, 0.6] * 10, [0.4, 0.3, 0.6, 0.1] * 10


def test_a_mean_and_its_interval_are_those_of_a_bootstrap_over_pictures() -> None:
    """With one seed there is one level: scipy's percentile bootstrap is the referee."""
    values = np.random.default_rng(1).beta(4, 2, 150)
    found = paired.mean_of([row("default", values.tolist(), "1" * 150)], "mean_iou")
    referee = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=0).confidence_interval
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(referee.low, abs=0.004)
    assert found.high == pytest.approx(referee.high, abs=0.004)


def test_seeds_that_disagree_widen_the_interval() -> None:
    alike = [row("default", HIGH, "1" * 40, seed=s) for s in range(3)]
    apart = [row("default", [v + d for v in HIGH], "1" * 40, seed=s) for s, d in enumerate((-0.1, 0.0, 0.1))]
    narrow, wide = paired.mean_of(alike, "mean_iou"), paired.mean_of(apart, "mean_iou")
    assert narrow.mean == pytest.approx(wide.mean) == pytest.approx(0.75)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    # the three seeds' own spread: the mean of three draws with replacement lies in -0.1 to 0.1
    assert wide.low > 0.75 - 0.1 - 0.05
    assert wide.high < 0.75 + 0.1 + 0.05


def test_a_difference_is_taken_picture_by_picture() -> None:
    """A constant difference has no spread, however much the pictures differ among themselves."""
    rng = np.random.default_rng(0)
    theirs = rng.uniform(0, 0.8, 100)
    a, b = row("default", (theirs + 0.1).tolist(), "1" * 100), row("plain", theirs.tolist(), "1" * 100)
    found = paired.difference([a], [b], "mean_iou")
    assert found == pytest.approx((0.1, 0.1, 0.1))
    assert paired.mean_of([a], "mean_iou").high - paired.mean_of([a], "mean_iou").low > 0.05
    assert paired.difference([a], [row("plain", LOW, "1" * 40, seed=7)], "mean_iou") is None


def test_other_pictures_are_never_paired() -> None:
    with pytest.raises(ValueError, match="judged on different pictures"):
        paired.difference([row("default", HIGH, "1" * 40)], [row("plain", LOW, "1" * 40, test="other")], "joint_50")


def test_figures_at_thresholds_are_strict() -> None:
    one = row("default", [0.5, 0.75, 0.9, 1.0], "1110")
    assert [paired.mean_of([one], f"box_acc_{t}").mean for t in (50, 75, 90)] == [0.75, 0.5, 0.25]
    assert paired.mean_of([one], "joint_50").mean == 0.5
    assert paired.mean_of([one], "top1").mean == 0.75


def test_the_report_says_who_beats_whom() -> None:
    near = [v - 0.3 * (-1) ** i for i, v in enumerate(HIGH)]
    rows = [row("default", HIGH, "1" * 40), row("plain", LOW, "1" * 40), row("yolo11n", near, "1" * 40)]
    rows += [{**r, "set": "t", "task": "t"} for r in (rows[0], row("plain", HIGH, "1" * 40))]
    assert "| s | 1 | plain | 1 | +0.750 (" in paired_table(rows)
    assert paired_table(rows).count("| yes |") == 1
    told = summary(rows)
    assert "default beats plain on joint and on mean IoU, beyond the paired 95 % interval: no (1 of 2 sets" in told
    assert "not on t (1 min)" in told
    assert "default beats yolo11n on joint and on mean IoU, beyond the paired 95 % interval: no (0 of 1 sets" in told
    assert "default beats plain" in report(rows)
    assert report([]) == "No rows yet."


def test_from_scratch_is_compared_with_the_better_of_the_two() -> None:
    def of(name: str, *values: float) -> list[dict[str, Any]]:
        methods = ("scratch", "yolo11n", "yolo26n")
        return [row(m, [v] * 4, "1111", set=name, task=name) for m, v in zip(methods, values, strict=True)]

    told = from_scratch([*of("a", 0.6, 0.4, 0.3), *of("b", 0.6, 0.5, 0.6)])
    assert "| a | 1 | 0.600 | 0.400 | 0.300 | 1.50 | 0.400 | 1.50 |" in told
    assert "| b | 1 | 0.600 | 0.500 | 0.600 | 1.00 | 0.600 | 1.00 |" in told
    # means .600 and .500; ratios 1.5 and 1
    which = "Over 2 sets, its own boxes"
    assert f"{which}: 0.600 / 0.500 = 1.20; mean of the sets' ratios 1.25. At least 1.15: yes" in told
    assert "At least 1.15: no" in from_scratch(of("b", 0.6, 0.5, 0.6))
    assert from_scratch([row("scratch", HIGH, "1" * 40)]) == ""


def test_from_scratch_an_unsure_box_gives_way_to_the_median_box() -> None:
    timid = row("yolo11n", [0.8, 0.1, 0.0, 0.2], "0000", sure="1001")
    told = from_scratch([row("scratch", [0.6] * 4, "1111"), timid, row("median", [0.5, 0.5, 0.7, 0.5], "0000")])
    # own: (.8 + .1 + 0 + .2) / 4 = .275; with the median box for the second and third: (.8 + .5 + .7 + .2) / 4 = .55
    assert "| s | 1 | 0.600 | 0.275 |  | 2.18 | 0.550 | 1.09 |" in told
    assert "Over 1 sets, with median boxes: 0.600 / 0.550 = 1.09" in told


def test_learning_curves_and_few_against_all() -> None:
    rows = [row("default", HIGH, "1" * 40, few=50), row("default", LOW, "1" * 40, few=10), row("plain", LOW, "1" * 40)]
    told = few_table(rows)
    assert "| s, 1 min | 10 a class | 50 a class | all |" in told
    assert "| default | 0.250 / 0.350 | 1.000 / 0.750 |  |" in told
    assert re.search(r"default with 50 a class less plain with all: joint \+0\.750 .*mean IoU \+0\.400 .*: yes", told)
    assert few_table([row("default", HIGH, "1" * 40)]) == ""


def test_whom_the_default_beats_with_as_few_pictures_and_with_fewer() -> None:
    rows = [row("default", [0.6] * 40, "1" * 40, few=10), row("default", HIGH, "1" * 40, few=50)]
    rows += [row("plain", LOW, "1" * 40, few=10), row("plain", LOW, "1" * 40, few=50)]
    rows += [row("fastai", LOW, "1" * 40, few=10), row("fastai", [0.7] * 40, "1" * 40, few=50)]
    told = few_table(rows)
    beaten = re.findall(r"^\* default with (\d+) a class beats with (\d+),.*: (.*)$", told, re.MULTILINE)
    # with fifty fastai names and boxes every picture, as the default does: no gain in the joint score
    assert beaten == [
        ("10", "10", "plain, fastai"),
        ("10", "50", "plain; not fastai"),
        ("50", "50", "plain; not fastai"),
    ]


# ---- rows in files


def test_rows_come_back_and_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "out" / "rows.jsonl"
    assert read_rows(path) == []
    rows = [row("default", HIGH, "1" * 40), row("plain", LOW, "1" * 40)]
    for one in rows:
        append_row(path, one)
    assert read_rows(path) == rows
    with path.open("a") as file:
        file.write('{"task": "s", "method"')
    with pytest.raises(DataError, match="not a row of this benchmark") as caught:
        read_rows(path)
    assert caught.value.where == f"{path}:3"


def test_the_circumstances_show_another_process(tmp_path: Path) -> None:
    """One that works while this one waits, for as long as that."""
    import subprocess
    import sys
    import time

    spin = "import time\nend = time.time() + 30\nwhile time.time() < end: pass"
    with subprocess.Popen([sys.executable, "-c", spin], env=environment()) as other:
        found = watched(lambda: time.sleep(1.5) or {"task": "s"})  # type: ignore[func-returns-value]
        other.kill()
    assert found["others"] > 0.3
    assert {"date", "machine", "cores", "load", "nice", "pace", "stolen", "onebox"} <= found.keys()


def test_a_run_that_the_host_disturbed_is_done_again_and_the_calmest_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.accuracy import rows

    told = iter([{"stolen": 0.4, "n": 1}, {"stolen": 0.2, "n": 2}, {"stolen": 0.3, "n": 3}] * 3)
    monkeypatch.setattr(rows, "watched", lambda run: next(told))
    assert rows.calm(dict, 0.1) == {"stolen": 0.2, "n": 2, "tries": 3}
    assert rows.calm(dict, 0.4) == {"stolen": 0.4, "n": 1, "tries": 1}
    assert rows.calm(dict, 0.25) == {"stolen": 0.2, "n": 2, "tries": 1}
    assert rows.calm(dict, None) == {"stolen": 0.3, "n": 3, "tries": 1}


def test_a_machine_that_was_slower_for_one_method_shows() -> None:
    paces = {"default": (40.0, 44.0, 48.0), "plain": (40.0, 42.0, 44.0), "fastai": (30.0, 33.0, 90.0)}
    rows = [row(m, HIGH, "1" * 40, seed=i, pace=p) for m, of in paces.items() for i, p in enumerate(of)]
    told = circumstances([*rows, row("scratch", HIGH, "1" * 40)])
    assert "The machine's pace before 9 of the trainings: 42 turns a second in the middle, 30 to 90" in told
    assert told.endswith("* s, 1 min: pace over that of default, in the middle: fastai 0.75")
    assert "pace" not in circumstances([row("scratch", HIGH, "1" * 40)])


# ---- answers


def small_job(folder: Path, minutes: float = 0.02) -> Job:
    data = load_dataset(coloured_set(folder, count=24))
    return Job(data.subset(range(16)), data.subset(range(16, 24)), minutes, seed=0, imgsz=64)


def test_scores_are_those_of_the_product(tmp_path: Path) -> None:
    job = small_job(tmp_path / "set")
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 1, (8, 2, 2)), axis=1).reshape(8, 4)
    labels = rng.integers(0, 2, 8)
    found = score(job, Answers(labels, corners))
    names = job.class_names
    product = compute_metrics(
        class_names=names,
        true_labels=[names.index(s.label or "") for s in job.test],
        true_boxes_01=[np.array(s.box.xyxy) / [64, 48, 64, 48] for s in job.test if s.box],
        probabilities=np.eye(2)[labels],
        boxes_01=corners,
        sizes=[[64, 48]] * 8,
    ).to_dict()
    for figure in ("joint_50", "mean_iou", "top1", "box_acc_50", "box_acc_75", "box_acc_90"):
        assert found[figure] == pytest.approx(product[figure], abs=1e-12), figure
    again = row("default", found["pictures"]["iou"], found["pictures"]["right"])
    assert again["pictures"] == found["pictures"]
    assert paired.mean_of([again], "mean_iou").mean == pytest.approx(found["mean_iou"], abs=1e-4)


def test_a_class_that_was_not_trained_is_never_right(tmp_path: Path) -> None:
    data = load_dataset(coloured_set(tmp_path / "set", count=8))
    red = [i for i, s in enumerate(data) if s.label == "red"]
    green = [i for i, s in enumerate(data) if s.label == "green"]
    job = Job(data.subset(red), data.subset(green), 1.0, 0)
    assert job.class_names == ("red",)
    labels, boxes_01 = median_answers(job)
    assert score(job, Answers(labels, boxes_01))["top1"] == 0


# ---- tasks


def test_few_pictures_are_a_part_of_more_and_the_same_again(tmp_path: Path) -> None:
    data = load_dataset(coloured_set(tmp_path / "set", count=24))
    three, five = take_few(data, 3, seed=1), take_few(data, 5, seed=1)
    assert three.counts() == {"green": 3, "red": 3}
    assert {s.path for s in three} < {s.path for s in five}
    assert take_few(data, 3, seed=1) == three
    assert take_few(data, 3, seed=2) != three
    assert take_few(data, 99, seed=1) == data


def test_copies_across_are_counted(tmp_path: Path) -> None:
    from PIL import Image

    from tests.small_sets import varied_table

    path = varied_table(tmp_path / "set", [f"{i}.jpg,cat,1,1,50,50" for i in range(6)])
    with Image.open(tmp_path / "set" / "0.jpg") as image:
        image.resize((200, 160)).save(tmp_path / "set" / "5.jpg", "JPEG", quality=80)
    data = load_dataset(path)
    assert copies_across(Task("s", data.subset(range(4)), data.subset([4, 5]))) == 1
    assert copies_across(Task("s", data.subset(range(4)), data.subset([4]))) == 0


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in SETS if name not in {"demo", "tiny_imagenet20"}])
def test_no_picture_is_on_both_sides_and_every_class_can_be_learnt(name: str, real_data: Path, tmp_path: Path) -> None:
    found = make_tasks(name, tmp_path)
    assert len(found) == SETS[name].parts
    for task in found:
        assert not {s.path for s in task.train} & {s.path for s in task.test}
        learnt = {s.label for s in task.train}
        assert {s.label for s in task.test} <= learnt
        assert all(s.box is not None for s in (*task.train, *task.test))


@pytest.mark.real
def test_the_cuts_are_those_that_were_asked_for(real_data: Path, tmp_path: Path) -> None:
    def sizes(name: str) -> list[tuple[int, int]]:
        return [(len(t.train), len(t.test)) for t in make_tasks(name, tmp_path)]

    assert sizes("tiny_vid") == [(750, 150)]
    assert sizes("tiny_vid_random") == [(750, 150)] * 3
    assert sizes("asl_yolo") == [(1512, 216)]
    official = make_tasks("tiny_vid", tmp_path)[0]
    assert {int(Path(s.path).stem) for s in official.test} == set(range(151, 181))
    splits = [frozenset(s.path for s in t.test) for t in make_tasks("tiny_vid_random", tmp_path)]
    assert len(set(splits)) == 3
    for name in ("vegetables3", "pets37"):
        folds = make_tasks(name, tmp_path)
        tested = [s.path for t in folds for s in t.test]
        assert len(tested) == len(set(tested)) == len(folds[0].train) + len(folds[0].test)
    sides = {Path(s.path).parts[-3] for s in make_tasks("asl_yolo", tmp_path)[0].test}
    assert sides == {"valid", "test"}


@pytest.mark.real
def test_steps_and_plan_agree(real_data: Path, tmp_path: Path) -> None:
    def runs(name: str, seeds: int, **more: Any) -> list[Any]:
        options = {"minutes": None, "few": [], "out": tmp_path} | more
        return list(steps(name, ["default", "plain"], seeds, **options))

    for name, count in (("tiny_vid", 6), ("tiny_vid_random", 6), ("vegetables3", 18)):
        assert len(runs(name, 3)) == count
        line = next(line for line in plan([name], 3).splitlines() if line.startswith(f"| {name} |"))
        assert int(line.split("|")[4]) == count // 2
    assert {s.seed: s.task.name for s in runs("tiny_vid_random", 3)} == {
        k: f"tiny_vid_random/split{k}" for k in range(3)
    }
    few = runs("tiny_vid", 1, few=[10, 50], minutes=0.5)
    assert [(s.few, len(s.train()), s.minutes) for s in few] == [(10, 50, 0.5)] * 2 + [(50, 250, 0.5)] * 2


# ---- the command


@pytest.mark.real
def test_a_run_that_has_a_row_is_not_done_again(real_data: Path, tmp_path: Path) -> None:
    words = ["-m", "benchmarks.accuracy", "--only", "vegetables3", "--method", "median", "--out", tmp_path]
    first = python(*words, "--seeds", "1", cwd=ROOT)
    assert first.code == 0, first.err
    assert first.out.count("vegetables3-fold") == 3
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [r["task"] for r in rows] == ["vegetables3/fold0", "vegetables3/fold1", "vegetables3/fold2"]
    assert all(len(r["pictures"]["iou"]) == r["n"] == len(r["pictures"]["joint"]) for r in rows)
    more = python(*words, "--seeds", "2", cwd=ROOT)
    assert more.out.count("vegetables3-fold") == 3, "only the second seed"
    assert (tmp_path / "rows.jsonl").read_text().splitlines()[:3] == [json.dumps(r) for r in rows]
    told = python(*words, "--table", cwd=ROOT)
    assert "| vegetables3 | 0.75 | median | 6 |" in told.out
    assert (tmp_path / "table.md").read_text() == told.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "cats"], "invalid choice: 'cats'"),
        (["--method", "yolo11n"], "yolo11n needs --ultralytics PYTHON"),
        (["--method", "yolo11n", "--ultralytics", "/nowhere/python"], "/nowhere/python: no such file"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--minutes", "nan"], "--minutes must be from 0.01 to 1000"),
        (["--few", "10,x"], "argument --few"),
    ],
)
def test_a_wrong_option_is_said_before_anything_runs(words: list[str], message: str, tmp_path: Path) -> None:
    done = python("-m", "benchmarks.accuracy", "--out", tmp_path / "out", *words, cwd=ROOT)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "out").exists()


def test_the_table_of_hours_in_the_docs_is_up_to_date() -> None:
    text = (ROOT / "docs" / "benchmark.md").read_text("utf-8")
    assert plan(list(SETS), 3) in text
    for name, method in METHODS.items():
        assert f"| `{name}` | {method.text} |" in text, name


# ---- the methods, for a second each


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("method", ["scratch_trunk", "ssdlite", "ssdlite_trunk", "fastai"])
def test_every_method_of_ours_answers_every_picture(
    method: str, real_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = small_job(tmp_path / "set")
    answers = METHODS[method].run(job, Tools(), "try")
    assert answers.labels.shape == (8,)
    assert answers.boxes_01.shape == (8, 4)
    assert set(answers.labels.tolist()) <= {0, 1}
    assert np.isfinite(answers.boxes_01).all()
    assert answers.seconds_all >= answers.seconds > 0.5 * 60 * job.minutes
    assert answers.details["epochs"] > 0


def test_nothing_here_imports_ultralytics() -> None:
    """It is AGPL: the peer is a program beside ours, and its import would bind us."""
    for path in [
        *(ROOT / "benchmarks").rglob("*.py"),
        *(ROOT / "onebox").rglob("*.py"),
        *(ROOT / "tests").glob("*.py"),
    ]:
        assert not re.search(r"^\s*(import|from)\s+ultralytics\b", path.read_text("utf-8"), re.MULTILINE), path


def test_the_reference_comes_first() -> None:
    assert next(iter(METHODS)) == REFERENCE
    assert tasks.SETS is SETS
