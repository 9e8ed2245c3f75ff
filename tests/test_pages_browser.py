"""The pages that onebox writes, in a real browser: nothing is asked of the network, nothing is said in the console,
nothing runs, axe finds nothing serious in light or dark, no page is wider than a phone, and all of it is on paper."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")
pytest.importorskip("playwright")

from onebox.comparison import compare
from onebox.doctor.findings import CODES, Checkup, Finding, in_order
from onebox.doctor.page import write_check_page
from onebox.evaluation import Evaluation, Record, score_records
from onebox.evaluation_file import Answer, SavedEvaluation, write_evaluation
from onebox.predictions import Prediction
from onebox.report import DataFacts, RunFacts, write_report
from onebox.report.compared import write_comparison_page
from onebox.types import Box, ImageSize
from tests.browser import XSS, open_page, serious_findings

SIZE = ImageSize(120, 80)
PAGES = ("report", "check", "compare")


def file_name(payload: str) -> str:
    return payload.replace("/", "").replace("\0", "")[:120]


def hostile_pictures(folder: Path) -> list[Path]:
    """One for each payload: in the file's name and in its EXIF."""
    rng = np.random.default_rng(0)
    paths = []
    for i, payload in enumerate(XSS):
        path = folder / f"{i:02}{file_name(payload)}.jpg"
        exif = Image.Exif()
        exif[0x010E] = exif[0x013B] = exif[0x9286] = payload  # description, artist, comment
        Image.fromarray(rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)).save(path, exif=exif)
        paths.append(path)
    return paths


def judged(paths: list[Path]) -> Evaluation:
    rng = np.random.default_rng(1)
    names, records = XSS, []
    for i, path in enumerate(paths):
        probabilities = rng.dirichlet(np.ones(len(names)) / 4)
        best = int(probabilities.argmax()) if i % 3 else i
        truth = Box(10, 10, 90, 60, SIZE)
        box = Box(*(np.array(truth.xyxy) + rng.normal(0, 6, 4)), SIZE)
        nan = (math.nan,) * 4
        answer = Prediction(names[best], float(probabilities[best]), probabilities, names, box, nan, str(path))
        answer = replace(answer, presence=float(rng.uniform(0.3, 1)), present=True)
        overlap = float(rng.uniform(0.2, 1))
        right = best == i
        records.append(Record(str(path), names[i], truth, answer, overlap, right, right and overlap > 0.5))
    baseline = {"label": names[0], "box_01": [0.1, 0.1, 0.8, 0.8]}
    metrics = score_records(records, class_names=names, baseline=baseline, resamples=100)
    return Evaluation(replace(metrics, unreadable=1), tuple(records), ((XSS[0], XSS[1]),))


