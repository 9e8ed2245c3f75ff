"""Comparing runs: differences are paired, intervals agree with a hand-made case and with scipy's bootstrap, whatever
makes a comparison less than it seems is said, and files that are no evaluations are refused."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onebox
from onebox.comparison import COMPARED, compare
from onebox.errors import ConfigError, DataError
from onebox.evaluation_file import Answer, SavedEvaluation, read_evaluation, write_evaluation
from tests.html_page import PAYLOADS, Page
from tests.small_runs import TINY, here, untouched

BOX = (10.0, 10.0, 60.0, 50.0)


def answer(i: int, iou: float, rank: int = 0, label: str = "ant", path: str = "") -> Answer:
    named = path or f"p{i:03}.png"
    return Answer(
        named, label, BOX, (80, 60), label if rank == 0 else "bee", 0.9, 0.5, rank, (9.0, 9.0, 61.0, 51.0), iou
    )


def saved(answers: list[Answer], fingerprint: str = "f", trained: str = "t", **model: Any) -> SavedEvaluation:
    facts = {"recipe": "default", "backbone": "plain", "box_head": "edges", "imgsz": 32} | model
    data = {"source": "set", "root": "/nowhere", "layout": "csv", "fingerprint": fingerprint}
    return SavedEvaluation({"n": len(answers)}, facts | {"trained_on": {"fingerprint": trained}}, data, tuple(answers))


def write(path: Path, evaluation: SavedEvaluation) -> Path:
    write_evaluation(path, evaluation)
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    odd = [answer(0, 1 / 3, path="a/\udcff\u202e.png", label=PAYLOADS[0]), answer(1, 1.0, rank=3)]
    before = saved(odd)
    assert read_evaluation(write(tmp_path / "a.json", before)) == before
    json.loads((tmp_path / "a.json").read_text("utf-8"))  # plain JSON for others


def test_the_differences_of_two_pictures_by_hand(tmp_path: Path) -> None:
    """Of two pictures the second run is better by .2 and .4. With replacement the mean is .2, .3 or .4, with chances of
    1/4, 1/2, 1/4: the 95 % percentile interval is the whole range."""
    a = write(tmp_path / "a.json", saved([answer(0, 0.4), answer(1, 0.5, rank=1)]))
    b = write(tmp_path / "b.json", saved([answer(1, 0.9), answer(0, 0.6)]))  # in another order
    found = compare([a, b])
    assert found.paths == ("p000.png", "p001.png")
    d = found.differences[1]["mean_iou"]
    assert (d.mean, d.low, d.high) == pytest.approx((0.3, 0.2, 0.4))
    assert d.verdict == "better"
    assert found.figures[0] == pytest.approx(
        {"joint_50": 0, "mean_iou": 0.45, "top1": 0.5, "box_acc_50": 0, "box_acc_75": 0, "box_acc_90": 0}
    )
    assert found.figures[1]["joint_50"] == 1.0
    assert found.figures[1]["box_acc_90"] == 0.0, "thresholds are strict"
    assert found.differences[1]["box_acc_90"].verdict == "no clear difference"
    assert compare([b, a]).differences[1]["mean_iou"].verdict == "worse"


def test_all_resamples_of_four_pictures(tmp_path: Path) -> None:
    """Every one of the 4^4 equally likely resamples, against the drawn ones."""
    gaps = [-0.1, 0.05, 0.2, 0.3]
    a = write(tmp_path / "a.json", saved([answer(i, 0.5) for i in range(4)]))
    b = write(tmp_path / "b.json", saved([answer(i, 0.5 + gap) for i, gap in enumerate(gaps)]))
    means = [sum(drawn) / 4 for drawn in itertools.product(gaps, repeat=4)]
    d = compare([a, b], resamples=40_000).differences[1]["mean_iou"]
    assert (d.low, d.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.0126)
    assert d.mean == pytest.approx(np.mean(gaps))


def test_scipy_finds_the_same_interval(tmp_path: Path) -> None:
    from scipy.stats import bootstrap

    rng = np.random.default_rng(5)
    one = np.clip(rng.normal(0.6, 0.2, 120), 0, 1)
    two = np.clip(one + rng.normal(0.03, 0.1, 120), 0, 1)
    a = write(tmp_path / "a.json", saved([answer(i, float(v)) for i, v in enumerate(one)]))
    b = write(tmp_path / "b.json", saved([answer(i, float(v)) for i, v in enumerate(two)]))
    d = compare([a, b], resamples=8_000).differences[1]["mean_iou"]
    theirs = bootstrap(
        (two, one),
        lambda x, y, axis: (x - y).mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=8_000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (d.low, d.high) == pytest.approx((theirs.low, theirs.high), abs=0.002)
    unpaired = math.hypot(one.std(), two.std()) / math.sqrt(120) * 1.96
    assert (d.high - d.low) / 2 < 0.5 * unpaired, "what is hard for both cancels out"


def test_other_data_is_said_loudly(tmp_path: Path) -> None:
    a = write(tmp_path / "a.json", saved([answer(i, 0.5) for i in range(4)]))
    b = write(tmp_path / "b.json", saved([answer(i, 0.6) for i in range(1, 6)], fingerprint="other", trained="u"))
    found = compare([a, b])
    assert found.n == 3
    assert "NOT JUDGED ON THE SAME DATA" in found.warnings[0]
    assert "the 3 pictures" in found.warnings[0]
    assert "(judged: A 4, B 5)" in found.warnings[0]
    assert any("NOT TRAINED ON THE SAME DATA" in warning for warning in found.warnings)
    assert "NOT JUDGED ON THE SAME DATA" in str(found)
    assert compare([a, a]).warnings == ()
    itself = write(tmp_path / "c.json", saved([answer(i, 0.5) for i in range(4)], trained="f"))
    assert any(w.startswith("TRAINED ON PICTURES JUDGED HERE: B") for w in compare([a, itself]).warnings)


def test_a_picture_with_another_truth_is_left_out(tmp_path: Path) -> None:
    a = write(tmp_path / "a.json", saved([answer(i, 0.5) for i in range(3)]))
    others = [answer(0, 0.5), answer(1, 0.5, label="cat"), replace(answer(2, 0.5), box=(10.0, 10.0, 60.0, 49.0))]
    found = compare([a, write(tmp_path / "b.json", saved(others))])
    assert found.paths == ("p000.png",)
    assert any("2 pictures have another label or box" in warning for warning in found.warnings)
    with pytest.raises(DataError, match="no judged picture in common"):
        compare([a, write(tmp_path / "c.json", saved([answer(9, 0.5)]))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an evaluation"),
        ("[]", "not an evaluation"),
        ("[" * 100_000, "not an evaluation"),
        ('{"n": 3}', "no answers to single pictures"),
        ('{"schema": 99, "answers": []}', "newer onebox"),
        ('{"schema": 1, "answers": [], "model": {}, "data": {}}', "judged no picture"),
        ('{"schema": 1, "answers": [{"path": 3}], "model": {}, "data": {}}', "not an evaluation"),
        ('{"schema": 1, "answers": 7, "model": {}, "data": {}}', "not an evaluation"),
    ],
)
def test_what_is_no_evaluation_is_refused(text: str, message: str, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.json", write(tmp_path / "good.json", saved([answer(0, 0.5)]))
    bad.write_text(text)
    here("compare", good, bad).says(f"bad.json.*{message}")


def test_values_out_of_range_are_refused(tmp_path: Path) -> None:
    raw = json.loads(write(tmp_path / "a.json", saved([answer(0, 0.5)])).read_text("utf-8"))
    for change in (
        {"iou": 2},
        {"iou": None},
        {"box": [1, 2, 3]},
        {"box": [1, 2, 3, 1e999]},
        {"rank": "x"},
        {"label": 1},
    ):
        (tmp_path / "b.json").write_text(json.dumps(raw | {"answers": [raw["answers"][0] | change]}))
        with pytest.raises(DataError, match="not an evaluation"):
            read_evaluation(tmp_path / "b.json")


def test_wrong_inputs_are_one_line(tmp_path: Path, tiny_run: Path, tiny_set: Path) -> None:
    good = write(tmp_path / "good.json", saved([answer(0, 0.5)]))
    here("compare", good).says("2 to 6 runs can be compared")
    here("compare", *[good] * 7).says("7 given")
    here("compare", good, tmp_path / "none.json").says("none.json")
    here("compare", good, tmp_path).says("holds no evaluation.json.*--data")
    here("compare", good, tiny_run / "model.onnx").says("keeps no answers.*--data")
    here("compare", good, good, "--part", "val").says("--part is of --data")
    here("compare", good, good, "--page", tmp_path / "no" / "p.html").says("no such folder")
    here("compare", tiny_run, tmp_path / "x.onnx", "--data", tiny_set).says("no such model")
    with pytest.raises(ConfigError):
        onebox.compare([good])


@pytest.fixture(scope="module")
def plain_run(tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another small training on the same data."""
    out = tmp_path_factory.mktemp("plain-run") / "run"
    onebox.train(onebox.load_dataset(tiny_set), out=out, **TINY, recipe="plain", lr=0.01)
    return out


