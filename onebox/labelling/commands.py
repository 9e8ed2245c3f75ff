"""Commands of onebox in the background, each a process of its own. Takes words, gives the process; what it says on
standard error goes to a log file, from which the one-line error of one that failed is read.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

#: Seconds for a process that is told to end.
_GRACE = 5.0


def start(words: Sequence[str], log: Path, *, nice: int) -> subprocess.Popen[bytes]:
    """`onebox WORDS...`, which lets the page have the processor first, by `nice` steps."""
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own words, no shell
            [sys.executable, "-m", "onebox", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # a Ctrl-C in the terminal is for the page's process, which ends this one
        )
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):  # it has ended already, or may not: then it is merely less polite
            os.setpriority(os.PRIO_PROCESS, process.pid, nice)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """The process and whatever it started."""
    for sign in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        try:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, sign)
            else:
                process.terminate()
        except (ProcessLookupError, PermissionError):
            return
        try:
            process.wait(_GRACE)
            return
        except subprocess.TimeoutExpired:
            continue


def lines(log: Path) -> list[str]:
    """What a command has said so far."""
    try:
        return [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return []


def last_line(log: Path) -> str:
    """The one-line error of a command that failed, without its name."""
    said = lines(log)
    ours = [line for line in said if line.startswith("onebox: ")]
    return (ours[-1].removeprefix("onebox: ") if ours else (said[-1] if said else ""))[:400]
