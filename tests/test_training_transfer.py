"""How fast a pretrained trunk learns is chosen from the data: by what a ridge regression on its features tells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import timm
import torch
from safetensors.torch import save_file
from sklearn.linear_model import Ridge

import onebox
from onebox.training import transfer
from onebox.training.cache import Cache, build_cache
from onebox.training.config import make_config
from onebox.training.folds import PROBE_WEIGHT, out_of_fold
from onebox.training.loop import make_optimizer, set_trunk_share
from onebox.training.model import build_network
from onebox.training.reporter import Silent
from tests.small_runs import coloured_set

TRUNK = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not pretrained on anything: random weights, as a file that is taken for pretrained ones."""
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    torch.manual_seed(0)
    save_file(dict(timm.create_model(TRUNK, pretrained=False).state_dict()), path)
    return path


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cache, Cache]:
    folder = tmp_path_factory.mktemp("pictures")
    train, held = (
        onebox.load_dataset(coloured_set(folder / name, count, seed))
        for seed, (name, count) in enumerate([("train", 120), ("held", 40)])
    )
    return build_cache(train, train.class_names, 64), build_cache(held, train.class_names, 64)


def test_classes_are_told_as_scikit_learn_tells_them() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 90)
    known = rng.normal(size=(90, 12)) + 3 * rng.normal(size=(4, 12))[labels] * [5, *[0.3] * 11]
    asked = rng.normal(size=(50, 12)) * 4
    mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-6
    theirs = Ridge(alpha=transfer.RIDGE * 90).fit((known - mean) / spread, np.eye(4)[labels])
    wanted = theirs.predict((asked - mean) / spread)
    given = transfer.ridge_scores(known, labels, asked)
    assert given == pytest.approx(wanted)
    assert len(set(given.argmax(axis=1).tolist())) > 2
    # a class without pictures is nobody's
    assert transfer.ridge_scores(known, labels, asked, 5)[:, :4] == pytest.approx(wanted)
    assert transfer.ridge_scores(known, labels, asked, 5)[:, 4] == pytest.approx(0)


def test_a_trunk_that_knows_little_learns_faster(
    caches: tuple[Cache, Cache], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, held = caches
    network = build_network(make_config(backbone=TRUNK, weights=str(weights), imgsz=64), 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    share, top1 = transfer.choose_share(network, train, held)
    assert top1 is not None
    assert 0.0 <= top1 <= 1.0
    for least, wanted in ((top1, 0.1), (top1 + 1e-9, 0.7)):
        monkeypatch.setattr(transfer, "SHARES", ((least, 0.1), (0.0, 0.7)))
        assert transfer.choose_share(network, train, held) == (wanted, top1)
    assert share in {0.25, 0.5, 1.0}
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_few_pictures_say_nothing(caches: tuple[Cache, Cache], weights: Path) -> None:
    train, held = caches
    network = build_network(make_config(backbone=TRUNK, weights=str(weights), imgsz=64), 2)
    few, ones = held.copied(np.arange(29)), np.nonzero(train.labels == 0)[0]
    assert transfer.choose_share(network, train, None) == (0.25, None)
    assert transfer.choose_share(network, train, few) == (0.25, None)
    assert transfer.choose_share(network, train.copied(ones), held) == (0.25, None)


def test_the_share_goes_to_the_trunk_alone(weights: Path) -> None:
    config = make_config(backbone=TRUNK, weights=str(weights), imgsz=64)
    network = build_network(config, 2)
    optimizer = make_optimizer(network, config, 0.25)
    trunk = {id(p) for _, p in network.trunk_parameters()}
    set_trunk_share(optimizer, 0.5)
    for group in optimizer.param_groups:
        inside = {id(p) in trunk for p in group["params"]}
        assert inside == {group["share"] == 0.5}


@pytest.mark.parametrize("asked", [None, 0.4])
def test_a_run_says_what_it_chose_and_writes_it_down(tmp_path: Path, weights: Path, asked: float | None) -> None:
    data = onebox.load_dataset(coloured_set(tmp_path / "data", count=160))
    told: list[str] = []

    class Listening(Silent):
        def say(self, text: str) -> None:
            told.append(text)

    settings = {"backbone": TRUNK, "weights": str(weights), "imgsz": 64, "epochs": 1, "threads": 1}
    onebox.train(data, out=tmp_path / "run", reporter=Listening(), trunk_lr=asked, **settings)
    written = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["config"]["trunk_lr"]
    said = [text for text in told if "pretrained trunk" in text]
    if asked is not None:
        assert (written, said) == (asked, [])
    else:
        assert written in {0.25, 0.5, 1.0}
        assert len(said) == 1
        assert f"learns at {written:g} of" in said[0]


def test_what_the_untouched_trunk_says_is_added_to_out_of_fold_answers(tmp_path: Path, weights: Path) -> None:
    data = onebox.load_dataset(coloured_set(tmp_path / "data", count=24))
    config = make_config(backbone=TRUNK, weights=str(weights), imgsz=64, epochs=1, threads=1)
    store = tmp_path / "folds.jsonl"
    plain = out_of_fold(data, config=config, folds=2, store=store, reporter=Silent())
    probed = out_of_fold(data, config=config, folds=2, store=store, reporter=Silent(), probed=True)
    rows = {row["path"]: row["outputs"] for row in map(json.loads, store.read_text("utf-8").splitlines()[1:])}
    moved = 0.0
    for sample, before, after in zip(data.labelled, plain, probed, strict=True):
        assert before is not None
        assert after is not None
        assert before.box == after.box
        said = np.array(rows[data.relative_path(sample)]["probe"])
        assert said.sum() == pytest.approx(1, abs=1e-6)  # as the indicators do that it was fitted to
        logits = np.log(before.probabilities) + PROBE_WEIGHT * said
        wanted = np.exp(logits - logits.max())
        assert after.probabilities == pytest.approx(wanted / wanted.sum(), abs=1e-6)
        moved = max(moved, float(np.abs(after.probabilities - before.probabilities).max()))
    assert moved > 0.1
