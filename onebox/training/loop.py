"""The training loop, visible: draw a batch, augment, forward, criterion, backward, step, average; after each epoch
validate and give one row. Takes a network and two caches; yields `EpochRow`s. Writes no files and prints nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from onebox.boxes import iou
from onebox.training.augment import BatchAugment, step_generator, to_float
from onebox.training.balance import measure, watch
from onebox.training.cache import Cache
from onebox.training.losses import criterion
from onebox.training.model import Network
from onebox.training.schedule import batch_indices, lr_factor, steps_per_epoch
from onebox.training.session import MOST_GRADIENT, DivergedError, EpochRow, Session

VALIDATION_BATCH = 64
#: Among which validation looks for the one that fits the class probabilities, a twentieth of an octave apart.
TEMPERATURES = tuple(2 ** (i / 20) for i in range(-40, 51))
#: A later epoch is kept where it is worse than the best by no more than this many standard errors of the quality: that
#: is more than the same pictures can tell of two epochs, and the lower rate of later ones makes for tighter boxes
#: (docs/log.md, 2026-11-23 and 2026-11-29). The one-standard-error rule of Breiman et al. 1984, section 3.4.3.
AS_GOOD = 1.0
#: So many where held-out pictures are to teach from there on: they are few, and the best of thirty epochs can be that
#: much better by their luck (docs/log.md, 2026-12-01).
NEARLY_AS_GOOD = 3.0


def train_epochs(
    session: Session,
    train: Cache,
    val: Cache | None,
    *,
    steps: int | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Iterator[EpochRow]:
    """Runs to the end of the epochs, to the deadline or to early stopping, whichever comes first; one row per epoch, of
    so many `steps` (default: enough for every picture).

    Between two rows the session is at rest and may be saved. Raises DivergedError on values that are not finite; every
    row given before it is of a network whose answers were finite.
    """
    config, progress, accelerator = session.config, session.progress, session.accelerator
    batch, rank, world = config.batch, accelerator.process_index, accelerator.num_processes
    mine = slice(rank * batch // world, (rank + 1) * batch // world)
    per_epoch = steps or steps_per_epoch(len(train), batch)
    session.total_steps = session.epochs * per_epoch
    augment = BatchAugment(hflip=config.hflip, strength=config.augment or 0.0, close=config.close)
    pictures, boxes, labels = (torch.from_numpy(a) for a in (train.pictures, train.boxes_01, train.labels))
    device = accelerator.device
    if progress.step == 0:
        progress.began = min(session.share_done(), 0.99)
    while not progress.finished:
        begun, sums, steps, lr = time.perf_counter(), torch.zeros(6, dtype=torch.float64), 0, 0.0
        session.network.train()
        for _ in range(per_epoch):
            # 1. the batch: rows, random choices and learning rate are functions of (seed, step)
            step = progress.step
            rows = batch_indices(len(train), batch, config.seed, step)
            drawn = augment.draw(step_generator(config.seed, step), boxes[rows])
            rows, drawn = rows[mine], tuple(d[mine].to(device) for d in drawn)
            x, y = pictures[rows].to(device), boxes[rows].to(device)
            x, y = augment(x, y, drawn) if config.augment else (_plain(x), y)
            lr = config.lr * (1.0 if config.recipe == "plain" else lr_factor(session.share_of_loop(), config.warmup))
            for group in session.optimizer.param_groups:
                group["lr"] = lr * group["share"]
            # 2. forward, losses, backward
            output = session.network(x)
            watch(output)
            losses = criterion(
                output.logits,
                output.box,
                labels[rows].to(device),
                y,
                box_loss=config.box_loss,
                label_smoothing=config.label_smoothing,
            )
            total = losses.class_loss + progress.box_weight.value * losses.box_loss
            session.optimizer.zero_grad()
            accelerator.backward(total)
            # 3. the two branches' pull on the trunk
            pull = measure(output, accelerator)
            values = [losses.class_loss.item(), losses.box_loss.item(), pull.class_norm, pull.box_norm]
            if not all(math.isfinite(v) for v in values):
                raise DivergedError("the loss or its gradient is no longer finite", step, _paths(train, rows))
            progress.box_weight.update(pull)
            # 4. the step, and the average
            if config.recipe != "plain":
                accelerator.clip_grad_norm_(session.network.parameters(), MOST_GRADIENT)
            session.optimizer.step()
            progress.step += 1
            update_average(session.average, accelerator.unwrap_model(session.network), config.ema, progress.step)
            sums += torch.tensor([*values, _finite(pull.ratio), pull.cosine], dtype=torch.float64)
            steps += 1
            if on_step:
                on_step(progress.step, session.total_steps)
            if _out_of_time(session):
                break
        progress.epoch += 1
        progress.box_weight.freeze()
        training_seconds = time.perf_counter() - begun
        # 5. validation of the averaged weights
        begun_validation = time.perf_counter()
        scores = validate(session.average, val, accelerator) if val is not None else None
        progress.validation_seconds = time.perf_counter() - begun_validation
        last = progress.step - 1
        rows = batch_indices(len(train), batch, config.seed, last)[mine]
        if not _answers_are_finite(session.average, pictures[rows].to(device)):
            raise DivergedError("the answers of the network are no longer finite", last, _paths(train, rows))
        better = note_score(session, scores)
        progress.finished = _is_over(session)
        if world > 1:
            sums = _mean_over_processes(sums, accelerator)
        means = (sums / steps).tolist()
        yield EpochRow(
            epoch=progress.epoch,
            epochs=session.epochs,
            step=progress.step,
            seconds=round(session.elapsed(), 3),
            images_per_second=round(steps * batch / training_seconds, 2),
            lr=lr,
            loss_class=means[0],
            loss_box=means[1],
            grad_class=means[2],
            grad_box=means[3],
            grad_ratio=means[4],
            grad_cosine=means[5],
            box_weight=progress.box_weight.value,
            val_top1=scores["top1"] if scores else None,
            val_mean_iou=scores["mean_iou"] if scores else None,
            val_joint_50=scores["joint_50"] if scores else None,
            best=better,
        )


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Moves `average` towards `network`; the decay grows from 0 to `decay` over the first steps. Nothing to do where
    both are the same module."""
    if average is network:
        return
    d = min(decay, (1 + step) / (10 + step))
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    floats = [(a, n) for a, n in pairs if a.dtype.is_floating_point]
    # one call for all tensors; private by name, as all of torch's foreach functions are
    torch._foreach_lerp_(  # pyright: ignore[reportPrivateUsage]
        [a for a, _ in floats], [n for _, n in floats], 1 - d
    )


