"""Where the heads looked: localizers whose looks are known, trained networks with randomised heads, the picture and the
command."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr

import onebox
from onebox.errors import ModelError, PictureError
from onebox.explanation import BAND, CELLS, EDGES, Explanation
from onebox.images import Pixels
from onebox.manifest import Manifest
from onebox.runtime import Localizer, Outputs
from onebox.training import api
from onebox.training.cache import build_cache
from onebox.training.config import make_config
from onebox.training.loop import train_epochs
from onebox.training.model import Network
from onebox.training.predictor import TorchLocalizer
from onebox.training.processor import processor_set_up
from tests.small_runs import coloured_set, here, untouched

SIDE = 96
#: Places in 0-1 (x, y) that decide: the class, then the four edges.
PLACES = ((0.5, 0.5), (0.2, 0.4), (0.6, 0.15), (0.85, 0.6), (0.4, 0.9))


def manifest(classes: tuple[str, ...] = ("cat", "dog"), side: int = SIDE) -> Manifest:
    return Manifest(classes, side, "plain", "default", "edges", "0", {}, {})


class Peephole(Localizer):
    """A model that looks at five places: the brightness of each decides the class, or one edge."""

    def __init__(self, classes: tuple[str, ...] = ("cat", "dog")) -> None:
        self.manifest = manifest(classes)

    def run(self, pictures: Pixels) -> Outputs:
        seen = []
        for x, y in PLACES:
            column, row = round(x * SIDE), round(y * SIDE)
            patch = pictures[:, row - 3 : row + 3, column - 3 : column + 3].astype(np.float32)
            seen.append(patch.mean(axis=(1, 2, 3)) / 255)
        logits = np.stack([4 * seen[0], *[0 * seen[0]] * (len(self.class_names) - 1)], axis=1)
        offsets = np.stack(seen[1:], axis=1)
        boxes = np.array([0.1, 0.1, 0.7, 0.7]) + 0.1 * offsets
        return {"logits": logits, "boxes_01": boxes, "sigmas_01": np.full_like(boxes, np.nan)}


@pytest.fixture(scope="module")
def spotted() -> Image.Image:
    """Bright spots of the size that the peepholes have, on black, 192 wide and 96 high."""
    picture = Image.new("RGB", (2 * SIDE, SIDE))
    for x, y in PLACES:
        column, row = round(x * 2 * SIDE), round(y * SIDE)
        picture.paste((255, 255, 255), (column - 6, row - 3, column + 6, row + 3))
    return picture


@pytest.fixture(scope="module")
def explained(spotted: Image.Image) -> Explanation:
    return onebox.explain(Peephole(), spotted)


def test_every_map_lies_where_that_head_looks(explained: Explanation) -> None:
    for (x, y), look, heat in zip(
        PLACES, explained.looks, (explained.class_map, *explained.edge_maps), strict=True
    ):  # fmt: skip
        assert heat.shape == (CELLS, CELLS)
        assert heat.min() >= 0
        assert heat.sum() == pytest.approx(1)
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        assert abs((column + 0.5) / CELLS - x) < 0.06, look.name
        assert abs((row + 0.5) / CELLS - y) < 0.06, look.name
        at = (np.arange(CELLS) + 0.5) / CELLS
        near = np.hypot(at[None, :] - x, at[:, None] - y) < 0.2
        assert heat[near].sum() > 0.8, look.name
        assert look.centre is not None
        assert np.hypot(look.centre[0] / (2 * SIDE) - x, look.centre[1] / SIDE - y) < 0.06


def test_the_numbers_are_those_of_the_maps(explained: Explanation) -> None:
    assert [look.name for look in explained.looks] == ["class", *EDGES]
    box = explained.prediction.box
    x_min, y_min, x_max, y_max = box.xyxyn
    at = (np.arange(CELLS) + 0.5) / CELLS
    inside = (at[None, :] > x_min) & (at[None, :] < x_max) & (at[:, None] > y_min) & (at[:, None] < y_max)
    for look, heat in zip(explained.looks, (explained.class_map, *explained.edge_maps), strict=True):
        assert look.inside == pytest.approx(heat[inside].sum(), abs=0.05)
        assert look.inside_by_chance == pytest.approx(box.area / (2 * SIDE * SIDE))
    left = explained.looks[1]
    reach = BAND * (x_max - x_min)
    assert left.near == pytest.approx(explained.edge_maps[0][:, np.abs(at - x_min) < reach].sum(), abs=0.06)
    assert left.near_by_chance == pytest.approx(min(1, x_min + reach) - max(0, x_min - reach))
    # the spot hidden wholly would move the edge by a tenth of the width; a soft spot nearly does
    assert 0.05 * 2 * SIDE < left.strength < 0.1 * 2 * SIDE
    assert 0.05 * SIDE < explained.looks[2].strength < 0.1 * SIDE
    assert 2 < explained.looks[0].strength < 4


def test_there_is_no_chance_in_it(spotted: Image.Image, explained: Explanation) -> None:
    again = onebox.explain(Peephole(), spotted)
    assert (again.class_map == explained.class_map).all()
    assert (again.edge_maps == explained.edge_maps).all()
    assert again.looks == explained.looks


def test_progress_counts_every_pass(spotted: Image.Image) -> None:
    told: list[tuple[int, int]] = []
    onebox.explain(Peephole(), spotted, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == 16 * 16 + 10 * 10
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_model_of_one_class_has_an_empty_class_map(spotted: Image.Image) -> None:
    found = onebox.explain(Peephole(("cat",)), spotted)
    assert not found.class_map.any()
    assert found.looks[0].centre is None
    assert found.edge_maps[0].sum() == pytest.approx(1)
    found.plot()


def test_a_picture_in_which_nothing_matters_has_empty_maps() -> None:
    found = onebox.explain(Peephole(), Image.new("RGB", (50, 50)))
    assert not found.class_map.any()
    assert not found.edge_maps.any()
    assert json.dumps(found.to_dict(maps=True))
    found.plot()


def test_numbers_that_are_none_and_pictures_that_are_none_are_refused(tmp_path: Path, spotted: Image.Image) -> None:
    class Broken(Peephole):
        def run(self, pictures: Pixels) -> Outputs:
            outputs = dict(super().run(pictures))
            return {**outputs, "boxes_01": outputs["boxes_01"] * np.inf}

    with pytest.raises(ModelError, match="no finite numbers"):
        onebox.explain(Broken(), spotted)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(PictureError):
        onebox.explain(Peephole(), tmp_path / "a.png")


def test_the_sheet_shows_the_picture_and_five_maps(explained: Explanation) -> None:
    sheet = explained.plot()
    assert sheet.mode == "RGB"
    assert sheet.width > 3 * 400
    assert sheet.height > 2 * 200
    pixels = np.asarray(sheet).astype(int)
    hot = (pixels[..., 0] > 220) & (pixels[..., 1] > 120) & (pixels[..., 2] < 120)
    thirds = [hot[:, i * sheet.width // 3 : (i + 1) * sheet.width // 3].any() for i in range(3)]
    assert all(thirds)
    assert explained.to_dict()["looks"].keys() == {"class", *EDGES}
    assert np.shape(explained.to_dict(maps=True)["edge_maps"]) == (4, CELLS, CELLS)


@pytest.mark.parametrize("size", [(4, 300), (300, 4), (1, 1)])
def test_pictures_of_odd_shape_are_drawn_too(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    found = onebox.explain(Peephole(), rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    assert found.plot().width > 200


# the sanity check of Adebayo et al. 2018 (arXiv 1810.03292): maps of a trained model are not those of a random one

SETTINGS: dict[str, Any] = {
    "backbone": "plain", "weights": "none", "imgsz": 48, "batch": 8, "epochs": 25, "bins": 16, "threads": 1,
    "lr": 3e-3, "patience": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Network], list[str]]:
    """Two networks that differ in their seed only, the first as it was five epochs earlier, and some pictures they were
    trained on."""
    data = onebox.load_dataset(coloured_set(tmp_path_factory.mktemp("sanity"), count=32))
    networks, earlier = [], []
    for seed in (0, 1):
        config = api.resolve(make_config(**SETTINGS, seed=seed), len(data))
        with processor_set_up(config):
            session = api.start_session(config, data.class_names, api.start_engine(config))
            for epoch in train_epochs(session, build_cache(data, data.class_names, config.side), None):
                if epoch.epoch == SETTINGS["epochs"] - 5:
                    earlier.append(copy.deepcopy(session.average))
        networks.append(session.average)
    return [*networks, earlier[0]], [sample.path for sample in data.samples[:4]]


def randomised(network: Network, head: str, seed: int = 7) -> Network:
    """A copy whose named head has drawn weights again."""
    torch.manual_seed(seed)
    other = copy.deepcopy(network)
    for module in getattr(other, head).modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return other


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation of two stacks of maps, the mean over the maps."""
    found = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(one, other, strict=True)]
    return float(np.nanmean(found))


