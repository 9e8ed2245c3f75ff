"""`train`: from two data sets to a run folder with `model.onnx` inside. Orders the hops - cache, network, loop,
checkpoint, export, evaluation, report - one after another; the work itself is in the modules it calls.
"""

from __future__ import annotations

import atexit
import copy
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from onebox._version import __version__
from onebox.dataset import Dataset
from onebox.errors import ConfigError, TrainingError
from onebox.manifest import Manifest
from onebox.metrics import Metrics, learn_baseline
from onebox.splitting import read_fractions
from onebox.training import run_folder
from onebox.training.balance import BoxWeight
from onebox.training.checkpoint import Kept, copy_weights, load_state
from onebox.training.clock import deadline, first_deadline
from onebox.training.config import (
    FEW_IMGSZ,
    FEW_PICTURES,
    IMGSZ,
    PLAIN_TRUNK,
    SCRATCH_IMGSZ,
    TrainConfig,
    make_config,
)
from onebox.training.distributed import use_global_batch_norm
from onebox.training.driving import run_loop
from onebox.training.empty_pictures import gather_empty
from onebox.training.finish import finish
from onebox.training.folding import unfold
from onebox.training.materials import Materials, classes_to_learn, gather, taught_share
from onebox.training.model import Network, build_network
from onebox.training.processor import processor_set_up
from onebox.training.reporter import Reporter, Silent, Terminal
from onebox.training.session import EpochRow, Progress, Session, make_optimizer, set_trunk_share
from onebox.training.trackers import need_tracker, tracked
from onebox.training.transfer import PRETRAINED_SHARE, choose_share, look_first

#: A pretrained trunk needs less augmentation than one that starts from nothing (docs/log.md, 2026-11-22).
PRETRAINED_AUGMENT = 0.5
#: The box branch's wanted share of the pull at the trunk: pretrained, and from random weights (docs/log.md, 2026-11-23
#: and 2026-11-28).
PRETRAINED_BALANCE, SCRATCH_BALANCE = 1.0, 0.8
#: A pretrained trunk's heads have a head start of HEAD_START passes where pictures are few, and in a short run: one of
#: fewer pictures seen, or minutes. In a long one of many they do without (docs/log.md, 2026-11-28 and 2026-12-01).
HEAD_START, SHORT_RUN, SHORT_MINUTES = 3, 6000, 1.5
#: After this share of the run the pictures that nobody asked to hold out teach, too, where pictures are few
#: (docs/log.md, 2026-11-30 and 2026-12-01).
LEARN_ALL_FROM = 0.7
#: With --minutes alone the clock ends the run, or this many epochs.
MINUTES_EPOCHS = 200


@dataclass(frozen=True, slots=True)
class Run:
    """A finished training: its `folder`, the `model` file in it, one row per epoch, and the `metrics` of the validation
    pictures (None without any): of `model.onnx`, or, where they taught in the end, of the weights of `asked_epoch`, the
    last before (0: they did not)."""

    folder: Path
    model: Path
    history: tuple[EpochRow, ...]
    metrics: Metrics | None
    asked_epoch: int = 0


