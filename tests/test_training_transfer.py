"""How fast a pretrained trunk learns is chosen from the data: by what a ridge regression on its features tells."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from sklearn.linear_model import Ridge

import onebox
from onebox.training import transfer
from onebox.training.cache import Cache, build_cache
from onebox.training.checkpoint import copy_weights, load_best
from onebox.training.config import PROBE_WEIGHT, make_config
from onebox.training.folds import out_of_fold
from onebox.training.heads import PresenceHead
from onebox.training.model import Network, build_network
from onebox.training.reporter import Silent
from onebox.training.session import make_optimizer, set_trunk_share
from tests.small_runs import SMALL_TRUNK, as_pretrained, coloured_set


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_pretrained(tmp_path_factory.mktemp("weights") / "random.safetensors")


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
    weights, bias = transfer.ridge(known, labels, 4)
    given = asked @ weights + bias
    assert given == pytest.approx(wanted)
    assert len(set(given.argmax(axis=1).tolist())) > 2
    weights, bias = transfer.ridge(known, labels, 5)  # a class without pictures is nobody's
    assert (asked @ weights + bias)[:, :4] == pytest.approx(wanted)
    assert (asked @ weights + bias)[:, 4] == pytest.approx(0)


def test_a_trunk_that_knows_little_learns_faster(
    caches: tuple[Cache, Cache], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, held = caches
    network = build_network(make_config(backbone=SMALL_TRUNK, weights=str(weights), imgsz=64), 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = transfer.look_first(network, train, held, probed=False)
    share, top1 = transfer.choose_share(first, train, held)
    assert top1 is not None
    assert 0.0 <= top1 <= 1.0
    for least, wanted in ((top1, 0.1), (top1 + 1e-9, 0.7)):
        monkeypatch.setattr(transfer, "SHARES", ((least, 0.1), (0.0, 0.7)))
        monkeypatch.setattr(transfer, "FEW_SHARES", ((least, 0.2), (0.0, 0.8)))
        for bound, more in ((len(train), 0.0), (len(train) + 1, 0.1)):
            monkeypatch.setattr(transfer, "SAY_LITTLE", bound)
            assert transfer.choose_share(first, train, held) == (pytest.approx(wanted + more), top1)
    assert share in {0.25, 0.5, 1.0}
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_few_pictures_say_nothing(caches: tuple[Cache, Cache], weights: Path) -> None:
    train, held = caches
    network = build_network(make_config(backbone=SMALL_TRUNK, weights=str(weights), imgsz=64), 2)
    few, ones = held.copied(np.arange(29)), np.nonzero(train.labels == 0)[0]
    for taught, judged in ((train, None), (train, few), (train.copied(ones), held)):
        first = transfer.look_first(network, taught, judged, probed=False)
        assert len(first.asked) == (0 if judged is None else len(judged))
        assert transfer.choose_share(first, taught, judged) == (0.25, None)


def test_the_first_look_is_at_no_more_pictures_than_are_of_use(
    caches: tuple[Cache, Cache], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, held = caches
    monkeypatch.setattr(transfer, "MOST_FOR_SHARE", 7)
    monkeypatch.setattr(transfer, "MOST_FOR_PROBE", 11)
    monkeypatch.setattr(transfer, "MOST_HELD_OUT", 5)
    network = started(weights)
    for probed, count in ((False, 7), (True, 11)):
        first = transfer.look_first(network, train, held, probed=probed)
        assert (len(first.rows), len(first.asked_rows)) == (count, 5)
        assert len(set(first.rows.tolist())) == count
        whole = transfer._pooled(network, train.pictures)
        assert first.known == pytest.approx(whole[first.rows], abs=1e-5)
        assert first.asked == pytest.approx(transfer._pooled(network, held.pictures)[first.asked_rows], abs=1e-5)


def test_the_share_goes_to_the_trunk_alone(weights: Path) -> None:
    config = make_config(backbone=SMALL_TRUNK, weights=str(weights), imgsz=64)
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

    settings = {"backbone": SMALL_TRUNK, "weights": str(weights), "imgsz": 64, "epochs": 1, "threads": 1}
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
    config = make_config(backbone=SMALL_TRUNK, weights=str(weights), imgsz=64, epochs=1, threads=1)
    store = tmp_path / "folds.jsonl"
    plain = out_of_fold(data, config=config, folds=2, store=store, reporter=Silent())
    probed = out_of_fold(data, config=config, folds=2, store=store, reporter=Silent(), probe_weight=PROBE_WEIGHT)
    rows = {row["path"]: row["outputs"] for row in map(json.loads, store.read_text("utf-8").splitlines()[1:])}
    moved = 0.0
    for sample, before, after in zip(data.labelled, plain.predictions, probed.predictions, strict=True):
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


def started(weights: Path) -> Network:
    torch.manual_seed(1)
    return build_network(make_config(backbone=SMALL_TRUNK, weights=str(weights), imgsz=64), 2)


def moved(network: Network) -> Network:
    """As after a loop: what is not held is no longer what it was."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


