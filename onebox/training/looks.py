"""Whether a model should look at every picture twice (`onebox.refine`). Takes it and its answers for the held-out
pictures at one look; asks for them at two, and gives what to keep. Never changes a weight and writes nothing.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from onebox.dataset import Dataset
from onebox.evaluation import Evaluation, judge
from onebox.manifest import Manifest
from onebox.runtime import Localizer
from onebox.training.transfer import FEWEST

#: Held-out boxes must gain more mean IoU than this by a second look. What it adds to the classes is too little for a
#: hundred pictures to show, and comes with it: asking the boxes for .005 costs .002 joint and .001 mean IoU, the most
#: where objects are large (docs/log.md, 2026-11-29).
LEAST_GAIN = 0.0


def choose_looks(
    model: Localizer, manifest: Manifest, once: Evaluation | None, val: Dataset, *, pretrained: bool
) -> tuple[Manifest, Evaluation | None, str]:
    """Manifest and evaluation of the better number of looks, and what there is to say. `once`: `model`'s answers for
    `val` at one look, None where nothing is held out. Fewer than FEWEST held-out pictures are not asked: a model whose
    trunk was `pretrained` looks twice then, any other once."""
    if once is None or len(once.records) < FEWEST:
        if not pretrained:
            return manifest, once, ""
        twice = None if once is None else judge(_looking_twice(model), val)
        told = f"Fewer than {FEWEST} held-out pictures cannot say whether a second look pays, as it nearly always does"
    else:
        twice = judge(_looking_twice(model), val)
        before, after = (float(np.mean([record.iou for record in found.records])) for found in (once, twice))
        told = f"A second look takes the held-out boxes from a mean IoU of {before:.3f} to {after:.3f}"
        if after - before <= LEAST_GAIN:
            return manifest, once, f"{told}: the model looks once (--refine: twice all the same)."
    manifest = replace(manifest, refine=True)
    return manifest, twice, f"{told}: the model looks twice, in twice the time (--no-refine: once)."


def _looking_twice(model: Localizer) -> Localizer:
    other = copy.copy(model)
    other.refine = True
    return other
