"""The run's report: gathers what is known of a finished training into the facts that the report page wants. Computes
nothing new; the page itself is `onebox.report`'s."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from onebox._version import __version__
from onebox.dataset import Dataset, Skipped
from onebox.evaluation import Evaluation
from onebox.manifest import Manifest
from onebox.report import DataFacts, RunFacts, write_report
from onebox.training.config import TrainConfig
from onebox.training.loop import EpochRow

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
    command: str,
    seconds: float,
) -> None:
    """Writes report.html. `data`: use ("train", "val") -> data set. Raises RunFolderError."""
    left_out = [(s.path, s.reason) for s in skipped]
    counts = {use: len(d.labelled) for use, d in data.items()} | {"skipped": len(left_out)}
    notes = list(dict.fromkeys(note for d in data.values() for note in d.notes))
    facts = RunFacts(
        command=command,
        recipe=config.recipe,
        judged_on="The validation pictures, on which the best epoch was chosen: expect slightly less on new ones.",
        config=config.to_dict(),
        versions={"onebox": __version__, "Python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        seed=config.seed,
        seconds=seconds,
        finished=time.strftime("%Y-%m-%d %H:%M"),
        data=DataFacts(
            source=Path(data["train"].root).name,
            layout=data["train"].layout,
            counts=counts,
            class_counts={use: d.labelled.counts() for use, d in data.items()},
            notes=notes,
            skipped=left_out,
        ),
        export_check=manifest.export_check,
    )
    write_report(
        path,
        title=f"onebox: {Path(data['train'].root).name}",
        run=facts,
        history=[row.to_dict() for row in history],
        evaluation=evaluation,
    )
