"""The report: everything promised is on the page, nothing a user wrote is markup, nothing is loaded, and whatever is
missing is left out."""

from __future__ import annotations

import builtins
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onebox.errors import MissingExtraError, RunFolderError
from onebox.evaluation import Evaluation, Record, score_records
from onebox.predictions import Prediction
from onebox.report import DataFacts, RunFacts, render_report, write_report
from onebox.report.curves import learning_curves
from onebox.report.gallery import galleries
from onebox.report.overlap import iou_histogram, success_curve
from onebox.report.plots import number
from onebox.types import Box, ImageSize
from tests.html_page import PAYLOADS, Page

pytest.importorskip("matplotlib")


def records(folder: Path, n: int = 30, names: tuple[str, ...] = ("ant", "bee", "cat"), seed: int = 0) -> list[Record]:
    """Noisy answers to n small pictures in `folder`."""
    rng = np.random.default_rng(seed)
    size = ImageSize(80, 60)
    made: list[Record] = []
    for i in range(n):
        path = folder / f"p{i:03}.png"
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path)
        truth = Box(10, 10, 60, 50, size)
        answer = Box(*(truth.xyxy + rng.normal(0, 4, 4)), size)  # type: ignore[arg-type]
        probabilities = rng.dirichlet(np.ones(len(names)))
        best, label = int(probabilities.argmax()), names[i % len(names)]
        nan = (math.nan,) * 4
        prediction = Prediction(names[best], float(probabilities[best]), probabilities, names, answer, nan, str(path))
        overlap = float(rng.uniform(0.3, 1))
        made.append(Record(str(path), label, truth, prediction, overlap, names[best] == label, False))
    return made


def evaluation(folder: Path, n: int = 30, names: tuple[str, ...] = ("ant", "bee", "cat")) -> Evaluation:
    made = records(folder, n, names)
    baseline = {"label": names[0], "box_01": [0.1, 0.1, 0.9, 0.9]}
    metrics = score_records(made, class_names=names, baseline=baseline, resamples=50)
    return Evaluation(replace(metrics, unreadable=1, unlabelled=2), tuple(made), (("broken.jpg", "0 bytes"),), 2)


def history(epochs: int = 5) -> list[dict[str, Any]]:
    return [
        {
            "epoch": e,
            "loss_class": 2.0 / e,
            "loss_box": 0.03 / e,
            "grad_class": 0.02 / e,
            "grad_box": 0.001,
            "grad_ratio": 0.05 * e,
            "grad_cosine": -0.1,
            "box_weight": 2.5,
            "val_top1": 0.9,
            "val_mean_iou": 0.6,
            "val_joint_50": 0.7,
            "best": e == 3,
        }
        for e in range(1, epochs + 1)
    ]


FACTS = RunFacts(
    command="onebox train birds --out runs/birds",
    recipe="default",
    judged_on="The best epoch was chosen on these pictures.",
    config={"imgsz": 160, "lr": 0.001},
    versions={"onebox": "0.1", "torch": "2.14.1"},
    machine="2 cores",
    seed=7,
    seconds=97.0,
    finished="2026-01-02 03:04",
    data=DataFacts(
        source="birds",
        layout="CSV",
        counts={"train": 1600, "val": 30},
        class_counts={"train": {"ant": 1000, "bee": 600}, "val": {"ant": 10, "cat": 20}},
        notes=("A fifth was held out.",),
        skipped=(("x.jpg", "no such file"),),
    ),
    export_check={"pictures": 32, "box_gap_px": 0.0004},
)


