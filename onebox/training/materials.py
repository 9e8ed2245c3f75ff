"""What a training works with: which pictures teach, which validate, which show absence. Takes data sets and settings,
decodes every picture once; gives caches, and the list of all that was left out. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onebox.dataset import Dataset, Skipped
from onebox.errors import TrainingError
from onebox.training.cache import Cache, build_cache
from onebox.training.config import TrainConfig
from onebox.training.empty_pictures import EmptyPictures, load_empty
from onebox.training.leaks import hold_out, refuse_leaks
from onebox.training.reporter import Reporter

#: Held out where nobody says: this many pictures, within these shares. They stop the training and calibrate the model;
#: a hundred do that, and every further one is missing where it would teach (docs/log.md, 2026-11-22 and 2026-11-28).
HELD_OUT_PICTURES, LEAST_HELD_OUT, MOST_HELD_OUT = 100, 0.1, 0.2
#: Of the real pictures without an object, the share that is held out.
HELD_OUT_EMPTY = 0.2


@dataclass(frozen=True, slots=True)
class Materials:
    """`data` and `val` as they are used, `train` and `held_out` their pictures (None: nothing to validate on); `empty`
    pictures without an object; `given` the fingerprint of the data before some was held out; `skipped` all that was
    left out, of any of them. `everything`: the pictures of `train`, and after them those of `held_out`, where those may
    teach in the end (None: they are not ours to teach, or there are none)."""

    data: Dataset
    val: Dataset
    train: Cache
    held_out: Cache | None
    empty: EmptyPictures
    given: str
    skipped: tuple[Skipped, ...]
    everything: Cache | None = None

    def taught(self, *, everything: bool = False) -> dict[str, Any]:
        """The facts of a manifest about what a model has learnt: `train`, or `everything`."""
        facts = {"given": self.given, "layout": self.data.layout}
        if not everything or self.everything is None:
            return {"fingerprint": self.data.fingerprint(), **facts, "pictures": len(self.train)}
        count = len(self.everything)
        return {"fingerprint": self.given, **facts, "pictures": count, "learnt_late": count - len(self.train)}

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of what teaches and of what validates."""
        return {"data": self.data.fingerprint(), "val": self.val.fingerprint()}


def classes_to_learn(data: Dataset, val: Dataset | None) -> tuple[str, ...]:
    """The classes to learn: those with training pictures, in the data set's order. Raises TrainingError for none, and
    for one that only `val` has."""
    counts = data.labelled.counts()
    class_names = tuple(name for name in data.class_names if counts.get(name))
    if not class_names:
        raise TrainingError("no labelled picture to train on", fix="`onebox check` says what is wrong with the data.")
    for sample in val.labelled if val is not None else ():
        if sample.label not in class_names:
            raise TrainingError(
                f"class {sample.label!r} is in the validation pictures only",
                where=sample.where or sample.path,
                fix="Give it training pictures, correct its spelling, or leave it out.",
            )
    return class_names


def taught_share(pictures: int) -> float:
    """The share of so many labelled pictures that teaches where nobody says; the rest is held out."""
    return 1 - min(MOST_HELD_OUT, max(LEAST_HELD_OUT, HELD_OUT_PICTURES / max(pictures, 1)))


def gather(
    data: Dataset,
    val: Dataset | None,
    class_names: tuple[str, ...],
    empty_paths: tuple[Sequence[str], Sequence[str]],
    config: TrainConfig,
    *,
    split: float,
    allow_leak: bool,
    reporter: Reporter,
) -> Materials:
    """Decodes, and holds out where there is no `val`; arguments as in `train`. Raises TrainingError where pictures of
    `val` are copies of training pictures."""
    with reporter.bar("reading pictures") as bar:
        train = build_cache(data, class_names, config.side, progress=bar)
    given, everything = data.fingerprint(), None
    if val is None:
        data, val, train, held_out, everything = hold_out(data, train, split, config.seed)
        everything = None if held_out is None else everything
        reporter.say(f"Held out {len(val)} of {len(data) + len(val)} pictures for early stopping.")
    else:
        held_out = build_cache(val, class_names, config.side) if len(val.labelled) else None
        refuse_leaks(data, val, train, None if allow_leak else held_out)
    empty = load_empty(*empty_paths, config.side, share=HELD_OUT_EMPTY if held_out else 0.0, seed=config.seed)
    if len(empty):
        reporter.say(f"{len(empty)} pictures without an object show what absence looks like.")
    skipped = (*data.skipped, *train.skipped, *(held_out.skipped if held_out else ()), *empty.skipped)
    for one in skipped:
        reporter.say(f"skipped: {one}")
    return Materials(data, val, train, held_out, empty, given, skipped, everything)
