"""The run's report: gathers what is known of a finished training into the facts that the report page wants, and keeps
the answers to the validation pictures for `onebox compare`. Computes nothing new; the page is `onebox.report`'s."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from onebox.dataset import Dataset, Skipped
from onebox.evaluation import Evaluation
from onebox.evaluation_file import IN_RUN_FOLDER, saved, write_evaluation
from onebox.manifest import Manifest
from onebox.report import RunFacts, write_report
from onebox.report.making import data_facts, machine, now, versions
from onebox.training.config import TrainConfig
from onebox.training.session import EpochRow

_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "onnxruntime", "numpy", "Pillow")


def write_training_report(
    path: Path,
    *,
    config: TrainConfig,
    manifest: Manifest,
    data: Mapping[str, Dataset],
    skipped: Iterable[Skipped],
    history: Sequence[EpochRow],
    evaluation: Evaluation | None,
    asked_epoch: int,
    command: str,
    seconds: float,
    stopped: str = "",
) -> None:
    """Writes report.html and, where pictures were judged, evaluation.json beside it. `data`: use ("train", "val") ->
    data set; `asked_epoch`: the last that was judged before the validation pictures taught, too (0: they never did);
    `stopped`: why the run ended before its time. Raises RunFolderError."""
    if evaluation is not None:
        write_evaluation(path.with_name(IN_RUN_FOLDER), saved(evaluation, manifest, data["val"]))
    judged_on = "The validation pictures, on which the best epoch was chosen: expect slightly less on new ones."
    if asked_epoch:
        judged_on = (
            f"The held-out pictures, as the weights of epoch {asked_epoch} answered them. After it they taught, too: "
            "none is left that could judge model.onnx itself (--learn-all-from 1 keeps them apart to the end)."
        )
    facts = RunFacts(
        command=command,
        recipe=config.recipe,
        judged_on=judged_on,
        config=config.to_dict(),
        versions=versions(_PACKAGES),
        machine=machine(),
        seed=config.seed,
        seconds=seconds,
        finished=now(),
        data=data_facts(data, skipped),
        export_check=manifest.export_check,
        stopped=stopped,
        fitted_here=manifest.calibration.get("source") in {"validation", "out-of-fold"},
    )
    write_report(
        path,
        title=f"onebox: {Path(data['train'].root).name}",
        run=facts,
        history=[row.to_dict() for row in history],
        evaluation=evaluation,
    )
