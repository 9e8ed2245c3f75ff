"""One change at a time: short trainings with the product's own loop, judged on a part of the TRAINING pictures of each
set. Test parts are never read, so that settings can be chosen here.

    python -m benchmarks.ablation NAME [--only pets3] [--folds 0,1] [--seeds 1] [--seen 10000] [--with bins=96]
                                       [--constant losses.SOFT_SIGMA_BINS=1] [--swap ciou]
    python -m benchmarks.ablation --table BASE          # every other name against BASE, on the same pictures

Each class's pictures are cut, in the order of their names and with copies and siblings on one side, into five parts;
fold k is judged by what was trained on the others, by averaged weights after `--seen` pictures, whatever the clock.
A change is a setting (`--with`), a number of a module of `onebox.training` (`--constant`), one of SWAPS (`--swap`), or
the code itself: NAME is only what its rows are called, in OUT/rows.jsonl.
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

from benchmarks.accuracy import TRUNK, WEIGHTS
from benchmarks.accuracy.paired import difference, mean_of
from benchmarks.accuracy.tasks import make_tasks
from onebox.boxes import iou
from onebox.dataset import Dataset
from onebox.training import let_waiting_threads_sleep
from onebox.training.cache import Cache, build_cache
from onebox.training.config import TrainConfig, make_config
from onebox.training.leaks import who_belongs_together

SWAPS = ("ciou", "diou", "laplace", "still_norms", "still_depthwise", "decay_all")
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


def run(taught: Cache, judged: Cache, config: TrainConfig, classes: tuple[str, ...], seen: int) -> dict[str, Any]:
    """Trains on the one, asks for the other: every picture's IoU and class, and the processor time it took."""
    import torch

    from onebox.training.api import resolve, start_engine, start_session
    from onebox.training.augment import to_float
    from onebox.training.loop import set_trunk_share, train_epochs
    from onebox.training.processor import processor_set_up
    from onebox.training.transfer import choose_share, look_first

    epochs = config.epochs or max(1, round(seen / len(taught)))
    with processor_set_up(config):
        session = start_session(
            resolve(replace(config, epochs=epochs, patience=0.0), len(taught)), classes, start_engine(config)
        )
        if config.trunk_lr is None and session.config.weights != "none":
            first = look_first(session.average, taught, judged, probed=False)
            set_trunk_share(session.optimizer, choose_share(first, taught, judged)[0])
        begun = time.process_time()
        for row in train_epochs(session, taught, None):
            last = row
        seconds = time.process_time() - begun
        overlaps, right = [], []
        session.average.eval()
        with torch.no_grad():
            for start in range(0, len(judged), 64):
                part = slice(start, start + 64)
                answer = session.average(to_float(torch.from_numpy(judged.pictures[part])))
                overlaps.append(iou(answer.box.boxes_01.clamp(0, 1).numpy(), judged.boxes_01[part]))
                right.append(answer.logits.argmax(1).numpy() == judged.labels[part])
    ious, known = np.concatenate(overlaps), np.concatenate(right)
    return {
        "epochs": epochs,
        "cpu_seconds": round(seconds, 1),
        "box_weight": last.box_weight,
        "loss_class": last.loss_class,
        "loss_box": last.loss_box,
        "pictures": {
            "iou": [round(float(v), 4) for v in ious],
            "right": "".join("01"[int(v)] for v in known),
            "joint": "".join("01"[int(v)] for v in known & (ious > 0.5)),
        },
    }


