"""One change at a time: short trainings with the product's own loop, judged on a part of the TRAINING pictures of each
set. Test parts are never read, so that settings can be chosen here.

    python -m benchmarks.ablation NAME [--only pets3] [--folds 0,1] [--seeds 1] [--seen 10000] [--with bins=96]
                                       [--constant losses.SOFT_SIGMA_BINS=1] [--swap ciou] [--as-product]
    python -m benchmarks.ablation --table BASE          # every other name against BASE, on the same pictures

Each class's pictures are cut, in the order of their names and with copies and siblings on one side, into five parts;
fold k is judged by what was trained on the others, by averaged weights after `--seen` pictures, whatever the clock.
A change is a setting (`--with`), a number of a module of `onebox.training` (`--constant`), one of
`ablation_swaps.SWAPS` (`--swap`), or the code itself: NAME is only what its rows are called, in OUT/rows.jsonl.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import onebox
from benchmarks.ablation_swaps import SWAPS
from benchmarks.accuracy import TRUNK, WEIGHTS
from benchmarks.accuracy.paired import difference, mean_of
from benchmarks.accuracy.tasks import make_tasks
from onebox.boxes import iou
from onebox.dataset import Dataset
from onebox.evaluation import judge
from onebox.manifest import Manifest
from onebox.metrics import learn_baseline
from onebox.training.api import resolve, start_engine, start_session
from onebox.training.augment import to_float
from onebox.training.cache import Cache, build_cache
from onebox.training.config import TrainConfig, make_config
from onebox.training.headstart import start_heads
from onebox.training.leaks import who_belongs_together
from onebox.training.looks import LEAST_GAIN
from onebox.training.loop import train_epochs
from onebox.training.model import Network
from onebox.training.predictor import TorchLocalizer
from onebox.training.processor import processor_set_up
from onebox.training.session import Session, set_trunk_share
from onebox.training.transfer import FirstLook, choose_share, fit_probe, look_first

SETS = ("tiny_vid", "pets3", "caltech22_mat", "asl_yolo", "pets37", "vegetables3", "tiny_imagenet20", "demo")
FOLDS = 5
FIGURES = ("joint_50", "mean_iou", "top1", "box_acc_75")


def cut(data: Dataset, cache: Cache, fold: int) -> tuple[Cache, Cache]:
    """(taught, judged): the rows of `cache`, the pictures of `data`."""
    group = dict(zip((s.path for s in data), who_belongs_together(data, cache), strict=True))
    first: dict[int, int] = {}
    rows = sorted(range(len(cache)), key=lambda i: (cache.labels[i], cache.samples[i].path))
    counts = np.bincount(cache.labels)
    seen = np.zeros(len(counts), dtype=int)
    for i in rows:
        label = cache.labels[i]
        first.setdefault(group[cache.samples[i].path], int(FOLDS * seen[label] / counts[label]))
        seen[label] += 1
    judged = np.array([first[group[s.path]] == fold for s in cache.samples])
    return cache.copied(np.nonzero(~judged)[0]), cache.copied(np.nonzero(judged)[0])


def run(taught: Cache, judged: Cache, data: Dataset, config: TrainConfig, how: argparse.Namespace) -> dict[str, Any]:
    """Trains on the one, asks for the other, both of them pictures of `data`: every picture's IoU and class, and the
    processor time it took."""
    classes, seen = data.class_names, how.seen
    epochs = config.epochs or max(1, round(seen / len(taught)))
    with processor_set_up(config):
        session = start_session(
            resolve(replace(config, epochs=epochs, patience=0.0), len(taught)), classes, start_engine(config)
        )
        first = None
        if session.config.weights != "none":
            start = bool(session.config.head_start)
            first = look_first(session.average, taught, judged, probed=how.as_product, keep_maps=start)
            if config.trunk_lr is None:
                set_trunk_share(session.optimizer, choose_share(first, taught, judged)[0])
        begun = time.process_time()
        if first is not None and first.maps is not None:
            start_heads(session, first.maps, taught)
            first = replace(first, maps=None)
        for name in how.swaps:
            SWAPS[name].prepare(session, first, taught)
        for row in train_epochs(session, taught, None):
            last = row
        seconds = time.process_time() - begun
        session.average.eval()
        if how.as_product:
            answers = as_product(session, first, taught, judged, data)
        else:
            answers = {"pictures": _answers(session.average, judged)}
    return {
        "epochs": epochs,
        "cpu_seconds": round(seconds, 1),
        "box_weight": last.box_weight,
        "loss_class": last.loss_class,
        "loss_box": last.loss_box,
        **answers,
    }


def _answers(network: Network, judged: Cache) -> dict[str, Any]:
    """Of the network as it is, at one look."""
    overlaps, right = [], []
    with torch.no_grad():
        for start in range(0, len(judged), 64):
            part = slice(start, start + 64)
            answer = network(to_float(torch.from_numpy(judged.pictures[part]).to(network.device)))
            overlaps.append(iou(answer.box.boxes_01.clamp(0, 1).cpu().numpy(), judged.boxes_01[part]))
            right.append(answer.logits.argmax(1).cpu().numpy() == judged.labels[part])
    return _pictures(np.concatenate(overlaps), np.concatenate(right))


def _pictures(ious: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    return {
        "iou": [round(float(v), 4) for v in ious],
        "right": "".join("01"[int(v)] for v in right),
        "joint": "".join("01"[int(v)] for v in right & (ious > 0.5)),
    }


def as_product(
    session: Session, first: FirstLook | None, taught: Cache, judged: Cache, data: Dataset
) -> dict[str, Any]:
    """What a finished model would answer for the pictures of `judged`, which are among `data`: with a probe of the
    untouched trunk, and at two looks, each where these pictures gain by it, as held-out ones decide in the product."""
    network, config, names = session.average, session.config, data.class_names
    probed = False
    if session.untouched is not None and first is not None:
        probed = fit_probe(network, session.untouched, first, taught, judged)[0]
    manifest = Manifest(
        class_names=names, imgsz=config.side, backbone=config.backbone, recipe=config.recipe,
        box_head=config.box_head, onebox_version=onebox.__version__,
        baseline=learn_baseline(taught.labels, taught.boxes_01, names), data={}, refine=False,
    )  # fmt: skip
    place = {s.path: i for i, s in enumerate(data)}
    asked = data.subset([place[s.path] for s in judged.samples])
    records = [
        judge(TorchLocalizer(network, replace(manifest, refine=twice)), asked, resamples=10).records
        for twice in (False, True)
    ]
    ious = [np.array([r.iou for r in found]) for found in records]
    looks = 2 if ious[1].mean() - ious[0].mean() > LEAST_GAIN else 1
    right = np.array([r.prediction.label == r.label for r in records[looks - 1]])
    return {"probed": probed, "looks": looks, "pictures": _pictures(ious[looks - 1], right)}


def table(rows: list[dict[str, Any]], base: str) -> str:
    """Markdown: means, and differences from `base` on the same pictures with 95 % intervals."""
    lines = [f"| name | {' | '.join(FIGURES)} | runs | cpu s |", "|---" * (len(FIGURES) + 3) + "|"]
    ours = [r for r in rows if r["name"] == base]
    for name in dict.fromkeys(r["name"] for r in rows):
        for group in ("all", *dict.fromkeys(r["set"] for r in rows)):
            mine = [r for r in rows if r["name"] == name and group in ("all", r["set"])]
            if not mine:
                continue
            cells = []
            for figure in FIGURES:
                gap = difference(mine, ours, figure) if name != base else None
                text = f"{mean_of(mine, figure).mean:.4f}"
                cells.append(text if gap is None else f"{text} {gap.mean:+.4f} ({gap.low:+.3f} to {gap.high:+.3f})")
            cpu = float(np.mean([r["cpu_seconds"] for r in mine]))
            lines.append(f"| {name}: {group} | {' | '.join(cells)} | {len(mine)} | {cpu:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    if args.table:
        chosen = [r for r in rows if not args.only or r["set"] in args.only]
        print(table([r for r in chosen if r["seen"] == args.seen], args.table))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    settings = dict(one.split("=", 1) for one in args.settings)
    for one in args.constants:
        (module, _, constant), value = one.partition("=")[0].rpartition("."), one.partition("=")[2]
        found = importlib.import_module(f"onebox.training.{module}")
        assert isinstance(getattr(found, constant), (int, float)), f"{one}: not a number of that module"
        setattr(found, constant, float(value))
    for one in args.swaps:
        SWAPS[one].put()
    done = {(r["name"], r["task"], r["seed"], r["seen"]) for r in rows}
    for set_name in args.only or SETS:
        task = make_tasks(set_name, Path("runs/accuracy"))[0]
        wanted = {"backbone": TRUNK, "weights": str(WEIGHTS), "threads": args.threads, "imgsz": args.imgsz}
        if task.imgsz is not None:
            wanted["imgsz"] = task.imgsz
        wanted |= {key: _value(text) for key, text in settings.items()}
        cache = None
        for seed in range(args.seeds):
            for fold in args.folds:
                key = (args.name, f"{set_name}/fold{fold}", seed, args.seen)
                if key in done:
                    continue
                config = make_config(**wanted, seed=seed)
                cache = cache or build_cache(task.train, task.train.class_names, config.side)
                taught, judged = cut(task.train, cache, fold)
                found = run(taught, judged, task.train, config, args)
                row = {
                    **dict(zip(("name", "task", "seed", "seen"), key, strict=True)),
                    "set": set_name, "test": f"{set_name}/{fold}", "commit": commit.strip(), "settings": settings,
                    "constants": args.constants, "swaps": args.swaps, "imgsz": config.side,
                    "as_product": args.as_product,
                    **found,
                }  # fmt: skip
                with file.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                means = ", ".join(f"{f} {mean_of([row], f).mean:.4f}" for f in FIGURES)
                print(f"{time.strftime('%H:%M:%S')} {key}: {means}, {found['cpu_seconds']:.0f} s", flush=True)


def _value(text: str) -> Any:
    """A number, true, false or null as JSON has them; anything else is a word."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="now")
    parser.add_argument("--table", metavar="BASE")
    parser.add_argument("--only", action="append", choices=SETS)
    parser.add_argument("--folds", type=lambda text: [int(k) for k in text.split(",")], default=[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seen", type=int, default=10_000, help="training pictures, copies of epochs counted")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--with", dest="settings", action="append", default=[], metavar="SETTING=VALUE")
    parser.add_argument("--constant", dest="constants", action="append", default=[], metavar="MODULE.NAME=NUMBER")
    parser.add_argument("--swap", dest="swaps", action="append", default=[], choices=SWAPS)
    parser.add_argument("--as-product", action="store_true", help="judged with probe and second look where they pay")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
