"""What a training loses by holding pictures out, whether it can learn them late (`--learn-all-from`), and what the size
of its input does. Trains with the product's own command on a few pictures of each class of a set's TRAINING part, and
asks the model for the others of that part; test pictures are never touched. (Of a set in folds they are the test
pictures of other folds: choose nothing by such a set alone.)

    python -m benchmarks.holding_out [--only pets37] [--way apart] [--draws 0,1] [--few 6] [--minutes 1.5]
    python -m benchmarks.holding_out --table [--out runs/holding]

One row a training in OUT/rows.jsonl; what has its row is not done again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import onebox
from benchmarks.accuracy import TRUNK, WEIGHTS
from benchmarks.accuracy.rows import append_row, calm
from benchmarks.accuracy.tasks import make_tasks, take_few
from onebox.dataset import Dataset
from onebox.evaluation import judge
from onebox.training.reporter import Silent

#: Sets with the number of boxed pictures a class that teach where nobody says.
SETS = {"pets37": 6, "caltech22_mat": 8, "asl_yolo": 8, "tiny_vid": 20, "pets3": 30, "tiny_imagenet20": 150}
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "apart": {"learn_all_from": 1.0},
    "nothing": {"split": 1.0},
    "224": {"imgsz": 224},
    "head": {"head_start": 3},
    "no_head": {"head_start": 0},
    "head_10": {"head_start": 10},
    "head_10_tenth": {"head_start": 10, "trunk_lr": 0.1},
    "224_head": {"imgsz": 224, "head_start": 3},
    "224_head_half": {"imgsz": 224, "head_start": 3, "trunk_lr": 0.5},
    "224_head_quarter": {"imgsz": 224, "head_start": 3, "trunk_lr": 0.25},
    "nothing_224": {"split": 1.0, "imgsz": 224},
    "as_of_few": {"imgsz": 224, "head_start": 3, "learn_all_from": 0.7},
    "as_of_many": {"imgsz": 192, "head_start": 0, "learn_all_from": 1.0},
    "tenth": {"trunk_lr": 0.1},
    "quarter": {"trunk_lr": 0.25},
    "half": {"trunk_lr": 0.5},
    "full": {"trunk_lr": 1.0},
    "refine": {"refine": True},
    "one_look": {"refine": False},
    "nothing_refine": {"split": 1.0, "refine": True},
    "nothing_one_look": {"split": 1.0, "refine": False},
    "patient": {"patience": 0.0},
    "late_50": {"learn_all_from": 0.5},
    "late_70": {"learn_all_from": 0.7},
}
#: At most so many of the others are asked for, and of small pictures, which are quickly asked for.
JUDGED, JUDGED_SMALL = 400, 1000


def parts(name: str, draw: int, count: int) -> tuple[Dataset, Dataset, int | None]:
    """`count` pictures a class of the training part, up to JUDGED of the others, and the input size that the set asks
    for, if it does. Of a set in folds each draw takes the next fold."""
    tasks = make_tasks(name, Path("runs/accuracy"))
    task = tasks[draw % len(tasks)]
    whole = task.train
    few = take_few(whole, count, draw)
    taken = {sample.path for sample in few}
    others = [i for i, sample in enumerate(whole) if sample.path not in taken]
    most = JUDGED if task.imgsz is None else JUDGED_SMALL
    chosen = np.random.default_rng(draw).permutation(others)[:most].tolist()
    return few, whole.subset(chosen), task.imgsz


def train_few(few: Dataset, out: Path, way: str, seed: int, minutes: float, imgsz: int | None) -> onebox.Run:
    """One training, as a person would have it with these pictures."""
    asked: dict[str, Any] = {} if imgsz is None else {"imgsz": imgsz}
    return onebox.train(
        few, out=out, minutes=minutes, seed=seed, backbone=TRUNK, weights=str(WEIGHTS), reporter=Silent(),
        **{**WAYS[way], **asked},
    )  # fmt: skip


def run(name: str, way: str, draw: int, count: int, minutes: float) -> dict[str, Any]:
    """One training and its answers for the others. `nll`: mean negative log-likelihood of the true class. `reached`:
    the shares that the promises of 90 % came to; `refused`: the share taken for empty, of which at most .05 (or one of
    the few held-out pictures) is promised."""
    few, others, imgsz = parts(name, draw, count)
    with tempfile.TemporaryDirectory(prefix="onebox-run-") as folder:
        done = train_few(few, Path(folder) / "run", way, draw, minutes, imgsz)
        trunk_lr = json.loads((done.folder / "config.json").read_text())["config"]["trunk_lr"]
        model = onebox.load(done.model)
        found = judge(model, others, resamples=0)
    metrics = found.metrics
    said = [r.prediction.probabilities[metrics.class_names.index(r.label)] for r in found.records]
    reached = {
        promise: level["reached"]
        for promise, levels in metrics.coverage.items()
        for level in levels
        if abs(level["asked"] - 0.9) < 1e-6
    }
    refused = [r.prediction.present is False for r in found.records]
    return {
        "set": name, "way": way, "draw": draw, "count": count, "minutes": minutes, "few": len(few), "judged": metrics.n,
        "joint_50": metrics.joint_50, "mean_iou": metrics.mean_iou, "top1": metrics.top1, "ece": metrics.ece,
        "nll": float(-np.log(np.maximum(said, 1e-12)).mean()), "reached": reached, "refused": float(np.mean(refused)),
        "looks": 1 + int(model.looks_twice), "trunk_lr": trunk_lr,
        "epochs": done.history[-1].epoch, "best_epoch": max(row.epoch for row in done.history if row.best),
        "seconds": round(done.history[-1].seconds, 1),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line a set and way, means over draws."""
    figures = {"joint_50": "joint", "mean_iou": "mean IoU", "top1": "top-1", "nll": "log loss", "ece": "ECE"}
    promises = {"outer_box": "outer box", "class_set": "class set", "joint": "both"}
    heads = ["set", "taught, judged", "minutes", "way", "draws", *figures.values(), *promises.values(), "refused"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, count, minutes in sorted({(row["set"], row["count"], row["minutes"]) for row in rows}):
        for way in WAYS:
            key = (name, count, minutes, way)
            chosen = [r for r in rows if (r["set"], r["count"], r["minutes"], r["way"]) == key]
            if not chosen:
                continue
            means = [f"{np.mean([r[f] for r in chosen]):.3f}" for f in figures]
            kept = [[r["reached"][p] for r in chosen if p in r["reached"]] for p in promises]
            kept.append([r["refused"] for r in chosen if "refused" in r])  # of older rows it is not known
            means += [f"{np.mean(values):.3f}" if values else "" for values in kept]
            sizes = f"{chosen[0]['few']}, {chosen[0]['judged']}"
            lines.append(f"| {name} | {sizes} | {minutes:g} | {way} | {len(chosen)} | {' | '.join(means)} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--only", action="append", choices=SETS)
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--draws", type=lambda text: [int(k) for k in text.split(",")], default=[0])
    parser.add_argument("--few", type=int, help="boxed pictures a class")
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--calm", type=float, metavar="CORES", help="as in benchmarks.accuracy")
    parser.add_argument("--out", type=Path, default=Path("runs/holding"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {tuple(row[k] for k in ("set", "way", "draw", "count", "minutes")) for row in rows}
    todo = [
        key
        for draw in args.draws
        for name in args.only or SETS
        for way in args.way or WAYS
        if (key := (name, way, draw, args.few or SETS[name], args.minutes)) not in done
    ]
    for key in [] if args.table else todo:
        row = calm(lambda key=key: run(*key), args.calm)
        append_row(file, row)
        rows.append(row)
        print(*key, f"{row['joint_50']:.3f} {row['mean_iou']:.3f} {row['nll']:.3f} {row['ece']:.3f}", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