def own_part(edge_maps: np.ndarray) -> np.ndarray:
    """What an edge's map has that the maps of the picture's other edges have not: on plain ground every head, random or
    not, answers to the one thing there is."""
    by_picture = edge_maps.reshape(-1, 4, CELLS, CELLS)
    return (by_picture - by_picture.mean(axis=1, keepdims=True)).reshape(edge_maps.shape)


@pytest.mark.slow
def test_randomised_heads_give_other_maps(trained: tuple[list[Network], list[str]]) -> None:
    networks, pictures = trained

    def maps(network: Network) -> tuple[np.ndarray, np.ndarray]:
        model = TorchLocalizer(copy.deepcopy(network), manifest(("green", "red"), SETTINGS["imgsz"]))
        found = [onebox.explain(model, picture) for picture in pictures]
        return np.stack([f.class_map for f in found]), np.concatenate([f.edge_maps for f in found])

    class_map, edge_maps = maps(networks[0])
    _, other_edges = maps(networks[1])
    no_class, same_edges = maps(randomised(networks[0], "class_head"))
    same_class, no_edges = maps(randomised(networks[0], "box_head"))
    # the heads are disjoint: what one of them looks at is not changed by the other
    assert (same_edges == edge_maps).all()
    assert (same_class == class_map).all()
    # and what a head looks at is what it has learnt: training on changes its map far less than drawing it again. (Two
    # trainings agree on the class no better than that: any class head on a trained trunk answers to the one thing that
    # plain ground has. On the edges they do.) Single draws differ by .15, and processors round differently: so, twelve.
    early_class, early_edges = maps(networks[2])
    others = (maps(randomised(networks[0], "class_head", seed))[0] for seed in range(8, 19))
    drawn = [alike(class_map, other) for other in (no_class, *others)]
    assert np.mean(drawn) < alike(class_map, early_class) - 0.2, drawn
    assert alike(edge_maps, no_edges) < alike(edge_maps, early_edges) - 0.1
    assert alike(edge_maps, no_edges) < alike(edge_maps, other_edges)
    assert alike(own_part(edge_maps), own_part(no_edges)) < alike(own_part(edge_maps), own_part(other_edges)) - 0.2


