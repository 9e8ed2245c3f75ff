"""An evaluation as a JSON file: the figures, the answer to every picture, and what was judged on what. Written by
`onebox evaluate --json` and into every run folder; read back by `onebox compare`. Judges nothing and opens no picture.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from onebox.errors import DataError
from onebox.evaluation import Evaluation, Record
from onebox.files import write_atomic
from onebox.manifest import Manifest

if TYPE_CHECKING:
    from onebox.dataset import Dataset

SCHEMA = 1
#: What a run folder calls the judging of its validation pictures.
IN_RUN_FOLDER = "evaluation.json"
# An evaluation of a million pictures has about 300 MB.
_LARGEST_FILE = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Answer:
    """One judged picture. `path` below the data's root, with forward slashes; `label` and `box` are the truth, boxes in
    pixels of the upright picture (x_min, y_min, x_max, y_max); `size` its width and height; `answer` the model's class
    and `score` its probability; `belief` the probability of the true class; `rank` of the true class, 0 for top-1;
    `iou` in 0-1."""

    path: str
    label: str
    box: tuple[float, float, float, float]
    size: tuple[int, int]
    answer: str
    score: float
    belief: float
    rank: int
    answer_box: tuple[float, float, float, float]
    iou: float

    @property
    def class_right(self) -> bool:
        """Top-1."""
        return self.rank == 0

    @property
    def right(self) -> bool:
        """Class right and IoU > 0.5."""
        return self.class_right and self.iou > 0.5


@dataclass(frozen=True, slots=True)
class SavedEvaluation:
    """`figures`: what `Metrics.to_dict` gave; `model`: facts out of its manifest; `data`: `source`, `root` (absolute),
    `layout`, `fingerprint` of the judged pictures; `answers` in the data's order."""

    figures: dict[str, Any]
    model: dict[str, Any]
    data: dict[str, Any]
    answers: tuple[Answer, ...]


def saved(evaluation: Evaluation, manifest: Manifest, data: Dataset) -> SavedEvaluation:
    """What is kept of judging `data`."""
    root = Path(data.root or ".").absolute()
    paths = {sample.path: data.relative_path(sample) for sample in data.labelled}
    model = {
        "backbone": manifest.backbone,
        "recipe": manifest.recipe,
        "box_head": manifest.box_head,
        "imgsz": manifest.imgsz,
        "onebox_version": manifest.onebox_version,
        "trained_on": manifest.data,
    }
    facts = {"source": root.name, "root": os.fspath(root), "layout": data.layout, "fingerprint": data.fingerprint()}
    answers = tuple(_answer(record, paths.get(record.path, record.path)) for record in evaluation.records)
    return SavedEvaluation(evaluation.metrics.to_dict(), model, facts, answers)


def write_evaluation(path: Path, evaluation: SavedEvaluation) -> None:
    """The figures at the top level, one line for each answer. Whole or not at all. Raises RunFolderError."""
    head = {"schema": SCHEMA, **evaluation.figures, "model": evaluation.model, "data": evaluation.data}
    lines = [json.dumps(asdict(answer), ensure_ascii=False) for answer in evaluation.answers]
    text = json.dumps(head, indent=2, ensure_ascii=False)
    records = "[\n    " + ",\n    ".join(lines) + "\n  ]" if lines else "[]"
    whole = f'{text[:-2]},\n  "answers": {records}\n}}\n'
    # a lone half of a surrogate pair (odd file names on POSIX) has no UTF-8; as a backslash escape it is good JSON
    write_atomic(path, whole.encode("utf-8", "backslashreplace"))


def read_evaluation(path: Path) -> SavedEvaluation:
    """Raises DataError for a file that is missing, damaged, or no evaluation of onebox."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise DataError("this file is too large for an evaluation (2 GiB at most)", where=str(path))
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", where=str(path)) from None
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    if not isinstance(raw, dict):
        raise _damaged(path)
    raw = cast("dict[str, Any]", raw)
    if "answers" not in raw:
        raise DataError(
            "this file holds no answers to single pictures",
            where=str(path),
            fix="Write it again with `onebox evaluate MODEL DATA --json FILE`.",
        )
    if not isinstance(raw.get("schema"), int) or raw["schema"] > SCHEMA:
        raise DataError("written by a newer onebox", where=str(path), fix="Update onebox.")
    try:
        answers = tuple(_read_answer(one) for one in raw.pop("answers"))
        model, data = dict(raw.pop("model")), dict(raw.pop("data"))
        del raw["schema"]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _damaged(path) from None
    if not answers:
        raise DataError("this evaluation judged no picture", where=str(path))
    return SavedEvaluation(raw, model, data, answers)


def _answer(record: Record, path: str) -> Answer:
    prediction = record.prediction
    probabilities, own = prediction.probabilities, prediction.class_names.index(record.label)
    # as metrics ranks: equal scores in class order
    ahead = (probabilities > probabilities[own]) | (
        (probabilities == probabilities[own]) & (np.arange(len(probabilities)) < own)
    )
    width, height = record.box.image_size or (0, 0)
    return Answer(
        path=path,
        label=record.label,
        box=record.box.xyxy,
        size=(width, height),
        answer=prediction.label,
        score=round(prediction.score, 6),
        belief=round(float(probabilities[own]), 6),
        rank=int(ahead.sum()),
        answer_box=_four(round(v, 3) for v in prediction.box.xyxy),
        iou=record.iou,
    )


def _read_answer(raw: Mapping[str, Any]) -> Answer:
    """Raises ValueError, TypeError or KeyError for anything but what was written."""
    iou, belief, score = (_share(raw[name]) for name in ("iou", "belief", "score"))
    width, height = (int(v) for v in raw["size"])
    return Answer(
        path=_text(raw["path"]),
        label=_text(raw["label"]),
        box=_four(raw["box"]),
        size=(width, height),
        answer=_text(raw["answer"]),
        score=score,
        belief=belief,
        rank=int(raw["rank"]),
        answer_box=_four(raw["answer_box"]),
        iou=iou,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _share(value: object) -> float:
    number = float(cast("float", value))
    if not 0 <= number <= 1:
        raise ValueError(number)
    return number


def _four(values: Any) -> tuple[float, float, float, float]:
    a, b, c, d = (float(v) for v in values)
    if not all(map(math.isfinite, (a, b, c, d))):
        raise ValueError(values)
    return a, b, c, d


def _damaged(path: Path) -> DataError:
    return DataError("not an evaluation written by onebox", where=str(path), fix="Give a run folder or such a file.")
