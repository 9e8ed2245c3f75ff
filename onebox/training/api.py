"""`train`: from two data sets to a run folder with `model.onnx` inside. Orders the hops - cache, network, loop,
checkpoint, export, evaluation, report - one after another; the work itself is in the modules it calls.
"""

from __future__ import annotations

import atexit
import copy
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from onebox._version import __version__
from onebox.dataset import Dataset
from onebox.errors import ConfigError, TrainingError
from onebox.evaluation import judge
from onebox.manifest import Manifest
from onebox.metrics import Metrics, learn_baseline
from onebox.runtime import OnnxLocalizer
from onebox.splitting import read_fractions
from onebox.training import run_folder
from onebox.training.balance import BoxWeight
from onebox.training.cache import Cache, build_cache
from onebox.training.checkpoint import Weights, copy_weights, load_state, save_best, save_state
from onebox.training.config import PLAIN_TRUNK, TrainConfig, make_config
from onebox.training.distributed import use_global_batch_norm
from onebox.training.export import export_onnx
from onebox.training.leaks import hold_out, refuse_leaks
from onebox.training.loop import EpochRow, Progress, Session, make_optimizer, train_epochs
from onebox.training.model import build_network
from onebox.training.reporter import Reporter, Silent, Terminal
from onebox.training.story import write_training_report

HELD_OUT = 0.2
#: A pretrained trunk learns at this share of the heads' rate. A first choice, not tuned.
PRETRAINED_TRUNK_SHARE = 0.25
#: And needs less augmentation than one that starts from nothing (docs/log.md, 2026-11-22).
PRETRAINED_AUGMENT = 0.5
#: With --minutes alone the clock ends the run, or this many epochs.
MINUTES_EPOCHS = 200
#: What remains to be done within --minutes after the last step: export, replay, evaluation, report.
SECONDS_AFTER_LOOP = 10.0
#: Saving the state may take this share of the time; the epochs in between are done again after a kill.
SAVING_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Run:
    """A finished training: its `folder`, the `model` file in it, one row per epoch, and the `metrics` of `model.onnx`
    on the validation pictures (None without any)."""

    folder: Path
    model: Path
    history: tuple[EpochRow, ...]
    metrics: Metrics | None


def train(
    data: Dataset,
    val: Dataset | None = None,
    *,
    out: str | os.PathLike[str],
    config: TrainConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
    split: float = 1 - HELD_OUT,
    allow_leak: bool = False,
    reporter: Reporter | None = None,
    command: str = "",
    **settings: Any,
) -> Run:
    """Trains on `data`, validates on `val`, leaves a run folder at `out`.

    Without `val` all but the share `split` of `data` is held out for early stopping, copies and siblings of one photo
    on one side; an empty `val` trains on everything and keeps the last weights. Where pictures of `val` are copies of
    training pictures the training does not start, unless `allow_leak`. Settings are a `TrainConfig`, or its fields as
    keywords. `resume` continues a stopped run bit for bit; `overwrite` replaces one. `reporter` is told what happens
    (default: the terminal); `command` goes into the report.
    Raises OneboxError: TrainingError, ConfigError, WeightsError, RunFolderError, ExportError.
    """
    if config is not None and settings:
        raise ConfigError("give a config or single settings, not both")
    config = config or make_config(**settings)
    with _processor_set_up(config):
        return _train(
            data, val, folder=Path(out), config=config, resume=resume, overwrite=overwrite, split=split,
            allow_leak=allow_leak, reporter=reporter, command=command,
        )  # fmt: skip


