"""When the loop of a run of `--minutes` ends: what is kept free for the rest, what counts as the run's time, and that
several processes end together."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import onebox  # noqa: E402
from onebox.training import api, clock  # noqa: E402
from onebox.training.config import make_config  # noqa: E402
from onebox.training.reporter import Silent  # noqa: E402
from onebox.training.session import Session  # noqa: E402
from tests.small_runs import TINY, python  # noqa: E402

#: Trains by the clock with the settings TINY; argv: data, out, minutes; what comes before decides what is strange.
TRAIN = """
import sys
import onebox
from tests.small_runs import TINY
run = onebox.train(
    onebox.load_dataset(sys.argv[1]), out=sys.argv[2], **TINY | {"minutes": float(sys.argv[3]), "epochs": 100_000}
)
print(run.history[0].seconds, run.history[-1].seconds)
"""
SLOW_IMPORT = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "timm":
            time.sleep(20)
sys.meta_path.insert(0, Slow())
"""
#: As if the second process had caught the machine in a bad moment: it would end its loop many steps before the first,
#: also where imports have taken half of the time (hence the smaller least share).
UNLIKE = """
import os
from onebox.training import clock
pace = clock.PACE * (0.4 if os.environ["RANK"] == "0" else 4)
clock._pace = lambda: pace
clock.LEAST_LOOP = 0.1
"""


@pytest.fixture
def session(tiny_set: Path) -> Session:
    config = api.resolve(make_config(**TINY | {"minutes": 10.0}), len(onebox.load_dataset(tiny_set)))
    return api.start_session(config, ("green", "red"), api.start_engine(config))


@pytest.mark.parametrize(
    ("pace", "few", "many"),
    # 24 pictures: 72 views are 3 batches of the 32 that 1,024 views are; 5,000 pictures: all of them
    [
        (1, 6.5 + 5.6 * 3 / 32, 12.1),
        (0.2, 4.82 + 3.2 * 3 / 32, 8.02),
        (0, 4.4 + 2.6 * 3 / 32, 7.0),
        (9, 20.0, 20.0),
    ],
)
def test_what_is_kept_free_by_hand(
    session: Session, monkeypatch: pytest.MonkeyPatch, pace: float, few: float, many: float
) -> None:
    monkeypatch.setattr(clock, "_pace", lambda: pace * clock.PACE)
    assert session.deadline_seconds == 600 - 15  # while nothing is known
    for pictures, kept in ((24, few), (5000, many)):
        found = clock.deadline(session, 10.0, pictures, 6)
        assert 600 - kept - 5 < found < 600 - kept  # the trunk's own time, 32 px wide, comes on top
        assert clock.deadline(session, 10.0, pictures, 600_000) < found - 5
    config = session.config
    session.config = replace(config, learn_all_from=0.7)  # what judges is asked by torch then
    monkeypatch.setattr(clock, "JUDGING", 0)
    late = clock.deadline(session, 10.0, 24, 60_000)
    session.config = config
    assert late < clock.deadline(session, 10.0, 24, 60_000) - 1


def test_the_pace_is_a_time(session: Session) -> None:
    del session  # with as many threads as a training has
    assert 1e-4 < clock._pace() < 2.0  # pyright: ignore[reportPrivateUsage]


def test_a_loop_has_its_third_however_late_it_is(tiny_set: Path, tmp_path: Path) -> None:
    """A hundred seconds are said to be over before a run of six begins."""
    settings: dict[str, Any] = TINY | {"minutes": 0.1, "epochs": 100_000}
    run = api.train(
        onebox.load_dataset(tiny_set), out=tmp_path / "run", reporter=Silent(),
        began=time.perf_counter() - 100, **settings,
    )  # fmt: skip
    assert 100 < run.history[0].seconds < run.history[-1].seconds < 110
    assert run.history[-1].seconds - run.history[0].seconds > 1


@pytest.mark.slow
def test_imports_are_time_of_the_run(tiny_set: Path, tmp_path: Path) -> None:
    done = python("-c", SLOW_IMPORT + TRAIN, tiny_set, tmp_path / "run", "0.1")
    assert done.code == 0, done.err[-4000:]
    assert float(done.out.split()[-2]) > 20


@pytest.mark.slow
def test_processes_end_together_though_they_measured_different_paces(tiny_set: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(UNLIKE + TRAIN)
    done = python(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(tmp_path / "train.py", tiny_set, tmp_path / "run", "0.4"),
        timeout=120,
    )
    assert done.code == 0, done.err[-4000:]
    assert (tmp_path / "run" / "model.onnx").exists()
