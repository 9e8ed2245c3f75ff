"""The methods that are compared, one row of METHODS each: onebox's recipes, with and without the pretrained trunk, and
the peers. Takes a `Job`, gives `Answers`; heavy libraries are imported when a method runs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import LARGER, TRUNK, WEIGHTS
from benchmarks.accuracy.answers import Answers, Job, median_answers
from onebox.dataset import Dataset


@dataclass(frozen=True)
class Tools:
    """What some methods need: the Python of an environment with `ultralytics` (None: not there), and a folder to keep
    onebox's run folders in (None: they are thrown away)."""

    ultralytics: Path | None = None
    keep: Path | None = None


@dataclass(frozen=True)
class Method:
    """`kind`: "ours", "peer" or "baseline"; `pretrained`: does it start from the trunk's weights."""

    text: str
    kind: str
    pretrained: bool
    run: Callable[[Job, Tools, str], Answers]
    needs_ultralytics: bool = False
    optional: bool = False


def _onebox(**settings: Any) -> Callable[[Job, Tools, str], Answers]:
    """A training by `onebox.train`, its run folder's model asked for every test picture."""

    def run(job: Job, tools: Tools, name: str) -> Answers:
        import onebox

        with tempfile.TemporaryDirectory(prefix="onebox-run-") as folder:
            out = Path(folder) / "run" if tools.keep is None else tools.keep / name
            wanted: dict[str, Any] = settings if job.imgsz is None else {**settings, "imgsz": job.imgsz}
            started = time.perf_counter()
            done = onebox.train(job.train, out=out, overwrite=True, minutes=job.minutes, seed=job.seed, **wanted)
            seconds = time.perf_counter() - started
            labels, boxes_01 = _ask(onebox.load(done.model), job.test, job.class_names)
            (out / "last.safetensors").unlink(missing_ok=True)
        best = max((row.epoch for row in done.history if row.best), default=0)
        details = {"epochs": done.history[-1].epoch, "best_epoch": best}
        return Answers(labels, boxes_01, seconds, time.perf_counter() - started, details)

    return run


def _ask(model: Any, test: Dataset, class_names: tuple[str, ...]) -> tuple[Any, Any]:
    index = {name: i for i, name in enumerate(class_names)}
    answers = model.predict([s.path for s in test])
    labels = np.array([index[a.label] for a in answers], dtype=np.int64)
    sizes = np.array([[*s.image_size, *s.image_size] for s in test], dtype=np.float64)
    return labels, np.array([a.box.xyxy for a in answers], dtype=np.float64) / sizes


def _median(job: Job, tools: Tools, name: str) -> Answers:
    return Answers(*median_answers(job))


def _yolo(model: str) -> Callable[[Job, Tools, str], Answers]:
    def run(job: Job, tools: Tools, name: str) -> Answers:
        from benchmarks.peers.ultralytics_peer import train_and_answer

        assert tools.ultralytics is not None
        return train_and_answer(job.from_nothing(), model, tools.ultralytics)

    return run


def _ssdlite(*, same_trunk: bool) -> Callable[[Job, Tools, str], Answers]:
    def run(job: Job, tools: Tools, name: str) -> Answers:
        from benchmarks.peers.ssdlite_peer import train_and_answer

        if same_trunk:
            return train_and_answer(job, trunk=(TRUNK, str(WEIGHTS)))
        return train_and_answer(job.from_nothing(), trunk=None)

    return run


def _fastai(job: Job, tools: Tools, name: str) -> Answers:
    from benchmarks.peers.fastai_style import train_and_answer

    return train_and_answer(job, TRUNK, str(WEIGHTS))


_PRETRAINED = {"backbone": TRUNK, "weights": str(WEIGHTS)}
_SCRATCH = {"weights": "none"}

#: In the order of the tables. The first is what all others are compared with.
METHODS: dict[str, Method] = {
    "default": Method("onebox, pretrained trunk", "ours", True, _onebox(**_PRETRAINED)),
    "scratch": Method("onebox, --weights none", "ours", False, _onebox(**_SCRATCH)),
    "plain": Method("onebox --recipe plain, pretrained trunk", "ours", True, _onebox(recipe="plain", **_PRETRAINED)),
    "plain_scratch": Method(
        "onebox --recipe plain, --weights none", "ours", False, _onebox(recipe="plain", **_SCRATCH)
    ),
    "fastai": Method("fastai-style two-head training, pretrained trunk", "peer", True, _fastai),
    "ssdlite_trunk": Method("torchvision SSDlite on the pretrained trunk", "peer", True, _ssdlite(same_trunk=True)),
    "ssdlite": Method("torchvision ssdlite320, from scratch", "peer", False, _ssdlite(same_trunk=False)),
    "yolo11n": Method("Ultralytics yolo11n, from scratch", "peer", False, _yolo("yolo11n"), True),
    "yolo26n": Method("Ultralytics yolo26n, from scratch", "peer", False, _yolo("yolo26n"), True),
    "median": Method("always the median box and the majority class", "baseline", False, _median),
    "refine": Method(
        "onebox, pretrained trunk, --refine", "ours", True, _onebox(refine=True, **_PRETRAINED), optional=True
    ),
    "tuned": Method(
        "onebox, pretrained trunk, --refine --split 1 --imgsz 224", "ours", True,
        _onebox(refine=True, split=1.0, imgsz=224, **_PRETRAINED), optional=True,
    ),
    "apart": Method(
        "onebox, pretrained trunk, --learn-all-from 1", "ours", True, _onebox(learn_all_from=1.0, **_PRETRAINED),
        optional=True,
    ),
    "larger": Method(
        f"onebox, --weights {LARGER.name}", "ours", True, _onebox(weights=str(LARGER)), optional=True
    ),
    "scratch_trunk": Method(
        f"onebox, --weights none --backbone {TRUNK}", "ours", False, _onebox(backbone=TRUNK, **_SCRATCH), optional=True
    ),
}  # fmt: skip
REFERENCE = "default"
