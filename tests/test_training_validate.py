"""What an epoch is judged by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from accelerate import Accelerator  # noqa: E402
from scipy.optimize import minimize_scalar  # noqa: E402
from scipy.special import log_softmax  # noqa: E402
from torch import nn  # noqa: E402

import onebox  # noqa: E402
from onebox.boxes import iou  # noqa: E402
from onebox.training.augment import to_float  # noqa: E402
from onebox.training.cache import Cache, build_cache  # noqa: E402
from onebox.training.config import make_config  # noqa: E402
from onebox.training.loop import _is_over, note_score, validate  # type: ignore[reportPrivateUsage]  # noqa: E402
from onebox.training.model import Network, build_network  # noqa: E402
from onebox.training.session import Progress, Session  # noqa: E402
from tests.small_runs import TINY, coloured_set  # noqa: E402


@pytest.fixture
def judged(tmp_path: Path) -> tuple[Network, Cache]:
    """A network that is right more often than not, by chance, and pictures."""
    data = onebox.load_dataset(coloured_set(tmp_path, count=70))
    cache = build_cache(data, data.class_names, 32)
    torch.manual_seed(0)
    network = build_network(make_config(**TINY), 2)
    logits, _ = answers(network, cache)
    last = network.class_head.fc[-1]
    assert isinstance(last, nn.Linear)
    # twice as sure as it was, about the classes' mean difference, in the direction that is right more often
    gap = logits[:, 1] - logits[:, 0]
    right = ((gap > np.median(gap)) == (cache.labels == 1)).mean() > 0.5
    with torch.no_grad():
        last.bias[1] -= float(np.median(gap))
        for part in (last.weight, last.bias):
            part.mul_(20 if right else -20)
    return network, cache


def answers(network: Network, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    network.eval()
    with torch.no_grad():
        output = network(to_float(torch.from_numpy(cache.pictures)))
    network.train()
    return output.logits.double().numpy(), iou(output.box.boxes_01.clamp(0, 1).numpy(), cache.boxes_01)


def test_the_scores_of_an_epoch_by_hand(judged: tuple[Network, Cache]) -> None:
    network, cache = judged
    logits, overlap = answers(network, cache)
    rows, right = np.arange(len(cache)), logits.argmax(1) == cache.labels
    fitted = minimize_scalar(
        lambda t: -log_softmax(logits / 2**t, axis=1)[rows, cache.labels].mean(), bounds=(-2, 2.4), method="bounded"
    )
    wanted = (np.exp(log_softmax(logits / 2**fitted.x, axis=1)[rows, cache.labels]) * overlap).mean()
    found = validate(network, cache, Accelerator(cpu=True))
    assert network.training
    assert found["top1"] == pytest.approx(right.mean())
    assert found["mean_iou"] == pytest.approx(overlap.mean())
    assert found["joint_50"] == pytest.approx((right & (overlap > 0.5)).mean())
    each = np.exp(log_softmax(logits / 2**fitted.x, axis=1)[rows, cache.labels]) * overlap
    assert found["quality_error"] == pytest.approx(each.std() / np.sqrt(len(each)), abs=5e-4)
    assert found["quality"] == pytest.approx(wanted, abs=5e-4)  # the temperatures lie a little apart


def test_a_network_that_is_only_surer_of_itself_is_no_better(judged: tuple[Network, Cache]) -> None:
    network, cache = judged
    before = validate(network, cache, Accelerator(cpu=True))
    last = network.class_head.fc[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(2)
        last.bias.mul_(2)
    assert validate(network, cache, Accelerator(cpu=True)) == pytest.approx(before, abs=1e-9)


def test_a_later_epoch_is_kept_where_it_is_as_good(judged: tuple[Network, Cache]) -> None:
    network, _ = judged
    config = make_config(**TINY)
    session = Session(network, network, None, Progress(), Accelerator(cpu=True), config, epochs=10, total_steps=10)
    kept = []
    for quality in (0.5, 0.7, 0.62, 0.69, 0.659, 0.72, 0.6, 0.681):
        session.progress.epoch += 1
        session.progress.step += 1
        kept.append(note_score(session, {"quality": quality, "quality_error": 0.04}))
    assert kept == [True, True, False, True, False, True, False, True]  # .04 below the best so far, or better
    assert (session.progress.best_score, session.progress.best_epoch) == (0.72, 8)
    assert session.progress.best_progress == pytest.approx(0.8)


@pytest.mark.parametrize(("share", "later", "ends", "kept"), [(1.0, 0.8, 6, 1), (0.7, 0.8, 10, 7), (0.7, 0.75, 7, 1)])
def test_a_lucky_first_epoch_keeps_no_held_out_picture_from_teaching(
    judged: tuple[Network, Cache], share: float, later: float, ends: int, kept: int
) -> None:
    """Less than three standard errors better can be luck, more is none."""
    network, _ = judged
    config = make_config(**TINY | {"learn_all_from": share, "patience": 0.35})
    session = Session(network, network, None, Progress(), Accelerator(cpu=True), config, epochs=10, total_steps=10)
    progress = session.progress
    for quality in (0.9, *(later for _ in range(9))):
        progress.epoch += 1
        progress.step += 1
        scores = None if progress.asked_epoch else {"quality": quality, "quality_error": 0.04}
        if note_score(session, scores) and session.held_out_may_teach() and not progress.asked_epoch:
            progress.asked_epoch = progress.epoch  # as the driver does
        if _is_over(session):
            break
    assert progress.epoch == ends
    assert (progress.asked_epoch or progress.best_epoch) == kept
