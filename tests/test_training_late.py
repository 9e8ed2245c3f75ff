"""Held-out pictures that nobody asked to hold out judge a run until its last part, and then teach, too: which pictures,
from when on, what is told of which weights, and that a run killed after that goes on as if it never had been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onebox  # noqa: E402
from onebox.errors import ConfigError, TrainingError  # noqa: E402
from onebox.evaluation import judge  # noqa: E402
from onebox.evaluation_file import read_evaluation  # noqa: E402
from onebox.training import api, loop, transfer  # noqa: E402
from onebox.training.cache import Cache, build_cache  # noqa: E402
from onebox.training.checkpoint import Weights, load_best  # noqa: E402
from onebox.training.config import make_config  # noqa: E402
from onebox.training.leaks import hold_out  # noqa: E402
from onebox.training.materials import taught_share  # noqa: E402
from onebox.training.model import Network, build_network  # noqa: E402
from onebox.training.predictor import TorchLocalizer  # noqa: E402
from onebox.training.reporter import Silent  # noqa: E402
from tests.listening import Listening  # noqa: E402
from tests.small_runs import SMALL_TRUNK, TINY, as_pretrained, coloured_set, here, json_lines, train_words  # noqa: E402
from tests.test_resume import kill_at, same_run, same_tensors  # noqa: E402

#: Forty pictures are held out of two hundred, which is enough for a calibration; from epoch 3 of 4 on they teach.
LATE: dict[str, Any] = {**TINY, "learn_all_from": 0.5, "patience": 0.0}
PICTURES, HELD_OUT, EPOCHS = 200, 40, 4
STEPS = (PICTURES - HELD_OUT) // TINY["batch"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coloured_set(tmp_path_factory.mktemp("many") / "set", count=PICTURES)


@pytest.fixture(scope="module")
def done(many: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[api.Run, list[str]]:
    """A run with the settings LATE, and what was said of it."""
    listening = Listening()
    out = tmp_path_factory.mktemp("late") / "run"
    return onebox.train(onebox.load_dataset(many), out=out, reporter=listening, **LATE), listening.said


def parts_of(many: Path) -> tuple[onebox.Dataset, onebox.Dataset]:
    """What teaches from the start, and what is held out."""
    data = onebox.load_dataset(many)
    train, val, *_ = hold_out(data, build_cache(data, data.class_names, 32), 0.8, TINY["seed"])
    return train, val


def weights_under(run: Path, prefix: str) -> Weights:
    from safetensors.torch import load_file

    return {k.removeprefix(prefix): v for k, v in load_file(run / "last.safetensors").items() if k.startswith(prefix)}


def test_held_out_pictures_judge_until_they_teach(done: tuple[api.Run, list[str]]) -> None:
    run, said = done
    assert [row.val_mean_iou is not None for row in run.history] == [True, True, False, False]
    assert [row.step for row in run.history] == [STEPS * epoch for epoch in range(1, EPOCHS + 1)]  # no longer for it
    assert f"From here on the {HELD_OUT} held-out pictures teach, too." in said
    assert [line for line in said if line.startswith(f"Best epoch: {EPOCHS}.")]


def test_they_do_teach(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture of the second part of the loop is drawn, and of the first only what is not held out."""
    drawn: list[tuple[int, set[int]]] = []
    real = loop.batch_indices

    def batch_indices(pictures: int, batch: int, seed: int, step: int) -> Any:
        rows = real(pictures, batch, seed, step)
        drawn.append((pictures, set(rows.tolist())))
        return rows

    monkeypatch.setattr(loop, "batch_indices", batch_indices)
    onebox.train(onebox.load_dataset(many), out=tmp_path / "run", reporter=Silent(), **LATE, augment=0.0)
    seen = {count: set[int]().union(*(rows for n, rows in drawn if n == count)) for count in {n for n, _ in drawn}}
    assert seen[PICTURES - HELD_OUT] == set(range(PICTURES - HELD_OUT))
    assert len(seen[PICTURES]) == PICTURES  # two epochs of 160 draws, one picture after the other


def test_the_figures_and_the_promises_are_those_of_the_weights_that_were_judged(
    done: tuple[api.Run, list[str]], many: Path
) -> None:
    run, _ = done
    told = onebox.load(run.model).manifest
    kept, written = load_best(run.folder / "best.safetensors")
    assert written.calibration == told.calibration
    assert written.data == told.data
    _, val = parts_of(many)
    asked = build_network(make_config(**TINY), 2)
    asked.load_state_dict(weights_under(run.folder, "asked."))
    found = judge(TorchLocalizer(asked, told), val).metrics
    assert run.metrics is not None
    saved = read_evaluation(run.folder / "evaluation.json")
    assert len(saved.answers) == told.calibration["pictures"] == found.n == HELD_OUT
    for figures in (run.metrics.to_dict(), saved.figures):
        assert figures["mean_iou"] == pytest.approx(found.mean_iou, abs=1e-5)
        assert figures["joint_50"] == pytest.approx(found.joint_50)
    # and not those of the finished model, which has learnt these very pictures
    finished = onebox.evaluate(onebox.load(run.model), val)
    assert abs(finished.mean_iou - run.metrics.mean_iou) > 1e-3
    assert not all(torch.equal(v, kept[k]) for k, v in weights_under(run.folder, "asked.").items())


