"""A finished model calibrated on pictures it was not trained on. Takes a model, labelled pictures or out-of-fold
answers, and pictures without an object; gives the model's manifest with what it can promise from then on. Writes
nothing, trains nothing: see `onebox.model_file` and `onebox.training.folds`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from onebox.boxes import Floats
from onebox.calibration import Calibration, Presence, fit_calibration, fit_presence, presence_features
from onebox.calibration.reading import merged
from onebox.errors import DataError
from onebox.evaluation import Evaluation, judged, judged_answers
from onebox.images import ImageSource
from onebox.manifest import PRESENCE_OUTPUT, Manifest
from onebox.predictions import Prediction
from onebox.runtime import BATCH, Localizer
from onebox.types import Sample

#: Of pictures with an object this share may be taken for empty, where nobody says.
FALSE_REJECT = 0.05


@dataclass(frozen=True, slots=True)
class Fitted:
    """The `manifest` with the calibration in it, and its two parts; `unreadable` pictures as (path, reason)."""

    manifest: Manifest
    calibration: Calibration
    presence: Presence | None = None
    unreadable: tuple[tuple[str, str], ...] = ()


def from_evaluation(manifest: Manifest, evaluation: Evaluation, *, source: str = "calibration") -> Fitted:
    """From judged pictures. Raises CalibrationError for too few."""
    calibration = fit_calibration(judged(evaluation.records), source=source)
    return Fitted(_with(manifest, calibration, None), calibration)


def from_folds(manifest: Manifest, samples: Sequence[Sample], answers: Sequence[Prediction | None]) -> Fitted:
    """From out-of-fold answers, raw and one for each labelled sample, None where a picture could not be read.

    Cross-conformal prediction (Vovk 2015, arXiv 1208.0806) with the scores of all folds pooled and put to the one model
    that was trained on everything: no picture is lost to calibration, and the price is that the guarantee is no longer
    exact. The fold models saw fewer pictures, so their errors are if anything larger. Raises CalibrationError.
    """
    kept = [(a, s) for a, s in zip(answers, samples, strict=True) if a is not None and s.label is not None and s.box]
    labels = [a.class_names.index(s.label) for a, s in kept if s.label is not None]
    truths = [replace(s.box, image_size=s.image_size) for _, s in kept if s.box is not None]
    calibration = fit_calibration(judged_answers([a for a, _ in kept], labels, truths), source="out-of-fold")
    return Fitted(_with(manifest, calibration, None), calibration)


def with_presence(
    fitted: Fitted,
    model: Localizer,
    present: Iterable[ImageSource],
    absent: Iterable[ImageSource],
    *,
    false_reject: float = FALSE_REJECT,
) -> Fitted:
    """`fitted` with the presence of an object told from these pictures, with and without one; neither may be what the
    model was trained on. Works for any model: without a presence output the class and box heads' scores tell. Raises
    CalibrationError, and DataError where no picture could be read."""
    unreadable: list[tuple[str, str]] = []
    inside, outside = (features_of(model, pictures, unreadable) for pictures in (present, absent))
    if not len(outside):
        raise DataError("none of the pictures without an object could be read")
    presence = fit_presence(inside, outside, false_reject=false_reject)
    manifest = _with(fitted.manifest, None, presence)
    return replace(fitted, manifest=manifest, presence=presence, unreadable=tuple(unreadable))


def features_of(model: Localizer, pictures: Iterable[ImageSource], unreadable: list[tuple[str, str]]) -> Floats:
    """`presence_features` (N, 4) of the readable pictures; the others are appended to `unreadable`. Where the model has
    a presence head its score is the only one, as after a training: it holds the class head's energy already, and the
    edges' sigma tells crops from pictures but not one set from another (docs/log.md, 2026-11-22)."""
    rows = [np.zeros((0, 4))]
    sources = iter(pictures)
    while batch := list(islice(sources, BATCH)):
        out, refused = model.outputs(batch)
        unreadable += [(str(source), error.what) for source, error in refused]
        if out:
            features = presence_features(out["logits"], out["sigmas_01"], out.get(PRESENCE_OUTPUT))
            if PRESENCE_OUTPUT in out:
                features[:, 1:] = np.nan
            rows.append(features)
    return np.concatenate(rows)


def _with(manifest: Manifest, calibration: Calibration | None, presence: Presence | None) -> Manifest:
    return replace(manifest, calibration=merged(manifest.calibration, calibration, presence))