@torch.no_grad()
def validate(network: Network, val: Cache, accelerator: Accelerator) -> dict[str, float]:
    """Top-1, mean IoU, joint score (IoU > 0.5), `quality` and its standard error `quality_error`, of `network` in
    evaluation mode; every process takes a share of the pictures and all get the same answer.

    `quality` is the mean of IoU times the probability of the true class, at the one of TEMPERATURES that makes the
    classes likeliest: a finished model's probabilities are tempered, too, so an epoch that is merely surer of itself is
    neither better nor worse.
    """
    was_training = network.training
    network.eval()
    rank, world = accelerator.process_index, accelerator.num_processes
    rows = np.arange(rank, len(val), world)
    temperatures = torch.tensor(TEMPERATURES, dtype=torch.float64).view(-1, 1, 1)
    sums = torch.zeros(4 + 3 * len(TEMPERATURES), dtype=torch.float64)
    for start in range(0, len(rows), VALIDATION_BATCH):
        part = rows[start : start + VALIDATION_BATCH]
        output = network(_plain(torch.from_numpy(val.pictures[part]).to(accelerator.device)))
        logits, labels = output.logits.double().cpu(), torch.from_numpy(val.labels[part])
        overlap = torch.from_numpy(iou(output.box.boxes_01.clamp(0, 1).cpu().numpy(), val.boxes_01[part])).double()
        right = (logits.argmax(1) == labels).double()
        log_p = (logits / temperatures).log_softmax(2)[:, torch.arange(len(part)), labels]  # (temperatures, pictures)
        quality = log_p.exp() * overlap
        counted = [right.sum(), overlap.sum(), (right * (overlap > 0.5)).sum(), torch.tensor(float(len(part)))]
        sums += torch.cat([torch.stack(counted).double(), log_p.sum(1), quality.sum(1), quality.square().sum(1)])
    network.train(was_training)
    if world > 1:
        reduced = accelerator.reduce(sums.to(accelerator.device), "sum")
        assert isinstance(reduced, Tensor)
        sums = reduced.cpu()
    likelihoods, qualities, squares = sums[4:].view(3, -1) / sums[3]
    best = int(likelihoods.argmax())
    variance = (squares[best] - qualities[best].square()).clamp_min(0)
    means = [*(sums[:3] / sums[3]), qualities[best], (variance / sums[3]).sqrt()]
    names = ("top1", "mean_iou", "joint_50", "quality", "quality_error")
    return {name: float(v) for name, v in zip(names, means, strict=True)}


def _paths(cache: Cache, rows: Tensor) -> list[str]:
    return list(dict.fromkeys(cache.samples[row].path for row in rows.tolist()))


@torch.no_grad()
def _answers_are_finite(network: Network, pictures: Tensor) -> bool:
    """A last step can break the weights without a loss that shows it, and scores can hide it: the broken weights would
    be kept as the best."""
    was_training = network.training
    network.eval()
    output = network(_plain(pictures))
    network.train(was_training)
    return all(bool(t.isfinite().all()) for t in (output.logits, output.box.boxes_01))


def _plain(pictures: Tensor) -> Tensor:
    return to_float(pictures)


def note_score(session: Session, scores: dict[str, float] | None) -> bool:
    """Is this epoch to be kept? Judged by `quality`, which unlike the joint score moves with every picture. The best
    epoch is, and every later one that is as good, or nearly so where the held-out pictures are to teach from it on;
    without validation the last."""
    progress = session.progress
    score, doubt = float(progress.epoch), 0.0
    if scores:
        score = scores["quality"]
        doubt = (NEARLY_AS_GOOD if session.held_out_may_teach() else AS_GOOD) * scores["quality_error"]
    progress.best_score = max(progress.best_score, score)
    if score < progress.best_score - doubt:
        return False
    progress.best_epoch, progress.best_progress = progress.epoch, session.share_done()
    return True


def _is_over(session: Session) -> bool:
    progress, patience = session.progress, session.config.patience
    done = session.share_done()
    # in the first half the rate is still high and a standstill says nothing; nor does it while there is more to learn
    share = session.config.learn_all_from or 1
    early = done <= 0.5 or (share < 1 and session.share_of_loop() < share)
    tired = patience > 0 and not early and done - progress.best_progress > patience
    return progress.step >= session.total_steps or _out_of_time(session) or tired


def _out_of_time(session: Session) -> bool:
    return session.deadline_seconds is not None and session.share_done() >= 1.0


def _mean_over_processes(sums: Tensor, accelerator: Accelerator) -> Tensor:
    reduced = accelerator.reduce(sums.to(accelerator.device), "mean")
    assert isinstance(reduced, Tensor)
    return reduced.cpu()


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
