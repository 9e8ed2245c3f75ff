"""Shared fixtures. Real sets are looked for beside the checkout (../shared/data, or $ONEBOX_REAL_DATA); where they are
absent the tests marked `real` skip and say so, unless ONEBOX_REQUIRE_REAL_DATA=1 (as in CI): a failure there. One tiny
data set and one tiny training are shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.browser import chromium  # noqa: F401 - a fixture for all
from tests.small_runs import TINY, coloured_set

# a machine that is busy with something else is no failure
settings.register_profile("onebox", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("onebox")

# read once, when torch loads its OpenMP library: waiting threads must not eat the cores of others
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

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


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `labels.csv` beside 24 small pictures of two classes. Not to be changed: make your own with `coloured_set`."""
    return coloured_set(tmp_path_factory.mktemp("tiny") / "set")


@pytest.fixture(scope="session")
def tiny_run(tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one small training with the settings TINY, shared by all tests. Not to be changed."""
    import onebox

    out = tmp_path_factory.mktemp("tiny-run") / "run"
    onebox.train(onebox.load_dataset(tiny_set), out=out, **TINY)
    return out