def test_everything_promised_is_on_the_page(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    judged = evaluation(tmp_path)
    write_report(path, title="Birds", run=FACTS, history=history(), evaluation=judged)
    page = Page(path.read_text(encoding="utf-8"))
    for words in (
        "Birds", "default recipe · 5 epochs · 1 min 37 s · 30 pictures judged",
        "Scoreboard", "class right and IoU > .5",
        f"{judged.metrics.joint_50:.3f}", f"{judged.metrics.baseline['mean_iou']:.3f}",
        f"{judged.metrics.intervals['top1'][0]:.3f}", "Worst first", "In the middle", "Best", "Each class, worst first",
        "Confusion", "Losses", "Gradient norms", "Ratio of the two", "Cosine of the two", "Box weight at the end: 2.5.",
        "onebox train birds --out runs/birds", "torch 2.14.1", "2 cores", "Seed 7", "1,600 pictures",
        "A fifth was held",
        "x.jpg no such file", "broken.jpg 0 bytes", "imgsz 160", "box gap px 0.0004", "1 that could not be read",
        "2 without a label", "The best epoch was chosen on these pictures.",
    ):  # fmt: skip
        assert words in page.text, words
    assert len(page.all("img")) == 24
    assert all(img["alt"] and img["src"].startswith("data:image/jpeg;base64,") for img in page.all("img"))
    assert path.stat().st_size < 1_500_000
    assert [p.name for p in tmp_path.iterdir() if p.suffix not in {".png", ".html"}] == [], "no leftovers"


def test_nothing_is_loaded_and_nothing_runs(tmp_path: Path) -> None:
    text = render_report(title="t", run=FACTS, history=history(), evaluation=evaluation(tmp_path))
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements}
    for tag, attrs in page.elements:
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "xlink:href", "action", "srcset"}:
                assert value is not None
                assert value.startswith(("#", "data:image/jpeg;base64,")), (tag, name, value[:60])
    remote = set(re.findall(r"(?:https?:)?//[\w.]+[^\s\"'<]*", re.sub(r"base64,[^\"]*", "", text)))
    assert {r for r in remote if "w3.org" not in r} == set(), "only the names of XML namespaces"
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", text)
    assert "@import" not in text
    assert "Content-Security-Policy" in text


def test_ids_are_unique_and_links_lead_somewhere(tmp_path: Path) -> None:
    text = render_report(title="t", run=FACTS, history=history(), evaluation=evaluation(tmp_path))
    page = Page(text)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for a in page.all("a")} | {u["xlink:href"][1:] for u in page.all("use")}  # type: ignore[index]
    assert wanted <= set(ids)
    assert set(re.findall(r"url\(#([\w-]+)\)", text)) <= set(ids)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_users_wrote_is_text(payload: str, tmp_path: Path) -> None:
    names = (payload, "plain")
    judged = evaluation(tmp_path, 6, names)
    odd = [replace(r, path=f"{payload}/{payload.replace('/', '')}.jpg") for r in judged.records]
    judged = Evaluation(judged.metrics, tuple(odd), ((payload, payload),), 0)
    run = RunFacts(
        command=payload,
        recipe=payload,
        judged_on=payload,
        config={payload: payload},
        versions={payload: payload},
        machine=payload,
        finished=payload,
        data=DataFacts(payload, payload, {payload: 1}, {payload: {payload: 1}}, (payload,), ((payload, payload),)),
        export_check={payload: payload},
    )
    rows = [{**history(1)[0], payload: payload, "loss_class": payload}]
    page = Page(render_report(title=payload, run=run, history=rows, evaluation=judged))
    harmless = Page(render_report(title="t", run=replace(run, command="c"), history=rows, evaluation=None))
    for p in (page, harmless):
        assert not {"script", "i", "b"} & {tag for tag, _ in p.elements}
        assert not [a for _, attrs in p.elements for a in attrs if a.startswith("on")]
    assert page.all("img") == [], "the pictures do not exist under these names, and the page says so"
    assert "cannot be opened" in page.text
    if payload.isprintable() and "<" in payload:
        assert payload in " ".join(page.words), "shown as it was written"


def test_a_bare_page(tmp_path: Path) -> None:
    page = Page(render_report(title="Nothing yet", run=RunFacts(), history=[], evaluation=None))
    assert "Nothing was noted." in page.text
    assert "Scoreboard" not in page.text
    assert "Training" not in page.text


def test_an_evaluation_without_training_and_without_baseline(tmp_path: Path) -> None:
    made = records(tmp_path, 1)
    metrics = score_records(made, class_names=("ant", "bee", "cat"), resamples=0)
    page = Page(render_report(title="t", run=RunFacts(), history=[], evaluation=Evaluation(metrics, tuple(made))))
    assert "1 picture judged" in page.text
    assert "median box" not in page.text.replace("Median box", "")
    assert "2 more without a picture here." in page.text
    assert len(page.all("img")) == 1


