"""Calibration in a model file: what a training leaves, what answers promise, files that are damaged, and the real
predictions of a small model put to the statistical criterion, with the control that must fail it."""

from __future__ import annotations

import itertools
import json
import math
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import onebox
from onebox.calibrating import from_evaluation
from onebox.calibration import coverage_curve, ece, fit_calibration
from onebox.calibration.reading import merged, read_calibration
from onebox.dataset import Dataset, load_dataset
from onebox.errors import CalibrationError, ModelError
from onebox.evaluation import Evaluation, judge, judged, recalibrated
from onebox.manifest import METADATA_KEY, Manifest
from onebox.model_file import write_weights_with_manifest, write_with_manifest
from onebox.runtime import OnnxLocalizer, load
from tests.small_runs import TINY, coloured_set, untouched


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """240 pictures, none of them of `tiny_set`."""
    return load_dataset(coloured_set(tmp_path_factory.mktemp("new") / "set", count=240, seed=11))


@pytest.fixture(scope="module")
def evaluation(tiny_run: Path, data: Dataset) -> Evaluation:
    """What the small model, which was not calibrated, answers to them."""
    return judge(load(tiny_run), data, resamples=0)


@pytest.fixture(scope="module")
def calibrated(tiny_run: Path, evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model calibrated on all of them."""
    path = tmp_path_factory.mktemp("calibrated") / "model.onnx"
    manifest = from_evaluation(load(tiny_run).manifest, evaluation).manifest
    write_with_manifest(tiny_run / "model.onnx", manifest, path)
    return path


def test_five_held_out_pictures_are_too_few_and_the_run_says_so(tiny_run: Path) -> None:
    model = load(tiny_run)
    assert model.calibration is None
    with pytest.raises(CalibrationError, match=r"carries no calibration.*onebox calibrate MODEL DATA"):
        model.predict(np.zeros((20, 30, 3), dtype=np.uint8))[0].outer_box(0.9)


def test_a_training_with_enough_of_them_is_calibrated(tmp_path: Path) -> None:
    source = coloured_set(tmp_path / "set", count=80, seed=2)
    run = onebox.train(load_dataset(source), out=tmp_path / "run", **TINY | {"epochs": 2})
    model = load(run.model)
    assert model.calibration is not None
    assert model.calibration.source == "validation"
    assert model.calibration.pictures == run.metrics.n if run.metrics else 0
    # the figures of the run are those of the calibrated model
    assert run.metrics is not None
    assert run.metrics.ece == pytest.approx(model.calibration.ece_after, abs=1e-5)
    assert [p["asked"] for p in run.metrics.coverage["outer_box"]] == [0.8, 0.9]  # .95 needs 19 pictures
    from onebox.training.checkpoint import load_best

    assert load_best(tmp_path / "run" / "best.safetensors")[1].calibration == model.manifest.calibration
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["epochs"] == 2


def test_answers_promise_what_the_calibration_allows(calibrated: Path, data: Dataset) -> None:
    for answer in load(calibrated).predict([sample.path for sample in data][:12]):
        size = answer.box.image_size
        assert size is not None
        outer = [answer.outer_box(c).xyxy for c in (0.5, 0.8, 0.95)]
        for small, large in itertools.pairwise(outer):
            assert all(a >= b for a, b in zip(small[:2], large[:2], strict=True))
            assert all(a <= b for a, b in zip(small[2:], large[2:], strict=True))
        assert 0 <= outer[-1][0] <= outer[-1][2] <= size.width
        assert 0 <= outer[-1][1] <= outer[-1][3] <= size.height
        inner = answer.inner_box(0.5)
        if inner is not None:
            assert inner.width > 0
            assert inner.x_min >= outer[-1][0]
        assert 0 <= answer.iou_at_least(0.95) <= answer.iou_at_least(0.5) <= 1
        assert answer.class_set(0.8)[0] == answer.label
        assert set(answer.class_set(0.8)) <= set(answer.class_set(0.95)) <= set(answer.class_names)
        names, box = answer.joint(0.8)
        assert set(names) >= {answer.label}
        assert box.area >= answer.outer_box(0.8).area
        told = answer.to_dict(coverage=0.9)
        assert set(told) - set(answer.to_dict()) == {"presence", "present", "coverage", "outer_box", "class_set"}
        assert told["outer_box"] == [round(v, 3) for v in answer.outer_box(0.9).xyxy]
        assert (told["presence"], told["present"]) == (pytest.approx(answer.presence, abs=1e-6), answer.present)
        assert answer.plot(0.9).size == tuple(size)
        json.dumps(told)


def test_what_single_answers_promise_is_what_the_arrays_say(calibrated: Path, data: Dataset) -> None:
    new = judge(load(calibrated), data.subset(range(60)), resamples=0)
    calibration = load(calibrated).calibration
    assert calibration is not None
    kept = calibration.kept(judged(new.records), 0.8)
    for i, record in enumerate(new.records):
        answer, true = record.prediction, record.box
        outer, inner = answer.outer_box(0.8), answer.inner_box(0.8)
        near = 1e-6
        holds = (
            outer.x_min <= true.x_min + near and outer.y_min <= true.y_min + near
            and outer.x_max >= true.x_max - near and outer.y_max >= true.y_max - near
        )  # fmt: skip
        assert holds == kept["outer_box"][i]
        within = inner is None or (
            inner.x_min >= true.x_min - near and inner.y_min >= true.y_min - near
            and inner.x_max <= true.x_max + near and inner.y_max <= true.y_max + near
        )  # fmt: skip
        assert within == kept["inner_box"][i]
        assert (record.iou >= answer.iou_at_least(0.8) - near) == kept["iou_at_least"][i]
        assert (record.label in answer.class_set(0.8)) == kept["class_set"][i]


def test_the_temperature_changes_probabilities_and_nothing_else(
    evaluation: Evaluation, calibrated: Path, data: Dataset
) -> None:
    after = judge(load(calibrated), data, resamples=0)
    calibration = load(calibrated).calibration
    assert calibration is not None
    assert calibration.temperature != 1.0
    for old, new in zip(evaluation.records, after.records, strict=True):
        assert (old.prediction.label, old.prediction.box) == (new.prediction.label, new.prediction.box)
        assert new.prediction.raw_log_probabilities() == pytest.approx(old.prediction.raw_log_probabilities(), abs=1e-9)
        assert new.prediction.score == pytest.approx(new.prediction.probabilities.max())
    assert after.metrics.ece == pytest.approx(calibration.ece_after, abs=1e-5)
    assert evaluation.metrics.ece == pytest.approx(calibration.ece_before, abs=1e-5)
    again = recalibrated(evaluation, calibration)  # without looking at a picture
    assert again.metrics.ece == pytest.approx(after.metrics.ece)
    assert (again.metrics.coverage, again.metrics.confusion) == (after.metrics.coverage, after.metrics.confusion)
    for old, new in zip(again.records, after.records, strict=True):
        assert old.prediction.probabilities == pytest.approx(new.prediction.probabilities, abs=1e-12)
        assert (old.prediction.box, old.iou) == (new.prediction.box, new.iou)
    # calibrating what is calibrated starts from the raw probabilities again
    assert from_evaluation(load(calibrated).manifest, after).calibration.temperature == calibration.temperature


def overfitted(folder: Path) -> tuple[Path, Dataset]:
    """A training that learns its 24 pictures by heart, and those pictures."""
    train = load_dataset(coloured_set(folder / "few", count=24, seed=5))
    settings = TINY | {"epochs": 60, "augment": 0.0}
    onebox.train(train, train.subset([]), out=folder / "run", **settings)
    return folder / "run", train


@pytest.mark.slow
def test_real_predictions_reach_what_was_asked_and_training_pictures_do_not(tmp_path: Path, data: Dataset) -> None:
    run, train = overfitted(tmp_path)
    model = load(run)
    new, learnt = (judged(judge(model, d, resamples=0).records) for d in (data, train))
    asked, n, splits = np.array([0.95, 0.9, 0.8]), 60, 300
    rng = np.random.default_rng(0)
    good = []
    for _ in range(splits):
        order = rng.permutation(len(new))
        fitted = fit_calibration(new.take(order[:n]), source="calibration")
        good.append([s for _, s in coverage_curve(fitted, new.take(order[n:]), asked.tolist())["outer_box"]])
    error = np.std(good, axis=0, ddof=1) / math.sqrt(splits)
    assert (np.mean(good, axis=0) >= asked - 3 * error).all(), np.mean(good, axis=0)
    assert (np.mean(good, axis=0) <= asked + 1 / (n + 1) + 3 * error).all(), np.mean(good, axis=0)
    on_learnt = fit_calibration(learnt, source="calibration")
    control = [s for _, s in coverage_curve(on_learnt, new, asked.tolist())["outer_box"]]
    assert (np.array(control) < asked - 0.1).all(), control


def test_onnx_reads_what_was_written_and_only_the_manifest_differs(tiny_run: Path, calibrated: Path) -> None:
    before, after = onnx.load(str(tiny_run / "model.onnx")), onnx.load(str(calibrated))
    onnx.checker.check_model(after)
    (entry,) = after.metadata_props
    assert entry.key == METADATA_KEY
    assert Manifest.from_json(entry.value, where="").calibration["pictures"] == 240
    del before.metadata_props[:], after.metadata_props[:]
    assert after.SerializeToString(deterministic=True) == before.SerializeToString(deterministic=True)


def test_other_metadata_stays_and_a_manifest_is_never_there_twice(calibrated: Path, tmp_path: Path) -> None:
    model = onnx.load(str(calibrated))
    entry = model.metadata_props.add()
    entry.key, entry.value = "onebox.manifesto", "x" * 300
    onnx.save(model, str(tmp_path / "a.onnx"))
    manifest = replace(load(calibrated).manifest, backbone="another")
    for _ in range(2):  # onto itself, too
        write_with_manifest(tmp_path / "a.onnx", manifest, tmp_path / "a.onnx")
    props = {p.key: p.value for p in onnx.load(str(tmp_path / "a.onnx")).metadata_props}
    assert set(props) == {METADATA_KEY, "onebox.manifesto"}
    assert load(tmp_path / "a.onnx").manifest == manifest
    assert len(onnx.load(str(tmp_path / "a.onnx")).metadata_props) == 2


@pytest.mark.parametrize("keep", [0, 1, 100, 5000])
def test_half_a_model_file_is_refused_and_nothing_is_written(keep: int, calibrated: Path, tmp_path: Path) -> None:
    (tmp_path / "half.onnx").write_bytes(calibrated.read_bytes()[:keep])
    with untouched(tmp_path), pytest.raises(ModelError):
        write_with_manifest(tmp_path / "half.onnx", load(calibrated).manifest, tmp_path / "half.onnx")


def test_weights_keep_their_tensors_under_a_new_manifest(tiny_run: Path, calibrated: Path, tmp_path: Path) -> None:
    from onebox.training.checkpoint import load_best

    path = tmp_path / "best.safetensors"
    path.write_bytes((tiny_run / "best.safetensors").read_bytes())
    manifest = load(calibrated).manifest
    write_weights_with_manifest(path, manifest)
    weights, read = load_best(path)
    assert read == manifest
    before, _ = load_best(tiny_run / "best.safetensors")
    assert all((weights[name] == value).all() for name, value in before.items())
    for damaged in (b"", b"12345678", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 1 << 40) + b"{}"):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match="damaged safetensors"):
            write_weights_with_manifest(path, manifest)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"scores": None},
        {"presence": 3},
        {"presence": {"threshold": 2}},
        {"pictures": "many"},
    ],
)
def test_a_model_with_a_damaged_calibration_is_refused_where_it_is_loaded(
    wrong: dict[str, object], calibrated: Path, tmp_path: Path
) -> None:
    manifest = load(calibrated).manifest
    model = onnx.load(str(calibrated))
    model.metadata_props[0].value = replace(manifest, calibration={**manifest.calibration, **wrong}).to_json()
    onnx.save(model, str(tmp_path / "bad.onnx"))
    with pytest.raises(ModelError, match=r"bad\.onnx: the calibration inside is damaged .*Calibrate again"):
        OnnxLocalizer(tmp_path / "bad.onnx")
    model.metadata_props[0].value = json.dumps(json.loads(manifest.to_json()) | {"calibration": [1]})
    onnx.save(model, str(tmp_path / "bad.onnx"))
    with pytest.raises(ModelError, match="manifest inside is damaged"):
        OnnxLocalizer(tmp_path / "bad.onnx")


def test_either_part_of_a_calibration_may_be_missing(evaluation: Evaluation) -> None:
    presence = {
        "threshold": 0.5,
        "false_reject": 0.05,
        "weights": {"energy": 1.0},
        "bias": 0.0,
        "pictures": 9,
        "negatives": 9,
    }
    calibration, told = read_calibration({"presence": presence})
    assert calibration is None
    assert told is not None
    fitted = fit_calibration(judged(evaluation.records), source="calibration")
    both = merged({"presence": presence, "scores": "old"}, fitted, None)
    assert both["presence"] == presence
    assert both["scores"] == fitted.to_dict()["scores"]
    assert merged(fitted.to_dict(), None, told) == fitted.to_dict() | {"presence": presence}
    assert read_calibration({}) == (None, None)


def test_the_metrics_say_what_was_asked_and_what_was_reached(calibrated: Path, data: Dataset) -> None:
    metrics = onebox.evaluate(load(calibrated), data)
    plain = json.loads(json.dumps(metrics.to_dict()))
    assert plain["coverage"]["outer_box"][1]["asked"] == 0.9
    assert plain["coverage"]["outer_box"][1]["reached"] >= 0.9  # the very pictures it was calibrated on
    assert set(plain["coverage"]) == {"outer_box", "inner_box", "iou_at_least", "class_set", "joint"}
    records = judge(load(calibrated), data, resamples=0).records
    p = np.stack([r.prediction.probabilities for r in records])
    names = list(load(calibrated).class_names)
    assert plain["ece"] == pytest.approx(ece(p, [names.index(r.label) for r in records]))
    assert plain["presence_auroc"] is None
    assert "outer box holds, asked: reached  0.8: " in str(metrics)
