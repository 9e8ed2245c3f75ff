"""When the loop of a run of `--minutes` must end. Takes a session before its first step; gives seconds of the run, the
same for all processes. Times two small pieces of work to know the machine; trains nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn import functional

from onebox.training.presence import BATCH, MOST_VIEWS, batches_needed
from onebox.training.session import Session

#: What is done after the last step and does not grow with the trunk, in seconds: export, replay, report; and, where
#: presence is fitted to as many pictures as it ever is, what is not the trunk's work in that. Of each the part that
#: every machine takes, and what comes on top where `_pace` takes PACE: a machine whose convolutions are five times as
#: fast does the rest a third faster (docs/log.md, 2026-11-29 and 2026-12-01). The bound is for a pace that was measured
#: in a bad moment.
AFTER, AFTER_PRESENCE, PACE = (4.4, 2.1), (2.6, 3.0), 0.022
MOST_AFTER = 20.0
#: As long as this many times through the trunk takes what is done with a held-out picture: presence asks it and two
#: negatives made of it; it is opened, and looked at once and twice - by torch, one at a time, where it is to teach.
JUDGING, JUDGING_LATE = 11, 17
#: Kept free while nothing is known of the machine.
UNKNOWN_AFTER = 15.0
#: The loop's least share of the minutes, however long reading takes, and what comes after.
LEAST_LOOP = 1 / 3


def first_deadline(minutes: float) -> float:
    """Seconds of the run at which its loop ends, while nothing is known of the machine; also for who has something else
    to do after the loop than a run has."""
    return max(minutes * 30, minutes * 60 - UNKNOWN_AFTER)


def deadline(session: Session, minutes: float, pictures: int, held_out: int) -> float:
    """Seconds of the run at which its loop ends, so that all of it takes `minutes`, or little more where that would be
    no training. `pictures` are trained on, and `held_out` judge."""
    x = torch.zeros(BATCH, 3, session.config.side, session.config.side)
    network = session.average
    was_training = network.training
    network.eval()
    x = x.to(network.device).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():  # a number of the map, so that a GPU is waited for
        one = _least_seconds(lambda: float(network.trunk(network.normalised(x))[-1].mean()), 2)
    network.train(was_training)
    batches = batches_needed(pictures)
    share, slow = batches / batches_needed(MOST_VIEWS), _pace() / PACE
    after, presence = (always + more * slow for always, more in (AFTER, AFTER_PRESENCE))
    judging = JUDGING if session.config.learn_all_from in (None, 1) else JUDGING_LATE
    rest = min(after + share * presence, MOST_AFTER) + (batches + judging * held_out / BATCH) * one
    given = 60 * minutes
    return session.of_main(max(given - rest, session.elapsed_here() + LEAST_LOOP * given))


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
