"""The presence head: what it is taught with, that it changes nothing else, and what it is worth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from torch import Tensor  # noqa: E402

import onebox  # noqa: E402
from onebox.calibration import auroc  # noqa: E402
from onebox.conversion import write_dataset  # noqa: E402
from onebox.errors import ConfigError, DataError, TrainingError  # noqa: E402
from onebox.manifest import PRESENCE_OUTPUT  # noqa: E402
from onebox.training.augment import step_generator  # noqa: E402
from onebox.training.cache import build_cache  # noqa: E402
from onebox.training.checkpoint import load_best  # noqa: E402
from onebox.training.config import make_config  # noqa: E402
from onebox.training.empty_pictures import find_empty, load_empty  # noqa: E402
from onebox.training.model import Network, build_network  # noqa: E402
from onebox.training.negatives import KINDS, LEAST_SIDE, RIM, free_windows, make_negatives, object_masks  # noqa: E402
from onebox.training.predictor import TorchLocalizer  # noqa: E402
from onebox.training.presence import add_presence  # noqa: E402
from onebox.training.reporter import Silent  # noqa: E402
from tests.small_runs import TINY, coloured_set, here  # noqa: E402

SIDE = 48


class Listener(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@st.composite
def boxes(draw: st.DrawFn) -> list[float]:
    x, y = (sorted((draw(st.floats(0, 1)), draw(st.floats(0, 1)))) for _ in range(2))
    return [x[0], y[0], x[1], y[1]]


@given(boxes(), st.lists(st.floats(0, 0.9999), min_size=5, max_size=5))
def test_a_crop_never_enters_the_box_and_never_leaves_the_picture(box: list[float], u: list[float]) -> None:
    windows, room = free_windows(torch.tensor([box]), torch.tensor([u]))
    widest = max(box[0], box[1], 1 - box[2], 1 - box[3])
    if abs(widest - LEAST_SIDE) > 1e-5:
        assert room.tolist() == [widest >= LEAST_SIDE]
    if not room[0]:
        return
    x0, y0, x1, y1 = windows[0].tolist()
    assert -1e-6 <= x0 < x1 <= 1 + 1e-6
    assert -1e-6 <= y0 < y1 <= 1 + 1e-6
    assert min(x1 - x0, y1 - y0) > LEAST_SIDE - 1e-5
    shared = max(0.0, min(x1, box[2]) - max(x0, box[0])) * max(0.0, min(y1, box[3]) - max(y0, box[1]))
    assert shared <= 1e-6


def test_what_is_painted_over_is_the_box_and_its_rim() -> None:
    mask = object_masks(torch.tensor([[0.25, 0.5, 0.75, 1.0]]), 100)[0, 0]
    rim = round(RIM * 100)
    rows, columns = torch.nonzero(mask, as_tuple=True)
    assert (int(columns.min()), int(columns.max())) == (25 - rim, 74 + rim)
    assert (int(rows.min()), int(rows.max())) == (50 - rim, 99)
    assert mask.sum() == (50 + 2 * rim) * (50 + rim)


def red_objects(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(B, 3, S, S): ground without any red, and boxes on whole pixels, all red inside."""
    g = torch.Generator().manual_seed(seed)
    pictures = 255 * torch.rand(count, 3, SIDE, SIDE, generator=g)
    pictures[:, 0] = 0
    low = torch.randint(0, SIDE // 2, (count, 2), generator=g)
    size = torch.randint(SIDE // 6, SIDE // 2, (count, 2), generator=g)
    for picture, (x, y), (w, h) in zip(pictures, low.tolist(), size.tolist(), strict=True):
        picture[:, y : y + h, x : x + w] = torch.tensor([255.0, 0.0, 0.0]).view(3, 1, 1)
    return pictures, torch.cat([low, low + size], dim=1) / SIDE


def test_no_trace_of_the_object_is_left() -> None:
    pictures, where = red_objects(200)
    made, kinds = make_negatives(pictures, where, step_generator(5, 7))
    assert set(kinds.tolist()) == set(range(len(KINDS)))
    assert (made.min() >= 0, made.max() <= 255) == (True, True)
    for name in ("replaced", "filled"):
        assert made[kinds == KINDS.index(name)][:, 0].max() < 1e-3, name
    # a crop is resampled: at its very border, half a pixel away, the red may shine through
    crops = made[kinds == KINDS.index("crop")][:, 0, 4:-4, 4:-4]
    assert len(crops) > 50
    assert crops.mean() < 0.5


def test_negatives_are_functions_of_seed_and_step_alone() -> None:
    pictures, where = red_objects(40)
    found = []
    for seed, step in ((1, 1), (1, 1), (1, 2), (2, 1)):
        torch.manual_seed(seed * 100 + len(found))
        found.append(make_negatives(pictures, where, step_generator(seed, step)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][1], found[2][1])
    assert not torch.equal(found[0][1], found[3][1])


def test_where_the_object_fills_the_picture_there_is_no_crop() -> None:
    pictures, _ = red_objects(60)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(60, 4)
    made, kinds = make_negatives(pictures, whole, step_generator(0, 0))
    assert {KINDS[k] for k in kinds.tolist()} == {"filled", "shuffled", "blurred", "noise"}
    assert (made[kinds == KINDS.index("filled")] - 127.5).abs().max() < 1e-3  # nothing is known of the ground


def network_of(run: Path) -> Network:
    """As `onebox export` rebuilds it."""
    weights, manifest = load_best(run / "best.safetensors")
    network = build_network(make_config(**TINY), len(manifest.class_names))
    network.load_state_dict(weights)
    return network


@pytest.mark.parametrize("recipe", ["default", "plain"])
def test_class_and_box_are_those_of_the_loop_bit_for_bit(tiny_set: Path, tmp_path: Path, recipe: str) -> None:
    run = onebox.train(
        onebox.load_dataset(tiny_set), out=tmp_path / "run", reporter=Silent(),
        config=make_config(recipe=recipe, **TINY | {"epochs": 2}),
    )  # fmt: skip
    # what the loop kept as best, before there was a presence head, and what the run left
    before = load_file(run.folder / "last.safetensors")
    before = {k.removeprefix("best."): v for k, v in before.items() if k.startswith("best.")}
    after = load_file(run.folder / "best.safetensors")
    added = after.keys() - before.keys()
    assert added
    assert all(name.startswith("presence_head.") for name in added)
    assert [k for k in before if not torch.equal(before[k], after[k])] == []
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    network = build_network(make_config(recipe=recipe, **TINY), 2)
    answers = []
    for weights in (before, after):
        network.load_state_dict(weights)
        assert (network.presence_head is None) == (weights is before)
        answers.append(TorchLocalizer(network, onebox.load(run.model).manifest).run(pictures))
    assert answers[1].keys() - answers[0].keys() == {PRESENCE_OUTPUT}
    for name, value in answers[0].items():
        np.testing.assert_array_equal(value, answers[1][name])


def test_fitting_is_repeatable_and_moves_no_other_random_number(tiny_set: Path, tiny_run: Path) -> None:
    data = onebox.load_dataset(tiny_set)
    cache = build_cache(data, data.class_names, TINY["imgsz"])
    network, config = network_of(tiny_run), make_config(**TINY)
    before = {k: v.clone() for k, v in network.state_dict().items() if not k.startswith("presence_head.")}
    state, heads, found = torch.get_rng_state(), [], []
    for _ in range(2):
        found.append(add_presence(network, cache, cache, None, config))
        heads.append({k: v.clone() for k, v in network.state_dict().items()})
    assert torch.equal(state, torch.get_rng_state())
    assert found[0] == found[1]
    assert all(torch.equal(heads[0][k], heads[1][k]) for k in heads[0])
    assert all(torch.equal(before[k], heads[1][k]) for k in before)
    assert add_presence(network, cache, None, None, config) is None  # a head, but nothing to set a threshold on
    assert network.presence_head is not None


def test_no_gradient_of_the_presence_head_reaches_the_trunk(tiny_run: Path) -> None:
    network = network_of(tiny_run).train()
    output = network(torch.rand(4, 3, 32, 32) * 255)
    assert output.presence is not None
    output.presence.sum().backward()
    touched = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert touched == {"presence_head"}


def test_the_exported_graph_says_what_torch_says(tiny_run: Path) -> None:
    model = onebox.load(tiny_run)
    pictures = np.random.default_rng(1).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    ours, theirs = model.run(pictures), TorchLocalizer(network_of(tiny_run), model.manifest).run(pictures)
    assert ours[PRESENCE_OUTPUT].shape == (7,)
    assert ours[PRESENCE_OUTPUT].dtype == np.float32
    assert np.ptp(ours[PRESENCE_OUTPUT]) > 0.1
    np.testing.assert_allclose(ours[PRESENCE_OUTPUT], theirs[PRESENCE_OUTPUT], atol=1e-3, rtol=1e-3)


def ground(folder: Path, count: int, seed: int = 9) -> list[Path]:
    """Pictures of the noise that `coloured_set` lays its objects on."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"empty{i:03}.png" for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(60, 120, (48, 64, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.mark.parametrize("place", ["beside", "named"])
def test_a_folder_of_negatives_is_used_and_what_is_broken_in_it_is_told(tmp_path: Path, place: str) -> None:
    labels = coloured_set(tmp_path / "set", 60)
    folder = tmp_path / "set" / "negatives" if place == "beside" else tmp_path / "elsewhere"
    ground(folder, 20)
    (folder / "broken.png").write_bytes(b"no picture")
    listener = Listener()
    # four epochs say little: .84 on average, .49 to 1.0 with ten seeds; after ten, eight seeds have .975 to 1.0, and
    # which of them have less depends on the processor; after twenty all have 1.0
    more: dict[str, Any] = {"epochs": 20} | ({} if place == "beside" else {"negatives": str(folder)})
    run = onebox.train(
        onebox.load_dataset(labels), out=tmp_path / "run", reporter=listener, config=make_config(**TINY | more)
    )
    assert any(text.startswith("20 pictures without an object") for text in listener.said)
    assert any("broken.png" in text and text.startswith("skipped") for text in listener.said)
    presence = onebox.load(run.model).manifest.calibration["presence"]
    # two negatives made of each of the 12 held-out pictures, and a fifth of the folder
    assert (presence["pictures"], presence["negatives"]) == (12, 24 + 4)
    # twelve pictures cannot promise 5 %
    assert presence["false_reject"] == pytest.approx(1 / 13)
    model = onebox.load(run.model)
    new = coloured_set(tmp_path / "new", 40, seed=77)
    present = [p.presence for p in model.predict(sorted(new.parent.glob("*.png")))]
    absent = [p.presence for p in model.predict(ground(tmp_path / "new-ground", 40, seed=78))]
    assert auroc(present, absent) > 0.98  # pyright: ignore[reportArgumentType]


def test_objects_that_fill_every_picture_can_be_learnt(tmp_path: Path) -> None:
    rows = ["filename,class,xmin,ymin,xmax,ymax"]
    for i, path in enumerate(ground(tmp_path / "set", 20)):
        rows.append(f"{path.name},{'ab'[i % 2]},0,0,64,48")
    (tmp_path / "set" / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    data = onebox.load_dataset(tmp_path / "set" / "labels.csv")
    run = onebox.train(data, out=tmp_path / "run", reporter=Silent(), config=make_config(**TINY | {"epochs": 1}))
    assert np.isfinite(onebox.load(run.model).run(np.zeros((2, 32, 32, 3), np.uint8))[PRESENCE_OUTPUT]).all()


def yolo(folder: Path) -> onebox.Dataset:
    """Three pictures: with an object, with an empty label file, and without a label file."""
    for i, text in enumerate(("0 0.5 0.5 0.5 0.5\n", "", None)):
        (path := ground(folder / "images", 1)[0]).rename(path.with_name(f"{i}.png"))
        if text is not None:
            (folder / "labels").mkdir(exist_ok=True)
            (folder / "labels" / f"{i}.txt").write_text(text, encoding="utf-8")
    return onebox.load_dataset(folder)


def test_an_empty_label_file_says_that_there_is_no_object(tmp_path: Path) -> None:
    data = yolo(tmp_path)
    assert [Path(s.path).name for s in data.without_object] == ["1.png"]
    assert [Path(path).name for path in find_empty(data)] == ["1.png"]
    beside = ground(tmp_path / "negatives", 2)
    assert find_empty(data) == sorted([*map(str, beside), str(tmp_path / "images" / "1.png")])


@pytest.mark.parametrize("to", ["onebox", "csv", "tsv", "coco", "createml"])
def test_no_conversion_makes_a_negative_of_what_nobody_looked_at(to: str, tmp_path: Path) -> None:
    data = yolo(tmp_path / "in")
    write_dataset(data, tmp_path / "out", to)
    again = onebox.load_dataset(tmp_path / "out")
    assert [Path(s.path).name for s in again.without_object] == (["1.png"] if to == "onebox" else [])
    assert again.unlabelled_count == 2


@pytest.mark.parametrize(
    ("folder", "error", "says"),
    [
        ("nowhere", DataError, "no such folder"),
        ("set/empty", DataError, "no pictures in the folder"),
        ("set", TrainingError, "has a label"),
    ],
)
def test_a_folder_that_cannot_be_one_of_negatives(
    tmp_path: Path, folder: str, error: type[Exception], says: str
) -> None:
    data = onebox.load_dataset(coloured_set(tmp_path / "set", 8))
    (tmp_path / "set" / "empty").mkdir()
    place = str(tmp_path / folder)
    with pytest.raises(error, match=says):
        find_empty(data, place)
    done = here("train", data.root, "--out", tmp_path / "run", "--negatives", place, "--backbone", "plain")
    done.says(says)
    assert not (tmp_path / "run").exists()


def test_a_class_that_is_called_negatives_is_a_class(tmp_path: Path) -> None:
    labels = coloured_set(tmp_path / "set", 8)
    (tmp_path / "set" / "negatives").mkdir()
    shutil.move(tmp_path / "set" / "000.png", tmp_path / "set" / "negatives" / "000.png")
    labels.write_text(labels.read_text("utf-8").replace("000.png", "negatives/000.png"), encoding="utf-8")
    assert find_empty(onebox.load_dataset(labels)) == []


def test_a_share_of_the_negatives_is_held_out_and_val_s_own_all(tmp_path: Path) -> None:
    paths = [str(p) for p in ground(tmp_path, 25)]
    mixed = load_empty(paths, [], 32, share=0.2, seed=0)
    assert (len(mixed), int(mixed.held_out.sum())) == (25, 5)
    apart = load_empty(paths[:20], paths[20:], 32, share=0.2, seed=0)
    assert (len(apart), apart.held_out.tolist()) == (25, [False] * 20 + [True] * 5)
    assert len(load_empty([], [], 32, share=0.2, seed=0)) == 0


def test_the_wanted_share_of_false_rejects_is_a_setting(tmp_path: Path, tiny_run: Path) -> None:
    assert json.loads((tiny_run / "config.json").read_text("utf-8"))["config"]["false_reject"] == 0.05
    with pytest.raises(ConfigError, match="false_reject is"):
        make_config(false_reject=0.9)
    data = onebox.load_dataset(coloured_set(tmp_path / "set", 30))
    config = make_config(**TINY | {"epochs": 1, "false_reject": 0.4})
    run = onebox.train(data, out=tmp_path / "run", reporter=Silent(), config=config)
    assert onebox.load(run.model).manifest.calibration["presence"]["false_reject"] == 0.4
