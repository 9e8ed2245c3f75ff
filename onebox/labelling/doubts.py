"""Which labels deserve another look. Takes the label file, has `onebox check` go through it in a process of its own,
and gives one reason per picture; and, from a model's answers, pictures that it reads quite differently. What a person
has confirmed is not asked again until the label changes. Changes no label.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onebox.boxes import iou
from onebox.errors import OneboxError
from onebox.files import make_folder, write_atomic
from onebox.labelling import commands
from onebox.labelling.proposals import Proposal
from onebox.labelling.rows import Mark

#: The doctor's findings that a person at the pictures can settle, the gravest first.
LOOK_AGAIN = (
    "rotated-box",
    "duplicate-classes",
    "label-suspect",
    "box-suspect",
    "duplicate-boxes",
    "class-contradicts-name",
    "outlier-box",
    "sliver-box",
    "whole-picture-box",
    "box-outside",
    "clipped-box",
)
#: A model that gives its class at least this probability is listened to; first choices, not tuned.
SURE = 0.8
#: Its box and the label's overlap less than this (IoU): it means another place.
FAR = 0.4


def disagreements(proposals: Mapping[str, Proposal], marks: Mapping[str, Mark]) -> dict[str, str]:
    """Labelled pictures on which the model contradicts the person, with what it says; picture -> reason."""
    found: dict[str, str] = {}
    for picture, proposal in proposals.items():
        mark = marks.get(picture)
        if mark is None or mark.box is None or proposal.score < SURE:
            continue
        if mark.label != proposal.label:
            found[picture] = f"the model sees {proposal.label} ({proposal.score:.0%})"
        elif float(iou([mark.box], [proposal.box])[0]) < FAR:
            found[picture] = "the model sees the object elsewhere"
    return found


class Confirmed:
    """Labels that a person has looked at again and found right, kept in a small file of their own."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._marks: dict[str, Any] = {}
        try:
            kept = json.loads(file.read_text("utf-8"))
            self._marks = kept if isinstance(kept, dict) else {}
        except (OSError, ValueError):
            pass  # a convenience only: what is lost is asked once more

    def add(self, picture: str, mark: Mark) -> None:
        """Not to be asked about again while the mark is this one. Raises RunFolderError."""
        make_folder(self._file.parent)
        self._marks[picture] = list(mark)
        write_atomic(self._file, json.dumps(self._marks) + "\n")

    def holds(self, picture: str, mark: Mark) -> bool:
        """Whether this very mark was confirmed."""
        known = self._marks.get(picture)
        return known is not None and json.dumps(known) == json.dumps(list(mark))


class Checker:
    """`onebox check` in the background, one at a time. `found` is called, in a thread, with picture -> reason."""

    def __init__(self, report: Path, found: Callable[[dict[str, str]], None]) -> None:
        self._report, self._found = report, found
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        #: Why the last check gave nothing, "" where it did.
        self.error = ""

    @property
    def running(self) -> bool:
        """Whether one is at work."""
        return self._process is not None and self._process.poll() is None

    def start(self, data: Path, root: str, run: Path | None) -> None:
        """Goes through the label file `data` of the folder `root`; with a `run` the labels are also held against models
        that never saw them, which are trained as that one was. Raises OneboxError where a check is at work."""
        with self._lock:
            if self.running:
                raise OneboxError("a check is running already", fix="Wait for it.")
            words = ["check", str(data), "--json", str(self._report), "--layout", "onebox"]
            words += ["--model", str(run)] if run is not None else []
            make_folder(self._report.parent)
            self._report.unlink(missing_ok=True)
            self._process = commands.start(words, self._log, nice=10)
            self.error = ""
            threading.Thread(target=self._wait, args=(self._process, root), daemon=True).start()

    def stop(self) -> None:
        """Ends the one at work."""
        if self._process is not None and self.running:
            commands.end(self._process)

    @property
    def _log(self) -> Path:
        return self._report.with_suffix(".log")

    def _wait(self, process: subprocess.Popen[bytes], root: str) -> None:
        process.wait()
        try:
            findings: list[dict[str, Any]] = json.loads(self._report.read_text("utf-8"))["findings"]
        except (OSError, ValueError, KeyError, TypeError):
            self.error = commands.last_line(self._log) or "the check ended without a result"
            return
        reasons: dict[str, tuple[int, str]] = {}
        for one in findings:
            code, picture = one.get("code"), one.get("picture")
            if code in LOOK_AGAIN and isinstance(picture, str):
                name = os.path.relpath(picture, root).replace(os.sep, "/")
                rank = LOOK_AGAIN.index(code)
                if name not in reasons or rank < reasons[name][0]:
                    reasons[name] = (rank, str(one.get("message", code)))
        self._found({name: reason for name, (_, reason) in reasons.items()})
