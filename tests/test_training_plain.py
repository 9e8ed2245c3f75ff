"""The plain recipe, step by step against its textbook form, the measured balance of the two
branches, and the stop at a loss that is not finite."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onebox  # noqa: E402
from onebox.errors import TrainingError  # noqa: E402
from onebox.training import api  # noqa: E402
from onebox.training.augment import to_float  # noqa: E402
from onebox.training.cache import Cache, build_cache  # noqa: E402
from onebox.training.config import TrainConfig, make_config  # noqa: E402
from onebox.training.loop import train_epochs  # noqa: E402
from onebox.training.model import Network  # noqa: E402
from onebox.training.schedule import batch_indices  # noqa: E402
from onebox.training.session import Session  # noqa: E402
from tests.small_runs import TINY  # noqa: E402


@pytest.fixture
def small_cache(tiny_set: Path) -> Cache:
    return build_cache(onebox.load_dataset(tiny_set), ("green", "red"), 32)


@pytest.fixture
def plain_session() -> Session:
    return start(make_config(**TINY | {"recipe": "plain", "epochs": 1}))


def start(config: TrainConfig) -> Session:
    return api.start_session(api.resolve(config, 24), ("green", "red"), api.start_engine(config))


def textbook_losses(network: Any, cache: Cache, rows: Any, unit: float = 1.0) -> tuple[Any, Any, Any]:
    """The recipe written out once more, with torch's own functions only: NLL of log-probabilities, MSE of
    (cx, cy, w, h); and the trunk's last map, where both branches meet."""
    x0, y0, x1, y1 = torch.from_numpy(cache.boxes_01[rows.numpy()]).unbind(1)
    truth = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=1) * unit
    pictures = to_float(torch.from_numpy(cache.pictures)[rows])
    mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (network.trunk.mean, network.trunk.std))
    normalised = network.normalised(pictures)
    torch.testing.assert_close(normalised, (pictures - mean) / std, rtol=1e-5, atol=1e-6)
    # the network's own from here on: Adam makes a whole step of what rounding leaves of a gradient of nothing
    features = network.trunk(normalised)[-1]
    log_probabilities = torch.log_softmax(network.class_head([features]), dim=1)
    boxes = network.box_head([features]).boxes_cxcywh_01
    class_loss = torch.nn.NLLLoss()(log_probabilities, torch.from_numpy(cache.labels)[rows])
    return class_loss, torch.nn.MSELoss()(boxes, truth), features


def test_the_plain_recipe_step_by_step(plain_session: Session, small_cache: Cache) -> None:
    """One epoch of the loop against the textbook: NLL + MSE, plain sum, Adam at one rate, the same pictures.
    And the gradients it logs against two backward passes of their own."""
    config = plain_session.config
    mine: Network = copy.deepcopy(plain_session.accelerator.unwrap_model(plain_session.network))
    betas = plain_session.optimizer.param_groups[0]["betas"]
    adam = torch.optim.Adam(mine.parameters(), lr=config.lr, betas=betas)
    mine.train()
    sums = np.zeros(6)
    for step in range(3):
        rows = batch_indices(len(small_cache), config.batch, config.seed, step)
        class_loss, box_loss, features = textbook_losses(mine, small_cache, rows)
        (by_class,) = torch.autograd.grad(class_loss, features, retain_graph=True)
        (by_box,) = torch.autograd.grad(box_loss, features, retain_graph=True)
        cosine = torch.nn.functional.cosine_similarity(by_class.flatten(), by_box.flatten(), dim=0)
        norms = [by_class.norm().item(), by_box.norm().item()]
        sums += [class_loss.item(), box_loss.item(), *norms, norms[1] / norms[0], cosine.item()]
        adam.zero_grad()
        (class_loss + box_loss).backward()
        adam.step()

    (row,) = train_epochs(plain_session, small_cache, None)
    logged = [row.loss_class, row.loss_box, row.grad_class, row.grad_box, row.grad_ratio, row.grad_cosine]
    assert logged == pytest.approx((sums / 3).tolist(), rel=1e-3)
    assert (row.box_weight, row.lr) == (1.0, config.lr)
    theirs = plain_session.accelerator.unwrap_model(plain_session.network).state_dict()
    for key, value in mine.state_dict().items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-3, atol=1e-5)


