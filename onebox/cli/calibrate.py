"""`onebox calibrate`: a copy of a model that knows what it can promise, fitted on pictures it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from onebox.calibrating import Fitted, from_evaluation, from_folds, with_presence
from onebox.cli.evaluate import judge_with_progress
from onebox.cli.predict import expand
from onebox.dataset import Dataset, load_dataset
from onebox.errors import ConfigError, DataError, MissingExtraError
from onebox.model_file import write_weights_with_manifest, write_with_manifest
from onebox.runtime import OnnxLocalizer, load

_BEST = "best.safetensors"


@dataclass(frozen=True, slots=True)
class Source:
    """What to calibrate on: the labelled `data`, read with the options `reading` of `load_dataset`; `part` of it;
    `folds` to train out-of-fold networks on it instead; a folder of pictures without an object."""

    data: Path
    reading: dict[str, Any]
    part: str | None = None
    folds: int | None = None
    negatives: Path | None = None


def run_calibrate(model_path: Path, source: Source, *, out: Path | None = None, in_place: bool = False) -> None:
    """Fits, writes a calibrated copy beside the model, at `out`, or in its place. Raises OneboxError."""
    if source.folds is not None and source.negatives is not None:
        raise ConfigError("--folds and --negatives cannot be given together", fix="Calibrate twice, --in-place.")
    model = load(model_path)
    target = _target(model.path, out, in_place=in_place)
    dataset = choose_calibration_part(
        load_dataset(source.data, **source.reading), source.part, train=source.folds is not None
    )
    for note in [*dataset.notes, *(f"skipped: {skipped}" for skipped in dataset.skipped)]:
        typer.echo(note, err=True)
    if source.folds is not None:
        fitted = _fit_folds(model, model_path, dataset, source.folds)
    else:
        fitted = _fit(model, dataset, source.negatives)
    write_with_manifest(model.path, fitted.manifest, target)
    best = model.path.with_name(_BEST)
    if in_place and model_path.is_dir() and best.is_file():
        write_weights_with_manifest(best, fitted.manifest)  # so that `onebox export` keeps it
    _tell(fitted, target)


def choose_calibration_part(data: Dataset, part: str | None, *, train: bool) -> Dataset:
    """The part asked for; by itself val, else test, where the data has its own split, and for out-of-fold networks
    (`train`) train. Says so. Raises ConfigError for a part that is not there, or none that will do."""
    parts = data.parts()
    if part == "all" or (part is None and not parts):
        return data
    if part is None:
        part = next((p for p in (("train",) if train else ("val", "test")) if p in parts), None)
        if part is None:
            raise ConfigError(
                f"the data has only the part {', '.join(parts)} of its own split",
                fix="Use --part to choose one, or --part all.",
            )
        typer.echo(f"The data has its own split: calibrating on its {part} pictures.", err=True)
    if part not in parts:
        raise ConfigError(f"the data has no part {part!r}; it has {', '.join(parts) or 'none'}", fix="Use --part all.")
    return data.part(part)


def _target(model: Path, out: Path | None, *, in_place: bool) -> Path:
    """Where the calibrated model goes. Nothing that is there is ever replaced, but the model itself with --in-place."""
    if in_place and out is not None:
        raise ConfigError("--out and --in-place cannot be given together")
    if in_place:
        return model
    target = out or model.with_name(f"{model.stem}-calibrated{model.suffix}")
    if target.exists():
        raise ConfigError(
            "there is something already", where=str(target), fix="Give another --out, or calibrate --in-place."
        )
    return target


def _fit(model: OnnxLocalizer, data: Dataset, negatives: Path | None) -> Fitted:
    trained_on = model.manifest.data
    if data.fingerprint() in (trained_on.get("fingerprint"), trained_on.get("given")):
        raise DataError(
            "the model was trained on these very pictures: what it promised would not hold on new ones",
            where=data.root,
            fix="Give pictures it has not seen, or calibrate with --folds 5.",
        )
    empty = list(expand([negatives])) if negatives is not None else []
    if negatives is not None and not empty:
        raise ConfigError("no pictures in what was given", where=str(negatives))
    evaluation = judge_with_progress(model, data)
    fitted = from_evaluation(model.manifest, evaluation)
    unreadable = list(evaluation.unreadable)
    if empty:
        fitted = with_presence(fitted, model, [record.path for record in evaluation.records], empty)
        unreadable += fitted.unreadable
    for path, reason in unreadable:
        typer.echo(f"skipped: {path}: {reason}", err=True)
    return fitted


def _fit_folds(model: OnnxLocalizer, run: Path, data: Dataset, folds: int) -> Fitted:
    if not run.is_dir():
        raise ConfigError(
            "--folds trains again with the settings of a run, so it needs a run folder", where=str(run),
            fix="Give the folder that a training left.",
        )  # fmt: skip
    try:
        from onebox.training.folds import out_of_fold_of_run
        from onebox.training.reporter import Terminal

        reporter = Terminal()
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"training needs {error.name}, which is not installed", fix='Run: pip install "onebox[train]"'
        ) from None
    labelled = data.labelled
    probe_weight = float(model.manifest.data.get("probe", 0.0))
    found = out_of_fold_of_run(run, labelled, folds=folds, reporter=reporter, probe_weight=probe_weight)
    return from_folds(model.manifest, list(labelled), found.predictions)


def _tell(fitted: Fitted, target: Path) -> None:
    c = fitted.calibration
    typer.echo(
        f"{c.pictures:,} pictures ({c.source}): temperature {c.temperature:.3g}, expected calibration error "
        f"{c.ece_before:.3f}, after it {c.ece_after:.3f}; coverages up to {c.pictures / (c.pictures + 1):.3f} can be "
        "promised",
        err=True,
    )
    if (p := fitted.presence) is not None:
        typer.echo(
            f"presence: told from {p.negatives:,} pictures without an object; at most {p.false_reject:.0%} of the "
            "others will be refused",
            err=True,
        )
    typer.echo(f"Model: {target}", err=True)