def swap(name: str) -> None:
    """Puts one of SWAPS in the place of what the product does, for this process."""
    import torch
    from torch import nn
    from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss

    from onebox.training import losses, trunk

    def instead_of_giou(loss: Any) -> Any:
        def ordered(boxes: Any, true: Any) -> Any:
            low, high = torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])
            return loss(torch.cat([low, high], dim=1), true, reduction="mean")

        return ordered

    if name in {"ciou", "diou"}:
        losses.giou_loss = instead_of_giou({"ciou": complete_box_iou_loss, "diou": distance_box_iou_loss}[name])
    elif name == "laplace":  # each edge's error by its own spread: -log of a Laplace density, beside the other parts
        before = losses.criterion

        def criterion(logits: Any, box: Any, labels: Any, true: Any, **options: Any) -> Any:
            found = before(logits, box, labels, true, **options)
            spread = box.sigmas_01.clamp_min(0.005)
            return found._replace(
                box_loss=found.box_loss + 0.5 * ((box.boxes_01 - true).abs() / spread + spread.log()).mean()
            )

        importlib.import_module("onebox.training.loop").criterion = criterion
    elif name == "still_norms":  # every BatchNorm of the trunk keeps its pretrained statistics
        train = trunk.TimmTrunk.train

        def still(self: Any, mode: bool = True) -> Any:
            train(self, mode)
            for layer in self.net.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
            return self

        trunk.TimmTrunk.train = still
    elif name == "still_depthwise":  # the trunk's depthwise filters keep their pretrained weights
        model = importlib.import_module("onebox.training.model")
        build = model.build_trunk

        def held(*args: Any, **options: Any) -> Any:
            made = build(*args, **options)
            for layer in made.modules():
                if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1:
                    layer.weight.requires_grad_(False)
            return made

        model.build_trunk = held
    elif name == "decay_all":  # weight decay on biases and normalisation, too
        loop = importlib.import_module("onebox.training.loop")
        make = loop.make_optimizer

        def everything(network: Any, config: Any, share: float) -> Any:
            optimizer = make(network, config, share)
            for group in optimizer.param_groups:
                group["weight_decay"] = config.weight_decay
            return optimizer

        importlib.import_module("onebox.training.api").make_optimizer = everything


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
    let_waiting_threads_sleep()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    settings = dict(one.split("=", 1) for one in args.settings)
    for one in args.constants:
        (module, _, constant), value = one.partition("=")[0].rpartition("."), one.partition("=")[2]
        found = importlib.import_module(f"onebox.training.{module}")
        assert isinstance(getattr(found, constant), (int, float)), f"{one}: not a number of that module"
        setattr(found, constant, float(value))
    for one in args.swaps:
        swap(one)
    done = {(r["name"], r["task"], r["seed"], r["seen"]) for r in rows}
    for set_name in args.only or SETS:
        task = make_tasks(set_name, Path("runs/accuracy"))[0]
        wanted = {"backbone": TRUNK, "weights": str(WEIGHTS), "threads": args.threads, "imgsz": args.imgsz}
        if task.imgsz is not None:
            wanted["imgsz"] = task.imgsz
        wanted |= {
            key: json.loads(value) if value[:1] in "0123456789tfn{" else value for key, value in settings.items()
        }
        cache = None
        for seed in range(args.seeds):
            for fold in args.folds:
                key = (args.name, f"{set_name}/fold{fold}", seed, args.seen)
                if key in done:
                    continue
                config = make_config(**wanted, seed=seed)
                cache = cache or build_cache(task.train, task.train.class_names, config.imgsz)
                taught, judged = cut(task.train, cache, fold)
                found = run(taught, judged, config, task.train.class_names, args.seen)
                row = {
                    **dict(zip(("name", "task", "seed", "seen"), key, strict=True)),
                    "set": set_name, "test": f"{set_name}/{fold}", "commit": commit.strip(), "settings": settings,
                    "constants": args.constants, "swaps": args.swaps, "imgsz": config.imgsz,
                    **found,
                }  # fmt: skip
                with file.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                means = ", ".join(f"{f} {mean_of([row], f).mean:.4f}" for f in FIGURES)
                print(f"{time.strftime('%H:%M:%S')} {key}: {means}, {found['cpu_seconds']:.0f} s", flush=True)


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
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
