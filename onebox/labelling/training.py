"""A training in the background: `onebox train` as a process of its own. Takes the label file and flags; gives its
progress while it runs, the run folder when it is done, one line when it failed. Never imports torch, and leaves runs
that are finished alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

from onebox.errors import OneboxError
from onebox.files import make_folder
from onebox.labelling import commands

State: TypeAlias = Literal["idle", "running", "done", "failed", "cancelled"]
#: Labelled pictures below which there is nothing to learn from, or to hold out.
LEAST = 10
#: Below so many labels all of them are trained on and nothing is held out: early stopping by a handful of pictures
#: costs far more than it tells. pets3, 100 labels: 43 % acceptable proposals with a fifth held out, 73 % without
#: (docs/log.md, 2026-11-22); at 250, the first choice, the change cost what a hundred labels give (2026-11-23).
HELD_OUT_FROM = 1000
_NEEDED = ("torch", "torchvision", "timm", "accelerate", "onnx", "onnxscript", "safetensors", "matplotlib")


def missing_extra() -> str | None:
    """What to say where training is not installed; None where it is."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    return f'{missing[0]} is not installed: pip install "onebox[train]"' if missing else None


class Trainer:
    """One training at a time, in numbered folders below `folder`. `flags` are further flags of `onebox train`;
    `finished` is called with the run folder, in a thread, when one is done."""

    def __init__(self, folder: Path, flags: Sequence[str], finished: Callable[[Path], None]) -> None:
        self._folder, self._flags, self._finished = folder, list(flags), finished
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._state: State = "idle"
        self._message = ""
        self._run: Path | None = None
        self._started = 0.0
        self._took = 0.0
        self._labels = 0

    def start(self, data: Path, labels: int) -> None:
        """Begins a training on the label file `data`, which holds `labels` labelled pictures. Raises OneboxError where
        one is running, nothing can be trained, or the folder cannot be written."""
        with self._lock:
            if self._state == "running":
                raise OneboxError("a training is running already", fix="Wait for it, or cancel it first.")
            if missing := missing_extra():
                raise OneboxError(missing)
            if labels < LEAST:
                raise OneboxError(f"{labels} labelled pictures are too few to train on", fix=f"Label at least {LEAST}.")
            run = _new_folder(make_folder(self._folder))
            words = ["train", str(data), "--out", str(run), "--multiple", "largest", "--layout", "onebox", *self._flags]
            words += ["--split", "1"] if labels < HELD_OUT_FROM else []
            self._process = commands.start(words, _log(run), nice=5)
            self._run, self._state, self._message, self._labels = run, "running", "", labels
            self._started, self._took = time.monotonic(), 0.0
            threading.Thread(target=self._wait, args=(self._process, run), daemon=True).start()

    def cancel(self) -> None:
        """Ends the running training, if there is one, and removes what it left."""
        with self._lock:
            if self._state != "running" or self._process is None:
                return
            process, run, self._state = self._process, self._run, "cancelled"
        commands.end(process)
        if run is not None:
            shutil.rmtree(run, ignore_errors=True)
            _log(run).unlink(missing_ok=True)

    def progress(self) -> dict[str, Any]:
        """Plain JSON values: state, message, labels (trained on), seconds, run (the folder), and one entry per epoch so
        far: epoch, epochs, loss, joint (right and IoU > .5), mean_iou; None where there are no validation pictures."""
        run = self._run
        seconds = self._took or (time.monotonic() - self._started if self._state == "running" else 0.0)
        return {
            "state": self._state,
            "message": self._message or (_phase(run) if self._state == "running" and run is not None else ""),
            "labels": self._labels,
            "seconds": round(seconds, 1),
            "run": str(run) if run is not None and self._state == "done" else "",
            "epochs": _epochs(run) if run is not None else [],
        }

    def latest(self) -> Path | None:
        """The newest finished run of an earlier day."""
        runs = sorted(self._folder.glob("[0-9]*/model.onnx"), key=lambda path: path.parent.name)
        return runs[-1].parent if runs else None

    def _wait(self, process: subprocess.Popen[bytes], run: Path) -> None:
        code = process.wait()
        with self._lock:
            self._took = time.monotonic() - self._started
            if self._state == "cancelled":
                return
            if code == 0 and (run / "model.onnx").is_file():
                (run / "last.safetensors").unlink(missing_ok=True)  # only for going on with this very run
                _log(run).unlink(missing_ok=True)
            else:
                self._state, self._message = (
                    "failed",
                    commands.last_line(_log(run)) or f"the training ended with code {code}",
                )
                return
        self._finished(run)
        with self._lock:
            if self._state == "running":
                self._state = "done"


def _new_folder(folder: Path) -> Path:
    taken = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
    return folder / f"{max(taken, default=0) + 1:03}"


def _log(run: Path) -> Path:
    return run.with_name(f"{run.name}.log")


def _phase(run: Path) -> str:
    """What a training does that has no epoch to show yet, or no more to come."""
    lines = commands.lines(_log(run))
    if any(line.startswith("Best epoch") for line in lines):
        return "Writing the model and its report"
    return "" if _epochs(run) else "Reading the pictures"


def _epochs(run: Path) -> list[dict[str, Any]]:
    try:
        lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    except OSError:
        return []
    rows: list[dict[str, Any]] = []
    for line in lines:
        try:
            row: dict[str, Any] = json.loads(line)
            entry = {"epoch": row["epoch"], "epochs": row["epochs"], "loss": row["loss_class"] + row["loss_box"]}
        except (ValueError, KeyError, TypeError):
            continue
        rows.append(entry | {"joint": row.get("val_joint_50"), "mean_iou": row.get("val_mean_iou")})
    return rows
