"""The run folder and its rules: what a run leaves there, when a folder may be used, what a resumed run must share with
the one it continues. Takes paths and facts; never touches a file that is not one of RUN_FILES."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onebox._version import __version__
from onebox.errors import RunFolderError
from onebox.evaluation_file import IN_RUN_FOLDER
from onebox.files import make_folder, write_atomic
from onebox.training.config import TrainConfig
from onebox.training.session import DivergedError, EpochRow

CONFIG, METRICS, LAST, BEST = "config.json", "metrics.jsonl", "last.safetensors", "best.safetensors"
MODEL, REPORT, STOPPED = "model.onnx", "report.html", "stopped.json"
EVALUATION = IN_RUN_FOLDER
#: Everything a run leaves in its folder; --overwrite removes these and nothing else.
RUN_FILES = (CONFIG, METRICS, LAST, BEST, MODEL, REPORT, EVALUATION, STOPPED)


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Raises RunFolderError where a run may not be put into (or continued in) `folder`. Writes nothing."""
    if folder.exists() and not folder.is_dir():
        raise RunFolderError("this is a file, not a folder", where=str(folder), fix="Choose another --out.")
    present = [name for name in RUN_FILES if (folder / name).exists()]
    if resume and not (folder / CONFIG).is_file():
        raise RunFolderError("there is no run here to resume", where=str(folder), fix="Leave out --resume.")
    if present and not resume and not overwrite:
        raise RunFolderError(
            f"this folder already holds a run ({', '.join(present[:3])})",
            where=str(folder),
            fix="Continue it with --resume, replace it with --overwrite, or choose another --out.",
        )


def open_folder(folder: Path, config: TrainConfig, fingerprints: Mapping[str, str]) -> None:
    """Creates the folder, removes an earlier run's files, writes config.json with the `fingerprints` of the training
    ("data") and validation ("val") pictures. Raises RunFolderError."""
    make_folder(folder)
    for name in RUN_FILES:
        (folder / name).unlink(missing_ok=True)
    facts = {"config": config.to_dict(), **fingerprints, "onebox_version": __version__}
    write_atomic(folder / CONFIG, json.dumps(facts, indent=2) + "\n")


def check_same_run(folder: Path, config: TrainConfig, fingerprints: Mapping[str, str]) -> None:
    """Raises RunFolderError where data or a setting is not what the run in `folder` began with."""
    path = folder / CONFIG
    try:
        saved = json.loads(path.read_text("utf-8"))
        before: dict[str, Any] = saved["config"]
    except (ValueError, KeyError, TypeError, OSError):
        raise RunFolderError("damaged", where=str(path), fix="Start again with --overwrite.") from None
    for key, what in (("data", "training"), ("val", "validation")):
        if saved.get(key) != fingerprints[key]:
            raise RunFolderError(
                f"the {what} data is not what this run began with",
                where=str(folder),
                fix="Give it the same data, or start again with --overwrite.",
            )
    for key, value in config.to_dict().items():
        if key != "tracker" and before.get(key) != value:  # who is told changes nothing
            raise RunFolderError(
                f"this run began with {key} = {before.get(key)}, not {value}",
                where=str(folder),
                fix="Resume with the settings it began with, or start again with --overwrite.",
            )


def write_history(folder: Path, history: Sequence[EpochRow]) -> None:
    """metrics.jsonl, one epoch a line. Raises RunFolderError."""
    write_atomic(folder / METRICS, "".join(json.dumps(row.to_dict()) + "\n" for row in history))


def write_stop(folder: Path, error: DivergedError, best_epoch: int) -> None:
    """stopped.json: what happened, at which step, with which pictures, and the best epoch before it (0: none). Raises
    RunFolderError."""
    facts = {"what": error.what, "step": error.step, "pictures": error.pictures, "best_epoch": best_epoch}
    write_atomic(folder / STOPPED, json.dumps(facts, indent=2) + "\n")


def read_history(folder: Path, epochs: int) -> list[EpochRow]:
    """The first `epochs` rows of metrics.jsonl: those the checkpoint knows of. Raises RunFolderError."""
    try:
        lines = (folder / METRICS).read_text("utf-8").splitlines()
        return [EpochRow(**json.loads(line)) for line in lines][:epochs]
    except (OSError, ValueError, TypeError):
        raise RunFolderError("damaged", where=str(folder / METRICS), fix="Start again with --overwrite.") from None
