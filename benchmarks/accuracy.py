"""How well each recipe does on real sets, side by side: sets x methods x seeds, one row each, resumable.

    python -m benchmarks.accuracy [--only tiny_vid] [--method default] [--seeds 3] [--out runs/accuracy]

Rows go to OUT/rows.jsonl as they finish; a row that is there is not run again. At the end (and with --table alone) a
Markdown table with means over the seeds and bootstrap intervals over the test pictures is printed. Pictures of the test
part are never used in training: early stopping holds out a fifth of the training part.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import onebox
from onebox.dataset import Dataset, load_dataset

SHARED = Path(os.environ.get("ONEBOX_SHARED", Path(__file__).resolve().parents[2] / "shared"))
TRUNK = "tf_mobilenetv3_small_100"
#: Sets and the minutes of training each run gets, for every method alike.
MINUTES = {"tiny_vid": 2.5, "pets3": 1.5, "caltech22_mat": 2.0, "vegetables3": 0.75}
METHODS = ("default", "plain")
FIGURES = ("joint_50", "mean_iou", "top1", "box_acc_50", "box_acc_75", "box_acc_90")


@dataclass(frozen=True)
class Task:
    """One data set cut into training and test pictures, and the training time it gets."""

    name: str
    train: Dataset
    test: Dataset
    minutes: float


def tasks(name: str) -> Iterator[Task]:
    """The tasks of a set: one, or one per fold."""
    data = SHARED / "data"
    if name == "vegetables3":
        whole = load_dataset(data / name / "training_images")
        order = np.random.default_rng(0).permutation(len(whole))
        for fold in range(3):
            test = set(order[fold::3].tolist())
            yield Task(
                f"{name}/fold{fold}",
                whole.subset([i for i in range(len(whole)) if i not in test]),
                whole.subset(sorted(test)),
                MINUTES[name],
            )
        return
    yield Task(name, load_dataset(data / name / "train.csv"), load_dataset(data / name / "test.csv"), MINUTES[name])


def run_one(task: Task, method: str, seed: int, out: Path) -> dict[str, Any]:
    """Trains and judges once; gives the row."""
    folder = out / f"{task.name.replace('/', '-')}-{method}-{seed}"
    started = time.perf_counter()
    run = onebox.train(
        task.train,
        out=folder,
        overwrite=True,
        recipe=method,
        backbone=TRUNK,
        weights=str(SHARED / "weights" / f"{TRUNK}.safetensors"),
        minutes=task.minutes,
        seed=seed,
    )
    seconds = time.perf_counter() - started
    metrics = onebox.evaluate(onebox.load(run.model), task.test)
    (folder / "last.safetensors").unlink(missing_ok=True)
    return {
        "task": task.name,
        "method": method,
        "seed": seed,
        "seconds": round(seconds, 1),
        "epochs": run.history[-1].epoch,
        **metrics.to_dict(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one line per set and method; means over seeds (and folds), of the figures and
    of the ends of the runs' 95 % intervals."""
    lines = ["| set | method | runs | seconds | " + " | ".join(FIGURES) + " |", "|---" * (4 + len(FIGURES)) + "|"]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["task"].split("/")[0], row["method"]), []).append(row)
    for (name, method), group in sorted(groups.items()):
        cells = []
        for figure in FIGURES:
            mean = np.mean([row[figure] for row in group])
            low = np.mean([row["intervals"][figure][0] for row in group])
            high = np.mean([row["intervals"][figure][1] for row in group])
            cells.append(f"{mean:.3f} ({low:.2f}-{high:.2f})")
        seconds = max(row["seconds"] for row in group)
        lines.append(f"| {name} | {method} | {len(group)} | {seconds:.0f} | " + " | ".join(cells) + " |")
        if method == METHODS[0]:
            base = {f: np.mean([row["baseline"][f] for row in group]) for f in FIGURES}
            lines.append(f"| {name} | median box | | | " + " | ".join(f"{base[f]:.3f}" for f in FIGURES) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MINUTES, action="append")
    parser.add_argument("--method", choices=METHODS, action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--table", action="store_true", help="print the table of what is there and run nothing")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["task"], row["method"], row["seed"]) for row in rows}
    for name in () if args.table else (args.only or MINUTES):
        for seed in range(args.seeds):
            for task in tasks(name):
                for method in args.method or METHODS:
                    if (task.name, method, seed) not in done:
                        rows.append(run_one(task, method, seed, args.out))
                        with path.open("a") as file:
                            file.write(json.dumps(rows[-1]) + "\n")
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} CPU cores, onebox {onebox.__version__}\n"
    )
    print(table(rows))


if __name__ == "__main__":
    main()