def test_a_probe_adds_to_the_logits_and_to_nothing_else(caches: tuple[Cache, Cache], weights: Path) -> None:
    train, _ = caches
    network = started(weights)
    first = transfer.look_first(network, train, None, probed=True)
    untouched = copy.deepcopy(network.trunk)
    moved(network).presence_head = PresenceHead(network.trunk.channels).eval()
    pictures = torch.from_numpy(train.pictures[:8]).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        before = network(pictures)
        mean, std = (255 * torch.tensor(v).view(1, 3, 1, 1) for v in (untouched.mean, untouched.std))
        features = untouched.eval()((pictures - mean) / std)[-1].mean(dim=(2, 3)).double().numpy()
    assert transfer.fit_probe(network, untouched, first, train, None)[0]
    known = transfer._pooled(started(weights), train.pictures)
    ours, bias = transfer.ridge(known, train.labels, 2)
    with torch.no_grad():
        after = network(pictures)
    added = (after.logits - before.logits).numpy()
    assert added == pytest.approx(PROBE_WEIGHT * (features @ ours + bias), abs=1e-4)
    assert torch.equal(after.box.boxes_01, before.box.boxes_01)
    assert torch.equal(after.presence, before.presence)
    # held layers are there once, others twice; both ways of keeping the weights bring all of it back
    probe = network.probe
    assert probe is not None
    assert probe.trunk.net.conv_stem is network.trunk.net.conv_stem
    assert probe.trunk.net.blocks[-1] is not network.trunk.net.blocks[-1]
    again = started(weights)
    again.load_state_dict(copy_weights(network))
    assert again.probe is not None
    assert again.probe.trunk.net.conv_stem is again.trunk.net.conv_stem
    with torch.no_grad():
        assert torch.equal(again.eval()(pictures).logits, after.logits)
    assert not any(layer.training for layer in again.train().probe.modules())


def test_a_probe_that_makes_held_out_pictures_less_likely_is_left_out(
    caches: tuple[Cache, Cache], weights: Path
) -> None:
    train, held = caches
    network = started(weights)
    untouched = copy.deepcopy(network.trunk)
    right = 20.0 * torch.nn.functional.one_hot(torch.from_numpy(held.labels), 2)
    first = transfer.look_first(network, train, held, probed=True)
    said = iter([right[:32], right[32:]])
    network.forward = lambda x: SimpleNamespace(logits=next(said))  # a network that knows every held-out picture
    wrong = replace(train, labels=1 - train.labels)
    assert transfer.fit_probe(network, untouched, first, wrong, held) == (False, "")
    assert network.probe is None


@pytest.mark.parametrize("probe", [True, False])
def test_a_run_with_a_probe_says_so_and_its_model_is_proved(tmp_path: Path, weights: Path, probe: bool) -> None:
    data = onebox.load_dataset(coloured_set(tmp_path / "data", count=40))
    run = onebox.train(
        data, data.subset([]), out=tmp_path / "run", reporter=Silent(), backbone=SMALL_TRUNK, weights=str(weights),
        imgsz=64, epochs=1, threads=1, probe=probe,
    )  # fmt: skip
    model = onebox.load(run.model)
    kept, manifest = load_best(tmp_path / "run" / "best.safetensors")
    assert any(name.startswith("probe.") for name in kept) == probe
    assert manifest.data.get("probe") == model.manifest.data.get("probe") == (PROBE_WEIGHT if probe else None)
    assert model.manifest.export_check["probability_gap"] < 1e-4
