"""A training that learns its held-out pictures, too, in its last part, put in the place of the product's own for a
while. What they say is asked just before: probe, looks and calibration are those of the model of that moment. Reaches
into the product's modules; writes the finished model's calibration and nothing else.
"""

from __future__ import annotations

import copy
import importlib
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from onebox.manifest import Manifest
from onebox.metrics import Metrics
from onebox.model_file import write_with_manifest
from onebox.runtime import load
from onebox.training.cache import Cache
from onebox.training.checkpoint import Weights, copy_weights
from onebox.training.finish import finish
from onebox.training.loop import train_epochs
from onebox.training.reporter import Silent
from onebox.training.session import EpochRow, Session
from onebox.training.transfer import fit_probe

api: Any = importlib.import_module("onebox.training.api")
finish_module: Any = importlib.import_module("onebox.training.finish")


@dataclass
class _Known:
    """What the parts below tell each other: arguments of the run, and the `manifest` of the model before it learns the
    held-out pictures (None: the run ended, or was stopped, before that)."""

    share: float
    materials: Any = None
    first_manifest: Any = None
    history: list[EpochRow] = field(default_factory=list)
    manifest: Manifest | None = None


@contextmanager
def late(share: float) -> Generator[None]:
    """Inside, after `share` (0-1) of its loop a training goes on with the held-out pictures among its own. The clock
    stands still while they are asked."""
    known = _Known(share)
    before = (api.train_epochs, api._run_loop, api.finish)
    put = (_epochs(known), _remembering(known, api._run_loop), _finishing(known))
    api.train_epochs, api._run_loop, api.finish = put
    try:
        yield
    finally:
        api.train_epochs, api._run_loop, api.finish = before
        finish_module.fit_probe = fit_probe


def _remembering(known: _Known, run_loop: Callable[..., Any]) -> Callable[..., Any]:
    def run(
        session: Session, materials: Any, best: Weights, history: list[EpochRow], manifest: Manifest, **more: Any
    ) -> Any:
        known.materials, known.first_manifest, known.history = materials, manifest, history
        return run_loop(session, materials, best, history, manifest, **more)

    return run


def _epochs(known: _Known) -> Callable[..., Iterator[EpochRow]]:
    def epochs(session: Session, train: Cache, val: Cache, *, on_step: Any = None) -> Iterator[EpochRow]:
        for row in train_epochs(session, train, val, on_step=on_step):
            yield row
            if not session.progress.finished and session.share_of_loop() >= known.share:
                break
        else:
            return
        began = time.perf_counter()
        known.manifest = _manifest_now(known, session)
        session.started += time.perf_counter() - began
        yield from train_epochs(session, together(train, val), None, on_step=on_step)

    return epochs


def _manifest_now(known: _Known, session: Session) -> Manifest:
    average = copy.deepcopy(session.average)
    now = replace(session, average=average, untouched=copy.deepcopy(session.untouched))
    with tempfile.TemporaryDirectory(prefix="onebox-late-") as folder:
        finish(
            now, copy_weights(average), known.materials, known.first_manifest, folder=Path(folder),
            history=known.history, diverged=None, command="", reporter=Silent(),
        )  # fmt: skip
        return load(Path(folder) / "model.onnx").manifest


def _finishing(known: _Known) -> Callable[..., Metrics | None]:
    def last(
        session: Session, best: Weights, materials: Any, manifest: Manifest, *, folder: Path, **more: Any
    ) -> Metrics | None:
        then = known.manifest
        if then is not None:
            finish_module.fit_probe = _probing(wanted=bool(then.data.get("probe")))
        found = finish(session, best, materials, manifest, folder=folder, **more)
        if then is not None:
            model = folder / "model.onnx"
            now = load(model).manifest
            # the head that tells presence is fitted anew, so its threshold is its own
            presence = {k: v for k, v in now.calibration.items() if k == "presence"}
            told = replace(now, calibration={**then.calibration, **presence}, refine=then.refine)
            write_with_manifest(model, told, model)
        return found

    return last


def _probing(*, wanted: bool) -> Callable[..., tuple[bool, str]]:
    """As `fit_probe`, decided already."""

    def fit(network: Any, untouched: Any, first: Any, train: Cache, held_out: Cache | None) -> tuple[bool, str]:
        del held_out
        return fit_probe(network, untouched, first, train, None) if wanted else (False, "")

    return fit


def together(a: Cache, b: Cache) -> Cache:
    """The pictures of both, in memory of their own."""
    return Cache(
        np.concatenate([a.pictures, b.pictures]),
        np.concatenate([a.labels, b.labels]),
        np.concatenate([a.boxes_01, b.boxes_01]),
        np.concatenate([a.sizes, b.sizes]),
        a.samples + b.samples,
        a.skipped + b.skipped,
    )
