"""The second look: where it looks, how its answer is put back into the picture, and that it takes over no promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import onebox
from onebox.cli.app import app
from onebox.evaluation import judge
from onebox.images import Pixels
from onebox.refine import DETAIL, LEAST, ROOM, Outputs, both_looks, second_look, windows
from onebox.training import looks
from tests.listening import Listening
from tests.small_runs import TINY, coloured_set

numbers = st.floats(-2, 3) | st.just(float("nan"))


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=5))
def test_windows_lie_inside_the_picture_and_hold_the_box(boxes: list[tuple[float, float, float, float]]) -> None:
    found = windows(boxes)
    assert found.shape == (len(boxes), 4)
    assert ((found >= 0) & (found <= 1)).all()
    assert (found[:, 2:] - found[:, :2] >= LEAST / 2 - 1e-12).all()  # half of it, where the box lies on the border
    b = np.clip(np.nan_to_num(np.array(boxes), nan=0.5), 0, 1)
    low, high = np.minimum(b[:, :2], b[:, 2:]), np.maximum(b[:, :2], b[:, 2:])
    assert (found[:, :2] <= low + 1e-12).all()
    assert (found[:, 2:] >= high - 1e-12).all()


def test_a_window_by_hand() -> None:
    assert windows([[0.4, 0.3, 0.6, 0.7]])[0] == pytest.approx(
        [0.5 - 0.1 * ROOM, 0.5 - 0.2 * ROOM, 0.5 + 0.1 * ROOM, 0.5 + 0.2 * ROOM]
    )
    assert windows([[0.9, 0.0, 1.0, 0.1]])[0] == pytest.approx([0.95 - 0.05 * ROOM, 0, 1, 0.05 + 0.05 * ROOM])


def find_white(pictures: Pixels) -> Outputs:
    """A network that truly looks: the box around what is white, sure of it by .01, the mean brightness as logit."""
    boxes: list[list[float]] = []
    for picture in pictures:
        rows, columns = np.nonzero(picture.mean(axis=2) > 127)
        side = len(picture)
        boxes.append([columns.min() / side, rows.min() / side, (columns.max() + 1) / side, (rows.max() + 1) / side])
    n = len(pictures)
    return {
        "logits": pictures.reshape(n, -1).mean(axis=1, keepdims=True).astype(np.float32) / 255,
        "boxes_01": np.array(boxes, dtype=np.float32),
        "sigmas_01": np.full((n, 4), 0.01, dtype=np.float32),
        "presence_logits": np.arange(n, dtype=np.float32),
    }


def test_the_second_look_is_as_fine_as_its_window() -> None:
    """32 pixels across, an object of 10.5 / 64: the first look cannot say it better than by 1 / 32, the second can."""
    imgsz = 32
    truth = np.array([21, 30, 32, 39]) / 64
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    picture[30:39, 21:32] = 255
    small = np.asarray(Image.fromarray(picture).resize((imgsz, imgsz), Image.Resampling.BILINEAR))
    assert DETAIL * imgsz == 64
    first = find_white(small[None])
    second = second_look(find_white, first, [picture], imgsz)
    first_error, second_error = (np.abs(o["boxes_01"][0] - truth).max() for o in (first, second))
    assert first_error >= 1 / 64
    assert second_error <= 1 / 128
    sure = 0.01 * np.tile(np.diff(windows(first["boxes_01"]).reshape(2, 2), axis=0)[0], 2)  # of the second look
    assert (second["sigmas_01"][0] > sure).all()  # the first look is less sure, and says something else
    assert (second["sigmas_01"][0] < 0.01).all()
    assert second["logits"][0, 0] > first["logits"][0, 0]  # the mean with a window that is mostly white
    assert second["presence_logits"] is first["presence_logits"]


def test_both_looks_by_hand() -> None:
    """Edge by edge: equally sure; the second twice as sure, a fifth of the weight for the first; as sure and agreeing;
    the first knows."""
    edges, sigmas = both_looks(
        ([[0.0, 0.0, 0.5, 0.4]], [[0.1, 0.2, 0.1, 0.0]]), ([[0.2, 0.5, 0.5, 0.6]], [[0.1, 0.1, 0.1, 0.1]])
    )
    assert edges[0] == pytest.approx([0.1, 0.4, 0.5, 0.4])
    assert sigmas[0] == pytest.approx([np.sqrt(0.01 + 0.25 * 0.04), np.sqrt(0.02 + 0.2 * 0.8 * 0.25), 0.1, 0.0])


def test_a_look_that_does_not_say_how_sure_it_is_leaves_the_second_alone() -> None:
    nan = float("nan")
    edges, sigmas = both_looks(([[0.1] * 4], [[nan, 0.1, nan, 0.0]]), ([[0.2] * 4], [[nan, nan, 0.3, 0.0]]))
    assert edges[0] == pytest.approx([0.2] * 4)
    assert sigmas[0] == pytest.approx([nan, nan, 0.3, 0.0], nan_ok=True)


edges_01, sigmas_01 = st.floats(-0.5, 1.5), st.floats(1e-4, 1.0)
looks_01 = st.lists(st.tuples(edges_01, sigmas_01, edges_01, sigmas_01), min_size=4, max_size=4)


@given(looks_01)
def test_both_looks_lie_between_them_and_disagreement_is_doubt(given: list[tuple[float, float, float, float]]) -> None:
    e1, s1, e2, s2 = np.array(given).T
    edges, sigmas = both_looks((e1[None], s1[None]), (e2[None], s2[None]))
    assert (edges[0] >= np.minimum(e1, e2) - 1e-12).all()
    assert (edges[0] <= np.maximum(e1, e2) + 1e-12).all()
    weights = np.stack([s1**-2.0, s2**-2.0])
    mean = np.average([e1, e2], axis=0, weights=weights)  # numpy's as the referee
    spread = np.average([(e1 - mean) ** 2, (e2 - mean) ** 2], axis=0, weights=weights)
    assert edges[0] == pytest.approx(mean, abs=1e-9)
    assert sigmas[0] == pytest.approx(np.sqrt(s1 * s2 + spread), rel=1e-6)
    assert (sigmas[0] >= np.minimum(s1, s2) * (1 - 1e-9)).all()
    swapped = both_looks((e2[None], s2[None]), (e1[None], s1[None]))
    assert swapped[0] == pytest.approx(edges, abs=1e-9)
    assert swapped[1] == pytest.approx(sigmas, rel=1e-6)


def test_every_picture_of_a_batch_has_its_own_window() -> None:
    pictures = np.zeros((3, 64, 64, 3), dtype=np.uint8)
    for i, (x, y) in enumerate(((4, 8), (30, 20), (50, 44))):
        pictures[i, y : y + 10, x : x + 12] = 255
    small = np.stack([np.asarray(Image.fromarray(p).resize((32, 32), Image.Resampling.BILINEAR)) for p in pictures])
    together = second_look(find_white, find_white(small), list(pictures), 32)
    for i in range(3):
        alone = second_look(find_white, find_white(small[i : i + 1]), [pictures[i]], 32)
        assert together["boxes_01"][i] == pytest.approx(alone["boxes_01"][0])


# ---- models


def test_a_model_looks_twice_when_asked(tiny_run: Path, tiny_set: Path) -> None:
    picture = tiny_set.parent / "003.png"
    once, twice = onebox.load(tiny_run), onebox.load(tiny_run, refine=True)
    assert not once.looks_twice
    assert twice.looks_twice
    one, two = once.predict(picture)[0], twice.predict(picture)[0]
    assert one.box != two.box
    assert two == twice.predict([picture, picture])[1]  # alone or in a batch
    size = two.box.image_size
    assert size is not None
    assert 0 <= two.box.x_min <= two.box.x_max <= size.width
    assert 0 <= two.box.y_min <= two.box.y_max <= size.height
    assert onebox.load(tiny_run, refine=False).predict(picture)[0] == one
    assert twice.calibration is None  # what it promises was learnt from answers of one look


def test_the_command_line(tiny_run: Path, tiny_set: Path) -> None:
    def boxes(*flags: str) -> str:
        done = CliRunner().invoke(app, ["predict", str(tiny_run), str(tiny_set.parent / "003.png"), *flags])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert boxes() == boxes("--no-refine")
    assert boxes() != boxes("--refine")


@pytest.mark.parametrize(("least", "twice"), [(-1.0, True), (1.0, False)])
def test_a_training_looks_twice_where_held_out_boxes_gain(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: float, twice: bool
) -> None:
    val = onebox.load_dataset(coloured_set(tmp_path / "val", count=looks.FEWEST))
    model = onebox.load(tiny_run)
    once = judge(model, val)
    monkeypatch.setattr(looks, "LEAST_GAIN", least)
    manifest, kept, told = looks.choose_looks(model, model.manifest, once, val, pretrained=True)
    assert manifest.refine is twice
    assert not model.looks_twice
    assert kept is not None
    assert kept.metrics == judge(onebox.load(tiny_run, refine=twice), val).metrics
    ious = [np.mean([r.iou for r in judge(onebox.load(tiny_run, refine=n), val).records]) for n in (False, True)]
    assert told.startswith(f"A second look takes the held-out boxes from a mean IoU of {ious[0]:.3f} to {ious[1]:.3f}")


@pytest.mark.parametrize("held_out", [0, looks.FEWEST - 1])
@pytest.mark.parametrize("pretrained", [True, False])
def test_few_held_out_pictures_are_not_asked(tiny_run: Path, tmp_path: Path, held_out: int, pretrained: bool) -> None:
    val = onebox.load_dataset(coloured_set(tmp_path / "val", count=looks.FEWEST)).subset(range(held_out))
    model = onebox.load(tiny_run)
    once = judge(model, val) if held_out else None
    manifest, kept, told = looks.choose_looks(model, model.manifest, once, val, pretrained=pretrained)
    assert manifest.refine is pretrained
    assert ("the model looks twice" in told) is pretrained
    if held_out:
        assert kept is not None
        assert kept.metrics == judge(onebox.load(tiny_run, refine=pretrained), val).metrics
    else:
        assert kept is None


def test_where_nobody_says_the_training_asks_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = onebox.load_dataset(coloured_set(tmp_path / "data", count=12))
    val = onebox.load_dataset(coloured_set(tmp_path / "val", count=looks.FEWEST, seed=1))
    monkeypatch.setattr(looks, "LEAST_GAIN", -1.0)
    listening = Listening()
    settings = {**TINY, "epochs": 1}
    settings.pop("refine", None)
    run = onebox.train(data, val, out=tmp_path / "run", reporter=listening, **settings)
    assert [line for line in listening.said if "the model looks twice" in line]
    model = onebox.load(run.model)
    assert model.looks_twice
    assert run.metrics is not None
    assert run.metrics.mean_iou == pytest.approx(onebox.evaluate(model, val).mean_iou, abs=1e-6)
    asked = Listening()
    run = onebox.train(data, val, out=tmp_path / "one", reporter=asked, **{**settings, "refine": False})
    assert not [line for line in asked.said if "second look" in line]
    assert not onebox.load(run.model).looks_twice


def test_a_run_for_two_looks_is_judged_by_two(tiny_set: Path, tmp_path: Path) -> None:
    data = onebox.load_dataset(tiny_set)
    run = onebox.train(data, out=tmp_path / "run", **{**TINY, "epochs": 1, "refine": True})
    model = onebox.load(run.model)
    assert model.manifest.refine
    assert model.looks_twice
    assert not onebox.load(run.model, refine=False).looks_twice
    assert onebox.evaluate(model, data).mean_iou != onebox.evaluate(onebox.load(run.model, refine=False), data).mean_iou