def test_two_run_folders_side_by_side(tiny_run: Path, plain_run: Path, tmp_path: Path) -> None:
    page, told = tmp_path / "page.html", tmp_path / "told.json"
    with untouched(tiny_run), untouched(plain_run):
        done = here("compare", tiny_run, plain_run, "--page", page, "--json", told)
    assert done.code == 0, done.err
    for text in COMPARED.values():
        assert text in done.out
    assert "recipe" in done.out
    raw = json.loads(told.read_text("utf-8"))
    assert raw["settings"]["recipe"] == ["default", "plain"]
    assert "seed" not in raw["settings"]
    assert raw["warnings"] == []
    figures = json.loads((plain_run / "evaluation.json").read_text("utf-8"))
    for name, value in raw["runs"][1]["figures"].items():
        assert value == pytest.approx(figures[name]), "the pictures are those of the run's own report"
    read = Page(page.read_text("utf-8"))
    for words in ("2 runs on the same", "Settings that differ", "Validation: mean IoU", "Where they disagree most"):
        assert words in read.text, words
    assert read.all("img")
    assert not {"script", "link", "iframe"} & {tag for tag, _ in read.elements}


def test_models_judged_anew(tiny_run: Path, plain_run: Path, tiny_set: Path) -> None:
    found = onebox.compare([tiny_run, plain_run / "model.onnx"], onebox.load_dataset(tiny_set))
    assert found.n == 24
    mine = onebox.evaluate(onebox.load(tiny_run), onebox.load_dataset(tiny_set))
    assert {name: getattr(mine, name) for name in COMPARED} == pytest.approx(found.figures[0])
    assert any("TRAINED ON PICTURES JUDGED HERE" in warning for warning in found.warnings)


def test_six_runs_and_names_that_try_to_be_markup(tmp_path: Path) -> None:
    from onebox.report.compared import render_comparison_page

    rng = np.random.default_rng(1)
    files = []
    for i, payload in enumerate(PAYLOADS[:6]):
        answers = [
            replace(answer(k, float(rng.uniform(0, 1)), path=f"{name}/{k}.png", label=name), answer=payload)
            for k, name in enumerate(PAYLOADS)
        ]
        files.append(write(tmp_path / f"{i}.json", saved(answers, recipe=payload)))
    page = Page(render_comparison_page(compare(files)))
    assert not {"script", "i", "b"} & {tag for tag, _ in page.elements}
    assert not [a for _, attrs in page.elements for a in attrs if a.startswith("on")]
    assert "cannot be opened" in page.text
    assert "F − A" in page.text
    assert PAYLOADS[0] in " ".join(page.words)
