"""What every method is given and what it gives back. A `Job` is one training: pictures, time, seed; `Answers` are one
class and one box for each test picture, judged here in one way for all methods. Trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onebox.boxes import iou, to_01, to_pixels
from onebox.dataset import Dataset
from onebox.metrics import learn_baseline

#: Figure -> the IoU that it asks for, or None. All are means over the test pictures; thresholds are strict.
FIGURES: dict[str, float | None] = {
    "joint_50": None,
    "mean_iou": None,
    "top1": None,
    "box_acc_50": 0.5,
    "box_acc_75": 0.75,
    "box_acc_90": 0.9,
}

Labels = npt.NDArray[np.int64]
Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Job:
    """One training and its test. `imgsz` is None where the method's own default (for other methods: onebox's) stands.
    `train` and `test` hold labelled pictures only."""

    train: Dataset
    test: Dataset
    minutes: float
    seed: int
    imgsz: int | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that have training pictures, in the data set's order."""
        counts = self.train.counts()
        return tuple(name for name in self.train.class_names if counts[name])

    @property
    def side(self) -> int:
        """The input size in pixels for methods that have no default of their own for such a budget."""
        from onebox.training.config import IMGSZ

        return self.imgsz or IMGSZ

    def from_nothing(self) -> Job:
        """The same for a method without pretrained weights: its pictures are of the size that onebox takes then."""
        from onebox.training.config import make_config

        return replace(self, imgsz=self.imgsz or make_config(weights="none").imgsz)


@dataclass(frozen=True)
class Answers:
    """`labels` (N,) indices into `Job.class_names`; `boxes_01` (N, 4) corners in 0-1; one for each test picture, in
    their order. `seconds`: what counts as training (docs/benchmark.md); `seconds_all`: everything the method did."""

    labels: Labels
    boxes_01: Boxes
    seconds: float = 0.0
    seconds_all: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)


def truth(data: Dataset, class_names: tuple[str, ...]) -> tuple[Labels, Boxes, npt.NDArray[np.float64]]:
    """(N,) indices into `class_names` (-1 where not among them), (N, 4) boxes in 0-1, (N, 2) sizes in pixels."""
    index = {name: i for i, name in enumerate(class_names)}
    samples = list(data)
    sizes = np.array([s.image_size for s in samples], dtype=np.float64)
    boxes = np.array([s.box.xyxy for s in samples if s.box is not None], dtype=np.float64)
    return np.array([index.get(s.label or "", -1) for s in samples], dtype=np.int64), to_01(boxes, sizes), sizes


def median_answers(job: Job) -> tuple[Labels, Boxes]:
    """The median box and the majority class of the training pictures, for each test picture."""
    labels, boxes_01, _ = truth(job.train, job.class_names)
    baseline = learn_baseline(labels, boxes_01, job.class_names)
    n = len(job.test)
    label = job.class_names.index(baseline["label"])
    return np.full(n, label, dtype=np.int64), np.tile(np.array(baseline["box_01"], dtype=np.float64), (n, 1))


def score(job: Job, answers: Answers) -> dict[str, Any]:
    """The figures of FIGURES and, compactly, every picture's: `pictures` with `iou` (rounded to 1e-4), and `right` and
    `joint` as strings of 0 and 1, in the order of the test pictures."""
    labels, boxes_01, sizes = truth(job.test, job.class_names)
    given = np.clip(answers.boxes_01, 0, 1)
    overlap = iou(to_pixels(boxes_01, sizes), to_pixels(given, sizes))
    right = answers.labels == labels
    columns: dict[str, npt.NDArray[Any]] = {
        "joint_50": right & (overlap > 0.5),
        "mean_iou": overlap,
        "top1": right,
        **{name: overlap > least for name, least in FIGURES.items() if least is not None},
    }
    figures = {name: float(columns[name].mean()) for name in FIGURES}
    pictures = {
        "iou": [round(float(v), 4) for v in overlap],
        "right": _bits(right),
        "joint": _bits(columns["joint_50"]),
    }
    return {"n": len(overlap), **figures, "pictures": pictures}


def _bits(values: npt.NDArray[Any]) -> str:
    return "".join("1" if v else "0" for v in values)