def _train(
    data: Dataset,
    val: Dataset | None,
    *,
    folder: Path,
    config: TrainConfig,
    resume: bool,
    overwrite: bool,
    split: float,
    allow_leak: bool,
    reporter: Reporter | None,
    command: str,
) -> Run:
    """The hops of a training, one after another."""
    started = time.perf_counter()
    accelerator = _start_engine(config)
    main = accelerator.is_main_process
    reporter = (reporter or Terminal()) if main else Silent()
    if main:
        run_folder.check_folder(folder, resume=resume, overwrite=overwrite)
    class_names = _check_classes(data, val)
    # what can be wrong with settings and weights is said before the pictures are decoded
    share = read_fractions(split)[0] if val is None else 1.0
    config = _resolve(config, round(share * len(data.labelled)))
    session = _start_session(config, class_names, accelerator)
    session.started = started
    with reporter.bar("reading pictures") as bar:
        train_cache = build_cache(data, class_names, config.imgsz, progress=bar)
    if val is None:
        data, val, train_cache, val_cache = hold_out(data, train_cache, split, config.seed)
        reporter.say(f"Held out {len(val)} of {len(data) + len(val)} pictures for early stopping.")
    else:
        val_cache = build_cache(val, class_names, config.imgsz) if len(val.labelled) else None
        refuse_leaks(data, val, train_cache, None if allow_leak else val_cache)
    fingerprints = {"data": data.fingerprint(), "val": val.fingerprint()}
    if main and resume:
        run_folder.check_same_run(folder, config, fingerprints)
    skipped = [*data.skipped, *train_cache.skipped, *(val_cache.skipped if val_cache else ())]
    for one in skipped:
        reporter.say(f"skipped: {one}")
    if main and not resume:  # not before all is known to be well: --overwrite removes the earlier run here
        run_folder.open_folder(folder, config, fingerprints)
    accelerator.wait_for_everyone()
    manifest = _manifest(config, class_names, data, train_cache)
    best, history = copy_weights(session.average), []
    if resume and (folder / run_folder.LAST).exists():
        best = load_state(folder / run_folder.LAST, session)
        history = run_folder.read_history(folder, session.progress.epoch)
        reporter.say(f"Resuming after epoch {session.progress.epoch}.")
    best = _run_loop(session, train_cache, val_cache, best, history, manifest, folder=folder, reporter=reporter)
    model, metrics = folder / run_folder.MODEL, None
    if main:
        session.average.load_state_dict(best)
        save_best(folder / run_folder.BEST, best, manifest)
        reporter.say(f"Best epoch: {session.progress.best_epoch}. Writing model.onnx and proving it against torch ...")
        replayed = [s.path for s in (val_cache or train_cache).samples]
        manifest = export_onnx(session.average.cpu(), manifest, model, replayed)
        evaluation = judge(OnnxLocalizer(model), val) if val_cache else None
        metrics = evaluation.metrics if evaluation else None
        write_training_report(
            folder / run_folder.REPORT,
            config=config,
            manifest=manifest,
            data={"train": data, "val": val},
            skipped=skipped,
            history=history,
            evaluation=evaluation,
            command=command,
            seconds=session.elapsed_here(),
        )
    accelerator.wait_for_everyone()
    return Run(folder, model, tuple(history), metrics)


def default_epochs(pictures: int) -> int:
    """About 12,000 pictures seen - some two minutes on two CPU cores - in 12 to 60 passes."""
    return max(12, min(60, round(12_000 / pictures)))


