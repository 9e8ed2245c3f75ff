"""`onebox check --model RUN`: the doctor's second opinion. Takes a diagnosis and a run folder; gives the diagnosis with
the labels and boxes that models which never saw them contradict. Trains where the run has not been asked before."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.console import Console

from onebox.doctor import Diagnosis
from onebox.doctor.suspects import find_suspects, how_competent, with_suspects
from onebox.errors import DataError


def add_suspects(diagnosis: Diagnosis, run: Path, *, folds: int | None, minutes: float | None) -> Diagnosis:
    """The diagnosis with `label-suspect` and `box-suspect` findings. Raises OneboxError."""
    from onebox.training.config import PROBE_WEIGHT
    from onebox.training.folds import out_of_fold_of_run
    from onebox.training.reporter import Terminal

    data = diagnosis.dataset
    if not len(data.labelled):
        raise DataError("no picture has a label, so there is none to doubt", where=data.root)
    reporter = Terminal(Console(stderr=True, highlight=False, emoji=False))
    found = out_of_fold_of_run(
        run, data, folds=folds, minutes=minutes, reporter=reporter, probe_weight=PROBE_WEIGHT
    )  # fmt: skip
    suspects = find_suspects(data, found.predictions, diagnosis.checkup.findings, found.close_ups)
    reporter.say(how_competent(suspects))
    return dataclasses.replace(diagnosis, checkup=with_suspects(diagnosis.checkup, data, suspects))