def train(
    data: Dataset,
    val: Dataset | None = None,
    *,
    out: str | os.PathLike[str],
    config: TrainConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
    split: float | None = None,
    allow_leak: bool = False,
    reporter: Reporter | None = None,
    command: str = "",
    began: float | None = None,
    **settings: Any,
) -> Run:
    """Trains on `data`, validates on `val`, leaves a run folder at `out`.

    Without `val` all but the share `split` of `data` is held out for early stopping (default: a hundred pictures, a
    tenth at the least and a fifth at the most), copies and siblings of one photo on one side. Where nobody gave `split`
    and pictures are few they teach in the last part of the run (`learn_all_from`), and the figures are those from
    before. `split` 1, or an empty `val`, trains on everything and keeps the last weights. Where pictures of `val` are
    copies of training pictures the training does not start, unless `allow_leak`. Settings are a `TrainConfig`, or its
    fields as keywords. `resume` continues a stopped run bit for bit; `overwrite` replaces one. `reporter` is told what
    happens (default: the terminal); `command` goes into the report; `began`: when the clock of `minutes` started, by
    `time.perf_counter` (default: now).
    Raises OneboxError: TrainingError, ConfigError, WeightsError, RunFolderError, ExportError. Where the loss is no
    longer finite the best epoch so far is exported all the same, and `stopped.json` names step and pictures.
    """
    if config is not None and settings:
        raise ConfigError("give a config or single settings, not both")
    config = config or make_config(**settings)
    if val is not None and config.learn_all_from not in (None, 1):
        raise ConfigError(
            "learn_all_from is for pictures that onebox holds out; validation pictures that were given never teach",
            fix="Leave out one of the two.",
        )
    ours = val is None and split is None  # are held-out pictures ours to teach?
    if split is None:
        split = taught_share(len(data.labelled))
    if config.learn_all_from is None:
        few = round(split * len(data.labelled)) < FEW_PICTURES and config.recipe != "plain"
        config = replace(config, learn_all_from=LEARN_ALL_FROM if ours and few else 1.0)
    if val is None and split == 1:
        val = data.subset([])
    with processor_set_up(config):
        return _train(
            data, val, folder=Path(out), config=config, resume=resume, overwrite=overwrite, split=split,
            allow_leak=allow_leak, reporter=reporter, command=command,
            began=time.perf_counter() if began is None else began,
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
    began: float,
) -> Run:
    """The hops of a training, one after another."""
    accelerator = start_engine(config)
    main = accelerator.is_main_process
    reporter = (reporter or Terminal()) if main else Silent()
    if main:
        run_folder.check_folder(folder, resume=resume, overwrite=overwrite)
    class_names = classes_to_learn(data, val)
    empty_paths = gather_empty(data, val, config.negatives)
    # what can be wrong with settings and weights is said before the pictures are decoded
    need_tracker(config.tracker)
    share = read_fractions(split)[0] if val is None else 1.0
    asked, config = config, resolve(config, round(share * len(data.labelled)))
    session = start_session(config, class_names, accelerator)
    session.started = began
    materials = gather(
        data, val, class_names, empty_paths, config, split=split, allow_leak=allow_leak, reporter=reporter
    )
    goes_on = resume and (folder / run_folder.LAST).exists()
    config = _look_first(session, materials, reporter, choose=asked.trunk_lr is None, start=not goes_on)
    if main and resume:
        run_folder.check_same_run(folder, config, materials.fingerprints)
    if main and not resume:  # not before all is known to be well: --overwrite removes the earlier run here
        run_folder.open_folder(folder, config, materials.fingerprints)
    accelerator.wait_for_everyone()
    manifest = _manifest(config, class_names, materials)
    if config.minutes is not None:
        pictures, held_out = len(materials.train), len(materials.held_out or ())
        session.deadline_seconds = deadline(session, config.minutes, pictures, held_out)
    kept, history = Kept(copy_weights(session.average)), []
    if goes_on:
        kept = load_state(folder / run_folder.LAST, session)
        history = run_folder.read_history(folder, session.progress.epoch)
        reporter.say(f"Resuming after epoch {session.progress.epoch}.")
    with tracked(reporter, config, folder, main=main, epochs_before=len(history)) as told:
        diverged = run_loop(session, materials, kept, history, manifest, folder=folder, reporter=told)
    if diverged is not None and not history:
        raise diverged
    metrics = None
    if main:
        metrics = finish(
            session, kept, materials, manifest,
            folder=folder, history=history, diverged=diverged, command=command, reporter=reporter,
        )  # fmt: skip
    accelerator.wait_for_everyone()
    model = folder / run_folder.MODEL
    if diverged is not None:
        what = f"{diverged.what}; {model} holds the best epoch before it, {session.progress.best_epoch}"
        raise TrainingError(what, where=str(folder / run_folder.STOPPED), fix=diverged.fix)
    return Run(folder, model, tuple(history), metrics, session.progress.asked_epoch)


def default_epochs(pictures: int, *, from_nothing: bool = False) -> int:
    """About 18,000 pictures seen in 12 to 60 passes, from nothing 32,000 in 12 to 100: at the default sizes that is
    some three minutes on two CPU cores."""
    seen, most = (32_000, 100) if from_nothing else (18_000, 60)
    return max(12, min(most, round(seen / pictures)))


def start_engine(config: TrainConfig) -> Accelerator:
    """Seeds torch and joins the processes that were started together. Raises TrainingError and ConfigError."""
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


