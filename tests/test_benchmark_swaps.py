"""Every swap of `benchmarks.ablation` trains, and trains otherwise than the product does; no other test sees it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

import timm
import torch
from torch import Tensor

import onebox
from benchmarks import ablation_swaps
from benchmarks.ablation_rates import DistanceOverGradients, valley
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


PLACES = (api, heads, loop, losses, model, trunk, timm, Network, TimmTrunk)


@pytest.fixture
def put_back() -> Iterator[None]:
    """Whatever a swap sets in PLACES is as it was after the test, which is checked."""
    before = [dict(vars(place)) for place in PLACES]
    with pytest.MonkeyPatch.context() as patch:
        for place, names in zip(PLACES, before, strict=True):
            for name, value in names.items():
                if callable(value):
                    patch.setattr(place, name, value)
        yield
    for place, names in zip(PLACES, before, strict=True):
        now = vars(place)
        assert sorted(now) == sorted(names), place
        assert [name for name in names if now[name] is not names[name]] == [], place


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
    cache = build_cache(onebox.load_dataset(data), ("green", "red"), config.side)
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
    assert torch.equal(answers(tiny_set, weights, None)[0], plain)  # what differs is the swap's doing
    said, found = answers(tiny_set, weights, swap)
    assert all(math.isfinite(v) for v in found)
    assert bool(said.isfinite().all())
    assert not torch.allclose(said, plain, atol=1e-6)


def test_the_rate_is_read_in_the_middle_of_the_valley() -> None:
    # falls from row 2 to row 6, five members with one gap in between: from 6 - 5 = 1, 1 + int(5/3) + int(5/6) = 2
    assert valley([5.0, 5.0, 4.0, 3.0, 3.5, 2.0, 1.0, 8.0]) == 2
    assert valley([9.0 - i for i in range(8)] + [20.0, 30.0]) == 3  # ends at 7 with eight members: from 0, 0 + 2 + 1


def test_a_layer_goes_as_far_as_it_has_been_over_its_gradients() -> None:
    layer = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = DistanceOverGradients([{"params": [layer]}])
    for expected in (6e-6, 6e-6 / math.sqrt(2)):  # FREE_FIRST times one more than the norm of 5; gradients of norm 1
        before = layer.detach().clone().double()
        layer.grad = torch.tensor([0.0, 1.0])
        optimizer.step()
        moved = before - layer.detach().double()
        assert moved[0] == 0
        assert moved[1].item() == pytest.approx(expected, abs=5e-7)  # float32 about 4