def test_in_the_plain_recipe_a_setting_can_be_changed_but_nothing_else_is_on() -> None:
    config = make_config(recipe="plain")
    assert (config.box_head, config.box_loss, config.box_weight) == ("fc", "mse", 1.0)
    assert (config.augment, config.ema, config.label_smoothing, config.weight_decay) == (0.0, 0.0, 0.0, 0.0)
    assert make_config(recipe="plain", lr=0.5).lr == 0.5


@pytest.mark.parametrize("head", ["edges", "fc"])
def test_the_logged_pull_of_the_default_recipe(small_cache: Cache, head: str) -> None:
    """Over all the maps that both branches read, weight included; measured by two backward passes of their own."""
    loss = "edges" if head == "edges" else "l1_giou"
    settings = {"epochs": 1, "batch": 24, "augment": 0.0, "box_head": head, "box_loss": loss, "box_weight": 0.3}
    session = start(make_config(**TINY | settings))
    mine: Network = copy.deepcopy(session.accelerator.unwrap_model(session.network)).train()
    rows = batch_indices(24, 24, session.config.seed, 0)
    from onebox.training.losses import criterion

    output = mine(to_float(torch.from_numpy(small_cache.pictures)[rows]))
    losses = criterion(
        output.logits,
        output.box,
        torch.from_numpy(small_cache.labels)[rows],
        torch.from_numpy(small_cache.boxes_01)[rows],
        box_loss=loss,
        label_smoothing=session.config.label_smoothing,
    )

    def pull(value: Any, taps: list[Any]) -> Any:
        grads = torch.autograd.grad(value, taps, retain_graph=True, allow_unused=True)
        return torch.cat(
            [torch.zeros_like(t).flatten() if g is None else g.flatten() for t, g in zip(taps, grads, strict=True)]
        )

    by_class = pull(losses.class_loss, output.class_taps)
    by_box = pull(0.3 * losses.box_loss, output.box_taps)
    (row,) = train_epochs(session, small_cache, None)
    assert row.grad_class == pytest.approx(by_class.norm().item(), rel=1e-3)
    assert row.grad_box == pytest.approx(by_box.norm().item(), rel=1e-3)
    assert row.grad_ratio == pytest.approx((by_box.norm() / by_class.norm()).item(), rel=1e-3)
    cosine = torch.nn.functional.cosine_similarity(by_class, by_box, dim=0).item()
    assert row.grad_cosine == pytest.approx(cosine, abs=1e-3)


def test_boxes_in_pixels_are_seen_in_the_log(small_cache: Cache) -> None:
    """The very run of the plain recipe, once with boxes in 0-1 and once in pixels of a 160 px input."""
    from dataclasses import replace

    settings = make_config(**TINY | {"recipe": "plain", "epochs": 1, "batch": 24})
    (right,) = train_epochs(start(settings), small_cache, None)
    in_pixels = replace(small_cache, boxes_01=small_cache.boxes_01 * 160)
    (wrong,) = train_epochs(start(settings), in_pixels, None)
    assert wrong.grad_class == pytest.approx(right.grad_class, rel=1e-3)
    assert wrong.grad_ratio > 100 * right.grad_ratio


def test_the_measured_weight_brings_the_branches_to_the_wanted_balance(small_cache: Cache) -> None:
    """At a learning rate of almost nothing all steps look alike, so the frozen weight must give the ratio asked for."""
    config = make_config(**TINY | {"epochs": 2, "batch": 24, "lr": 1e-8, "balance": 4.0, "augment": 0.0})
    _, second = train_epochs(start(config), small_cache, None)
    assert second.grad_ratio == pytest.approx(4.0, rel=0.05)


def test_a_loss_that_is_not_finite_stops_the_run(small_cache: Cache, plain_session: Session) -> None:
    with torch.no_grad():
        plain_session.accelerator.unwrap_model(plain_session.network).class_head.fc[-1].bias.fill_(math.inf)
    with pytest.raises(TrainingError, match=r"finite at step 0, with the pictures .*\.png and 5 more\. Use a"):
        next(train_epochs(plain_session, small_cache, None))
