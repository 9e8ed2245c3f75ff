"""The end of a training: the best weights become `best.safetensors`, `model.onnx`, figures and a report. Takes the
session at rest and the weights that were kept; asks the held-out pictures, fits probe, presence and calibration on the
way; writes into the run folder, trains nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onebox.errors import ExportError, TrainingError
from onebox.evaluation import Evaluation, judge
from onebox.manifest import Manifest
from onebox.metrics import Metrics
from onebox.model_file import write_weights_with_manifest, write_with_manifest
from onebox.runtime import Localizer, OnnxLocalizer
from onebox.training import run_folder
from onebox.training.calibrate import calibrate_run
from onebox.training.checkpoint import Kept, Weights, copy_weights, save_best
from onebox.training.config import PROBE_WEIGHT, TrainConfig
from onebox.training.export import export_onnx
from onebox.training.looks import choose_looks
from onebox.training.materials import Materials
from onebox.training.predictor import TorchLocalizer
from onebox.training.presence import add_presence
from onebox.training.reporter import Reporter
from onebox.training.session import DivergedError, EpochRow, Session
from onebox.training.story import write_training_report
from onebox.training.transfer import fit_probe


def finish(
    session: Session,
    kept: Kept,
    materials: Materials,
    manifest: Manifest,
    *,
    folder: Path,
    history: Sequence[EpochRow],
    diverged: DivergedError | None,
    command: str,
    reporter: Reporter,
) -> Metrics | None:
    """The metrics on the held-out pictures, None without any: of `model.onnx`, or, where those pictures taught in the
    end, of the weights that they judged before. Raises ExportError; TrainingError where values had `diverged` and the
    best epoch before is beyond use, too."""
    config, held_out = session.config, materials.held_out
    model, best_file = folder / run_folder.MODEL, folder / run_folder.BEST
    probed, asked, evaluation = None, None, None
    if kept.asked is not None:
        manifest = _with_probe(session, kept.asked, materials, manifest, wanted=None, reporter=reporter)
        asked = copy.deepcopy(session.average)
        manifest, evaluation = _ask(TorchLocalizer(asked, manifest), manifest, materials, config, reporter)
        probed = "probe" in manifest.data
        manifest = replace(manifest, data=manifest.data | materials.taught(everything=True))
    manifest = _with_probe(session, kept.best, materials, manifest, wanted=probed, reporter=reporter)
    with reporter.bar("fitting presence") as bar:
        presence = add_presence(
            session.average, materials.train, held_out, materials.empty, config,
            judged_by=None if asked is None else asked.to(session.average.device), progress=bar,
        )  # fmt: skip
    if presence is not None:
        manifest = replace(manifest, calibration=manifest.calibration | {"presence": presence.to_dict()})
    save_best(best_file, copy_weights(session.average), manifest)
    reporter.say(f"Best epoch: {session.progress.best_epoch}. Writing model.onnx and proving it against torch ...")
    replayed = [s.path for s in (held_out or materials.train).samples]
    try:
        manifest = export_onnx(session.average.cpu(), manifest, model, replayed)
    except ExportError as error:
        raise error if diverged is None else _nothing_to_keep(diverged, error) from error
    if kept.asked is None:
        manifest, evaluation = _ask(OnnxLocalizer(model), manifest, materials, config, reporter)
        write_with_manifest(model, manifest, model)
    write_weights_with_manifest(best_file, manifest)
    write_training_report(
        folder / run_folder.REPORT,
        config=config,
        manifest=manifest,
        data={"train": materials.data, "val": materials.val},
        skipped=materials.skipped,
        history=history,
        evaluation=evaluation,
        asked_epoch=session.progress.asked_epoch,
        command=command,
        seconds=session.elapsed_here(),
        stopped=diverged.what if diverged is not None else "",
    )
    return evaluation.metrics if evaluation else None


def _with_probe(
    session: Session,
    weights: Weights,
    materials: Materials,
    manifest: Manifest,
    *,
    wanted: bool | None,
    reporter: Reporter,
) -> Manifest:
    """Loads `weights` into the average and gives it a probe, where one is `wanted`; None: where the held-out pictures
    gain by it. The manifest that says so."""
    session.average.load_state_dict(weights)
    first, everything = session.first_look, materials.everything
    if session.untouched is None or first is None or wanted is False:
        return manifest
    untouched = copy.deepcopy(session.untouched)
    if wanted and everything is not None:
        fit_probe(session.average, untouched, first.of_everything(len(materials.train)), everything, None)
        return manifest
    probed, told = fit_probe(session.average, untouched, first, materials.train, materials.held_out)
    if not probed:
        return manifest
    reporter.say(told)
    return replace(manifest, data={**manifest.data, "probe": PROBE_WEIGHT})


def _ask(
    model: Localizer, manifest: Manifest, materials: Materials, config: TrainConfig, reporter: Reporter
) -> tuple[Manifest, Evaluation | None]:
    """What the held-out pictures say of `model`: how often it should look, what it can promise, and how good it is."""
    evaluation = judge(model, materials.val) if materials.held_out else None
    if config.refine is None:
        manifest, evaluation, told = choose_looks(
            model, manifest, evaluation, materials.val, pretrained=not config.from_nothing
        )
        if told:
            reporter.say(told)
    return calibrate_run(manifest, evaluation, reporter=reporter)


def _nothing_to_keep(diverged: DivergedError, error: ExportError) -> TrainingError:
    what = f"{diverged.what}; the best epoch before it was beyond use, too ({error.what})"
    return TrainingError(what, fix=diverged.fix)
