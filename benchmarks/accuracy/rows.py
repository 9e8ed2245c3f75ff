"""The rows of a benchmark: one JSON object a line, appended as runs finish, with the circumstances of each run. Takes
and gives plain dicts; a row that is there is never changed.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import psutil

import onebox
from onebox.errors import DataError

Row: TypeAlias = dict[str, Any]
#: What tells one run from another.
KEY = ("task", "method", "seed", "minutes", "few")
#: Of a run that is done again because the machine's host was busy.
MOST_TRIES = 3
_NEEDED = {*KEY, "set", "pictures", "test"}


def key(row: Row) -> tuple[Any, ...]:
    """What tells this run from any other."""
    return tuple(row[name] for name in KEY)


def read_rows(path: Path) -> list[Row]:
    """All rows, oldest first; none where there is no file. Raises DataError naming a line that is no row."""
    rows: list[Row] = []
    if not path.exists():
        return rows
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not row.keys() >= _NEEDED:
            raise DataError(
                "not a row of this benchmark (cut off, or of an older version)",
                where=f"{path}:{number}",
                fix="Remove the line, or choose another --out.",
            )
        rows.append(row)
    return rows


def append_row(path: Path, row: Row) -> None:
    """Adds one line and makes sure that it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def watched(run: Callable[[], Row]) -> Row:
    """The row that `run` gives, with date, machine, cores, the one-minute load average at the start, the priority
    ("nice"), `others`: how many cores all other processes kept busy on average meanwhile, so that a busy machine
    shows, `stolen`: how many cores' worth of time the host of a virtual machine kept back, and `pace`, how fast the
    machine was just before: it may be slower at some hours than at others."""
    load, fast, began = os.getloadavg()[0], pace(), time.perf_counter()
    machine, ours, stolen = _busy_machine(), _busy_here(), _stolen()
    row = run()
    took = time.perf_counter() - began
    others = (_busy_machine() - machine - (_busy_here() - ours)) / max(took, 1e-9)
    circumstances = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": round(load, 2),
        "others": round(max(0.0, others), 2),
        "stolen": round((_stolen() - stolen) / max(took, 1e-9), 2),
        "nice": os.nice(0),
        "pace": round(fast, 1),
        "onebox": onebox.__version__,
    }
    return {**row, **circumstances}


def calm(run: Callable[[], Row], stolen: float | None) -> Row:
    """As `watched`; a run during which the host kept back more than `stolen` cores is done again, MOST_TRIES in all at
    most, and the one it kept back least from is given. `tries`: how many there were. None: one, whatever the host did.
    """
    rows = [watched(run)]
    while stolen is not None and rows[-1]["stolen"] > stolen and len(rows) < MOST_TRIES:
        rows.append(watched(run))
    return {**min(rows, key=lambda row: row["stolen"]), "tries": len(rows)}


def pace(seconds: float = 2.0) -> float:
    """Turns a second of a fixed piece of arithmetic, half of it bound by the processor and half by the memory, over
    about `seconds`. Only to be compared with itself on the same kind of machine."""
    a = np.full((512, 512), 0.5, np.float32)
    b = np.full((4, 1024, 1024), 0.5, np.float32)
    turns, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        for _ in range(2):
            _ = a @ a
            _ = b + b
        turns += 1
    return turns / took


def _busy_machine() -> float:
    """Seconds that all cores together have worked since the machine started."""
    t = psutil.cpu_times()
    return t.user + t.system + getattr(t, "nice", 0.0) + getattr(t, "irq", 0.0) + getattr(t, "softirq", 0.0)


def _stolen() -> float:
    """Seconds that all cores together wanted to work and were not let by the host; 0 where that is not told."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def _busy_here() -> float:
    """Seconds of processor time of this process and of its children that have ended."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system
