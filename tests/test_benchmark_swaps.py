"""Every swap of `benchmarks.ablation` trains, and trains otherwise than the product does; what it reached into is put
back afterwards."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("torch")

import timm
import torch
from torch import Tensor

import onebox
from benchmarks import ablation_swaps
from benchmarks.ablation_swaps import SWAPS
from benchmarks.accuracy import SHARED
from onebox.training import api, heads, loop, losses, model, trunk
from onebox.training.api import resolve, start_engine, start_session
from onebox.training.augment import to_float
from onebox.training.cache import build_cache
from onebox.training.config import make_config
from onebox.training.loop import train_epochs
from onebox.training.model import Network
from onebox.training.transfer import look_first
from onebox.training.trunk import TimmTrunk
from tests.small_runs import SMALL_TRUNK, as_pretrained

TEACHER = SHARED / "weights" / f"{ablation_swaps.TEACHER_TRUNK}.safetensors"


@pytest.fixture
def put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a swap sets in these is as it was after the test."""
    for place in (api, heads, loop, losses, model, trunk, timm, Network, TimmTrunk):
        for name, value in list(vars(place).items()):
            if callable(value):
                monkeypatch.setattr(place, name, value)


def answers(data: Path, weights: Path, swap: str | None) -> tuple[Tensor, list[float]]:
    """Two epochs on the tiny set: what the averaged network says of it, and every epoch's losses."""
    config = make_config(
        backbone=SMALL_TRUNK,
        weights=str(weights),
        imgsz=64,
        batch=8,
        epochs=2,
        bins=16,
        threads=1,
        seed=3,
        head_start=0,
    )
    if swap is not None:
        SWAPS[swap].put()
    cache = build_cache(onebox.load_dataset(data), ("green", "red"), config.imgsz)
    session = start_session(resolve(config, len(cache)), ("green", "red"), start_engine(config))
    first = look_first(session.average, cache, cache, probed=False, keep_maps=False)
    if swap is not None:
        SWAPS[swap].prepare(session, first, cache)
    rows = list(train_epochs(session, cache, None))
    with torch.no_grad():
        said = session.average.eval()(to_float(torch.from_numpy(cache.pictures)))
    return torch.cat([said.logits, said.box.boxes_01], dim=1), [v for r in rows for v in (r.loss_class, r.loss_box)]


@pytest.mark.usefixtures("put_back")
@pytest.mark.parametrize("swap", sorted(SWAPS))
def test_a_swap_trains_and_changes_what_is_learnt(swap: str, tiny_set: Path, tmp_path: Path) -> None:
    if swap == "distil" and not TEACHER.is_file():
        pytest.skip("the teacher's weights are not here")
    weights = as_pretrained(tmp_path / "trunk.safetensors")
    plain, _ = answers(tiny_set, weights, None)
    said, found = answers(tiny_set, weights, swap)
    assert all(math.isfinite(v) for v in found)
    assert bool(said.isfinite().all())
    assert not torch.allclose(said, plain, atol=1e-6)


def test_what_is_put_back_trains_as_before(tiny_set: Path, tmp_path: Path) -> None:
    """After all the swaps above: two trainings of the product give the same, bit for bit."""
    weights = as_pretrained(tmp_path / "trunk.safetensors")
    (one, _), (other, _) = (answers(tiny_set, weights, None) for _ in range(2))
    assert torch.equal(one, other)