# the command


def test_the_command_writes_a_picture_and_tells_the_numbers(
    tiny_run: Path, tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tiny_set.parent / "000.png"
    monkeypatch.chdir(tmp_path)
    with untouched(tiny_set.parent), untouched(tiny_run):
        done = here("explain", tiny_run, picture, "--json", tmp_path / "maps.json")
    assert done.code == 0, done.err
    with Image.open(tmp_path / "000-explained.png") as sheet:
        assert sheet.width > 1200
    found = json.loads((tmp_path / "maps.json").read_text("utf-8"))
    assert np.sum(found["edge_maps"][0]) == pytest.approx(1, abs=1e-2)
    first_words = [line.split()[0] for line in done.out.splitlines() if line.strip()]
    assert [word for word in first_words if word in EDGES] == list(EDGES)
    done = here("explain", tiny_run, picture, "--out", tmp_path / "b.jpg", "--json", "-")
    assert json.loads(done.out)["looks"].keys() == {"class", *EDGES}
    with Image.open(tmp_path / "b.jpg") as sheet:
        assert sheet.format == "JPEG"


def test_wrong_input_is_one_line(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    picture = tiny_set.parent / "000.png"
    here("explain", tiny_run, picture, "--out", picture).says("replace the picture itself")
    here("explain", tiny_run, picture, "--out", tmp_path / "a.txt").says("cannot write a picture as .txt")
    here("explain", tiny_run, tmp_path / "no.png", "--out", tmp_path / "a.png").says("no.png")
    here("explain", tmp_path, picture, "--out", tmp_path / "a.png").says("no model.onnx")
    here("explain", tiny_run, picture, "--out", tmp_path / "no" / "a.png").says("a.png")
    assert list(tmp_path.iterdir()) == []
