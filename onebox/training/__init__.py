"""The upper floor: everything that needs torch, torchvision, timm or accelerate. Importing this package imports none of
them; `train` is the way in, and says what to install where they are missing."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from onebox.errors import MissingExtraError

if TYPE_CHECKING:
    from onebox.dataset import Dataset
    from onebox.training.api import Run

#: Turns of a waiting OpenMP thread before it sleeps. The library's default (300,000 while it counts no more threads
#: than cores) makes training ten times slower as soon as another program wants one of the cores; 1,000 makes it a tenth
#: slower where none does (docs/log.md, 2026-11-22 and 2026-11-28).
_SPIN_COUNT = "5000"


def train(data: Dataset, val: Dataset | None = None, **options: Any) -> Run:
    """Trains a model and leaves a run folder: see `onebox.training.api.train` for every option.

    Raises OneboxError; MissingExtraError where the [train] extra is not installed.
    """
    began = time.perf_counter()  # the person waits for these imports, too
    let_waiting_threads_sleep()
    try:
        from onebox.training import api
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"training needs {error.name}, which is not installed", fix='Run: pip install "onebox[train]"'
        ) from None
    return api.train(data, val, began=began, **options)


def let_waiting_threads_sleep() -> None:
    """To be called before torch is imported for training, unless the person has said otherwise."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)  # read once, when torch loads its OpenMP library
