"""Why a model answered as it did: where its class head looked, and where each of the four edges looked. Takes any
`Localizer` and one picture; hides one small part of the picture after the other and notes what changes; gives maps and
numbers. Needs no gradients, so it works wherever the model runs; draws nothing unless asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from onebox.boxes import Floats
from onebox.errors import ModelError
from onebox.images import ImageSource, Pixels, load_pixels, open_image
from onebox.predictions import Prediction
from onebox.runtime import BATCH, Localizer, Outputs

#: In the order of `edge_maps`.
EDGES = ("left", "top", "right", "bottom")
#: Rows and columns of a map; each cell stands for an equal part of the picture.
CELLS = 48
#: What is hidden is a soft spot: its standard deviation and the distance to the next one, as shares of the picture's
#: side. The small spots find small parts, the large ones what is told from several places at once.
_SPOTS = ((0.05, 0.0625), (0.10, 0.10))
#: Hidden means blurred with this standard deviation (share of the side): a plain colour would be an object of its own.
_BLUR = 0.12
#: An effect counts as seen by an edge where it lies no further from it than this share of the box's width (height).
BAND = 0.25
#: Below these no effect is one: log-odds, and the share of the picture's side that an edge moves.
_NO_LOG_ODDS, _NO_SHIFT = 1e-4, 1e-5


@dataclass(frozen=True, slots=True)
class Look:
    """One map in numbers. `strength`: the largest change that hiding one spot made, in log-odds of the class (class
    head) or in pixels (edges); `inside`: share of the map within the predicted box; `centre`: its centre of mass (x, y)
    in pixels, None where nothing had any effect; `near`: for an edge, the share of the map no further from that edge
    than BAND of the box's width or height; `near_by_chance` and `inside_by_chance`: what an even map would have."""

    name: str
    strength: float
    inside: float
    inside_by_chance: float
    centre: tuple[float, float] | None
    near: float | None = None
    near_by_chance: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, rounded."""
        return {
            "strength": round(self.strength, 4),
            "inside": round(self.inside, 4),
            "inside_by_chance": round(self.inside_by_chance, 4),
            "centre": None if self.centre is None else [round(v, 1) for v in self.centre],
            "near": None if self.near is None else round(self.near, 4),
            "near_by_chance": None if self.near_by_chance is None else round(self.near_by_chance, 4),
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer and its reasons. `class_map` (CELLS, CELLS) and `edge_maps` (4, CELLS, CELLS; left, top, right,
    bottom) cover the whole upright picture, rows downwards; each is non-negative and sums to 1, or is all zeros where
    hiding had no effect. `looks`: the same five in numbers, the class first."""

    prediction: Prediction
    class_map: Floats = field(compare=False)
    edge_maps: Floats = field(compare=False)
    looks: tuple[Look, ...]

    def to_dict(self, *, maps: bool = False) -> dict[str, Any]:
        """Plain JSON values: the prediction, then `looks` by name ("class", "left", ...); with `maps` also `class_map`
        and `edge_maps` as nested lists."""
        found: dict[str, Any] = {
            "prediction": self.prediction.to_dict(),
            "looks": {look.name: look.to_dict() for look in self.looks},
        }
        if maps:
            found["class_map"] = self.class_map.round(6).tolist()
            found["edge_maps"] = self.edge_maps.round(6).tolist()
        return found

    def plot(self) -> Image.Image:
        """The picture with its box, and the five maps laid over it. Raises PictureError where it cannot be opened."""
        from onebox.heatmaps import Panel, draw_panels

        source = self.prediction.source if self.prediction.source is not None else self.prediction.path
        assert source is not None  # `explain` had it
        image, _ = open_image(source)
        panels = [
            Panel(look.name, _caption(look), heat)
            for look, heat in zip(self.looks, (self.class_map, *self.edge_maps), strict=True)
        ]
        return draw_panels(image, self.prediction.box, self.prediction.named, panels)


def explain(
    model: Localizer, picture: ImageSource, *, progress: Callable[[int, int], None] | None = None
) -> Explanation:
    """Where the two heads of `model` looked in `picture` (path, bytes, Pillow image or array).

    Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901, section 4.2) with soft spots that blur instead of covering
    (Fong and Vedaldi 2017, arXiv 1704.03296). One and the same set of passes gives all five maps: for the class, how
    far the log-odds of the predicted class against all others fall; for each edge, how far it moves. There is no chance
    in it: the same model and picture give the same maps. A model of one class has nothing to tell apart, and an empty
    class map. `progress(done, total)` counts passes. Raises PictureError, and ModelError where the model gives no
    finite numbers. Of a model that looks twice at a picture (`onebox.refine`) the first look is explained.
    """
    pixels, size = load_pixels(picture, model.manifest.imgsz)
    prediction = model.predict(picture)[0]
    wanted = model.class_names.index(prediction.label)
    odds, edges = _read(model.run(np.array(pixels[None])), wanted)  # a copy: torch wants memory that may be written
    if not (np.isfinite(odds).all() and np.isfinite(edges).all()):
        raise ModelError("the model gives no finite numbers for this picture", fix="Train it again.")
    total = sum(_count(step) ** 2 for _, step in _SPOTS)
    maps, strongest, done = np.zeros((5, CELLS, CELLS)), np.zeros(5), 0
    for width, step in _SPOTS:
        covered = np.zeros((5, CELLS, CELLS))
        weights = np.zeros((CELLS, CELLS))
        for batch, spots in _hidden(pixels, width, step):
            new_odds, new_edges = _read(model.run(batch), wanted)
            effects = np.column_stack([odds - new_odds, np.abs(new_edges - edges)])
            effects[:, 0][effects[:, 0] < _NO_LOG_ODDS] = 0.0  # what speaks against the class is no reason for it
            effects[:, 1:][effects[:, 1:] < _NO_SHIFT] = 0.0
            covered += np.einsum("ke,kyx->eyx", effects, spots)
            weights += spots.sum(axis=0)
            strongest = np.maximum(strongest, effects.max(axis=0))
            done += len(batch)
            if progress is not None:
                progress(done, total)
        maps += _as_shares(covered / weights) / len(_SPOTS)
    maps = _as_shares(maps)
    strongest[1:] *= (size.width, size.height, size.width, size.height)
    return Explanation(prediction, maps[0], maps[1:], _looks(maps, strongest, prediction))


