"""Ultralytics' small detectors, trained from random weights. Takes a job and the Python of a virtual environment that
has `ultralytics`; writes the pictures into a folder of its own, runs the `yolo` command twice (train, predict) and
reads the text files it leaves. Imports nothing of Ultralytics, which is AGPL-3.0: only its command line is spoken to.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from benchmarks.accuracy.answers import Answers, Job, median_answers
from onebox.boxes import xyxy_to_cxcywh
from onebox.dataset import Dataset
from onebox.errors import OneboxError
from onebox.images import open_image

#: Below this confidence a box is no answer: of every picture its most confident box is wanted, however timid that is.
#: Ultralytics' own default is .25.
CONFIDENCE = 1e-9
#: From this confidence on an answer counts as sure in the rows; it is what Ultralytics validates with.
SURE = 0.001
#: Pictures it "validates" on once, after the end: it insists on some. Training pictures, so that nothing leaks.
VALIDATED = 16


class PeerError(OneboxError):
    """The other program failed, or left something unexpected."""


def train_and_answer(job: Job, model: str, python: Path) -> Answers:
    """`model`: "yolo11n" or "yolo26n". The last averaged weights of a training of `job.minutes`, counted by `yolo`
    itself from its first step. Raises PeerError."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="onebox-yolo-") as name:
        folder = Path(name)
        _write_pictures(job.train, folder / "train", class_names=job.class_names)
        _write_pictures(job.test, folder / "test", class_names=None)
        _write_few(folder)
        names = dict(enumerate(job.class_names))
        description = {"path": str(folder), "train": "train/images", "val": "few/images", "names": names}
        (folder / "data.yaml").write_text(yaml.safe_dump(description))
        told = _yolo(
            python, folder, "train", model=f"{model}.yaml", data=folder / "data.yaml", time=job.minutes / 60,
            imgsz=job.side, seed=job.seed, pretrained=False, val=False, plots=False, amp=False, cache="ram",
        )  # fmt: skip
        weights = folder / "runs" / "train" / "weights" / "last.pt"
        _yolo(
            python, folder, "predict", model=weights, source=folder / "test" / "images", imgsz=job.side,
            conf=CONFIDENCE, max_det=1, save=False, save_txt=True, save_conf=True,
        )  # fmt: skip
        labels, boxes_01, confidences = _read_answers(folder / "runs" / "predict" / "labels", job)
        epochs, seconds = _training(folder / "runs" / "train" / "results.csv")
    return Answers(
        labels=labels,
        boxes_01=boxes_01,
        seconds=seconds,
        seconds_all=time.perf_counter() - started,
        details={
            "epochs": epochs,
            "silent": int((confidences == 0).sum()),
            "sure": "".join("1" if c >= SURE else "0" for c in confidences),
            "version": _version(told),
        },
    )


def _yolo(python: Path, folder: Path, mode: str, **options: object) -> str:
    """Runs one `yolo detect` command without a network and without a settings file of the user; gives what it said."""
    program = python.with_name("yolo")
    if not program.exists():
        raise PeerError("no `yolo` command beside this Python", where=str(python), fix="pip install ultralytics there.")
    common = {"device": "cpu", "project": folder / "runs", "name": mode, "exist_ok": True}
    words = [f"{key}={value}" for key, value in {**common, **options}.items()]
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    quiet = {
        "YOLO_CONFIG_DIR": str(folder),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "5000"),  # as onebox trains: see docs/log.md, 2026-11-22
    }
    done = subprocess.run(
        [program, "detect", mode, *words],
        cwd=folder,
        env=kept | quiet,
        capture_output=True,
        text=True,
        errors="replace",
    )
    told = done.stdout + done.stderr
    if done.returncode:
        raise PeerError(f"`yolo detect {mode}` failed: {told.strip()[-400:]}", where=str(python))
    return told


def _write_pictures(data: Dataset, folder: Path, *, class_names: tuple[str, ...] | None) -> None:
    """The pictures upright, in RGB and without loss, called by their numbers; with labels where names are given."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for i, sample in enumerate(data):
        open_image(sample.path)[0].save(folder / "images" / f"{i:06}.png", compress_level=1)
        if class_names is not None:
            assert sample.box is not None
            assert sample.label is not None
            size = np.array([*sample.image_size, *sample.image_size], dtype=np.float64)
            box = xyxy_to_cxcywh([sample.box.xyxy])[0] / size
            line = " ".join([str(class_names.index(sample.label)), *(f"{v:.6f}" for v in box)])
            (folder / "labels" / f"{i:06}.txt").write_text(line + "\n")


def _write_few(folder: Path) -> None:
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        (folder / "few" / kind).mkdir(parents=True)
        for path in sorted((folder / "train" / kind).glob(f"*.{suffix}"))[:VALIDATED]:
            shutil.copy(path, folder / "few" / kind / path.name)


def _read_answers(folder: Path, job: Job) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, boxes and confidences; 0 where a picture got no box: it has the median box and the majority class."""
    labels, boxes_01 = median_answers(job)
    confidences = np.zeros(len(job.test))
    for i in range(len(job.test)):
        path = folder / f"{i:06}.txt"
        if not path.exists():
            continue
        label, cx, cy, w, h, confidence = (float(word) for word in path.read_text().split())
        labels[i], confidences[i] = int(label), max(confidence, CONFIDENCE)  # written with five decimals or so
        boxes_01[i] = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    return labels, boxes_01, confidences


def _training(path: Path) -> tuple[int, float]:
    """Epochs, the last perhaps cut short, and the seconds from the first step to the end of the last."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
        return len(rows), float(rows[-1]["time"])
    except (OSError, IndexError, KeyError, ValueError) as error:
        raise PeerError(f"`yolo` did not say how long it trained ({error})", where=str(path)) from None


def _version(told: str) -> str:
    found = re.search(r"Ultralytics (\d\S*)", told)
    return found.group(1) if found else "?"
