"""A model against labelled pictures, and against pictures without an object. Takes any `Localizer` and a `Dataset`;
gives `Metrics`, or with `judge` also the answer to every picture. Pictures that cannot be read are counted and listed;
nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onebox.boxes import Floats, iou, to_01, to_pixels
from onebox.calibration import LEVELS, Calibration, Judged, auroc, coverage_curve, ece, false_accept_at
from onebox.errors import CalibrationError, DataError, PictureError
from onebox.images import ImageSource
from onebox.metrics import Metrics, compute_metrics
from onebox.predictions import Prediction
from onebox.runtime import Localizer
from onebox.types import Box, ImageSize, Sample

if TYPE_CHECKING:
    from onebox.dataset import Dataset

#: Called after each picture with (done, total).
Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Record:
    """One judged picture. `box` is the truth, in pixels of the upright picture; `iou` in 0-1;
    `class_right`: top-1; `right`: `class_right` and IoU > 0.5, the joint score's "right"."""

    path: str
    label: str
    box: Box
    prediction: Prediction
    iou: float
    class_right: bool
    right: bool

    @property
    def quality(self) -> float:
        """Probability given to the true class times IoU, 0-1: what "worst first" sorts by."""
        names = self.prediction.class_names
        return float(self.prediction.probabilities[names.index(self.label)]) * self.iou


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`metrics` of all `records` (in the data's order); `unreadable` pictures as (path, reason);
    `unlabelled` counts pictures without a box, which cannot be judged."""

    metrics: Metrics
    records: tuple[Record, ...]
    unreadable: tuple[tuple[str, str], ...] = ()
    unlabelled: int = 0


def evaluate(model: Localizer, data: Dataset, *, progress: Progress | None = None) -> Metrics:
    """The scoreboard of `model` on the labelled pictures of `data`. See `judge`, which keeps the single answers."""
    return judge(model, data, progress=progress).metrics


def judge(
    model: Localizer, data: Dataset, *, progress: Progress | None = None, seed: int = 0, resamples: int = 1000
) -> Evaluation:
    """Asks `model` for every labelled picture of `data`. `seed` and `resamples` are those of the bootstrap intervals.

    Raises DataError where no picture is labelled, a label is unknown to the model, or no picture could be read.
    """
    samples = _labelled(model, data)
    records: list[Record] = []
    unreadable: list[tuple[str, str]] = []
    answers = model.stream(sample.path for sample in samples)
    for done, (sample, answer) in enumerate(zip(samples, answers, strict=True), start=1):
        if isinstance(answer, PictureError):
            unreadable.append((sample.path, answer.what))
        else:
            records.append(_record(sample, answer))
        if progress is not None:
            progress(done, len(samples))
    if not records:
        raise DataError(f"none of the {len(samples)} labelled pictures could be read", where=unreadable[0][0])
    metrics = score_records(
        records,
        class_names=model.class_names,
        baseline=model.manifest.baseline,
        seed=seed,
        resamples=resamples,
    )
    unlabelled = len(data) - len(samples)
    metrics = replace(
        metrics,
        unreadable=len(unreadable),
        unlabelled=unlabelled,
        coverage=reached(records, records[0].prediction.calibration),
    )
    return Evaluation(metrics, tuple(records), tuple(unreadable), unlabelled)


def score_records(
    records: Sequence[Record],
    *,
    class_names: Sequence[str],
    baseline: dict[str, object] | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Metrics:
    """The metrics of any selection of records; arguments as in `compute_metrics`."""
    index = {name: i for i, name in enumerate(class_names)}
    return compute_metrics(
        class_names=class_names,
        true_labels=np.array([index[r.label] for r in records], dtype=np.int64),
        true_boxes_01=_boxes_01([r.box for r in records]),
        probabilities=np.stack([r.prediction.probabilities for r in records]),
        boxes_01=_boxes_01([r.prediction.box for r in records]),
        sizes=[_size(r.box) for r in records],
        baseline=baseline,
        seed=seed,
        resamples=resamples,
    )


def judged(records: Sequence[Record]) -> Judged:
    """The records' answers and truths as arrays, for `onebox.calibration`; probabilities as before any temperature."""
    names = {name: i for i, name in enumerate(records[0].prediction.class_names)} if records else {}
    return judged_answers(
        [record.prediction for record in records], [names[record.label] for record in records], [r.box for r in records]
    )


def judged_answers(answers: Sequence[Prediction], labels: Sequence[int], truths: Sequence[Box]) -> Judged:
    """The same for answers beside their true classes, as indices, and true boxes, which know their picture's size."""
    sizes = [_size(answer.box) for answer in answers]
    classes = len(answers[0].class_names) if answers else 1
    return Judged(
        logits=np.array([a.raw_log_probabilities() for a in answers]).reshape(-1, classes),
        labels=np.array(labels, dtype=np.int64),
        boxes_01=np.clip(_boxes_01([a.box for a in answers]), 0.0, 1.0),
        sigmas_01=to_01([a.edge_sigmas for a in answers], sizes) if answers else np.zeros((0, 4)),
        true_boxes_01=np.clip(_boxes_01(truths), 0.0, 1.0),
    )


def reached(records: Sequence[Record], calibration: Calibration | None) -> dict[str, list[dict[str, float]]]:
    """What `Metrics.coverage` holds, of any selection of records; empty without a calibration."""
    if calibration is None or not records:
        return {}
    curves = coverage_curve(calibration, judged(records), LEVELS)
    return {promise: [{"asked": a, "reached": r} for a, r in pairs] for promise, pairs in curves.items() if pairs}


def recalibrated(evaluation: Evaluation, calibration: Calibration) -> Evaluation:
    """The evaluation that the same model with this calibration would have got: no picture is looked at again."""
    records = tuple(replace(r, prediction=r.prediction.calibrated(calibration)) for r in evaluation.records)
    names = {name: i for i, name in enumerate(records[0].prediction.class_names)}
    probabilities = np.stack([r.prediction.probabilities for r in records])
    error = ece(probabilities, [names[r.label] for r in records])
    metrics = replace(evaluation.metrics, ece=error, coverage=reached(records, calibration))
    return replace(evaluation, metrics=metrics, records=records)


def judge_presence(
    model: Localizer, evaluation: Evaluation, negatives: Iterable[ImageSource]
) -> tuple[Metrics, tuple[tuple[str, str], ...]]:
    """The metrics of `evaluation` with those of presence against pictures without an object, and the pictures that
    could not be read, as (path, reason). Raises CalibrationError for a model that was not taught to tell them apart,
    and DataError where no picture could be read."""
    present = [r.prediction.presence for r in evaluation.records if r.prediction.presence is not None]
    if not present:
        raise CalibrationError(
            "this model was not taught to tell pictures without an object",
            fix="Train it again with this version, or use onebox calibrate with --negatives.",
        )
    absent: list[float] = []
    unreadable: list[tuple[str, str]] = []
    for source, answer in _both(negatives, model):
        if isinstance(answer, PictureError):
            unreadable.append((str(source), answer.what))
        elif answer.presence is not None:
            absent.append(answer.presence)
    if not absent:
        raise DataError("none of the pictures without an object could be read")
    metrics = replace(
        evaluation.metrics,
        presence_auroc=auroc(present, absent),
        false_accept_95=false_accept_at(present, absent, 0.95),
        negatives=len(absent),
    )
    return metrics, tuple(unreadable)


def _both(sources: Iterable[ImageSource], model: Localizer) -> Iterable[tuple[ImageSource, Prediction | PictureError]]:
    listed = list(sources)
    return zip(listed, model.stream(listed), strict=True)


def _labelled(model: Localizer, data: Dataset) -> list[Sample]:
    samples = list(data.labelled)
    if not samples:
        raise DataError(
            f"none of the {len(data)} pictures has a label and a box, so there is nothing to judge by",
            fix="Use `onebox predict` for pictures without labels.",
        )
    known = set(model.class_names)
    for sample in samples:
        if sample.label not in known:
            raise DataError(
                f"the class {sample.label!r} is unknown to the model, which knows {_some(model.class_names)}",
                where=sample.where or sample.path,
                fix="Rename or remove it, or train a model with it.",
            )
    return samples


def _record(sample: Sample, answer: Prediction) -> Record:
    assert sample.label is not None  # `Dataset.labelled` promises a label and a box
    assert sample.box is not None
    # Each box knows its own picture's size, so 0-1 values compare even where the labels were made on a resized copy.
    truth = replace(sample.box, image_size=sample.image_size)
    # The same arithmetic as in compute_metrics, so that `right` and joint_50 can never disagree at the threshold.
    size = [sample.image_size]
    overlap = float(iou(to_pixels(_boxes_01([truth]), size), to_pixels(_boxes_01([answer.box]), size))[0])
    class_right = answer.label == sample.label
    return Record(
        path=sample.path,
        label=sample.label,
        box=truth,
        prediction=answer,
        iou=overlap,
        class_right=class_right,
        right=class_right and overlap > 0.5,
    )


def _boxes_01(boxes: Sequence[Box]) -> Floats:
    return to_01([box.xyxy for box in boxes], [_size(box) for box in boxes])


def _size(box: Box) -> ImageSize:
    assert box.image_size is not None  # given by `_record` to truths and by the runtime to answers
    return box.image_size


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(names[:8])
    return listed if len(names) <= 8 else f"{listed} and {len(names) - 8} more"
