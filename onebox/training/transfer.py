"""What a pretrained trunk, untouched, already tells of the classes. Takes a network and the caches of a training;
gives, before the loop, the trunk's share of the heads' rate, and after it a probe: the untouched trunk's word on the
class, beside the class head's. Never changes a weight of trunk or heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from onebox.boxes import Floats
from onebox.calibration import fit_temperature, tempered
from onebox.images import Pixels
from onebox.training.augment import to_float
from onebox.training.cache import Cache
from onebox.training.config import PROBE_WEIGHT
from onebox.training.heads import Probe
from onebox.training.model import Network
from onebox.training.trunk import Trunk

#: A pretrained trunk's share of the heads' rate where nothing is known, or where it is good already.
PRETRAINED_SHARE = 0.25
#: (least top-1, share): a trunk that tells fewer of the held-out pictures learns faster. Hands, of which it tells .61,
#: gain .025 joint from 1.0; things that ImageNet has, .89 and more, lose .012 mean IoU (docs/log.md, 2026-11-23).
SHARES = ((0.8, PRETRAINED_SHARE), (0.65, 0.5), (0.0, 1.0))
#: No more pictures than these are looked at, and fewer held-out ones say nothing.
MOST, FEWEST = 1024, 30
RIDGE = 0.3
#: A probe is fitted to no more training pictures than these: it has a few thousand weights.
MOST_PROBED = 4096
BATCH = 32


def choose_share(network: Network, train: Cache, held_out: Cache | None) -> tuple[float, float | None]:
    """The trunk's share of the heads' rate, and the top-1 score (0-1) that it was chosen by: that of a ridge regression
    on the trunk's pooled features, fitted to the training pictures and judged on the held-out ones. None where there
    are too few of those, or one class only; the share is then PRETRAINED_SHARE."""
    if held_out is None or len(held_out) < FEWEST or len(np.unique(train.labels)) < 2:
        return PRETRAINED_SHARE, None
    taught, judged = (_some(cache) for cache in (train, held_out))
    known, asked = _pooled(network, train.pictures[taught]), _pooled(network, held_out.pictures[judged])
    weights, bias = ridge(known, train.labels[taught], int(train.labels.max()) + 1)
    given = asked @ weights + bias
    top1 = float((given.argmax(axis=1) == held_out.labels[judged]).mean())
    return next(share for least, share in SHARES if top1 >= least), top1


def fit_probe(network: Network, untouched: Trunk, train: Cache, held_out: Cache | None) -> tuple[bool, str]:
    """Gives `network`, which the loop is done with, a probe of the trunk that it began with, fitted to the training
    pictures - unless the held-out ones are less likely with it, each at their best temperature. Whether it has one now,
    and what there is to say of it. `untouched` is used up."""
    classes = network.class_head.classes
    some = np.sort(np.random.default_rng(0).permutation(len(train))[:MOST_PROBED])
    weights, bias = ridge(_pooled(network, train.pictures[some], untouched), train.labels[some], classes)
    probe = Probe(untouched, classes).to(network.mean.device)
    with torch.no_grad():
        probe.linear.weight.copy_(torch.from_numpy(PROBE_WEIGHT * weights.T))
        probe.linear.bias.copy_(torch.from_numpy(PROBE_WEIGHT * bias))
    told = "What the untouched trunk says of the class counts, too."
    if held_out is not None and len(held_out) >= FEWEST:
        losses = [_loss(_logits(network, held_out.pictures, with_), held_out.labels) for with_ in (None, probe)]
        if losses[1] >= losses[0]:
            return False, ""
        told = f"{told[:-1]}: the held-out pictures' loss goes from {losses[0]:.3f} to {losses[1]:.3f}."
    probe.share(network.trunk)
    network.probe = probe
    return True, told


def probe_scores(network: Network, untouched: Trunk, train: Cache, classes: int) -> Callable[[Pixels], Floats]:
    """What a probe of `untouched`, fitted to `train`, would add to the logits before PROBE_WEIGHT: a function from
    pictures (N, S, S, 3) uint8 to (N, classes). `untouched` is the trunk of `network` at step 0, when it had learnt no
    label yet."""
    weights, bias = ridge(_pooled(network, train.pictures, untouched), train.labels, classes)
    return lambda pictures: _pooled(network, pictures, untouched) @ weights + bias


def ridge(known: Floats, labels: npt.NDArray[np.int64], classes: int) -> tuple[Floats, Floats]:
    """(N, D) features with labels (N,) -> weights (D, C) and bias (C,), which give about the probability of each class:
    least squares on indicators of the classes with a penalty of RIDGE N on standardised features (Hastie, Tibshirani
    and Friedman 2009, sections 3.4.1 and 4.2)."""
    mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-6
    x = (known - mean) / spread
    targets = np.eye(classes)[labels]
    usual = targets.mean(axis=0)
    found = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ (targets - usual))
    weights = found / spread[:, None]
    return weights, usual - mean @ weights


@torch.no_grad()
def _logits(network: Network, pictures: npt.NDArray[Any], probe: Probe | None) -> Floats:
    """(N, C) of uint8 pictures, with what `probe` adds."""
    found = []
    network.eval()
    for start in range(0, len(pictures), BATCH):
        x = to_float(torch.from_numpy(pictures[start : start + BATCH])).to(network.mean.device)
        logits = network(x).logits
        if probe is not None:
            logits = logits + probe((x - network.mean) / network.std)
        found.append(logits.double().cpu().numpy())
    return np.concatenate(found)


def _loss(logits: Floats, labels: npt.NDArray[np.int64]) -> float:
    """Mean negative log-likelihood at the temperature that a calibration would choose."""
    p = tempered(logits, fit_temperature(logits, labels))
    return float(-np.log(p[np.arange(len(p)), labels] + 1e-300).mean())


def _some(cache: Cache) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(len(cache))[:MOST])


@torch.no_grad()
def _pooled(network: Network, pictures: npt.NDArray[Any], trunk: Trunk | None = None) -> Floats:
    """(N, S, S, 3) uint8 -> (N, D): means of the coarsest map of the network's trunk, or of another one."""
    reader = network.trunk if trunk is None else trunk
    was_training = reader.training
    reader.eval()
    found = []
    for start in range(0, len(pictures), BATCH):
        x = to_float(torch.from_numpy(pictures[start : start + BATCH])).to(network.mean.device)
        found.append(reader((x - network.mean) / network.std)[-1].mean(dim=(2, 3)).double().cpu().numpy())
    reader.train(was_training)
    return np.concatenate(found)
