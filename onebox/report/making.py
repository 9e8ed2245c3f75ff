"""What every report says of the machine and of the data. Takes data sets already read; gives `DataFacts`, versions and
one line about the machine. Opens no picture: sizes come from the samples.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onebox._version import __version__
from onebox.report.facts import DataFacts

if TYPE_CHECKING:
    from onebox.dataset import Dataset, Skipped

_GROUND_FLOOR = ("onnxruntime", "numpy", "Pillow")


def versions(packages: Sequence[str] = _GROUND_FLOOR) -> dict[str, str]:
    """onebox, Python and those `packages` that are installed."""
    found = {"onebox": __version__, "Python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """System, processor family and cores, in one line."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores"


def now() -> str:
    """Local time to the minute."""
    return time.strftime("%Y-%m-%d %H:%M")


def command_line() -> str:
    """The words with which onebox was started, as one would type them."""
    return shlex.join(["onebox", *sys.argv[1:]])


def data_facts(data: Mapping[str, Dataset], skipped: Iterable[Skipped], notes: Sequence[str] = ()) -> DataFacts:
    """`data`: use ("train", "val", "judged") -> data set, at least one; `notes` come before those of the data sets."""
    first = next(iter(data.values()))
    left_out = [(one.path or one.where, one.reason) for one in skipped]
    counts = {use: len(part.labelled) for use, part in data.items()} | {"skipped": len(left_out)}
    return DataFacts(
        source=Path(first.root).absolute().name,
        layout=first.layout,
        counts={use: n for use, n in counts.items() if n or use != "skipped"},
        class_counts={use: part.labelled.counts() for use, part in data.items()},
        notes=list(dict.fromkeys([*notes, *(note for part in data.values() for note in part.notes)])),
        skipped=left_out,
        measures={use: _measures(part) for use, part in data.items()},
    )


def _measures(data: Dataset) -> dict[str, str]:
    """Sizes of pictures and objects, as ranges; nothing for a data set without labels."""
    samples = [(sample.image_size, sample.box) for sample in data.labelled if sample.box is not None]
    if not samples:
        return {}
    sides = np.array([size for size, _ in samples])
    shares = np.array([box.area / (size.width * size.height) for size, box in samples])
    low, middle, high = np.percentile(shares, [5, 50, 95])
    (w0, h0), (w1, h1) = sides.min(axis=0), sides.max(axis=0)
    pixels = f"{w0} × {h0}" if (w0, h0) == (w1, h1) else f"{w0} × {h0} to {w1} × {h1}"
    return {
        "Picture size": f"{pixels} pixels",
        "Object": f"{middle:.0%} of the picture's area (median; 90 % lie between {low:.0%} and {high:.0%})",
        "Fingerprint": data.fingerprint()[:16],
    }
