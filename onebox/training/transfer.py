"""How well a pretrained trunk, untouched, already tells the classes apart - and so how fast it should learn, or what it
says beside a trained network. Takes the network at step 0 and the caches of a training; gives one share of the heads'
rate, or scores of classes. Changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from onebox.boxes import Floats
from onebox.training.augment import to_float
from onebox.training.cache import Cache
from onebox.training.model import Network

#: A pretrained trunk's share of the heads' rate where nothing is known, or where it is good already.
PRETRAINED_SHARE = 0.25
#: (least top-1, share): a trunk that tells fewer of the held-out pictures learns faster. Hands, of which it tells .61,
#: gain .025 joint from 1.0; things that ImageNet has, .89 and more, lose .012 mean IoU (docs/log.md, 2026-11-23).
SHARES = ((0.8, PRETRAINED_SHARE), (0.65, 0.5), (0.0, 1.0))
#: No more pictures than these are looked at, and fewer held-out ones say nothing.
MOST, FEWEST = 1024, 30
RIDGE = 0.3
BATCH = 32


def choose_share(network: Network, train: Cache, held_out: Cache | None) -> tuple[float, float | None]:
    """The trunk's share of the heads' rate, and the top-1 score (0-1) that it was chosen by: that of a ridge regression
    on the trunk's pooled features, fitted to the training pictures and judged on the held-out ones. None where there
    are too few of those, or one class only; the share is then PRETRAINED_SHARE."""
    if held_out is None or len(held_out) < FEWEST or len(np.unique(train.labels)) < 2:
        return PRETRAINED_SHARE, None
    taught, judged = (_some(cache) for cache in (train, held_out))
    known, asked = _pooled(network, train.pictures[taught]), _pooled(network, held_out.pictures[judged])
    given = ridge_scores(known, train.labels[taught], asked)
    top1 = float((given.argmax(axis=1) == held_out.labels[judged]).mean())
    return next(share for least, share in SHARES if top1 >= least), top1


def probe(network: Network, train: Cache, judged: Cache, classes: int) -> Floats:
    """(M, C): what a ridge regression on the pooled features of `network`'s trunk, fitted to `train`, says of `judged`.
    To be asked at step 0, before the trunk has learnt any of the labels."""
    known, asked = _pooled(network, train.pictures), _pooled(network, judged.pictures)
    return ridge_scores(known, train.labels, asked, classes)


def ridge_scores(known: Floats, labels: npt.NDArray[np.int64], asked: Floats, classes: int | None = None) -> Floats:
    """(N, D) features with labels (N,), (M, D) -> (M, C), about the probability of each class: least squares on
    indicators of the classes with a penalty of RIDGE N on standardised features (Hastie, Tibshirani and Friedman 2009,
    sections 3.4.1 and 4.2)."""
    mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-6
    x, z = (known - mean) / spread, (asked - mean) / spread
    targets = np.eye(classes or int(labels.max()) + 1)[labels]
    usual = targets.mean(axis=0)
    weights = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ (targets - usual))
    return z @ weights + usual


def _some(cache: Cache) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(len(cache))[:MOST])


@torch.no_grad()
def _pooled(network: Network, pictures: npt.NDArray[Any]) -> Floats:
    """(N, S, S, 3) uint8 -> (N, D): means of the coarsest map."""
    was_training = network.training
    network.eval()
    found = []
    for start in range(0, len(pictures), BATCH):
        x = to_float(torch.from_numpy(pictures[start : start + BATCH])).to(network.mean.device)
        found.append(network.trunk((x - network.mean) / network.std)[-1].mean(dim=(2, 3)).double().cpu().numpy())
    network.train(was_training)
    return np.concatenate(found)
