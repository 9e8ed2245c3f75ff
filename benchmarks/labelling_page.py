"""The whole loop of `onebox label` by a scripted person in headless Chromium: pictures of a real set are boxed through
the page (a drag of the mouse along the true box, and one key), a model is trained from the page, and its proposals for
the rest are judged by the true labels.

    python -m benchmarks.labelling_page [--set pets3] [--labels 100] [--out runs/labelling-page] [TRAIN FLAGS ...]

Prints one JSON line: labels, seconds a label, acceptable proposals (class right and IoU >= .75) of how many. The folder
with the pictures, the labels and the run stays in OUT. Needs Debian's chromium and Playwright.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.accuracy import SHARED, TRUNK
from onebox.boxes import iou
from onebox.dataset import load_dataset
from onebox.types import Sample

ACCEPTABLE_IOU = 0.75
_PHOTO = """() => {
  const photo = document.getElementById('photo'), place = photo.getBoundingClientRect();
  return [place.left, place.top, place.width / photo.offsetWidth];
}"""


def folder_of(name: str, out: Path) -> tuple[Path, dict[str, Sample]]:
    """A new folder with all pictures of the set and no labels; the truth by file name."""
    folder = out / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    truth: dict[str, Sample] = {}
    for part in ("train.csv", "test.csv"):
        for sample in load_dataset(SHARED / "data" / name / part).labelled:
            shutil.copy(sample.path, folder)
            truth[Path(sample.path).name] = sample
    return folder, truth


def serve(folder: Path, classes: list[str], flags: list[str]) -> tuple[subprocess.Popen[str], str]:
    """`onebox label` on a free port, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "onebox", "label", str(folder), "--classes", ",".join(classes), "--port", "0", *flags],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://\S+", line):
            return process, found[0]
    raise SystemExit("onebox label did not start")


def label(page: Any, truth: dict[str, Sample], classes: list[str]) -> None:
    """One picture: a drag along its true box, and the number of its class."""
    page.wait_for_function("() => !document.getElementById('take').disabled")
    name = page.text_content("#name")
    sample = truth[name]
    assert sample.box is not None
    assert sample.label is not None
    left, top, scale = page.evaluate(_PHOTO)
    x0, y0, x1, y1 = (v * scale for v in sample.box.xyxy)
    page.mouse.move(left + x0, top + y0)
    page.mouse.down()
    page.mouse.move(left + (x0 + x1) / 2, top + (y0 + y1) / 2)
    page.mouse.move(left + x1, top + y1)
    page.mouse.up()
    page.keyboard.press(str(classes.index(sample.label) + 1))
    page.wait_for_function("name => document.getElementById('name').textContent !== name", arg=name)


def train(page: Any) -> float:
    """Presses "Train now", waits until all pictures are proposed; seconds."""
    started = time.perf_counter()
    page.click("#train")
    page.wait_for_function(
        "() => / proposes[;.]/.test(document.getElementById('model-text').textContent)"
        " || !document.getElementById('model-error').hidden",
        timeout=3_600_000,
    )
    if error := page.text_content("#model-error"):
        raise SystemExit(error)
    return time.perf_counter() - started


def judge(page: Any, truth: dict[str, Sample]) -> tuple[int, int]:
    """How many of the proposals for unlabelled pictures are acceptable, of how many."""
    secret = page.get_attribute('meta[name="onebox-secret"]', "content")
    state = page.request.get(f"{page.url}api/state", headers={"Authorization": f"Bearer {secret}"}).json()
    waiting = [picture for picture in state["pictures"] if picture["state"] == "open"]
    good = 0
    for picture in waiting:
        sample, said = truth[picture["name"]], picture.get("proposal")
        assert sample.box is not None
        overlap = float(iou([said["box"]], [sample.box.xyxy])[0]) if said else 0.0
        good += bool(said) and said["label"] == sample.label and overlap >= ACCEPTABLE_IOU
    return good, len(waiting)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="pets3")
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/labelling-page"))
    args, flags = parser.parse_known_args()
    from playwright.sync_api import sync_playwright

    folder, truth = folder_of(args.set, args.out)
    classes = sorted({sample.label for sample in truth.values() if sample.label is not None})
    if "--weights" not in flags:
        flags += ["--backbone", TRUNK, "--weights", str(SHARED / "weights" / f"{TRUNK}.safetensors")]
    process, url = serve(folder, classes, flags)
    chromium = os.environ.get("ONEBOX_CHROMIUM") or shutil.which("chromium")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(url)
            started = time.perf_counter()
            for _ in range(args.labels):
                label(page, truth, classes)
            page.wait_for_function("() => document.getElementById('saved').textContent === 'Saved'")
            took = (time.perf_counter() - started) / args.labels
            training = train(page)
            good, of = judge(page, truth)
            page.screenshot(path=args.out / "page.png")
            browser.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)
    row = {
        "set": args.set,
        "labels": args.labels,
        "seconds_a_label": round(took, 2),
        "training_seconds": round(training),
    }
    print(json.dumps({**row, "acceptable": good, "of": of, "share": round(good / of, 3)}))


if __name__ == "__main__":
    main()
