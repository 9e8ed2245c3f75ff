"""A training from end to end: what it leaves behind, that the plain recipe is the textbook's, that the clock is kept,
where the weights come from."""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import onebox  # noqa: E402
from onebox.errors import ConfigError, TrainingError, WeightsError  # noqa: E402
from onebox.manifest import METADATA_KEY, Manifest  # noqa: E402
from onebox.training import api  # noqa: E402
from onebox.training.augment import to_float  # noqa: E402
from onebox.training.cache import Cache, build_cache  # noqa: E402
from onebox.training.config import TrainConfig, make_config  # noqa: E402
from onebox.training.loop import EpochRow, Session, train_epochs  # noqa: E402
from onebox.training.model import Network  # noqa: E402
from onebox.training.reporter import Silent  # noqa: E402
from onebox.training.run_folder import RUN_FILES  # noqa: E402
from onebox.training.schedule import batch_indices  # noqa: E402
from onebox.training.trunk import build_trunk  # noqa: E402
from tests.small_runs import TINY, coloured_set, json_lines, shell  # noqa: E402


def rows_of(run: Path) -> list[dict[str, Any]]:
    return json_lines((run / "metrics.jsonl").read_text("utf-8"))


# ---- the run folder


def test_a_run_leaves_these_files_and_no_others(tiny_run: Path) -> None:
    left = {p.name for p in tiny_run.iterdir()}
    assert left == set(RUN_FILES) - {"stopped.json"}  # that one says why a training could not go on
    assert left >= {
        *("model.onnx", "best.safetensors", "last.safetensors"),
        *("config.json", "metrics.jsonl", "report.html"),
    }


def test_nothing_in_a_run_is_a_pickle(tiny_run: Path) -> None:
    for path in tiny_run.iterdir():
        head = path.read_bytes()[:8]
        assert not head.startswith(b"\x80"), path  # a pickle from protocol 2 on
        assert not head.startswith(b"PK"), path  # torch.save's zip of pickles


def test_config_json_has_every_setting_as_used(tiny_run: Path, tiny_set: Path) -> None:
    facts = json.loads((tiny_run / "config.json").read_text("utf-8"))
    assert facts["onebox_version"] == onebox.__version__
    assert facts["config"].items() >= TINY.items()
    assert make_config(**facts["config"]).to_dict() == facts["config"]
    assert None not in (facts["config"]["epochs"], facts["config"]["trunk_lr"])  # decided, and written down
    train, val = onebox.load_dataset(tiny_set).split(0.8, TINY["seed"])
    assert (facts["data"], facts["val"]) == (train.fingerprint(), val.fingerprint())


def test_metrics_jsonl_has_one_row_an_epoch(tiny_run: Path) -> None:
    rows = rows_of(tiny_run)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows] == [3, 6, 9, 12]  # 20 pictures to train on, 8 a step
    for row in rows:
        assert set(row) == set(EpochRow.__slots__)
        numbers = [v for v in row.values() if isinstance(v, float)]
        assert all(math.isfinite(v) for v in numbers)
        assert row["grad_class"] > 0
        assert row["grad_box"] > 0
        assert row["grad_ratio"] > 0
        assert -1 <= row["grad_cosine"] <= 1
        assert 0 <= row["val_joint_50"] <= min(row["val_top1"], 1)
        assert row["images_per_second"] > 0
    assert rows[0]["best"]
    assert [r["seconds"] for r in rows] == sorted(r["seconds"] for r in rows)


def test_the_box_weight_is_measured_in_the_first_epoch_then_frozen(tiny_run: Path) -> None:
    weights = {row["box_weight"] for row in rows_of(tiny_run)}
    assert len(weights) == 1
    assert weights != {1.0}
    assert min(weights) > 0