def test_many_classes_and_long_lists_stay_small(tmp_path: Path) -> None:
    names = tuple(f"class {i} " + "x" * 3000 for i in range(700))
    judged = evaluation(tmp_path, 40, names)
    many = DataFacts(
        class_counts={"train": dict.fromkeys(names, 3)},
        skipped=[(f"{i}.jpg", "bad") for i in range(20_000)],
    )
    text = render_report(title="t", run=RunFacts(data=many), history=history(300), evaluation=judged)
    assert len(text.encode()) < 5_000_000
    page = Page(text)
    assert "and 19,700 more." in page.text
    assert "and 400 more." in page.text
    assert "Most often mixed up" in page.text
    assert re.search(r"The 40 classes that are mixed up most; the other 660 are counted together", page.text)


def test_galleries_take_no_picture_twice(tmp_path: Path) -> None:
    for n, sizes in ((1, [1]), (2, [1, 1]), (3, [1, 1, 1]), (10, [4, 2, 4]), (30, [8, 8, 8])):
        groups = galleries(records(tmp_path, n))
        assert [len(g.thumbs) for g in groups] == sizes
        shown = [t.name for g in groups for t in g.thumbs]
        assert len(shown) == len(set(shown))
    by_quality = sorted(records(tmp_path, 30), key=lambda r: r.quality)
    assert groups[0].thumbs[0].name == f"{tmp_path.name}/{Path(by_quality[0].path).name}"
    assert groups[-1].thumbs[0].name == f"{tmp_path.name}/{Path(by_quality[-1].path).name}"


def test_plots_leave_out_what_is_missing() -> None:
    assert learning_curves([]) == []
    assert learning_curves([{"epoch": 1}, {"epoch": 2, "loss_class": math.nan, "val_top1": None}]) == []
    [only] = learning_curves([{"loss_box": 0.5}, {}, {"loss_box": math.inf}, {"loss_box": 0.25}])
    assert only.title == "Losses"
    assert only.summary == "box from 0.5 to 0.25."
    assert len(learning_curves(history(1))) == 5, "one epoch is enough"
    flat = [{"epoch": e, "loss_class": 0.0, "loss_box": 0.0, "grad_class": 0.0, "grad_ratio": 1.0} for e in (1, 2)]
    assert len(learning_curves(flat)) == 3


def test_plots_are_drawn_in_the_pages_colours_and_say_what_they_show() -> None:
    plots = [
        *learning_curves(history()),
        iou_histogram([0.2, 0.8, 1.0]),
        success_curve([0.2, 0.8], [True, False], None),
    ]
    for plot in plots:
        assert plot.svg.startswith("<svg")
        assert "var(--series-1)" in plot.svg
        assert "currentColor" in plot.svg
        assert "#0102" not in plot.svg
        assert "mathdefault" not in plot.svg
        assert plot.summary
    assert plots[-2].summary == "2 of 3 boxes have IoU above 0.5; median 0.800."
    assert plots[-1].summary.startswith("box: 0.500 above 0.3, 0.500 above 0.5")
    assert "box 0.500, box and class 0.100" in plots[-1].caption


def test_plots_are_the_same_every_time_and_leave_no_settings_behind() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert learning_curves(history()) == learning_curves(history())
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("value", "expected"), [(1, 1), (0.5, 0.5), (np.float32(2), 2), (None, -1), ("7", -1), (math.nan, -1)]
)
def test_number(value: object, expected: float) -> None:
    assert number(value, -1) == expected


def test_importing_costs_no_extra() -> None:
    """Drawing, judging and the report's facts belong to the ground floor; only writing a page needs the extra."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'matplotlib', 'jinja2', 'markupsafe', 'onnxruntime']));"
        "import onebox.draw, onebox.metrics, onebox.evaluation, onebox.report"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "matplotlib.figure":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"onebox\[report\]"):
        write_report(tmp_path / "r.html", title="t", run=RunFacts(), history=history(), evaluation=None)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"r\.html"):
        write_report(tmp_path / "none" / "r.html", title="t", run=RunFacts(), history=[], evaluation=None)


def test_a_report_already_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    for title in ("first", "second \udcff"):
        write_report(path, title=title, run=RunFacts(), history=[], evaluation=None)
    assert "second ?" in path.read_text(encoding="utf-8")
