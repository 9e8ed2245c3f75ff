"""The heads' head start: they learn on the maps of a pretrained trunk that nothing has touched yet, before the loop
trains everything, so that the trunk is not bent by what random heads ask of it (Kumar et al. 2022, arXiv 2202.10054).
Takes a session at step 0 and the maps of the first look (`transfer.py`); changes the heads alone and asks no trunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from onebox.training.cache import Cache
from onebox.training.losses import criterion
from onebox.training.schedule import batch_indices, steps_per_epoch
from onebox.training.session import MOST_GRADIENT, DivergedError, Session, make_optimizer
from onebox.training.transfer import Maps


def start_heads(
    session: Session, maps: Maps, train: Cache, *, progress: Callable[[int, int], None] | None = None
) -> None:
    """Trains both heads of `session`, `config.head_start` passes over `maps`, which are of pictures of `train`, at the
    constant peak rate and with the same weight for both losses, which share no weight here. Raises DivergedError where
    the loss is no longer finite."""
    config = session.config
    assert config.head_start
    # every process learns the same here, without a word to the others: of the average, whose layers are the plain ones
    network, device = session.average, session.accelerator.device
    boxes, labels = (torch.from_numpy(a[maps.rows]) for a in (train.boxes_01, train.labels))
    optimizer = make_optimizer(network, config, 1.0)  # the trunk gets no gradient, so it stays
    heads = [p for _, p in network.head_parameters()]
    network.train()
    steps = config.head_start * steps_per_epoch(len(labels), config.batch)
    for step in range(steps):
        rows = batch_indices(len(labels), config.batch, config.seed, step)
        seen = [m[rows].to(device, memory_format=torch.channels_last) for m in maps.levels]
        losses = criterion(
            network.class_head(seen),
            network.box_head(seen),
            labels[rows].to(device),
            boxes[rows].to(device),
            box_loss=config.box_loss,
            label_smoothing=config.label_smoothing,
        )
        total = losses.class_loss + losses.box_loss
        if not math.isfinite(total.item()):
            paths = dict.fromkeys(train.samples[maps.rows[row]].path for row in rows.tolist())
            raise DivergedError("the loss of the heads' start is no longer finite", 0, list(paths))
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(heads, MOST_GRADIENT)
        optimizer.step()
        if progress:
            progress(step + 1, steps)
    optimizer.zero_grad()
    _share(session)


def _share(session: Session) -> None:
    """The average's heads become the network's; the main process's, where processors may differ in a last digit."""
    network = session.accelerator.unwrap_model(session.network)
    for part in ("class_head", "box_head"):
        head = getattr(session.average, part)
        if session.accelerator.num_processes > 1:
            for value in head.state_dict().values():
                torch.distributed.broadcast(value, src=0)
        getattr(network, part).load_state_dict(head.state_dict())