def test_best_safetensors_carries_the_manifest_and_only_the_network(tiny_run: Path) -> None:
    with safe_open(tiny_run / "best.safetensors", framework="np") as file:
        manifest = Manifest.from_json(file.metadata()[METADATA_KEY], where="best")
        names = set(file.keys())
    assert manifest.class_names == ("green", "red")
    assert (manifest.imgsz, manifest.backbone) == (32, "plain")
    assert all(name.split(".")[0] in {"trunk", "class_head", "box_head", "presence_head"} for name in names)


def test_last_safetensors_holds_what_a_resume_needs(tiny_run: Path) -> None:
    with safe_open(tiny_run / "last.safetensors", framework="np") as file:
        progress = json.loads(file.metadata()["onebox.progress"])
        kinds = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118
    assert kinds == {"network", "average", "best", "optimizer"}
    assert (progress["epoch"], progress["step"], progress["finished"]) == (4, 12, True)
    assert progress["box_weight"]["measuring"] is False


def test_the_model_file_says_what_it_is(tiny_run: Path, tiny_set: Path) -> None:
    manifest = onebox.load(tiny_run).manifest
    given = onebox.load_dataset(tiny_set)
    train, _ = given.split(0.8, TINY["seed"])
    facts = {"fingerprint": train.fingerprint(), "given": given.fingerprint(), "layout": "csv", "pictures": 20}
    assert manifest.data == facts
    assert manifest.onebox_version == onebox.__version__
    assert set(manifest.baseline) == {"label", "box_01"}
    assert manifest.export_check["pictures"] >= 4
    assert manifest.export_check["box_gap_px"] <= 0.5
    assert manifest.export_check["probability_gap"] <= 1e-3


