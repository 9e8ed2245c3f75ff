"""Out-of-fold predictions: every labelled picture answered by a network that saw neither it nor a copy of it, and the
surroundings of its given box answered once more. Takes a data set and the settings of a training; trains once per fold
and keeps the raw outputs in `folds.jsonl`, so that the same question is answered at once the second time. Never exports
a model, and imports torch only where it must train.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onebox._version import __version__
from onebox.boxes import Floats
from onebox.dataset import Dataset
from onebox.errors import ConfigError, MissingExtraError, ModelError, RunFolderError, TrainingError
from onebox.images import Pixels, open_image, resize_image
from onebox.manifest import Manifest
from onebox.refine import DETAIL, cut_out, look_into, second_look, windows
from onebox.runtime import Localizer, Outputs, load
from onebox.splitting import assign
from onebox.training import let_waiting_threads_sleep
from onebox.training.config import TrainConfig, make_config
from onebox.training.fold_store import CLOSE, FILE, PROBE, OutOfFold, Record, Row, read, write

if TYPE_CHECKING:
    from onebox.training.cache import Cache
    from onebox.training.reporter import Reporter

#: Folds where nobody says: each network sees four fifths of the pictures, as with the usual held-out fifth.
FOLDS = 5
#: Settings that say how long, with how many hands, and what else is made of it: another value is no other question.
_BESIDE = ("minutes", "threads", "tracker", "negatives", "false_reject")
_BATCH = 64
#: Side of the window that a given box is judged in over the side of the box. Moved boxes of held-out pictures of three
#: sets were told best between 1.7 and 2 (docs/log.md, 2026-11-28).
_CLOSE_ROOM = 1.9


def out_of_fold(
    data: Dataset,
    *,
    config: TrainConfig,
    folds: int = FOLDS,
    store: Path | None = None,
    reporter: Reporter | None = None,
    probe_weight: float = 0.0,
) -> OutOfFold:
    """Two predictions per sample of `data.labelled`, in its order, of the picture and of its given box's surroundings;
    None where the picture cannot be read.

    `folds` networks are trained with `config`, each on all folds but one; copies and siblings of a picture are in its
    own fold. None of them validates or stops early: the last averaged weights answer, so no picture has a say in the
    network that judges it. A class whose pictures are all in one fold is judged by a network that never met it. With
    fewer groups of pictures than `folds` there are as many folds as groups. `store` is a file such as RUN/folds.jsonl:
    where it answers the same question (data, settings, folds) nothing is trained; a stopped run goes on after its last
    whole fold. The predictions are raw: no temperature, no calibration. The logits hold, `probe_weight` times, what
    a probe of the untouched pretrained trunk says, fitted to the same folds (`transfer.fit_probe`): it is wrong about
    other pictures than the network, and follows a few wrong labels less.
    Raises ConfigError for fewer than two folds, TrainingError where the data cannot be cut, and what `train` raises.
    """
    if folds < 2:
        raise ConfigError(f"{folds} folds cannot judge one another", fix="Use --folds 5.")
    labelled = data.labelled
    key = {"data": labelled.fingerprint(), "config": config.to_dict(), "folds": folds}
    known = read(store) if store is not None else None
    if known is None or known.key != key:
        known = Record(key, _manifest(config, labelled), {})
    if not known.is_whole(labelled):
        _train_folds(known, labelled, config, store, reporter)
    return known.answers(labelled, probe_weight)


def out_of_fold_of_run(
    run: Path,
    data: Dataset,
    *,
    folds: int | None = None,
    minutes: float | None = None,
    reporter: Reporter | None = None,
    probe_weight: float = 0.0,
) -> OutOfFold:
    """As `out_of_fold`, with the settings of the finished run in the folder `run`, and kept there.

    `minutes` is the time for all folds together (default: each gets what the run had). Where neither it nor `folds` is
    given, whatever was computed for these data and these settings before is taken, however long it had trained.
    Raises ModelError where the run knows other classes than `data`, RunFolderError where it is none.
    """
    config, manifest = read_config(run), load(run).manifest
    _refuse_other_classes(manifest, data, run)
    config = replace(config, refine=manifest.refine)  # where nobody said, the run has found out
    store = run / FILE
    labelled = data.labelled
    if folds is None and minutes is None and (known := read(store)) is not None:
        known_config = known.key["config"]
        same = {k: v for k, v in config.to_dict().items() if k not in _BESIDE}
        if (
            known.key["data"] == labelled.fingerprint()
            and {k: v for k, v in known_config.items() if k not in _BESIDE} == same
            and known.is_whole(labelled)
        ):
            return known.answers(labelled, probe_weight)
    folds = folds if folds is not None else FOLDS
    if minutes is not None:
        config = replace(config, minutes=minutes / max(1, folds))
    if reporter is not None:
        known = read(store)
        if known is None or not known.is_whole(labelled) or known.key["config"] != config.to_dict():
            reporter.say(_forecast(run, config, folds, len(labelled)))
    return out_of_fold(data, config=config, folds=folds, store=store, reporter=reporter, probe_weight=probe_weight)


def read_config(run: Path) -> TrainConfig:
    """The settings of the run in this folder. Raises RunFolderError."""
    path = run / "config.json"
    try:
        return make_config(**json.loads(path.read_text("utf-8"))["config"])
    except FileNotFoundError:
        raise RunFolderError(
            "this is no run folder: it has no config.json", where=str(run), fix="Give the folder that a training left."
        ) from None
    except NotADirectoryError:
        raise RunFolderError(
            "this is a file, not a run folder", where=str(run), fix="Give the folder that a training left."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        raise RunFolderError("missing or damaged", where=str(path)) from None


def _refuse_other_classes(manifest: Manifest, data: Dataset, run: Path) -> None:
    used = {sample.label for sample in data.labelled if sample.label is not None}
    unknown, unused = sorted(used.difference(manifest.class_names)), sorted(set(manifest.class_names) - used)
    if unknown or (unused and used):
        first, lacking = (unknown[0], "the model does not know") if unknown else (unused[0], "the data do not have")
        raise ModelError(
            f"the model and the data are of other classes: {lacking} {first!r} (model: {_some(manifest.class_names)}; "
            f"data: {_some(sorted(used))})",
            where=str(run),
            fix="Give the run that was trained on these data.",
        )


def _train_folds(
    record: Record, labelled: Dataset, config: TrainConfig, store: Path | None, reporter: Reporter | None
) -> None:
    """Trains what is missing; fills `record`, and writes it after every fold."""
    let_waiting_threads_sleep()
    try:
        from onebox.training import api
        from onebox.training.cache import build_cache
        from onebox.training.leaks import who_belongs_together
        from onebox.training.materials import classes_to_learn
        from onebox.training.processor import processor_set_up
        from onebox.training.reporter import Terminal
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"training needs {error.name}, which is not installed", fix='Run: pip install "onebox[train]"'
        ) from None
    reporter = reporter or Terminal()
    class_names = classes_to_learn(labelled, None)
    config = api.resolve(config, len(labelled))
    with reporter.bar("reading pictures") as bar:
        cache = build_cache(labelled, class_names, config.side, progress=bar)
    name_of = {sample.path: labelled.relative_path(sample) for sample in labelled}
    for one in cache.skipped:
        reporter.say(f"skipped: {one}")
        record.rows[name_of[one.path]] = None
    fold_of = _assign(labelled, cache, who_belongs_together(labelled, cache), int(record.key["folds"]), config.seed)
    count = int(fold_of.max()) + 1
    if count < record.key["folds"]:
        reporter.say(f"Only {count} folds: too few pictures of a class can be kept apart for more.")
    names = [name_of[sample.path] for sample in cache.samples]
    with processor_set_up(config), reporter.bar(f"{count} trainings, per cent") as tell:
        for fold in range(count):
            judged = np.nonzero(fold_of == fold)[0]
            if all(names[row] in record.rows for row in judged):
                continue

            def progress(share: float, fold: int = fold) -> None:
                tell(round(100 * (fold + min(1.0, share)) / count), 100)

            learnt = cache.copied(np.nonzero(fold_of != fold)[0])
            for row, outputs in zip(
                judged, _one_fold(config, record.manifest, learnt, cache, judged, progress), strict=True
            ):
                record.rows[names[row]] = outputs
            if store is not None:
                write(store, record)


def _one_fold(
    config: TrainConfig, manifest: Manifest, learnt: Cache, cache: Cache, judged: Any, progress: Any
) -> Iterator[Row]:
    """Trains on `learnt` to the end of the schedule; gives the raw outputs for the `judged` rows of `cache`."""
    from onebox.training import api
    from onebox.training.headstart import start_heads
    from onebox.training.loop import train_epochs
    from onebox.training.predictor import TorchLocalizer
    from onebox.training.transfer import look_first, probe_scores

    session = api.start_session(config, manifest.class_names, api.start_engine(config))
    probe = None
    if session.config.weights != "none":
        untouched = copy.deepcopy(session.average.trunk)
        probe = probe_scores(session.average, untouched, learnt, len(manifest.class_names))
        if session.config.head_start:
            maps = look_first(session.average, learnt, None, probed=False, keep_maps=True).maps
            assert maps is not None
            start_heads(session, maps, learnt)
            del maps
    for _ in train_epochs(session, learnt, None, on_step=lambda done, total: progress(session.share_done())):
        pass
    model = TorchLocalizer(session.average, manifest)
    for start in range(0, len(judged), _BATCH):
        outputs = _outputs(model, cache, judged[start : start + _BATCH], probe)
        for i in range(len(outputs["logits"])):
            yield {name: values[i].tolist() for name, values in outputs.items()}


def _outputs(model: Localizer, cache: Cache, rows: Any, probe: Callable[[Pixels], Floats] | None) -> Outputs:
    """What the model says of these rows of `cache`, looked at twice where the run's model does so; and of the
    surroundings of their given boxes: narrow ones for the class, wider ones for the box."""
    pictures, imgsz = cache.pictures[rows], model.manifest.imgsz
    first = model.run(pictures)
    opened = [
        resize_image(open_image(cache.samples[row].path, at_least=DETAIL * imgsz)[0], DETAIL * imgsz) for row in rows
    ]
    seen = second_look(model.run, first, opened, imgsz) if model.looks_twice else first
    narrow, wide = windows(cache.boxes_01[rows]), windows(cache.boxes_01[rows], _CLOSE_ROOM)
    inside = cut_out(opened, narrow, imgsz)
    about = look_into(model.run, wide, opened, imgsz)
    close = {"logits": model.run(inside)["logits"], **{name: about[name] for name in ("boxes_01", "sigmas_01")}}
    found = {**seen, **{CLOSE + name: values for name, values in close.items()}}
    if probe is not None:
        found[PROBE] = probe(pictures).astype(np.float32)
        found[CLOSE + PROBE] = probe(inside).astype(np.float32)
    return found


def _assign(labelled: Dataset, cache: Cache, groups: Sequence[int], folds: int, seed: int) -> Any:
    """The fold (N,) of each row of `cache`, numbered without gaps; stratified by class, groups whole."""
    group_of = {sample.path: group for sample, group in zip(labelled, groups, strict=True)}
    mine = [group_of[sample.path] for sample in cache.samples]
    folds = min(folds, len(set(mine)))
    if folds < 2:
        raise TrainingError(
            "there are no two pictures that are not copies or siblings of one another, so none can judge the others",
            where=labelled.root,
            fix="Give more pictures.",
        )
    names = [labelled.relative_path(sample) for sample in cache.samples]
    labels = [sample.label for sample in cache.samples]
    found = np.array(assign(labels, names, [1 / folds] * folds, seed=seed, groups=mine))
    if len(np.unique(found)) < 2:  # a few groups of many classes each: by turns, then
        order = {group: i for i, group in enumerate(dict.fromkeys(mine))}
        found = np.array([order[group] % folds for group in mine])
    return np.unique(found, return_inverse=True)[1]


def _manifest(config: TrainConfig, labelled: Dataset) -> Manifest:
    counts = labelled.counts()
    return Manifest(
        class_names=tuple(name for name in labelled.class_names if counts[name]),
        imgsz=config.side,
        backbone=config.backbone,
        recipe=config.recipe,
        box_head=config.box_head,
        onebox_version=__version__,
        baseline={},
        data={},
        refine=bool(config.refine),
    )


def _forecast(run: Path, config: TrainConfig, folds: int, pictures: int) -> str:
    """What will be done, and how long it takes: by the clock that is set, or by the run's own time."""
    seconds = None if config.minutes is None else 60 * config.minutes
    try:
        last = json.loads((run / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
        seconds = min(seconds or math.inf, float(last["seconds"])) if config.minutes is None else seconds
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        pass
    how_long = "" if seconds is None else f", about {_spoken(folds * seconds)} in all"
    return (
        f"Training {folds} times on all but one of {folds} parts of {pictures} pictures{how_long}. It is done once and "
        f"kept in {run / FILE}."
    )


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