@contextmanager
def _processor_set_up(config: TrainConfig) -> Generator[None, None, None]:
    """For as long as a training runs: its number of threads, and denormals flushed to zero - late in a run many values
    become denormal, which CPUs handle far more slowly. Both belong to the whole process, so they are put back."""
    threads = torch.get_num_threads()
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(config.threads or max(1, (os.cpu_count() or 1) // processes_here))
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


def _start_engine(config: TrainConfig) -> Accelerator:
    torch.manual_seed(config.seed)
    # Unless told so, the engine lets each of several processes on CPUs train by itself, without a word.
    started_as = int(os.environ.get("WORLD_SIZE", "1"))
    accelerator = Accelerator(cpu=started_as > 1 and not torch.accelerator.is_available())
    if accelerator.num_processes != started_as:
        raise TrainingError(
            f"started as {started_as} processes, but the engine joined {accelerator.num_processes} of them",
            fix="Set ACCELERATE_USE_CPU=1 to train on CPUs, or start one process.",
        )
    if started_as > 1:
        atexit.register(_leave_group)
    if config.batch % accelerator.num_processes:
        raise ConfigError(f"a batch of {config.batch} cannot be shared by {accelerator.num_processes} processes")
    return accelerator


def _leave_group() -> None:
    """At exit: the group's threads end before the interpreter does, as torch asks for."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _resolve(config: TrainConfig, pictures: int) -> TrainConfig:
    """Fills in what is decided from the data."""
    plain_trunk = config.backbone == PLAIN_TRUNK
    epochs, trunk_lr = config.epochs, config.trunk_lr
    if epochs is None:
        epochs = default_epochs(pictures) if config.minutes is None else MINUTES_EPOCHS
    from_nothing = plain_trunk or config.weights == "none"
    if trunk_lr is None:
        trunk_lr = 1.0 if from_nothing else PRETRAINED_TRUNK_SHARE
    augment = config.augment
    if augment is None:
        augment = 1.0 if from_nothing else PRETRAINED_AUGMENT
    weights = "none" if plain_trunk and config.weights == "pretrained" else config.weights
    return replace(config, epochs=epochs, trunk_lr=trunk_lr, augment=augment, weights=weights)


def _check_classes(data: Dataset, val: Dataset | None) -> tuple[str, ...]:
    """The classes to learn: those with training pictures, in the data set's order."""
    counts = data.labelled.counts()
    class_names = tuple(name for name in data.class_names if counts.get(name))
    if not class_names:
        raise TrainingError("no labelled picture to train on", fix="`onebox check` says what is wrong with the data.")
    for sample in val.labelled if val is not None else ():
        if sample.label not in class_names:
            raise TrainingError(
                f"class {sample.label!r} is in the validation pictures only",
                where=sample.where or sample.path,
                fix="Give it training pictures, correct its spelling, or leave it out.",
            )
    return class_names


def _start_session(config: TrainConfig, class_names: tuple[str, ...], accelerator: Accelerator) -> Session:
    network = build_network(config, len(class_names)).to(memory_format=torch.channels_last)
    assert config.trunk_lr is not None
    assert config.epochs is not None
    average = copy.deepcopy(network).to(accelerator.device) if config.ema > 0 else network
    if accelerator.num_processes > 1:
        use_global_batch_norm(network)
    network, optimizer = accelerator.prepare(network, make_optimizer(network, config, config.trunk_lr))
    deadline = None
    if config.minutes is not None:
        deadline = max(config.minutes * 30, config.minutes * 60 - SECONDS_AFTER_LOOP)
    return Session(
        network=network,
        average=average,
        optimizer=optimizer,
        progress=Progress(box_weight=BoxWeight.start(config.box_weight, config.balance)),
        accelerator=accelerator,
        config=config,
        epochs=config.epochs,
        deadline_seconds=deadline,
    )


def _run_loop(
    session: Session,
    train_cache: Cache,
    val_cache: Cache | None,
    best: Weights,
    history: list[EpochRow],
    manifest: Manifest,
    *,
    folder: Path,
    reporter: Reporter,
) -> Weights:
    """Drives `train_epochs` to its end; keeps metrics.jsonl, checkpoint and best weights up to date, so that a run that
    was killed can be resumed, and exported as it stands. Appends to `history`, gives the best weights."""
    main = session.accelerator.is_main_process
    best_saved = -1
    saved_at, saving_took = time.perf_counter(), 0.0
    with reporter.bar("training") as bar:
        for row in train_epochs(session, train_cache, val_cache, on_step=bar):
            history.append(row)
            if row.best:
                best = copy_weights(session.average)
            reporter.epoch(row)
            now = time.perf_counter()
            if main and (saving_took <= SAVING_SHARE * (now - saved_at) or session.progress.finished):
                run_folder.write_history(folder, history)
                save_state(folder / run_folder.LAST, session, best)
                if session.progress.best_epoch != best_saved:
                    save_best(folder / run_folder.BEST, best, manifest)
                    best_saved = session.progress.best_epoch
                saved_at, saving_took = time.perf_counter(), time.perf_counter() - now
    return best


def _manifest(config: TrainConfig, class_names: tuple[str, ...], data: Dataset, cache: Cache) -> Manifest:
    return Manifest(
        class_names=class_names,
        imgsz=config.imgsz,
        backbone=config.backbone,
        recipe=config.recipe,
        box_head=config.box_head,
        onebox_version=__version__,
        baseline=learn_baseline(cache.labels, cache.boxes_01, class_names),
        data={"fingerprint": data.fingerprint(), "layout": data.layout, "pictures": len(cache)},
    )