def test_the_report_is_there_and_whole(tiny_run: Path) -> None:
    page = (tiny_run / "report.html").read_text("utf-8")
    assert page.rstrip().endswith("</html>")
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_same_seed_gives_the_same_model_and_another_another(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    data = onebox.load_dataset(tiny_set)
    onebox.train(data, out=tmp_path / "same", reporter=Silent(), **TINY)
    onebox.train(data, out=tmp_path / "other", reporter=Silent(), **TINY | {"seed": 4, "epochs": 1})
    first, same, other = (load_file(r / "best.safetensors") for r in (tiny_run, tmp_path / "same", tmp_path / "other"))
    assert all(torch.equal(first[k], same[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_without_validation_the_last_weights_are_kept(tiny_set: Path, tmp_path: Path) -> None:
    data = onebox.load_dataset(tiny_set)
    settings = TINY | {"epochs": 2, "ema": 0.0}
    run = onebox.train(data, split=1, out=tmp_path, reporter=Silent(), **settings)
    assert run.metrics is None
    assert [(r.best, r.val_top1, r.val_joint_50) for r in run.history] == [(True, None, None)] * 2
    best, last = load_file(tmp_path / "best.safetensors"), load_file(tmp_path / "last.safetensors")
    learnt = {k: v for k, v in best.items() if not k.startswith("presence_head.")}  # fitted after the last step
    assert all(torch.equal(v, last[f"network.{k}"]) for k, v in learnt.items())
    assert onebox.load(run.model).manifest.data["pictures"] == 24


def test_a_training_leaves_the_process_as_it_found_it(tiny_set: Path, tmp_path: Path) -> None:
    threads, smallest = torch.get_num_threads(), float(np.nextafter(0.0, 1.0))
    assert smallest * 1.0 > 0, "denormals must be on before the training for this to mean anything"
    settings = TINY | {"epochs": 1, "threads": 1}
    onebox.train(onebox.load_dataset(tiny_set), out=tmp_path / "run", reporter=Silent(), **settings)
    assert smallest * 1.0 > 0
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    """Red and green rectangles on noise, a hundred of them: both heads must get them right on pictures never seen."""
    data = onebox.load_dataset(coloured_set(tmp_path / "train", count=100))
    unseen = onebox.load_dataset(coloured_set(tmp_path / "test", count=40, seed=9))
    settings = TINY | {"imgsz": 64, "epochs": 30, "batch": 16, "bins": 32}
    run = onebox.train(data, out=tmp_path / "run", reporter=Silent(), **settings)
    metrics = onebox.evaluate(onebox.load(run.model), unseen)
    assert metrics.top1 >= 0.9
    assert metrics.mean_iou >= 0.6
    assert metrics.mean_iou > metrics.baseline["mean_iou"] + 0.2


# ---- the plain recipe


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
    features = network.trunk((pictures - network.mean) / network.std)[-1]
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


# ---- the clock, and things that go wrong


def test_minutes_stop_on_time_with_a_model(tiny_set: Path, tmp_path: Path) -> None:
    began = time.perf_counter()
    settings = TINY | {"minutes": 0.05, "epochs": 100_000}
    run = onebox.train(onebox.load_dataset(tiny_set), out=tmp_path / "run", reporter=Silent(), **settings)
    took = time.perf_counter() - began
    assert run.history[-1].epoch < 100_000
    assert run.history[-1].seconds == pytest.approx(1.5, abs=1.0)  # half of three seconds
    assert took < 3 + 15  # the export takes seconds of its own, more on a busy machine
    assert run.history[-1].lr < 0.2 * max(row.lr for row in run.history)  # the rate came down in time
    assert any(row.best for row in run.history)
    assert onebox.load(run.model).predict(tiny_set.parent / "000.png")


def test_a_loss_that_is_not_finite_stops_the_run(small_cache: Cache, plain_session: Session) -> None:
    with torch.no_grad():
        plain_session.accelerator.unwrap_model(plain_session.network).class_head.fc[-1].bias.fill_(math.inf)
    with pytest.raises(TrainingError, match=r"finite at step 0, with the pictures .*\.png and 5 more\. Use a"):
        next(train_epochs(plain_session, small_cache, None))


def test_a_single_picture_can_be_learnt(tmp_path: Path) -> None:
    data = onebox.load_dataset(coloured_set(tmp_path / "one", count=1))
    run = onebox.train(data, out=tmp_path / "run", reporter=Silent(), **TINY | {"epochs": 1})
    assert run.metrics is None
    assert onebox.load(run.model).predict(data[0].path)[0].score == 1.0  # there is one class only


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epocs": 3}, "unknown setting 'epocs'; did you mean epochs"),
        ({"learning_rate": 3}, "unknown setting 'learning_rate'"),
        ({"recipe": "plane"}, "recipe is 'plane'; it can be default, plain; did you mean plain"),
        ({"imgsz": 4}, "imgsz is 4; it must be a number from 32 to 2048"),
        ({"imgsz": "64"}, "imgsz is '64'"),
        ({"lr": math.nan}, "lr is nan"),
        ({"box_head": "fc", "box_loss": "edges"}, "needs box_head edges"),
        ({"backbone": "resnet99", "weights": "none"}, "timm knows no backbone 'resnet99'.*Nearest names: resnet"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str, tiny_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        onebox.train(onebox.load_dataset(tiny_set), out=tmp_path / "run", reporter=Silent(), **settings)
    assert not (tmp_path / "run").exists()


# ---- where weights come from


def test_weights_that_cannot_be_had(tmp_path: Path) -> None:
    ways = r"--weights FILE\.safetensors.*--weights none"
    name = "mobilenetv3_small_050"
    with pytest.raises(WeightsError, match=rf"nowhere.safetensors: no such weights file.*{ways}"):
        build_trunk(name, str(tmp_path / "nowhere.safetensors"), 32)
    with pytest.raises(WeightsError, match=rf"no such weights file.*{ways}"):
        build_trunk(name, str(tmp_path), 32)
    (tmp_path / "text.safetensors").write_text("no tensors here")
    with pytest.raises(WeightsError, match=rf"text.safetensors: not a readable .safetensors file.*{ways}"):
        build_trunk(name, str(tmp_path / "text.safetensors"), 32)
    save_file({"conv_stem.weight": torch.zeros(16, 3, 3, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=rf"part.safetensors: \d+ of the trunk's \d+ tensors.*{ways}"):
        build_trunk(name, str(tmp_path / "part.safetensors"), 32)
    with pytest.raises(WeightsError, match=r"the plain trunk has no pretrained weights\. Use --weights none"):
        build_trunk("plain", str(tmp_path / "part.safetensors"), 32)


def test_weights_of_the_full_network_fill_the_trunk(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    full = timm.create_model("mobilenetv3_small_050", pretrained=False)
    state = {k: torch.randn_like(v) if v.dtype.is_floating_point else v for k, v in full.state_dict().items()}
    save_file(state, tmp_path / "full.safetensors")
    trunk = build_trunk("mobilenetv3_small_050", str(tmp_path / "full.safetensors"), 64)
    loaded = trunk.net.state_dict()
    assert len(loaded) > 100
    for key, value in loaded.items():
        assert torch.equal(value, state[key]), key
    maps = trunk.eval()(torch.zeros(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(trunk.channels[0], 4, 4), (trunk.channels[1], 2, 2)]


def test_a_download_that_fails_stops_the_run_at_once(tiny_set: Path, tmp_path: Path) -> None:
    """Every way out leads to a closed port of this machine."""
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    proxies = {k: v for key, v in nowhere.items() for k in (key, key.lower())} | {"NO_PROXY": "", "no_proxy": ""}
    began = time.perf_counter()
    done = shell(
        *("train", tiny_set, "--out", tmp_path / "run", "--backbone", "mobilenetv3_small_050", "--imgsz", "32"),
        **(proxies | {"HF_HOME": str(tmp_path / "hub")}),
    )
    done.says(r"could not download the pretrained weights of mobilenetv3_small_050 .*--weights FILE.*--weights none")
    assert time.perf_counter() - began < 30  # the hub's own client would try for 50 seconds
    assert not (tmp_path / "run").exists()


@pytest.mark.real
@pytest.mark.parametrize("name", ["tf_mobilenetv3_small_100", "mobilenetv2_100"])
def test_real_weights_load_every_tensor_of_the_trunk(name: str, real_weights: Path) -> None:
    state = load_file(real_weights / f"{name}.safetensors")
    trunk = build_trunk(name, str(real_weights / f"{name}.safetensors"), 64)
    loaded = trunk.net.state_dict()
    missing = [k for k, v in loaded.items() if not (k in state and torch.equal(v, state[k]))]
    assert [k for k in missing if not k.endswith("num_batches_tracked")] == []
    other = {"tf_mobilenetv3_small_100": "mobilenetv2_100", "mobilenetv2_100": "tf_mobilenetv3_small_100"}[name]
    with pytest.raises(WeightsError, match=r"tensors are not in it.*this very timm backbone"):
        build_trunk(other, str(real_weights / f"{name}.safetensors"), 64)


@pytest.mark.real
@pytest.mark.slow
def test_real_pictures_with_real_weights(real_data: Path, real_weights: Path, tmp_path: Path) -> None:
    """The real thing, cut short: two epochs of a third of the pets, then the scoreboard on their own test part."""
    trunk = real_weights / "tf_mobilenetv3_small_100.safetensors"
    train = onebox.load_dataset(real_data / "pets3" / "train.csv")
    test = onebox.load_dataset(real_data / "pets3" / "test.csv")
    settings = {"weights": str(trunk), "imgsz": 64, "epochs": 2, "threads": 2}
    run = onebox.train(train.subset(range(0, len(train), 3)), out=tmp_path / "run", reporter=Silent(), **settings)
    model = onebox.load(run.model)
    assert model.manifest.export_check["pictures"] >= 24
    metrics = onebox.evaluate(model, test.subset(range(0, len(test), 4)))
    assert metrics.n > 5
    assert metrics.baseline["top1"] < 1
