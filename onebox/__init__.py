"""onebox: one picture, one object - what it is and where it is.

The front door. Public names are resolved on first use, so that `import onebox` costs almost nothing and never
imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onebox._version import __version__

if TYPE_CHECKING:
    from onebox.comparison import compare
    from onebox.conversion import convert
    from onebox.dataset import Dataset, load_dataset
    from onebox.doctor import check
    from onebox.errors import OneboxError
    from onebox.evaluation import evaluate
    from onebox.explanation import explain
    from onebox.metrics import Metrics
    from onebox.predictions import Prediction
    from onebox.runtime import OnnxLocalizer, load
    from onebox.training import train
    from onebox.types import Box, ImageSize, Sample

_HOMES = {
    "Box": "onebox.types",
    "Dataset": "onebox.dataset",
    "ImageSize": "onebox.types",
    "Metrics": "onebox.metrics",
    "OneboxError": "onebox.errors",
    "OnnxLocalizer": "onebox.runtime",
    "Prediction": "onebox.predictions",
    "Sample": "onebox.types",
    "check": "onebox.doctor",
    "compare": "onebox.comparison",
    "convert": "onebox.conversion",
    "evaluate": "onebox.evaluation",
    "explain": "onebox.explanation",
    "load": "onebox.runtime",
    "load_dataset": "onebox.dataset",
    "train": "onebox.training",
}

__all__ = [
    "Box",
    "Dataset",
    "ImageSize",
    "Metrics",
    "OneboxError",
    "OnnxLocalizer",
    "Prediction",
    "Sample",
    "__version__",
    "check",
    "compare",
    "convert",
    "evaluate",
    "explain",
    "load",
    "load_dataset",
    "train",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'onebox' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__