def test_the_model_file_says_what_it_learnt(done: tuple[api.Run, list[str]], many: Path) -> None:
    facts = onebox.load(done[0].model).manifest.data
    given = onebox.load_dataset(many).fingerprint()
    assert facts["fingerprint"] == facts["given"] == given
    assert (facts["pictures"], facts["learnt_late"]) == (PICTURES, HELD_OUT)
    here("calibrate", done[0].folder, many).says("the model was trained on these very pictures")


def test_the_report_says_whose_figures_it_shows(done: tuple[api.Run, list[str]]) -> None:
    assert done[0].asked_epoch == 2
    page = (done[0].folder / "report.html").read_text("utf-8")
    assert "as the weights of epoch 2 answered them" in page
    assert "Held-out pictures after each epoch until they taught, too; the dotted line" in page


def test_the_command_says_whose_figures_it_shows(many: Path, tmp_path: Path) -> None:
    command = here(*train_words(many, tmp_path / "run", "--learn-all-from", "0.5", "--patience", "0"))
    assert command.code == 0, command.err
    lines = command.err.splitlines()
    assert "What the held-out pictures said of epoch 2, before they taught, too:" in lines


def test_presence_has_a_threshold_that_no_picture_chose_after_it_taught(
    many: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    judges: list[Network] = []
    finish = api.finish.__globals__
    real = finish["add_presence"]

    def add_presence(network: Any, train: Cache, val: Cache | None, *rest: Any, **more: Any) -> Any:
        judges.append(more["judged_by"])
        return real(network, train, val, *rest, **more)

    monkeypatch.setitem(finish, "add_presence", add_presence)
    run = onebox.train(onebox.load_dataset(many), out=tmp_path / "run", reporter=Silent(), **LATE)
    (judge,) = judges
    for part, weights in (("", weights_under(run.folder, "asked.")), ("presence_head.", None)):
        kept = load_best(run.folder / "best.safetensors")[0] if weights is None else weights
        mine = {k: v for k, v in judge.state_dict().items() if k.startswith("presence_head.") is bool(part)}
        assert mine
        assert all(torch.equal(v.cpu(), kept[k]) for k, v in mine.items())
    assert "presence" in onebox.load(run.model).manifest.calibration
    assert onebox.load(run.model).predict(many.parent / "000.png")[0].presence is not None


@pytest.mark.parametrize("way", ["val", "split", "plain", "one"])
def test_pictures_that_a_person_held_out_never_teach(way: str, many: Path, tmp_path: Path) -> None:
    train, val = parts_of(many)
    settings = {**TINY, "epochs": 2, "learn_all_from": None}
    if way == "val":
        run = onebox.train(train, val, out=tmp_path / "run", reporter=Silent(), **settings)
    else:
        more: dict[str, Any] = {"split": {"split": 0.8}, "plain": {"recipe": "plain"}, "one": {"learn_all_from": 1}}
        run = onebox.train(
            onebox.load_dataset(many), out=tmp_path / "run", reporter=Silent(), **{**settings, **more[way]}
        )
    assert all(row.val_mean_iou is not None for row in run.history)
    assert json.loads((run.folder / "config.json").read_text())["config"]["learn_all_from"] == 1
    facts = onebox.load(run.model).manifest.data
    assert "learnt_late" not in facts
    assert facts["pictures"] == PICTURES - HELD_OUT


@pytest.mark.parametrize("few", [True, False])
def test_where_nobody_says_the_default_is_written_down(
    few: bool, tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = onebox.load_dataset(tiny_set)
    monkeypatch.setattr(api, "FEW_PICTURES", round(len(data) * taught_share(len(data))) + few)
    settings = {k: v for k, v in TINY.items() if k != "learn_all_from"}
    run = onebox.train(data, out=tmp_path / "run", reporter=Silent(), **settings)
    written = json.loads((run.folder / "config.json").read_text())["config"]["learn_all_from"]
    assert written == (api.LEARN_ALL_FROM if few else 1)
    assert onebox.load(run.model).calibration is None  # four pictures say too little


def test_given_validation_pictures_and_a_share_are_refused(tiny_set: Path, tmp_path: Path) -> None:
    words = [*train_words(tiny_set, tmp_path / "run", "--val", tiny_set), "--learn-all-from", "0.6"]
    here(*words).says("learn_all_from is for pictures that onebox holds out; .*Leave out one of the two")
    for share in (0.2, 1.1):
        with pytest.raises(ConfigError, match=r"learn_all_from is .*from 0\.3 to 1"):
            make_config(learn_all_from=share)


def test_no_epoch_that_is_worse_than_an_earlier_one_hands_over(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qualities = iter([0.5, 0.4, 0.3, 0.5])

    def validate(*_: Any) -> dict[str, float]:
        quality = next(qualities)
        scores = dict.fromkeys(("top1", "mean_iou", "joint_50"), quality)
        return {**scores, "quality": quality, "quality_error": 0.01}

    monkeypatch.setattr(loop, "validate", validate)
    run = onebox.train(onebox.load_dataset(many), out=tmp_path / "run", reporter=Silent(), **LATE)
    assert [row.best for row in run.history] == [True, False, False, True]
    assert all(row.val_mean_iou is not None for row in run.history)  # the last is as good, but nothing is left to learn
    assert "learnt_late" not in onebox.load(run.model).manifest.data


def test_a_run_killed_while_they_teach_says_so_where_it_is_exported(many: Path, tmp_path: Path) -> None:
    kill_at(3 * STEPS + 1, many, tmp_path / "run", LATE)
    assert here("export", tmp_path / "run").code == 0
    assert onebox.load(tmp_path / "run").manifest.data["learnt_late"] == HELD_OUT


@pytest.mark.slow
@pytest.mark.parametrize("step", [2 * STEPS - 1, 2 * STEPS + 1, 3 * STEPS + 1])
def test_killed_before_and_after_the_held_out_pictures_teach(
    step: int, done: tuple[api.Run, list[str]], many: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    kill_at(step, many, out, LATE)
    saved = json_lines((out / "metrics.jsonl").read_text("utf-8"))
    assert len(saved) == (step - 1) // STEPS
    onebox.train(onebox.load_dataset(many), out=out, resume=True, reporter=Silent(), **LATE)
    same_run(out, done[0].folder)
    here_and_there = [read_evaluation(run / "evaluation.json").figures for run in (out, done[0].folder)]
    assert here_and_there[0] == here_and_there[1]


def test_resuming_a_finished_run_changes_nothing(done: tuple[api.Run, list[str]], many: Path, tmp_path: Path) -> None:
    import shutil

    out = Path(shutil.copytree(done[0].folder, tmp_path / "run"))
    onebox.train(onebox.load_dataset(many), out=out, resume=True, reporter=Silent(), **LATE)
    same_run(out, done[0].folder)


def test_a_run_that_breaks_after_it_keeps_the_best_epoch_before(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = loop._answers_are_finite, iter([True, True, True, False])
    monkeypatch.setattr(loop, "_answers_are_finite", lambda *given: real(*given) and next(calls))
    with pytest.raises(TrainingError, match="holds the best epoch before it, 3"):
        onebox.train(onebox.load_dataset(many), out=tmp_path / "run", reporter=Silent(), **LATE)
    facts = onebox.load(tmp_path / "run").manifest
    assert facts.data["learnt_late"] == facts.calibration["pictures"] == HELD_OUT


def test_a_probe_is_fitted_to_all_pictures_in_the_end(many: Path, tmp_path: Path) -> None:
    """As if the trunk had been asked with nothing held out."""
    weights = as_pretrained(tmp_path / "trunk.safetensors")
    config = make_config(**{**TINY, "backbone": SMALL_TRUNK, "weights": str(weights)})
    network = build_network(config, 2)
    data = onebox.load_dataset(many)
    parts = hold_out(data, build_cache(data, data.class_names, 32), 0.8, TINY["seed"])
    first = transfer.look_first(network, parts.train_cache, parts.val_cache, probed=True)
    late = first.of_everything(len(parts.train_cache))
    whole = transfer.look_first(network, parts.everything, None, probed=True)
    np.testing.assert_array_equal(late.rows, whole.rows)
    np.testing.assert_allclose(late.known, whole.known, atol=1e-5)
    assert not len(late.asked)
    run = onebox.train(
        data, out=tmp_path / "run", reporter=Silent(), **{**LATE, "backbone": SMALL_TRUNK, "weights": str(weights)}
    )
    probed = any(name.startswith("probe.") for name in load_best(run.folder / "best.safetensors")[0])
    assert probed is ("probe" in onebox.load(run.model).manifest.data)


def test_the_same_seed_gives_the_same_model(done: tuple[api.Run, list[str]], many: Path, tmp_path: Path) -> None:
    again = onebox.train(onebox.load_dataset(many), out=tmp_path / "run", reporter=Silent(), **LATE)
    same_tensors(again.folder / "best.safetensors", done[0].folder / "best.safetensors")


def test_parts_of_a_cache_lie_in_its_memory(many: Path) -> None:
    data = onebox.load_dataset(many).subset(range(10))
    whole, cache = (build_cache(data, data.class_names, 32) for _ in range(2))
    apart = np.array([False, True, False, False, True, False, True, False, False, False])
    train, held, everything = cache.parted(apart)
    order = [*np.nonzero(~apart)[0], *np.nonzero(apart)[0]]
    assert everything.samples == (*train.samples, *held.samples) == tuple(whole.samples[i] for i in order)
    for name in ("pictures", "labels", "boxes_01", "sizes"):
        np.testing.assert_array_equal(getattr(everything, name), getattr(whole, name)[order])
        np.testing.assert_array_equal(
            np.concatenate([getattr(train, name), getattr(held, name)]), getattr(everything, name)
        )
    assert all(np.shares_memory(part.pictures, cache.pictures) for part in (train, held, everything))
