"""The doctor: what is wrong with a data set, picture by picture, and a repaired copy of it. Takes a folder, an
annotation file or a loaded `Dataset`; reads every layout found there and looks at every picture once; gives findings
with stable codes. Changes nothing and keeps no pixels.

The hops (diagnosis.py): files -> sources (entries.py) and facts of pictures (pictures.py) -> findings, each kind by
pure functions of its own module: annotations, declared, naming, boxes, box_statistics, classes, pictures, likeness.
"""

from __future__ import annotations

import os

from onebox.dataset import Dataset, Multiple
from onebox.doctor.diagnosis import Diagnosis, diagnose
from onebox.doctor.findings import CODES, LEVELS, Checkup, Finding, Kind, Level
from onebox.doctor.pictures import Progress

__all__ = ["CODES", "LEVELS", "Checkup", "Diagnosis", "Finding", "Kind", "Level", "Progress", "check", "diagnose"]


def check(
    data: str | os.PathLike[str] | Dataset,
    *,
    multiple: Multiple = "largest",
    layout: str | None = None,
    boxes: str | None = None,
    progress: Progress | None = None,
) -> Checkup:
    """Examines a data set.

    Of a path, every layout found there is read, and what the annotation files say beyond what is used is judged too;
    of a loaded `Dataset` only its samples and what was left out of it. `multiple`, `layout` and `boxes` are handed to
    the loading of a path (see `load_dataset`); `progress` is called after each picture. Raises what `load_dataset`
    raises: an OneboxError where nothing can be loaded at all.
    """
    return diagnose(data, multiple=multiple, layout=layout, boxes=boxes, progress=progress).checkup
