"""The end of a training: the best weights become `best.safetensors`, `model.onnx`, figures and a report. Takes the
session at rest and its best weights; fits presence and calibration on the way; writes into the run folder, trains
nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onebox.errors import ExportError, TrainingError
from onebox.evaluation import judge
from onebox.manifest import Manifest
from onebox.metrics import Metrics
from onebox.runtime import OnnxLocalizer
from onebox.training import run_folder
from onebox.training.calibrate import calibrate_run
from onebox.training.checkpoint import Weights, copy_weights, save_best
from onebox.training.config import PROBE_WEIGHT
from onebox.training.export import export_onnx
from onebox.training.looks import choose_looks
from onebox.training.materials import Materials
from onebox.training.presence import add_presence
from onebox.training.reporter import Reporter
from onebox.training.session import DivergedError, EpochRow, Session
from onebox.training.story import write_training_report
from onebox.training.transfer import fit_probe


def finish(
    session: Session,
    best: Weights,
    materials: Materials,
    manifest: Manifest,
    *,
    folder: Path,
    history: Sequence[EpochRow],
    diverged: DivergedError | None,
    command: str,
    reporter: Reporter,
) -> Metrics | None:
    """The metrics of `model.onnx` on the held-out pictures, None without any. Raises ExportError; TrainingError where
    values had `diverged` and the best epoch before is beyond use, too."""
    config, held_out = session.config, materials.held_out
    model, best_file = folder / run_folder.MODEL, folder / run_folder.BEST
    session.average.load_state_dict(best)
    if session.untouched is not None and session.first_look is not None:
        probed, told = fit_probe(session.average, session.untouched, session.first_look, materials.train, held_out)
        if probed:
            reporter.say(told)
            manifest = replace(manifest, data={**manifest.data, "probe": PROBE_WEIGHT})
    with reporter.bar("fitting presence") as bar:
        presence = add_presence(session.average, materials.train, held_out, materials.empty, config, progress=bar)
    if presence is not None:
        manifest = replace(manifest, calibration=manifest.calibration | {"presence": presence.to_dict()})
    save_best(best_file, copy_weights(session.average), manifest)
    reporter.say(f"Best epoch: {session.progress.best_epoch}. Writing model.onnx and proving it against torch ...")
    replayed = [s.path for s in (held_out or materials.train).samples]
    try:
        manifest = export_onnx(session.average.cpu(), manifest, model, replayed)
    except ExportError as error:
        raise error if diverged is None else _nothing_to_keep(diverged, error) from error
    evaluation = judge(OnnxLocalizer(model), materials.val) if held_out else None
    if config.refine is None:
        manifest, evaluation, told = choose_looks(
            manifest, evaluation, materials.val, pretrained=not config.from_nothing, model=model, best=best_file
        )
        if told:
            reporter.say(told)
    manifest, evaluation = calibrate_run(manifest, evaluation, model=model, best=best_file, reporter=reporter)
    write_training_report(
        folder / run_folder.REPORT,
        config=config,
        manifest=manifest,
        data={"train": materials.data, "val": materials.val},
        skipped=materials.skipped,
        history=history,
        evaluation=evaluation,
        command=command,
        seconds=session.elapsed_here(),
        stopped=diverged.what if diverged is not None else "",
    )
    return evaluation.metrics if evaluation else None


def _nothing_to_keep(diverged: DivergedError, error: ExportError) -> TrainingError:
    what = f"{diverged.what}; the best epoch before it was beyond use, too ({error.what})"
    return TrainingError(what, fix=diverged.fix)
