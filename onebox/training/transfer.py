"""What a pretrained trunk, untouched, already tells of the pictures. Takes a network and the caches of a training;
looks at the pictures once, before the loop, and gives the trunk's share of the heads' rate and the maps that the heads
start on (`headstart.py`) then, and after the loop a probe: the untouched trunk's word on the class, beside the class
head's. Never changes a weight of trunk or heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

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
#: The same where fewer than SAY_LITTLE pictures teach: with five of each of 37 breeds it tells .51 to .57 of them,
#: however well it knows breeds, and they lose by 1.0; with six of each of 26 hands .17 to .40, and they gain by it
#: (docs/log.md, 2026-12-01).
SAY_LITTLE, FEW_SHARES = 900, ((0.65, PRETRAINED_SHARE), (0.45, 0.5), (0.0, 1.0))
#: Fewer held-out pictures than these say nothing.
FEWEST = 30
RIDGE = 0.3
#: No more training pictures than these are looked at for the share alone, and for a probe, which has a few thousand
#: weights; and no more held-out ones.
MOST_FOR_SHARE, MOST_FOR_PROBE, MOST_HELD_OUT = 1024, 4096, 1024
#: And no more maps are kept for the heads to start on than fit in these bytes: 6,000 pictures of 192 pixels.
MOST_BYTES = 2**30
BATCH = 32


@dataclass(frozen=True, slots=True)
class Maps:
    """All maps of an untouched trunk for the training pictures `rows` (N,): `levels`, finest first, (N, C, H, W) each,
    float32 in channels-last order and not on an accelerator."""

    rows: npt.NDArray[np.int64]
    levels: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class FirstLook:
    """Means of an untouched trunk's coarsest map: `known` (N, D) of the training pictures `rows` (N,), and `asked`
    (M, D) of the held-out pictures `asked_rows` (M,), of which there may be none. `maps` where they were to be kept."""

    rows: npt.NDArray[np.int64]
    known: Floats
    asked_rows: npt.NDArray[np.int64]
    asked: Floats
    maps: Maps | None = None

    def of_everything(self, taught: int) -> FirstLook:
        """As if the held-out pictures came after the `taught` ones and nothing were held out."""
        rows, known = np.concatenate([self.rows, taught + self.asked_rows]), np.concatenate([self.known, self.asked])
        return FirstLook(rows, known, self.asked_rows[:0], self.asked[:0])


def look_first(
    network: Network, train: Cache, held_out: Cache | None, *, probed: bool, keep_maps: bool = False
) -> FirstLook:
    """To be called before the loop: what the trunk of `network` says of the pictures as it is. `probed`: of as many as
    a probe is fitted to. `keep_maps`: with all that it says of as many as MOST_BYTES hold."""
    pooled = min(len(train), MOST_FOR_PROBE if probed else MOST_FOR_SHARE)
    kept = min(len(train), MOST_BYTES // _bytes_of_maps(network, train.pictures[:1])) if keep_maps else 0
    place = np.argsort(np.random.default_rng(0).permutation(len(train)))  # of each picture, in a drawn order
    rows = np.nonzero(place < max(pooled, kept))[0]
    known, levels, filled = [], [], 0
    for start, found in _maps(network, train.pictures[rows]):
        here = place[rows[start : start + BATCH]]
        known.append(_means(found)[here < pooled])
        if not kept:
            continue
        chosen = torch.from_numpy(here < kept)
        if not levels:
            levels = [torch.empty((kept, *m.shape[1:]), memory_format=torch.channels_last) for m in found]
        count = int(chosen.sum())
        for level, m in zip(levels, found, strict=True):
            level[filled : filled + count] = m.cpu()[chosen]
        filled += count
    maps = Maps(rows[place[rows] < kept], tuple(levels)) if kept else None
    rows, known = rows[place[rows] < pooled], np.concatenate(known)
    if held_out is None or not len(held_out):
        return FirstLook(rows, known, np.zeros(0, dtype=np.int64), np.zeros((0, known.shape[1])), maps)
    asked = _some(len(held_out), MOST_HELD_OUT)
    return FirstLook(rows, known, asked, _pooled(network, held_out.pictures[asked]), maps)


def choose_share(first: FirstLook, train: Cache, held_out: Cache | None) -> tuple[float, float | None]:
    """The trunk's share of the heads' rate, and the top-1 score (0-1) that it was chosen by: that of a ridge regression
    on the trunk's pooled features, fitted to the training pictures and judged on the held-out ones. None where there
    are too few of those, or one class only; the share is then PRETRAINED_SHARE."""
    if held_out is None or len(held_out) < FEWEST or len(np.unique(train.labels)) < 2:
        return PRETRAINED_SHARE, None
    weights, bias = ridge(first.known, train.labels[first.rows], int(train.labels.max()) + 1)
    given = first.asked @ weights + bias
    top1 = float((given.argmax(axis=1) == held_out.labels[first.asked_rows]).mean())
    shares = FEW_SHARES if len(train) < SAY_LITTLE else SHARES
    return next(share for least, share in shares if top1 >= least), top1


def fit_probe(
    network: Network, untouched: Trunk, first: FirstLook, train: Cache, held_out: Cache | None
) -> tuple[bool, str]:
    """Gives `network`, which the loop is done with, a probe of the trunk that it began with, fitted to what that said
    `first` of the training pictures - unless the held-out ones are less likely with it, each at their best temperature.
    Whether it has one now, and what there is to say of it. `untouched` is used up."""
    classes = network.class_head.classes
    weights, bias = (PROBE_WEIGHT * part for part in ridge(first.known, train.labels[first.rows], classes))
    told = "What the untouched trunk says of the class counts, too."
    if held_out is not None and len(held_out) >= FEWEST:
        logits, labels = _logits(network, held_out.pictures[first.asked_rows]), held_out.labels[first.asked_rows]
        losses = [_loss(said, labels) for said in (logits, logits + first.asked @ weights + bias)]
        if losses[1] >= losses[0]:
            return False, ""
        told = f"{told[:-1]}: the held-out pictures' loss goes from {losses[0]:.3f} to {losses[1]:.3f}."
    probe = Probe(untouched, classes).to(network.device)
    with torch.no_grad():
        probe.linear.weight.copy_(torch.from_numpy(weights.T))
        probe.linear.bias.copy_(torch.from_numpy(bias))
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
def _logits(network: Network, pictures: npt.NDArray[Any]) -> Floats:
    """(N, C) of uint8 pictures."""
    found = []
    network.eval()
    for start in range(0, len(pictures), BATCH):
        x = to_float(torch.from_numpy(pictures[start : start + BATCH])).to(network.device)
        found.append(network(x).logits.double().cpu().numpy())
    return np.concatenate(found)


def _loss(logits: Floats, labels: npt.NDArray[np.int64]) -> float:
    """Mean negative log-likelihood at the temperature that a calibration would choose."""
    p = tempered(logits, fit_temperature(logits, labels))
    return float(-np.log(p[np.arange(len(p)), labels] + 1e-300).mean())


def _some(count: int, most: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def _pooled(network: Network, pictures: npt.NDArray[Any], trunk: Trunk | None = None) -> Floats:
    """(N, S, S, 3) uint8 -> (N, D): means of the coarsest map of the network's trunk, or of another one."""
    return np.concatenate([_means(found) for _, found in _maps(network, pictures, trunk)])


def _means(maps: list[Tensor]) -> Floats:
    return maps[-1].mean(dim=(2, 3)).double().cpu().numpy()


@torch.no_grad()
def _maps(
    network: Network, pictures: npt.NDArray[Any], trunk: Trunk | None = None
) -> Iterator[tuple[int, list[Tensor]]]:
    """BATCH by BATCH, the first picture's place and all maps of the network's trunk, or of another one; of (N, S, S, 3)
    uint8."""
    reader = network.trunk if trunk is None else trunk
    was_training = reader.training
    try:
        reader.eval()
        for start in range(0, len(pictures), BATCH):
            x = to_float(torch.from_numpy(pictures[start : start + BATCH])).to(network.device)
            yield start, reader(network.normalised(x))
    finally:
        reader.train(was_training)


def _bytes_of_maps(network: Network, picture: npt.NDArray[Any]) -> int:
    return sum(m.numel() * m.element_size() for _, found in _maps(network, picture) for m in found)
