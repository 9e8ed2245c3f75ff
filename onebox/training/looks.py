"""Whether a finished model should look at every picture twice (`onebox.refine`). Takes the exported model and its
answers for the held-out pictures at one look; asks for them at two, and gives what to keep. Never changes a weight.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from onebox.dataset import Dataset
from onebox.evaluation import Evaluation, judge
from onebox.manifest import Manifest
from onebox.model_file import write_weights_with_manifest, write_with_manifest
from onebox.runtime import load
from onebox.training.transfer import FEWEST

#: A second look takes as long as the first: held-out boxes must gain this much mean IoU by it. Of eleven runs the nine
#: on hands, pets and video frames gain .006 to .029 and two of three on objects cut out large .003 to .004
#: (docs/log.md, 2026-11-28).
LEAST_GAIN = 0.005


def look_twice_if_it_pays(
    manifest: Manifest, once: Evaluation, val: Dataset, *, model: Path, best: Path
) -> tuple[Manifest, Evaluation, str]:
    """Manifest and evaluation of the better number of looks, written into the metadata of `model` and `best` where that
    is two; and what there is to say, empty where nothing was tried. `once`: `model`'s answers for `val` at one look."""
    if len(once.records) < FEWEST:
        return manifest, once, ""
    twice = judge(load(model, refine=True), val)
    before, after = (float(np.mean([record.iou for record in found.records])) for found in (once, twice))
    told = f"A second look takes the held-out boxes from a mean IoU of {before:.3f} to {after:.3f}"
    if after - before < LEAST_GAIN:
        return manifest, once, f"{told}: the model looks once (--refine: twice all the same)."
    manifest = replace(manifest, refine=True)
    write_with_manifest(model, manifest, model)
    write_weights_with_manifest(best, manifest)
    return manifest, twice, f"{told}: the model looks twice, in twice the time (--no-refine: once)."
