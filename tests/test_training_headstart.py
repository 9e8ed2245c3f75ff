"""The heads learn on what the untouched trunk says, before all of it learns; nothing else is changed by that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onebox  # noqa: E402
from onebox.errors import TrainingError  # noqa: E402
from onebox.training import api, transfer  # noqa: E402
from onebox.training.api import resolve, start_engine, start_session  # noqa: E402
from onebox.training.augment import to_float  # noqa: E402
from onebox.training.cache import Cache, build_cache  # noqa: E402
from onebox.training.checkpoint import copy_weights  # noqa: E402
from onebox.training.config import make_config  # noqa: E402
from onebox.training.headstart import start_heads  # noqa: E402
from onebox.training.loop import train_epochs, validate  # noqa: E402
from onebox.training.reporter import Silent  # noqa: E402
from onebox.training.session import Session  # noqa: E402
from tests.small_runs import SMALL_TRUNK, as_pretrained, coloured_set, json_lines, python  # noqa: E402
from tests.test_resume import kill_at, same_run  # noqa: E402


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    weights = as_pretrained(tmp_path_factory.mktemp("weights") / "random.safetensors")
    return {
        "backbone": SMALL_TRUNK, "weights": str(weights), "imgsz": 64, "batch": 8, "epochs": 3, "bins": 16, "threads": 1
    }  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    data = onebox.load_dataset(coloured_set(tmp_path_factory.mktemp("pictures"), 60))
    return build_cache(data, data.class_names, 64)


def session_of(settings: dict[str, Any]) -> Session:
    config = resolve(make_config(**settings), 60)
    return start_session(config, ("green", "red"), start_engine(config))


def maps_of(session: Session, cache: Cache) -> transfer.Maps:
    maps = transfer.look_first(session.average, cache, None, probed=False, keep_maps=True).maps
    assert maps is not None
    return maps


def test_the_maps_are_what_the_trunk_says(
    settings: dict[str, Any], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = session_of(settings).average.train()
    whole = transfer.look_first(network, cache, None, probed=False)
    assert whole.maps is None
    one = network.eval().trunk(network.normalised(to_float(torch.from_numpy(cache.pictures[:1]))))
    network.train()
    monkeypatch.setattr(transfer, "MOST_BYTES", 41 * sum(4 * m.numel() for m in one) + 5)
    monkeypatch.setattr(transfer, "MOST_FOR_SHARE", 37)
    first = transfer.look_first(network, cache, None, probed=False, keep_maps=True)
    maps = first.maps
    assert maps is not None
    assert network.trunk.training
    assert (len(first.rows), len(maps.rows), len(np.unique(maps.rows))) == (37, 41, 41)
    assert set(first.rows) < set(maps.rows)
    assert set(np.diff(maps.rows)) != {1}  # not the first ones: they would be of the first classes
    network.eval()
    with torch.no_grad():
        wanted = network.trunk(network.normalised(to_float(torch.from_numpy(cache.pictures[maps.rows]))))
    assert len(wanted) == len(maps.levels) > 1
    for mine, theirs in zip(maps.levels, wanted, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    assert first.known == pytest.approx(whole.known[np.isin(whole.rows, first.rows)], abs=1e-5)


@pytest.mark.parametrize("ema", [0.99, 0.0])
def test_the_heads_learn_and_the_trunk_stays(settings: dict[str, Any], cache: Cache, ema: float) -> None:
    session = session_of({**settings, "head_start": 8, "ema": ema})
    before, scores = copy_weights(session.average), validate(session.average, cache, session.accelerator)
    told: list[tuple[int, int]] = []
    start_heads(session, maps_of(session, cache), cache, progress=lambda done, total: told.append((done, total)))
    assert told == [(i + 1, 64) for i in range(64)]  # 8 passes of 60 pictures, 8 at a time
    after = copy_weights(session.average)
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"class_head", "box_head"}
    network = session.accelerator.unwrap_model(session.network)
    assert all(torch.equal(value, after[key]) for key, value in copy_weights(network).items())
    assert all(p.grad is None for p in session.average.parameters())
    better = validate(session.average, cache, session.accelerator)
    assert better["quality"] > scores["quality"] + 0.1
    assert session.progress.step == 0


@pytest.mark.parametrize(
    ("wanted", "pictures", "passes"),
    [
        ({"epochs": 1}, 5999, 3),  # fewer than 6,000 are seen
        ({"epochs": 3}, 1999, 3),
        ({"epochs": 3}, 2000, 0),
        ({"epochs": 60}, 1499, 3),  # few
        ({"epochs": 60}, 1500, 0),
        ({"minutes": 3}, 1499, 3),
        ({"minutes": 3, "weights": "none"}, 1499, 0),
        ({}, 2012, 0),  # about 18,000 are seen where nobody says
        ({"minutes": 1}, 2012, 3),
        ({"minutes": 3}, 2012, 0),
        ({"minutes": 1, "weights": "none"}, 2012, 0),
        ({"minutes": 1, "recipe": "plain"}, 2012, 0),
        ({"minutes": 3, "head_start": 5}, 2012, 5),
        ({"minutes": 1, "head_start": 0}, 2012, 0),
    ],
)
def test_short_runs_start(wanted: dict[str, Any], pictures: int, passes: int) -> None:
    assert resolve(make_config(**wanted), pictures).head_start == passes


@pytest.mark.parametrize(("wanted", "starts"), [({}, True), ({"head_start": 0}, False), ({"recipe": "plain"}, False)])
def test_who_starts(settings: dict[str, Any], tmp_path: Path, wanted: dict[str, Any], starts: bool) -> None:
    bars: list[str] = []

    class Listener(Silent):
        def bar(self, title: str) -> Any:
            bars.append(title)
            return super().bar(title)

    data = onebox.load_dataset(coloured_set(tmp_path / "data"))
    onebox.train(data, out=tmp_path / "run", reporter=Listener(), **settings | wanted | {"epochs": 1})
    assert ("starting the heads" in bars) == starts
    if starts:
        assert bars.index("reading pictures") < bars.index("starting the heads") < bars.index("training")


def test_a_short_run_warms_up_all_the_same(settings: dict[str, Any], cache: Cache) -> None:
    """Half of its time is over when the loop begins; the rate begins where it would have, and has come down after."""
    session = session_of({**settings, "minutes": 1, "epochs": 200, "warmup": 0.5, "head_start": 0})
    session.deadline_seconds = 8.0
    session.started -= 4.0
    rates: list[float] = []

    def note(done: int, total: int) -> None:
        rates.append(session.optimizer.param_groups[-1]["lr"])

    for _ in train_epochs(session, cache, None, on_step=note):
        pass
    assert 0.5 <= session.progress.began < 0.6
    assert rates[0] < 0.1 * session.config.lr
    assert max(rates) > 0.9 * session.config.lr
    assert rates[-1] < 0.1 * session.config.lr


def test_heads_that_diverge_name_their_pictures(settings: dict[str, Any], cache: Cache) -> None:
    session = session_of(settings)
    maps = maps_of(session, cache)
    maps.levels[-1][7] = float("nan")
    with pytest.raises(TrainingError, match="the loss of the heads' start is no longer finite at step 0, with the pic"):
        start_heads(session, maps, cache)
    broken = replace(maps, rows=maps.rows[:8], levels=tuple(m[:8] for m in maps.levels))
    with pytest.raises(TrainingError) as caught:
        start_heads(session_of(settings), broken, cache)
    assert set(getattr(caught.value, "pictures")) == {cache.samples[row].path for row in broken.rows}  # noqa: B009


def test_a_run_that_diverges_in_its_start_says_so_in_its_folder(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> transfer.FirstLook:
        first = transfer.look_first(*args, **options)
        assert first.maps is not None
        first.maps.levels[0].fill_(float("inf"))
        return first

    monkeypatch.setattr(api, "look_first", broken)
    data = onebox.load_dataset(coloured_set(tmp_path / "data"))
    with pytest.raises(TrainingError, match="no longer finite at step 0"):
        onebox.train(data, out=tmp_path / "run", reporter=Silent(), **settings)
    stopped = json.loads((tmp_path / "run" / "stopped.json").read_text())
    assert stopped["step"] == 0
    assert len(stopped["pictures"]) == 8
    assert not (tmp_path / "run" / "model.onnx").exists()


@pytest.mark.slow
def test_a_resumed_run_starts_no_heads_again(settings: dict[str, Any], tmp_path: Path) -> None:
    """Killed in the second epoch, after the first was saved, and in the first, before anything was."""
    data = coloured_set(tmp_path / "data", 24)
    whole = onebox.train(onebox.load_dataset(data), out=tmp_path / "whole", reporter=Silent(), **settings)
    for step in (2, 5):
        out = tmp_path / f"killed-{step}"
        kill_at(step, data, out, settings)
        assert (out / "last.safetensors").exists() == (step == 5)
        onebox.train(onebox.load_dataset(data), out=out, reporter=Silent(), resume=True, **settings)
        same_run(whole.folder, out)


@pytest.mark.slow
def test_two_processes_start_alike(settings: dict[str, Any], tmp_path: Path) -> None:
    data = coloured_set(tmp_path / "data", 24)
    mine = settings | {"epochs": 1, "lr": 2e-4}
    alone = onebox.train(onebox.load_dataset(data), out=tmp_path / "alone", reporter=Silent(), **mine)
    flags = [word for key, value in mine.items() for word in (f"--{key}", str(value))]
    done = python(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "onebox", "train", data, "--out", tmp_path / "both", *flags),
    )
    assert done.code == 0, done.err[-4000:]
    one, two = (json_lines((run / "metrics.jsonl").read_text()) for run in (alone.folder, tmp_path / "both"))
    for key in ("loss_class", "loss_box", "val_mean_iou"):
        assert two[0][key] == pytest.approx(one[0][key], rel=2e-3, abs=2e-3), key
