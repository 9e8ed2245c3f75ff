"""Drives the loop of a run from its first step to its last, in two parts: held-out pictures judge, and where they are
ours to teach they teach in the end. Takes session and materials; keeps the run folder up to date on the way, fills what
is kept, and judges nothing itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from onebox.manifest import Manifest
from onebox.training import run_folder
from onebox.training.checkpoint import Kept, copy_weights, save_best, save_state
from onebox.training.headstart import start_heads
from onebox.training.loop import train_epochs
from onebox.training.materials import Materials
from onebox.training.reporter import Reporter
from onebox.training.schedule import steps_per_epoch
from onebox.training.session import DivergedError, EpochRow, Session

#: Saving the state may take this share of the time; the epochs in between are done again after a kill.
SAVING_SHARE = 0.05


def run_loop(
    session: Session,
    materials: Materials,
    kept: Kept,
    history: list[EpochRow],
    manifest: Manifest,
    *,
    folder: Path,
    reporter: Reporter,
) -> DivergedError | None:
    """Drives the loop to its end; keeps metrics.jsonl, checkpoint and best weights up to date, so that a run that was
    killed can be resumed, and exported as it stands. Appends to `history` and fills `kept`; gives why the loop stopped
    where values were no longer finite."""
    main = session.accelerator.is_main_process
    best_saved = -1
    saved_at, saving_took = time.perf_counter(), 0.0
    try:
        _start_heads(session, materials, reporter)
        with reporter.bar("training") as bar:
            for row in _epochs(session, materials, kept, on_step=bar):
                history.append(row)
                reporter.epoch(row)
                if row.epoch == session.progress.asked_epoch:
                    held_out = len(materials.held_out or ())
                    reporter.say(f"From here on the {held_out} held-out pictures teach, too.")
                now = time.perf_counter()
                if main and (saving_took <= SAVING_SHARE * (now - saved_at) or session.progress.finished):
                    run_folder.write_history(folder, history)
                    save_state(folder / run_folder.LAST, session, kept)
                    if session.progress.best_epoch != best_saved:
                        taught = materials.taught(everything=kept.asked is not None)
                        save_best(folder / run_folder.BEST, kept.best, replace(manifest, data=taught))
                        best_saved = session.progress.best_epoch
                    saved_at, saving_took = time.perf_counter(), time.perf_counter() - now
    except DivergedError as error:
        if main:
            run_folder.write_history(folder, history)
            run_folder.write_stop(folder, error, session.progress.best_epoch)
        return error
    return None


def _epochs(
    session: Session, materials: Materials, kept: Kept, *, on_step: Callable[[int, int], None]
) -> Iterator[EpochRow]:
    """The loop's two parts: held-out pictures judge, and, where they are ours to teach, they teach from an epoch on
    that `note_score` says yes to. As many steps an epoch as in the first part, so the length of the run stays. Fills
    `kept` before it gives a row."""
    progress, everything = session.progress, materials.everything
    if not progress.asked_epoch:
        for row in train_epochs(session, materials.train, materials.held_out, on_step=on_step):
            if row.best:
                kept.best = copy_weights(session.average)
            if row.best and everything is not None and session.held_out_may_teach() and not progress.finished:
                progress.asked_epoch, kept.asked = row.epoch, copy_weights(session.average)  # one file takes no twins
            yield row
            if progress.asked_epoch:
                break
    if not progress.asked_epoch or everything is None:
        return
    steps = steps_per_epoch(len(materials.train), session.config.batch)
    for row in train_epochs(session, everything, None, steps=steps, on_step=on_step):
        kept.best = copy_weights(session.average)
        yield row


def _start_heads(session: Session, materials: Materials, reporter: Reporter) -> None:
    """Where the first look has kept maps for it; they are large, and let go."""
    first = session.first_look
    if first is not None and first.maps is not None:
        with reporter.bar("starting the heads") as bar:
            start_heads(session, first.maps, materials.train, progress=bar)
        session.first_look = replace(first, maps=None)
