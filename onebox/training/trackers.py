"""An experiment tracker told of every epoch: TensorBoard, MLflow or Weights & Biases, by accelerate's own adapters.
Takes the rows of a training; gives them on. Off unless asked for: then none of these packages is imported, and nothing
leaves the machine.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebox.errors import MissingExtraError, TrainingError
from onebox.training.config import TrainConfig
from onebox.training.reporter import Reporter, Tell

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

    from onebox.training.session import EpochRow

#: What all runs are filed under where a tracker has projects or experiments.
PROJECT = "onebox"
#: TensorBoard's folder in the run folder.
TENSORBOARD = "tensorboard"
# Whoever asks for a tracker asks for that, not for its maker to be told of the use; a value that is set already stays.
_NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}


def need_tracker(name: str | None) -> None:
    """Raises MissingExtraError where the package of this tracker is not installed; to be asked before anything long."""
    if name is not None and importlib.util.find_spec(name) is None:
        raise MissingExtraError(
            f"--tracker {name} needs the package {name}, which is not installed", fix=f"Install it: pip install {name}"
        )


@contextmanager
def tracked(
    reporter: Reporter, config: TrainConfig, folder: Path, *, main: bool, epochs_before: int = 0
) -> Generator[Reporter, None, None]:
    """For the block, a reporter that also tells the tracker of `config`; `reporter` itself where there is none, and in
    all but the main process. `epochs_before`: those of the run that is resumed.

    Raises TrainingError where the tracker cannot be started. One that fails later is told of once and left out: the
    training goes on.
    """
    if config.tracker is None or not main:
        yield reporter
        return
    try:
        tracker = _start(config, folder, epochs_before)
    except Exception as error:  # each tracker has exceptions of its own
        raise TrainingError(f"{config.tracker} could not be started ({_one_line(error)})", where=str(folder)) from error
    tracking = _Tracking(reporter, tracker, config.tracker)
    try:
        yield tracking
    finally:
        tracking.finish()


class _Tracking:
    """A reporter around another one."""

    def __init__(self, reporter: Reporter, tracker: GeneralTracker, name: str) -> None:
        self._reporter = reporter
        self._tracker: GeneralTracker | None = tracker
        self._name = name

    def say(self, text: str) -> None:
        """See Reporter."""
        self._reporter.say(text)

    def bar(self, title: str) -> AbstractContextManager[Tell]:
        """See Reporter."""
        return self._reporter.bar(title)

    def epoch(self, row: EpochRow) -> None:
        """See Reporter."""
        self._reporter.epoch(row)
        if self._tracker is None:
            return
        try:
            self._tracker.log(_figures(row), step=row.epoch)
        except Exception as error:  # each tracker has exceptions of its own
            self._give_up(error)

    def finish(self) -> None:
        """Closes the tracker's run."""
        if self._tracker is None:
            return
        try:
            self._tracker.finish()
        except Exception as error:  # each tracker has exceptions of its own
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._tracker = None
        self._reporter.say(f"{self._name} could not be told ({_one_line(error)}); the training goes on without it.")


def _start(config: TrainConfig, folder: Path, epochs_before: int) -> GeneralTracker:
    for name, value in _NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    if config.tracker == "tensorboard":
        if not epochs_before:
            _remove_events(folder / TENSORBOARD)
        # what an interrupted run logged beyond its last checkpoint is done, and logged, again
        tracker = TensorBoardTracker(TENSORBOARD, folder, purge_step=epochs_before + 1)
    elif config.tracker == "mlflow":
        tracker = MLflowTracker(PROJECT, run_name=folder.absolute().name)
    else:
        tracker = WandBTracker(PROJECT, name=folder.absolute().name, dir=os.fspath(folder))
    tracker.start()
    tracker.store_init_configuration({name: _plain(value) for name, value in config.to_dict().items()})
    return tracker


def _remove_events(folder: Path) -> None:
    """What an earlier run in this folder wrote, and nothing else: TensorBoard would lay both over each other."""
    for pattern in ("events.out.tfevents.*", "hparams.yml"):
        for file in folder.rglob(pattern):
            file.unlink()
    for inner in sorted(folder.glob("*/"), reverse=True):
        if not any(inner.iterdir()):
            inner.rmdir()


def _figures(row: EpochRow) -> dict[str, float]:
    """All that is a finite number, but the epoch, which is the step."""
    values = {name: value for name, value in row.to_dict().items() if name not in {"epoch", "epochs", "best"}}
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def _plain(value: Any) -> Any:
    """TensorBoard takes no None."""
    return "" if value is None else value


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
