"""When the loop of a run of `--minutes` must end. Takes a session before its first step; gives seconds of the run, the
same for all processes. Times two small pieces of work to know the machine; trains nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn import functional

from onebox.training.presence import BATCH, batches_needed
from onebox.training.session import Session

#: What is done after the last step and does not grow with the trunk: export, replay, evaluation by one look and by two,
#: report, and what is not the trunk's work in fitting presence. 10 to 15 s where `_pace` takes PACE seconds, less on a
#: faster machine; the bounds are for one whose pace is measured in a bad moment (docs/log.md, 2026-11-29).
AFTER, LEAST_AFTER, MOST_AFTER, PACE = 15.0, 5.0, 20.0, 0.022
#: The loop's least share of the minutes, however long reading takes, and what comes after.
LEAST_LOOP = 1 / 3


def first_deadline(minutes: float) -> float:
    """Seconds of the run at which its loop ends, while nothing is known of the machine; also for who has something else
    to do after the loop than a run has."""
    return max(minutes * 30, minutes * 60 - AFTER)


def deadline(session: Session, minutes: float, pictures: int) -> float:
    """Seconds of the run at which its loop ends, so that all of it takes `minutes`, or little more where that would be
    no training. `pictures`: how many are trained on."""
    x = torch.zeros(BATCH, 3, session.config.imgsz, session.config.imgsz)
    network = session.average
    was_training = network.training
    network.eval()
    x = x.to(network.device).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():  # a number of the map, so that a GPU is waited for
        one = _least_seconds(lambda: float(network.trunk(network.normalised(x))[-1].mean()), 2)
    trunk = batches_needed(pictures) * one
    network.train(was_training)
    after = min(max(AFTER * _pace() / PACE, LEAST_AFTER), MOST_AFTER)
    given = 60 * minutes
    return session.of_main(max(given - after - trunk, session.elapsed_here() + LEAST_LOOP * given))


def _pace() -> float:
    """Seconds for a fixed piece of work."""
    x, w = torch.full((8, 64, 48, 48), 0.5), torch.full((64, 64, 3, 3), 0.01)
    with torch.no_grad():
        return _least_seconds(lambda: functional.relu(functional.conv2d(x, w, padding=1)), 5)


def _least_seconds(work: Callable[[], object], times: int) -> float:
    """Of several goes; the first ones warm up."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)
