"""Out-of-fold predictions: every picture answered by a network that saw no copy of it; kept, continued, refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebox.dataset import Dataset, load_dataset
from onebox.errors import ConfigError, ModelError, RunFolderError, TrainingError
from onebox.training.cache import build_cache
from onebox.training.config import make_config
from onebox.training.fold_store import FILE
from onebox.training.folds import _assign, out_of_fold, out_of_fold_of_run, read_config
from onebox.training.leaks import who_belongs_together
from onebox.training.reporter import Silent
from onebox.types import Box, ImageSize
from tests.listening import Listening
from tests.small_runs import BLOCKED, TINY, coloured_set, python

CONFIG = make_config(**{**TINY, "epochs": 1})


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return coloured_set(tmp_path / "set", count=12)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """A set of 12 pictures with one copy under another label and one picture that cannot be read, and its folds."""
    folder = tmp_path_factory.mktemp("folds")
    table = coloured_set(folder / "set", count=12)
    shutil.copy(folder / "set/000.png", folder / "set/copy.png")
    Image.new("RGB", (64, 48)).save(folder / "set/broken.png")
    rows = table.read_text("utf-8").splitlines()
    first = rows[1].split(",")
    rows += [",".join(["copy.png", "red", *first[2:]]), "broken.png,red,1,1,20,20"]
    table.write_text("\n".join([*rows, ""]), "utf-8")
    data = load_dataset(table)
    whole = (folder / "set/broken.png").read_bytes()
    (folder / "set/broken.png").write_bytes(whole[: len(whole) // 2])
    store = folder / FILE
    assert out_of_fold(data, config=CONFIG, folds=3, store=store, reporter=Silent()).predictions.count(None) == 1
    return data, store


def test_every_labelled_picture_is_answered_in_order_and_none_means_unreadable(judged: tuple[Dataset, Path]) -> None:
    data, store = judged
    both = out_of_fold(data, config=CONFIG, folds=3, store=store, reporter=Silent())
    found = both.predictions
    assert [one is None for one in both.close_ups] == [one is None for one in found]
    names = [Path(sample.path).name for sample in data.labelled]
    assert len(found) == len(names) == 14
    assert [name for name, answer in zip(names, found, strict=True) if answer is None] == ["broken.png"]
    for sample, answer in zip(data.labelled, found, strict=True):
        if answer is not None:
            assert answer.path == sample.path
            assert answer.box.image_size == sample.image_size
            assert answer.probabilities.sum() == pytest.approx(1)


def test_a_copy_is_judged_by_the_same_network_whatever_its_label(judged: tuple[Dataset, Path]) -> None:
    data, store = judged
    for found in out_of_fold(data, config=CONFIG, folds=3, store=store, reporter=Silent()):
        answers = dict(zip([Path(s.path).name for s in data.labelled], found, strict=True))
        one, other = answers["000.png"], answers["copy.png"]
        assert one is not None
        assert other is not None
        assert one.probabilities.tolist() == other.probabilities.tolist()
        assert one.box == other.box


def test_groups_stay_whole_and_every_fold_has_every_class(judged: tuple[Dataset, Path]) -> None:
    data, _ = judged
    cache = build_cache(data.labelled, ("green", "red"), 32)
    groups = who_belongs_together(data.labelled, cache)
    folds = _assign(data.labelled, cache, groups, 3, seed=0)
    by_name = {Path(s.path).name: int(fold) for s, fold in zip(cache.samples, folds, strict=True)}
    assert by_name["000.png"] == by_name["copy.png"]
    assert sorted(set(folds)) == [0, 1, 2]
    for fold in range(3):
        assert set(cache.labels[folds == fold]) == {0, 1}
        assert 3 <= (folds == fold).sum() <= 6


def test_the_second_time_nothing_is_trained(judged: tuple[Dataset, Path], tmp_path: Path) -> None:
    data, store = judged
    before = store.read_bytes()
    program = tmp_path / "again.py"
    program.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from onebox.dataset import load_dataset\nfrom onebox.training.config import make_config\n"
        "from onebox.training.folds import out_of_fold\n"
        f"config = make_config(**{ {**TINY, 'epochs': 1}!r})\n"
        f"found = out_of_fold(load_dataset({str(Path(data.root) / 'labels.csv')!r}), config=config, folds=3,"
        f" store=Path({str(store)!r}))\n"
        "assert 'torch' not in sys.modules\nprint([p and p.probabilities.tolist() for p in found.predictions])\n",
        "utf-8",
    )
    done = python("-c", BLOCKED, str(program))  # no torch here at all
    assert done.code == 0, done.err
    again = out_of_fold(data, config=CONFIG, folds=3, store=store, reporter=Silent())
    assert json.loads(done.out.replace("None", "null")) == [p and p.probabilities.tolist() for p in again.predictions]
    assert store.read_bytes() == before


def test_a_stopped_run_goes_on_after_its_last_whole_fold(judged: tuple[Dataset, Path], tmp_path: Path) -> None:
    data, store = judged
    head, *rows = store.read_text("utf-8").splitlines()
    cache = build_cache(data.labelled, ("green", "red"), 32)
    folds = _assign(data.labelled, cache, who_belongs_together(data.labelled, cache), 3, seed=CONFIG.seed)
    last = {data.relative_path(s) for s, fold in zip(cache.samples, folds, strict=True) if fold == 2}
    whole = {row["path"]: row["outputs"] for row in map(json.loads, rows)}
    kept = {name: outputs for name, outputs in whole.items() if name not in last}
    assert 0 < len(kept) < len(whole)
    # what is kept is not computed again: it is told apart by a change
    marked = {name: outputs and {**outputs, "logits": [100.0, 0.0]} for name, outputs in kept.items()}
    lines = [json.dumps({"path": name, "outputs": outputs}) for name, outputs in marked.items()]
    stopped = tmp_path / FILE
    stopped.write_text("\n".join([head, *lines, ""]), "utf-8")
    out_of_fold(data, config=CONFIG, folds=3, store=stopped, reporter=Silent())
    after = {row["path"]: row["outputs"] for row in map(json.loads, stopped.read_text("utf-8").splitlines()[1:])}
    assert {name: after[name] for name in marked} == marked
    for name in last:
        np.testing.assert_allclose(after[name]["logits"], whole[name]["logits"], atol=1e-5)


@pytest.mark.parametrize("content", ["", "{}", "no json", '{"data": 1}\n', "[]\n[]\n"])
def test_a_damaged_store_is_computed_again(small: Path, tmp_path: Path, content: str) -> None:
    store = tmp_path / FILE
    store.write_text(content, "utf-8")
    found = out_of_fold(load_dataset(small), config=CONFIG, folds=2, store=store, reporter=Silent())
    assert None not in found.predictions
    assert len(store.read_text("utf-8").splitlines()) == 13


def test_folds_of_before_the_close_ups_are_asked_again(judged: tuple[Dataset, Path], tmp_path: Path) -> None:
    data, store = judged
    head, *rows = store.read_text("utf-8").splitlines()
    older = tmp_path / FILE
    lines = [head]
    for row in map(json.loads, rows):
        outputs = row["outputs"]
        if outputs is not None:
            assert {"logits", "close_logits", "boxes_01", "close_boxes_01"} <= set(outputs)
            outputs = {name: values for name, values in outputs.items() if not name.startswith("close_")}
        lines.append(json.dumps({"path": row["path"], "outputs": outputs}))
    older.write_text("\n".join([*lines, ""]), "utf-8")
    found = out_of_fold(data, config=CONFIG, folds=3, store=older, reporter=Silent())
    assert found.close_ups.count(None) == 1
    assert older.read_text("utf-8").count("close_logits") == 13


def test_the_close_up_is_of_the_given_box(small: Path, tmp_path: Path) -> None:
    data = load_dataset(small)
    first = data[0]
    assert first.box is not None
    elsewhere = Box(0, 0, 8, 8, image_size=ImageSize(*first.image_size))
    moved = replace(data, samples=(replace(first, box=elsewhere), *data.samples[1:]))
    found = [
        out_of_fold(these, config=replace(CONFIG, lr=1e-8), folds=2, store=tmp_path / name, reporter=Silent())
        for these, name in ((data, "a.jsonl"), (moved, "b.jsonl"))
    ]
    boxes = [one.close_ups[0].box for one in found if one.close_ups[0] is not None]
    # of a window of 1.9 times the box's side, whatever the network says in it
    assert boxes[1].x_max <= 0.5 * 8 + 1.9 * 8 / 2 + 1e-3
    assert boxes[1].y_max <= 0.5 * 8 + 1.9 * 8 / 2 + 1e-3
    assert boxes[0] != boxes[1]


def test_other_data_are_another_question(small: Path, tmp_path: Path) -> None:
    store = tmp_path / FILE
    data = load_dataset(small)
    out_of_fold(data, config=CONFIG, folds=2, store=store, reporter=Silent())
    before = store.read_bytes()
    samples = (replace(data[0], label="green"), *data.samples[1:])  # it was red
    out_of_fold(replace(data, samples=samples), config=CONFIG, folds=2, store=store, reporter=Silent())
    assert json.loads(store.read_bytes().splitlines()[0])["data"] != json.loads(before.splitlines()[0])["data"]


def test_fewer_pictures_than_folds_make_fewer_folds(tmp_path: Path) -> None:
    data = load_dataset(coloured_set(tmp_path / "set", count=3))
    listening = Listening()
    found = out_of_fold(data, config=CONFIG, folds=5, reporter=listening).predictions
    assert len(found) == 3
    assert None not in found
    assert any(line.startswith("Only 2 folds") for line in listening.said)  # two red pictures, one green


def test_what_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 folds cannot judge"):
        out_of_fold(load_dataset(coloured_set(tmp_path / "a", count=4)), config=CONFIG, folds=1)
    alone = load_dataset(coloured_set(tmp_path / "b", count=1))
    with pytest.raises(TrainingError, match="no two pictures"):
        out_of_fold(alone, config=CONFIG, reporter=Silent())
    table = coloured_set(tmp_path / "c", count=2)
    shutil.copy(tmp_path / "c/000.png", tmp_path / "c/001.png")
    with pytest.raises(TrainingError, match="no two pictures that are not copies"):
        out_of_fold(load_dataset(table), config=CONFIG, reporter=Silent())


def test_a_run_keeps_its_folds_and_takes_them_however_long_they_trained(tiny_run: Path, tiny_set: Path) -> None:
    run = tiny_run.parent / "kept"
    shutil.copytree(tiny_run, run)
    data = load_dataset(tiny_set)
    listening = Listening()
    first = out_of_fold_of_run(run, data, folds=2, minutes=2.0, reporter=listening)
    assert "Training 2 times" in listening.said[0]
    assert "about 2 minutes in all" in listening.said[0]
    assert json.loads((run / FILE).read_text("utf-8").splitlines()[0])["config"]["minutes"] == 1.0
    again = Listening()
    assert out_of_fold_of_run(run, data, reporter=again) == first
    assert again.said == []
    out_of_fold_of_run(run, data, folds=3, reporter=again)
    assert "Training 3 times" in again.said[0]


def test_the_settings_are_the_run_s(tiny_run: Path, tmp_path: Path) -> None:
    assert read_config(tiny_run).to_dict() == json.loads((tiny_run / "config.json").read_text("utf-8"))["config"]
    with pytest.raises(RunFolderError, match="no run folder"):
        read_config(tmp_path)
    with pytest.raises(RunFolderError, match="a file, not a run folder"):
        read_config(tiny_run / "model.onnx")
    (tmp_path / "config.json").write_text('{"config": {"epochs": "many"}}', "utf-8")
    with pytest.raises(RunFolderError, match="missing or damaged"):
        read_config(tmp_path)


def test_a_model_of_other_classes_is_refused(tiny_run: Path, tiny_set: Path) -> None:
    data = load_dataset(tiny_set)
    other = replace(data, samples=tuple(replace(s, label="blue") if s.label == "red" else s for s in data))
    with pytest.raises(ModelError, match="other classes: the model does not know 'blue'"):
        out_of_fold_of_run(tiny_run, other)
    fewer = data.subset(i for i, s in enumerate(data) if s.label == "red")
    with pytest.raises(ModelError, match="other classes: the data do not have 'green'"):
        out_of_fold_of_run(tiny_run, fewer)
