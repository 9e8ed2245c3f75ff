"""A training from end to end: what it leaves behind, that it learns, that the clock is kept, what stops it."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import onebox  # noqa: E402
from onebox.errors import ConfigError  # noqa: E402
from onebox.manifest import METADATA_KEY, Manifest  # noqa: E402
from onebox.training.config import make_config  # noqa: E402
from onebox.training.reporter import Silent  # noqa: E402
from onebox.training.run_folder import RUN_FILES  # noqa: E402
from onebox.training.session import EpochRow  # noqa: E402
from tests.small_runs import TINY, coloured_set, json_lines  # noqa: E402


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


# ---- the clock, and things that go wrong


def test_minutes_stop_on_time_with_a_model(tiny_set: Path, tmp_path: Path) -> None:
    began = time.perf_counter()
    settings = TINY | {"minutes": 0.05, "epochs": 100_000}
    run = onebox.train(onebox.load_dataset(tiny_set), out=tmp_path / "run", reporter=Silent(), **settings)
    took = time.perf_counter() - began
    assert run.history[-1].epoch < 100_000
    last, before = run.history[-1].seconds, run.history[0].seconds
    # a third of three seconds, and what went before the loop: some tenths, or the imports where none came earlier
    assert before < last < before + 2
    assert last - before > 0.5
    assert took < 3 + 15  # the export takes seconds of its own, more on a busy machine
    assert run.history[-1].lr < 0.2 * max(row.lr for row in run.history)  # the rate came down in time
    assert any(row.best for row in run.history)
    assert onebox.load(run.model).predict(tiny_set.parent / "000.png")


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
