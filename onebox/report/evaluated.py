"""The report of `onebox evaluate`: gathers what is known of judging a model into the facts that the page wants.
Computes nothing new; a training has its own in `onebox.training.story`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebox.evaluation import Evaluation
from onebox.manifest import Manifest
from onebox.report.facts import RunFacts
from onebox.report.making import command_line, data_facts, machine, now, versions
from onebox.report.page import write_report

if TYPE_CHECKING:
    from onebox.dataset import Dataset


def write_evaluation_report(
    path: Path, evaluation: Evaluation, manifest: Manifest, data: Dataset, *, model_name: str, seconds: float
) -> None:
    """Writes the page of `evaluation`, which is `manifest`'s model judged on `data`, to `path`. `model_name`: the file
    or folder as given; `seconds`: reading and judging. Raises MissingExtraError and RunFolderError."""
    facts = data_facts({"judged": data}, data.skipped)
    write_report(
        path,
        title=f"{_short_name(model_name)} on {facts.source}",
        run=RunFacts(
            command=command_line(),
            recipe=manifest.recipe,
            judged_on=_judged_on(manifest, data),
            versions=versions(),
            machine=machine(),
            seconds=seconds,
            finished=now(),
            data=facts,
            export_check=manifest.export_check,
            model=_model_facts(manifest, model_name),
        ),
        history=[],
        evaluation=evaluation,
    )


def _short_name(model_name: str) -> str:
    """A run folder's own name: every model file is called model.onnx."""
    path = Path(model_name).absolute()
    return path.parent.name if path.name == "model.onnx" else path.name


def _judged_on(manifest: Manifest, data: Dataset) -> str:
    print_ = data.fingerprint()
    if manifest.data.get("fingerprint") == print_:
        return "THE MODEL WAS TRAINED ON THESE VERY PICTURES: the figures say nothing about new ones."
    if manifest.data.get("given") == print_:
        return "MOST OF THESE PICTURES ARE THOSE THE MODEL WAS TRAINED ON: the figures say little about new ones."
    return ""


def _model_facts(manifest: Manifest, model_name: str) -> dict[str, str]:
    trained: dict[str, Any] = manifest.data
    facts = {
        "Model": model_name,
        "Trunk": f"{manifest.backbone}, {manifest.imgsz} px",
        "Made by": f"onebox {manifest.onebox_version}",
    }
    if trained.get("pictures"):
        facts["Trained on"] = f"{trained['pictures']:,} pictures, fingerprint {str(trained.get('fingerprint'))[:16]}"
    return facts
