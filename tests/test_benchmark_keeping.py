"""`benchmarks.keeping` chooses the epoch that the product's loop would have kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from accelerate import Accelerator
from torch import nn

from benchmarks.keeping import kept
from onebox.training import loop
from onebox.training.config import make_config
from onebox.training.session import Progress, Session


@pytest.mark.parametrize("width", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("patience", [0.0, 0.2, 0.35])
def test_the_same_epoch_as_the_loop(width: float, patience: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "AS_GOOD", width)
    rng = np.random.default_rng(0)
    config = replace(make_config(weights="none"), patience=patience)
    stopped = 0
    for _ in range(50):
        quality, error = rng.uniform(0.4, 0.8, 20), rng.uniform(0.01, 0.1, 20)
        network = nn.Linear(1, 1)
        session = Session(network, network, None, Progress(), Accelerator(cpu=True), config, epochs=20, total_steps=20)  # type: ignore[arg-type]
        for score, doubt in zip(quality, error, strict=True):
            session.progress.epoch += 1
            session.progress.step += 1
            loop.note_score(session, {"quality": float(score), "quality_error": float(doubt)})
            if loop._is_over(session):  # type: ignore[reportPrivateUsage]
                break
        stopped += session.progress.epoch < 20
        assert kept(quality, error, width, patience) == session.progress.best_epoch - 1
    assert (stopped > 0) == (patience > 0)