def answers_file(path: Path, records: tuple[Record, ...], root: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    answers = tuple(
        Answer(
            Path(r.path).name, r.label, r.box.xyxy, SIZE, r.prediction.label, r.prediction.score, 0.5,
            int(rng.integers(0, 2)), r.prediction.box.xyxy, float(rng.uniform(0, 1)),
        )
        for r in records
    )  # fmt: skip
    model = {"recipe": XSS[seed], "trained_on": {"fingerprint": XSS[seed]}}
    data = {"root": str(root), "fingerprint": XSS[seed]}
    write_evaluation(path, SavedEvaluation({}, model, data, answers))
    return path


@dataclass(frozen=True)
class Written:
    folder: Path

    def url(self, name: str) -> str:
        return (self.folder / f"{name}.html").as_uri()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """report.html, check.html and a comparison, every word of them from somebody who means ill."""
    folder = tmp_path_factory.mktemp("pages")
    paths = hostile_pictures(folder)
    evaluation = judged(paths)
    history = [
        {"epoch": e, "loss_class": 2 / e, "loss_box": 1 / e, "grad_class": 0.1, "grad_box": 0.3 / e,
         "grad_ratio": 3 / e, "grad_cosine": 0.1,
         "val_top1": 0.6, "val_mean_iou": 0.5, "val_joint_50": 0.4, "best": e == 2}
        for e in range(1, 6)
    ]  # fmt: skip
    counts = dict.fromkeys(XSS, 3)
    data = DataFacts(
        XSS[2],
        XSS[3],
        {"train": 90, "val": 30},
        {"train": counts, "val": counts},
        XSS[:9],
        [(name, name) for name in XSS],
    )
    run = RunFacts(
        command=" ".join(XSS), recipe=XSS[0], judged_on=XSS[1], config={name: name for name in XSS}, machine=XSS[4],
        versions={XSS[5]: XSS[6]}, seed=1, seconds=3.0, data=data, model={XSS[7]: XSS[8]}, stopped=XSS[9],
    )  # fmt: skip
    write_report(folder / "report.html", title=XSS[0], run=run, history=history, evaluation=evaluation)
    files = [answers_file(folder / f"{i}.json", evaluation.records, folder, i) for i in range(6)]
    write_comparison_page(folder / "compare.html", compare(files))
    write_check_page(folder / "check.html", checkup(paths), root=str(folder))
    return Written(folder)


def checkup(paths: list[Path]) -> Checkup:
    """Pictures, pairs and a cluster of five."""
    boxes = {str(p): ((payload, (10.0, 10.0, 90.0, 60.0)),) for p, payload in zip(paths, XSS, strict=True)}
    codes = [code for code in CODES if code != "duplicate-boxes"]
    findings = [
        Finding(codes[i % 20], str(p), XSS[i], i, XSS[i], 0.7, XSS[-i], (str(paths[i - 1]),), (1.0, 1.0, 50.0, 50.0))
        for i, p in enumerate(paths)
    ]
    first = str(paths[0])
    findings += [
        Finding("duplicate-boxes", first, "a", i, XSS[i], others=(str(p),), other_box=(5.0, 5.0, 50.0, 50.0))
        for i, p in enumerate(paths[1:5])
    ]
    return Checkup("csv", 30, 29, dict.fromkeys(XSS, 2), in_order(findings), boxes)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_page_is_quiet_accessible_and_fits(
    name: str,
    phone: bool,
    dark: bool,
    written: Written,
    chromium: Any,
) -> None:
    page = open_page(chromium, written.url(name), phone=phone, dark=dark)
    try:
        assert page.complaints == [], "no error, nothing asked of anybody"
        assert page.evaluate("window.hit") is None, "no payload ran"
        wide = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide[0] <= wide[1], "no sideways scrolling"
        assert page.evaluate("document.scripts.length") == 0
        broken = "[...document.images].filter(i => !(i.complete && i.naturalWidth)).length"
        assert page.evaluate(broken) == 0
        assert serious_findings(page) == []
    finally:
        page.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_every_payload_is_text(name: str, written: Written, chromium: Any) -> None:
    page = open_page(chromium, written.url(name))
    try:
        text = "".join(page.evaluate("document.body.textContent").split())
        for payload in XSS:
            shown = "".join(payload.replace("\u202e", "\ufffd").replace("\u2066", "\ufffd").split())
            assert shown[:30] in text, payload
        assert page.locator("iframe, object, embed, video, form, base, math, textarea").count() == 0
        for element in page.locator("input").all():
            assert element.get_attribute("type") == "radio"
    finally:
        page.context.close()


def test_the_check_page_s_filter_and_sections_work_without_a_script(written: Written, chromium: Any) -> None:
    page = open_page(chromium, written.url("check"))
    try:
        visible = "[...document.querySelectorAll('.code')].filter(e => e.offsetParent !== null).length"
        every = page.evaluate(visible)
        page.locator("#show-all").focus()
        page.keyboard.press("ArrowRight")
        assert 0 < page.evaluate(visible) < every
        page.keyboard.press("ArrowLeft")
        assert page.evaluate(visible) == every
        first = page.locator(".code").first
        first.locator("summary").first.click()
        assert first.get_attribute("open") is None
        cluster = page.locator("#duplicate-boxes .cluster")
        assert cluster.count() == 1, "one card for four pairs of one picture"
        assert cluster.locator("img").count() == 4
    finally:
        page.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_on_paper_everything_is_there(name: str, written: Written, chromium: Any) -> None:
    """As wide as A4 between its margins, in print's own style."""
    page = open_page(chromium, written.url(name), dark=True)
    try:
        page.set_viewport_size({"width": 718, "height": 1000})  # 190 mm at 96 dpi
        page.emulate_media(media="print", color_scheme="dark")
        wide = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide[0] <= wide[1], "nothing is cut off at the right"
        over = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)"
        named = ".map(e => [e.ariaLabel, e.scrollWidth, e.clientWidth])"
        assert page.evaluate(over + named) == [], "no table reaches over its card"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", (
            "paper is white"
        )
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert page.pdf(format="A4", print_background=True)[:5] == b"%PDF-"
    finally:
        page.context.close()


def test_the_checks_see_what_they_are_for(tmp_path: Path, chromium: Any) -> None:
    """A page with a faint line, a picture without words, a script that runs, and something fetched from elsewhere."""
    (tmp_path / "bad.html").write_text(
        "<title>t</title><p style='color:#ddd;background:#fff'>faint</p><img src='http://192.0.2.1/x.png'>"
        "<div style='width:3000px'>wide</div><script>window.hit=1</script>"
    )
    page = open_page(chromium, (tmp_path / "bad.html").as_uri())
    try:
        found = " ".join(serious_findings(page))
        assert "color-contrast" in found
        assert "image-alt" in found
        assert page.evaluate("window.hit") == 1
        assert any("192.0.2.1" in said for said in page.complaints)
        assert page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    finally:
        page.context.close()
