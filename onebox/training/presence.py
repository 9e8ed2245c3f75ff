"""Learning what it looks like when no object is there. Takes a trained network and the caches it was trained and chosen
on; gives it a presence head, fitted to negatives made of the training pictures, and the threshold, set on the
validation pictures. Runs after the loop and never changes trunk, class head or box head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from onebox.boxes import Floats
from onebox.calibration import FEATURES, Presence, fit_presence
from onebox.images import Pixels
from onebox.training.augment import BatchAugment, step_generator, to_float
from onebox.training.cache import Cache
from onebox.training.config import TrainConfig
from onebox.training.empty_pictures import EmptyPictures
from onebox.training.heads import PresenceHead
from onebox.training.model import Network
from onebox.training.negatives import make_negatives
from onebox.training.schedule import batch_indices

#: Pictures with an object, and as many without, that the head is fitted to: this many for each training picture, but no
#: more than these in all.
VIEWS_EACH, MOST_VIEWS = 3, 1024
#: Negatives made of each validation picture, and the most validation pictures taken.
HELD_OUT_EACH, MOST_HELD_OUT = 2, 1000
#: Of the weight of all negatives in the loss, what the real ones have where there are some.
REAL_SHARE = 0.5
#: Full-batch steps of AdamW on the pooled features.
STEPS, LR, DECAY, SMOOTHING = 150, 3e-3, 1e-2, 0.05
#: Of the variances that the distance goes by, the share that is taken to be the same in all directions.
SHRINK = 0.1
BATCH = 32
#: Share of the pictures with an object that are softened.
SOFTENED = 0.25
# the presence head's own random numbers: no other choice of the run is moved by them
_FITTING, _JUDGING = 0xAB5E17, 0xAB5E18


@dataclass(frozen=True, slots=True)
class _Views:
    """Pooled features (N, W) of pictures with an object, those of negatives (M, W), and the weight of each negative,
    which sum to 1."""

    present: Tensor
    absent: Tensor
    weights: Tensor


def add_presence(
    network: Network,
    train: Cache,
    val: Cache | None,
    empty: EmptyPictures | None,
    config: TrainConfig,
    *,
    judged_by: Network | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Presence | None:
    """Fits `network.presence_head` and gives the calibration; None where there is no validation picture to set the
    threshold on. The same network, caches and seed give the same head, bit for bit. `judged_by`: the network as it was
    before the validation pictures taught it, too; the head hears of those by its trunk, and it gets the head."""
    network.eval()
    network.presence_head = None
    views = _views(network, train, empty, config, progress)
    with torch.random.fork_rng(devices=[]):  # first weights by numbers of its own
        torch.manual_seed(config.seed)
        head = PresenceHead(network.trunk.channels)
    _set_distance(head, views.present)
    _train_fc(head, views)
    usual = val.pictures[_some(val, config)] if val is not None and len(val) else train.pictures[:MOST_HELD_OUT]
    judge = judged_by or network
    with torch.no_grad():
        scores = torch.cat([head.scores(*_pooled(judge, to_float(part))) for part in _parts(usual)])
        head.usual.copy_(scores.mean(dim=0))
        head.spread.copy_(scores.std(dim=0, correction=0).clamp_min(1e-3))
    network.presence_head = judge.presence_head = head.to(network.device).eval()
    if val is None or not len(val):
        return None
    return _calibrate(judge, val, empty, config)


def batches_needed(pictures: int) -> int:
    """How many batches of BATCH the trunk sees of so many training pictures for `add_presence`."""
    return 2 * _steps(pictures)


def _steps(pictures: int) -> int:
    return -(-min(VIEWS_EACH * pictures, MOST_VIEWS) // BATCH)


@torch.no_grad()
def _views(
    network: Network,
    train: Cache,
    empty: EmptyPictures | None,
    config: TrainConfig,
    progress: Callable[[int, int], None] | None,
) -> _Views:
    """Features of the training pictures as they are and, in every other batch, augmented as in training; and of one
    negative made of each of these."""
    steps = _steps(len(train))
    augment = BatchAugment(hflip=config.hflip, strength=0.5)
    present: list[Tensor] = []
    absent: list[Tensor] = []
    for step in range(steps):
        rows = batch_indices(len(train), BATCH, config.seed ^ _FITTING, step)
        generator = step_generator(config.seed ^ _FITTING, step)
        pictures, boxes = torch.from_numpy(train.pictures[rows]), torch.from_numpy(train.boxes_01[rows])
        x = to_float(pictures)
        if step % 2:
            x, boxes = augment(pictures, boxes, augment.draw(generator, boxes))
        absent.append(_pooled(network, make_negatives(x, boxes, generator)[0])[0])
        present.append(_pooled(network, _softened(x, generator))[0])
        if progress:
            progress(step + 1, steps)
    made = torch.cat(absent)
    weights = torch.full((len(made),), 1 / len(made))
    real = _real(network, empty)
    if real is not None:
        weights = torch.cat([weights * (1 - REAL_SHARE), torch.full((len(real),), REAL_SHARE / len(real))])
        made = torch.cat([made, real])
    return _Views(torch.cat(present), made, weights)


def _real(network: Network, empty: EmptyPictures | None) -> Tensor | None:
    """Features of the real negatives that are not held out, each also mirrored."""
    if empty is None or empty.held_out.all():
        return None
    found: list[Tensor] = []
    for part in _parts(empty.pictures[~empty.held_out]):
        x = to_float(part)
        found += [_pooled(network, x)[0], _pooled(network, x.flip(3))[0]]
    return torch.cat(found)


def _calibrate(network: Network, val: Cache, empty: EmptyPictures | None, config: TrainConfig) -> Presence:
    """Scores of validation pictures, and of negatives made of them and of real ones held out, to a probability and the
    threshold that refuses the wanted share, or the least that so few pictures allow."""
    rows = _some(val, config)
    present = np.concatenate([_scores(network, to_float(part)) for part in _parts(val.pictures[rows])])
    absent: list[Floats] = []
    for lap in range(HELD_OUT_EACH):
        for step, start in enumerate(range(0, len(rows), BATCH)):
            some = rows[start : start + BATCH]
            generator = step_generator(config.seed ^ _JUDGING, lap * len(rows) + step)
            x, boxes = to_float(torch.from_numpy(val.pictures[some])), torch.from_numpy(val.boxes_01[some])
            absent.append(_scores(network, make_negatives(x, boxes, generator)[0]))
    if empty is not None and empty.held_out.any():
        absent += [_scores(network, to_float(part)) for part in _parts(empty.pictures[empty.held_out])]
    return fit_presence(
        present,
        np.concatenate(absent),
        false_reject=max(config.false_reject, 1 / (len(present) + 1)),
        seed=config.seed % 2**32,
    )


def _set_distance(head: PresenceHead, present: Tensor) -> None:
    """Mean and scale of the pooled features, and the main directions of their means with the variances along and across
    them, shrunk towards 1, the mean variance of what is scaled."""
    x = present.double()
    centre, scale = x.mean(dim=0), x.std(dim=0, correction=0)
    scale = scale + 1e-3 * scale.mean() + 1e-6  # a channel that never moves must not become a tripwire
    z = ((x - centre) / scale)[:, : head.means]
    values, vectors = torch.linalg.eigh(z.T @ z / len(z))
    rank = head.variances.numel()
    head.centre.copy_(centre)
    head.scale.copy_(scale)
    head.directions.copy_(vectors[:, -rank:])
    head.variances.copy_((1 - SHRINK) * values[-rank:] + SHRINK)
    head.rest.copy_((1 - SHRINK) * values[:-rank].mean() + SHRINK)


def _train_fc(head: PresenceHead, views: _Views) -> None:
    """Binary cross-entropy of both kinds, weighing the same, by full-batch AdamW."""
    present, absent = ((x - head.centre) / head.scale for x in (views.present, views.absent))
    z = torch.cat([present, absent])
    target = torch.cat([torch.full((len(present),), 1 - SMOOTHING), torch.full((len(absent),), SMOOTHING)])
    weights = torch.cat([torch.full((len(present),), 1 / len(present)), views.weights])
    optimizer = torch.optim.AdamW(head.fc.parameters(), lr=LR, weight_decay=DECAY)
    for _ in range(STEPS):
        loss = F.binary_cross_entropy_with_logits(head.fc(z).squeeze(1), target, weights, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _some(val: Cache, config: TrainConfig) -> npt.NDArray[np.int64]:
    """Rows of the validation pictures that are used, ascending."""
    return np.sort(np.random.default_rng(config.seed).permutation(len(val))[:MOST_HELD_OUT])


def _parts(pictures: Pixels) -> Iterator[Tensor]:
    for start in range(0, len(pictures), BATCH):
        yield torch.from_numpy(pictures[start : start + BATCH])


@torch.no_grad()
def _pooled(network: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, S, S) float 0-255 -> pooled features (B, W) and class logits (B, C), on the CPU."""
    x = x.to(network.device).contiguous(memory_format=torch.channels_last)
    maps = network.trunk(network.normalised(x))
    return PresenceHead.pool(maps).float().cpu(), network.class_head(maps).float().cpu()


@torch.no_grad()
def _scores(network: Network, x: Tensor) -> Floats:
    """(B, 3, S, S) float 0-255 -> (B, 4) as `presence_features`, of which the presence head's is the only one: it holds
    the class head's energy already, and the edges' sigma tells crops from pictures but not one set from another."""
    output = network(x.to(network.device))
    assert output.presence is not None
    given = output.presence.double().cpu().numpy()
    found = np.full((len(given), len(FEATURES)), np.nan)
    found[:, FEATURES.index("presence_logit")] = given
    return found


def _softened(x: Tensor, generator: torch.Generator) -> Tensor:
    """A quarter of the pictures through a smaller one: crops are stretched, so they are soft, and softness must not be
    what tells them."""
    u = torch.rand(x.shape[0], 2, generator=generator)
    out = x.clone()
    for row in torch.nonzero(u[:, 0] < SOFTENED).flatten().tolist():
        side = max(8, int(x.shape[2] * (0.25 + 0.5 * float(u[row, 1]))))
        small = F.interpolate(x[row : row + 1], size=(side, side), mode="area")
        out[row] = F.interpolate(small, size=x.shape[2:], mode="bilinear")[0]
    return out