def _read(outputs: Outputs, wanted: int) -> tuple[Floats, Floats]:
    """(log-odds (B,) of the class `wanted` against all others, edges (B, 4) in 0-1, put in order as in decoding)."""
    logits = np.asarray(outputs["logits"], dtype=np.float64)
    others = np.delete(logits, wanted, axis=1)
    if others.shape[1]:
        top = others.max(axis=1)
        odds = logits[:, wanted] - top - np.log(np.exp(others - top[:, None]).sum(axis=1))
    else:
        odds = np.zeros(len(logits))
    boxes = np.asarray(outputs["boxes_01"], dtype=np.float64)
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    return odds, np.concatenate([low, high], axis=1)


def _count(step: float) -> int:
    return round(1 / step)


def _hidden(pixels: Pixels, width: float, step: float) -> Iterator[tuple[Pixels, Floats]]:
    """Batches of the picture with one spot hidden in each, (B, S, S, 3) uint8, and the spots (B, CELLS, CELLS)."""
    side = pixels.shape[0]
    blurred = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(_BLUR * side)), dtype=np.float32)
    clear = pixels.astype(np.float32)
    centres = (np.arange(_count(step)) + 0.5) / _count(step)
    places = [(y, x) for y in centres for x in centres]
    fine, coarse = _bells(centres, width, side), _bells(centres, width, CELLS)
    index = {centre: i for i, centre in enumerate(centres)}
    for start in range(0, len(places), BATCH):
        chosen = [(index[y], index[x]) for y, x in places[start : start + BATCH]]
        rows, columns = (list(part) for part in zip(*chosen, strict=True))
        hiding = (fine[rows][:, :, None] * fine[columns][:, None, :])[..., None]
        batch = clear + hiding.astype(np.float32) * (blurred - clear)
        yield batch.round().astype(np.uint8), coarse[rows][:, :, None] * coarse[columns][:, None, :]


def _bells(centres: Floats, width: float, cells: int) -> Floats:
    """(len(centres), cells): a bell of this standard deviation around each centre, 1 at its top."""
    at = (np.arange(cells) + 0.5) / cells
    return np.exp(-0.5 * ((at[None, :] - centres[:, None]) / width) ** 2)


def _as_shares(maps: Floats) -> Floats:
    """(5, h, w) of effects -> the same as shares that sum to 1. What every spot has in common - a spot anywhere
    disturbs a little - is taken off first: the median over the picture."""
    raised = np.clip(maps - np.median(maps, axis=(1, 2), keepdims=True), 0.0, None)
    sums = raised.sum(axis=(1, 2), keepdims=True)
    return np.divide(raised, sums, out=np.zeros_like(raised), where=sums > 0)


def _looks(maps: Floats, strongest: Floats, prediction: Prediction) -> tuple[Look, ...]:
    x_min, y_min, x_max, y_max = prediction.box.xyxyn
    width, height = prediction.box.width, prediction.box.height
    size = prediction.box.image_size
    assert size is not None  # the runtime says it of every box
    across, down = BAND * width / size.width, BAND * height / size.height
    bands = (
        None,
        (x_min - across, 0.0, x_min + across, 1.0),
        (0.0, y_min - down, 1.0, y_min + down),
        (x_max - across, 0.0, x_max + across, 1.0),
        (0.0, y_max - down, 1.0, y_max + down),
    )
    at = (np.arange(CELLS) + 0.5) / CELLS
    found: list[Look] = []
    for name, heat, strength, band in zip(("class", *EDGES), maps, strongest, bands, strict=True):
        centre = None
        if heat.any():
            centre = (float(heat.sum(axis=0) @ at) * size.width, float(heat.sum(axis=1) @ at) * size.height)
        inside, by_chance = _share(heat, (x_min, y_min, x_max, y_max))
        near, near_by_chance = _share(heat, band) if band else (None, None)
        found.append(Look(name, float(strength), inside, by_chance, centre, near, near_by_chance))
    return tuple(found)


def _share(heat: Floats, box_01: tuple[float, float, float, float]) -> tuple[float, float]:
    """How much of a map lies in a box, cells cut by its edges in part; and how much of the picture does."""
    ends = np.arange(CELLS + 1) / CELLS
    x = np.clip(np.minimum(ends[1:], box_01[2]) - np.maximum(ends[:-1], box_01[0]), 0, None) * CELLS
    y = np.clip(np.minimum(ends[1:], box_01[3]) - np.maximum(ends[:-1], box_01[1]), 0, None) * CELLS
    return float(y @ heat @ x), float(y.sum() * x.sum() / CELLS**2)


def _caption(look: Look) -> str:
    if look.centre is None:
        return "nothing hidden changed it"
    if look.near is None:
        return f"{look.inside:.0%} inside the box"
    return f"moves by up to {look.strength:.1f} px; {look.near:.0%} near"
