"""Shared fixtures. Real sets are looked for beside the checkout (../shared/data, or $ONEBOX_REAL_DATA); where they are
absent the tests marked `real` skip and say so, unless ONEBOX_REQUIRE_REAL_DATA=1 (as in CI), where that is a failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _real_folder(name: str, variable: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / name))
    if not folder.is_dir():
        message = f"the real {name} are not here: {folder} (set {variable})"
        if os.environ.get("ONEBOX_REQUIRE_REAL_DATA") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets."""
    return _real_folder("data", "ONEBOX_REAL_DATA")


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """The folder of pretrained trunks."""
    return _real_folder("weights", "ONEBOX_REAL_WEIGHTS")