def resolve(config: TrainConfig, pictures: int) -> TrainConfig:
    """Fills in what is decided from the data, of which so many `pictures` teach."""
    epochs, trunk_lr, from_nothing = config.epochs, config.trunk_lr, config.from_nothing
    if epochs is None:
        timed = config.minutes is not None
        epochs = MINUTES_EPOCHS if timed else default_epochs(pictures, from_nothing=from_nothing)
    if trunk_lr is None:
        trunk_lr = 1.0 if from_nothing else PRETRAINED_SHARE
    augment = config.augment
    if augment is None:
        augment = 1.0 if from_nothing else PRETRAINED_AUGMENT
    balance = config.balance
    if balance is None:
        balance = SCRATCH_BALANCE if from_nothing else PRETRAINED_BALANCE
    head_start = config.head_start
    if head_start is None:
        minutes = math.inf if config.minutes is None else config.minutes
        short = epochs * pictures < SHORT_RUN or minutes < SHORT_MINUTES
        head_start = HEAD_START if (short or pictures < FEW_PICTURES) and not from_nothing else 0
    imgsz = config.imgsz
    if imgsz is None:
        imgsz = SCRATCH_IMGSZ if from_nothing else FEW_IMGSZ if pictures < FEW_PICTURES else IMGSZ
    # the built-in trunk has no pretrained weights; a file that is given for it is refused where the trunk is built
    weights = "none" if config.backbone == PLAIN_TRUNK and config.weights == "pretrained" else config.weights
    return replace(
        config, imgsz=imgsz, epochs=epochs, trunk_lr=trunk_lr, augment=augment, balance=balance, weights=weights,
        head_start=head_start,
    )  # fmt: skip


def _look_first(
    session: Session, materials: Materials, reporter: Reporter, *, choose: bool, start: bool
) -> TrainConfig:
    """Asks a pretrained trunk what it says of the pictures before it learns, where that is wanted for a probe, to
    `choose` its rate, or to `start` the heads on it. The config with that rate; the session gets all of it."""
    probed, start = session.untouched is not None, start and bool(session.config.head_start)
    if session.config.weights == "none" or not (probed or choose or start):
        return session.config
    first = look_first(session.average, materials.train, materials.held_out, probed=probed, keep_maps=start)
    session.first_look = first
    if not choose:
        return session.config
    share, top1 = choose_share(first, materials.train, materials.held_out)
    if top1 is not None:
        reporter.say(
            f"The pretrained trunk as it is tells {top1:.0%} of the held-out pictures; it learns at {share:g} of the "
            "heads' rate."
        )
    session.config = replace(session.config, trunk_lr=share)
    set_trunk_share(session.optimizer, share)
    return session.config


def start_session(config: TrainConfig, class_names: tuple[str, ...], accelerator: Accelerator) -> Session:
    """Network, average and optimizer of a resolved `config`, at step 0; its clock starts now."""
    network = build_network(config, len(class_names)).to(memory_format=torch.channels_last)
    _refuse_single_values(network, config)
    assert config.trunk_lr is not None
    assert config.epochs is not None
    assert config.balance is not None
    average = copy.deepcopy(network).to(accelerator.device) if config.ema > 0 else network
    probed = config.probe and config.weights != "none"
    untouched = copy.deepcopy(network.trunk).to(accelerator.device) if probed else None
    if accelerator.num_processes > 1:
        unfold(network)  # the layers that come in BatchNorm's place know nothing of a convolution that did their work
        use_global_batch_norm(network)
    network, optimizer = accelerator.prepare(network, make_optimizer(network, config, config.trunk_lr))
    return Session(
        network=network,
        average=average,
        optimizer=optimizer,
        progress=Progress(box_weight=BoxWeight.start(config.box_weight, config.balance)),
        accelerator=accelerator,
        config=config,
        epochs=config.epochs,
        deadline_seconds=None if config.minutes is None else first_deadline(config.minutes),
        untouched=untouched,
    )


def _refuse_single_values(network: Network, config: TrainConfig) -> None:
    """BatchNorm takes its statistics over pictures and places: of one picture with one place there are none."""
    one_place = config.side <= network.trunk.strides[-1]
    learns = any(isinstance(m, torch.nn.BatchNorm2d) and m.weight.requires_grad for m in network.trunk.modules())
    if config.batch == 1 and one_place and learns:
        raise ConfigError(
            f"a batch of one picture of {config.side} px cannot be trained on: BatchNorm needs two values a channel",
            fix="Use --batch 2, or a larger --imgsz.",
        )


def _manifest(config: TrainConfig, class_names: tuple[str, ...], materials: Materials) -> Manifest:
    train = materials.train
    return Manifest(
        class_names=class_names,
        imgsz=config.side,
        backbone=config.backbone,
        recipe=config.recipe,
        box_head=config.box_head,
        onebox_version=__version__,
        baseline=learn_baseline(train.labels, train.boxes_01, class_names),
        data=materials.taught(),
        refine=bool(config.refine),
    )
