"""How many labels it takes, if the model chooses which pictures to label, against a random order.

    python -m benchmarks.labelling [--only tiny_vid] [--way useful] [--seeds 2] [--threads 1] [--out runs/labelling]
        [--table]

The training part of a set plays the unlabelled folder and its true labels the person. Both ways begin with the same
random pictures, and are the same until a model has a say in the order (`onebox.labelling.queue.ASK_FROM` labels); then
the next ones are chosen by `onebox.labelling` from the model's own answers, or by the dice. Rows (set, way, seed,
labels -> scores on the test part) go to OUT/rows.jsonl as they finish; a row that is there is not run again. The table
says how many labels reach 90 % of the score that all labels give, by straight lines between the rows. Trainings are the
default recipe, shortened: 96 px, about 4,000 pictures seen.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

import onebox
from benchmarks.accuracy import SHARED, TRUNK
from onebox.dataset import Dataset, load_dataset
from onebox.labelling.proposals import survey
from onebox.labelling.queue import ASK_FROM
from onebox.labelling.training import HELD_OUT_FROM

#: Labels after each round; the last rounds are left out once the goal is passed.
ROUNDS = {"tiny_vid": (40, 80, 140, 220, 320, 450), "caltech22_mat": (60, 120, 200, 300, 420, 600)}
WAYS = ("random", "useful")
FIGURES = ("joint_50", "mean_iou", "top1", "box_acc_75")
GOAL, GOAL_FIGURE = 0.9, "joint_50"


def train_on(
    chosen: Dataset, test: Dataset, seed: int, folder: Path, threads: int | None
) -> tuple[onebox.OnnxLocalizer, dict[str, Any]]:
    """The model, and its figures on the test part."""
    started = time.perf_counter()
    run = onebox.train(
        chosen,
        chosen.subset([]) if len(chosen) < HELD_OUT_FROM else None,  # as the page trains
        out=folder,
        overwrite=True,
        backbone=TRUNK,
        weights=str(SHARED / "weights" / f"{TRUNK}.safetensors"),
        imgsz=96,
        epochs=max(8, min(40, round(4000 / len(chosen)))),
        seed=seed,
        threads=threads,
    )
    model = onebox.load(run.model)
    known = test.subset([i for i, sample in enumerate(test) if sample.label in model.class_names])
    metrics = onebox.evaluate(model, known).to_dict()
    # pictures of classes that nobody has labelled yet count as wrong where the class counts; their boxes are not judged
    share = {figure: len(known) / len(test) for figure in ("joint_50", "top1")}
    figures = {f: metrics[f] * share.get(f, 1) for f in FIGURES}
    return model, figures | {"seconds": round(time.perf_counter() - started, 1)}


def choose(model: onebox.OnnxLocalizer | None, whole: Dataset, known: list[int], dice: list[int]) -> list[int]:
    """Every picture not labelled yet, in the order in which the page has it labelled: that of the dice, until there are
    labels enough to ask a model."""
    if model is None:
        return [i for i in dice if i not in set(known)]
    at = {whole[i].path: i for i in dice}
    found = survey(model, list(at))
    return [at[path] for path in found.order([at[path] in set(known) for path in found.paths])]


def run_way(name: str, way: str, seed: int, rows: list[dict[str, Any]], path: Path, threads: int | None) -> None:
    """The rounds of one way and seed, as far as they are not in `rows`, until the goal is passed."""
    data = SHARED / "data" / name
    whole, test = load_dataset(data / "train.csv"), load_dataset(data / "test.csv")
    folder = path.parent / f"{name}-{way}-{seed}"
    full = _row(rows, name, "all", seed)
    if full is None:
        _, figures = train_on(whole, test, seed, folder, threads)
        full = _keep({"set": name, "way": "all", "seed": seed, "labels": len(whole), **figures}, rows, path)
    dice = [int(i) for i in np.random.default_rng(seed).permutation(len(whole))]
    known = dice[: ROUNDS[name][0]]
    for done, count in enumerate(ROUNDS[name]):
        asks, model = way == "useful" and count >= ASK_FROM, None
        row = _row(rows, name, way, seed, count)
        if row is None:
            # the same pictures and the same seed are the same training: it is not run again for its figures alone
            twin = _row(rows, name, WAYS[1 - WAYS.index(way)], seed, count)
            if twin is not None and twin["chosen"] == known and not asks:
                figures = {f: twin[f] for f in (*FIGURES, "seconds")}
            else:
                model, figures = train_on(whole.subset(known), test, seed, folder, threads)
            row = _keep(
                {"set": name, "way": way, "seed": seed, "labels": len(known), **figures, "chosen": known}, rows, path
            )
        if done + 1 == len(ROUNDS[name]) or (row[GOAL_FIGURE] >= GOAL * full[GOAL_FIGURE] and _passed(rows, row, full)):
            break
        if _row(rows, name, way, seed, ROUNDS[name][done + 1]) is None:
            model = (model or onebox.load(folder)) if asks else None
            more = choose(model, whole, row["chosen"], dice)[: ROUNDS[name][done + 1] - count]
            known = [*row["chosen"], *more]
    shutil.rmtree(folder, ignore_errors=True)


def _passed(rows: list[dict[str, Any]], row: dict[str, Any], full: dict[str, Any]) -> bool:
    """Whether two rounds one after the other reached the goal: one may be luck."""
    same = [r for r in rows if all(r[k] == row[k] for k in ("set", "way", "seed")) and r["labels"] < row["labels"]]
    return bool(same) and max(same, key=lambda r: r["labels"])[GOAL_FIGURE] >= GOAL * full[GOAL_FIGURE]


def _keep(row: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> dict[str, Any]:
    rows.append(row)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print({key: value for key, value in row.items() if key != "chosen"}, flush=True)
    return row


def _row(
    rows: list[dict[str, Any]], name: str, way: str, seed: int, labels: int | None = None
) -> dict[str, Any] | None:
    wanted = {"set": name, "way": way, "seed": seed} | ({} if labels is None else {"labels": labels})
    return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)


def needed(curve: list[tuple[int, float]], goal: float) -> float | None:
    """Labels at which a curve of (labels, score) first reaches `goal`, by straight lines between its points; None where
    it never does."""
    before: tuple[int, float] | None = None
    for labels, score in sorted(curve):
        if score >= goal:
            if before is None:
                return float(labels)
            return before[0] + (goal - before[1]) / (score - before[1]) * (labels - before[0])
        before = (labels, score)
    return None


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: for each set and way the labels needed, seed by seed, and the scores round by round (means)."""
    lines = [f"| set | way | labels for {GOAL:.0%} of all labels' {GOAL_FIGURE}, per seed | {GOAL_FIGURE} at labels |"]
    lines.append("|---|---|---|---|")
    for name in ROUNDS:
        for way in WAYS:
            mine = [row for row in rows if row["set"] == name and row["way"] == way]
            cells = []
            for seed in sorted({row["seed"] for row in mine}):
                full = _row(rows, name, "all", seed)
                curve = [(row["labels"], row[GOAL_FIGURE]) for row in mine if row["seed"] == seed]
                reached = needed(curve, GOAL * full[GOAL_FIGURE]) if full else None
                cells.append("not reached" if reached is None else f"{reached:.0f}")
            if not mine:
                continue
            counts = sorted({row["labels"] for row in mine})
            means = [np.mean([row[GOAL_FIGURE] for row in mine if row["labels"] == n]) for n in counts]
            scores = ", ".join(f"{n}: {mean:.3f}" for n, mean in zip(counts, means, strict=True))
            lines.append(f"| {name} | {way} | {' / '.join(cells)} | {scores} |")
        full_rows = [row for row in rows if row["set"] == name and row["way"] == "all"]
        if full_rows:
            mean = np.mean([row[GOAL_FIGURE] for row in full_rows])
            lines.append(f"| {name} | all | {full_rows[0]['labels']} | {mean:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=ROUNDS, action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, help="for a second set in another process beside it: 1")
    parser.add_argument("--out", type=Path, default=Path("runs/labelling"))
    parser.add_argument("--table", action="store_true", help="print the table of what is there and run nothing")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for seed in range(0 if args.table else args.seeds):
        for name in args.only or ROUNDS:
            for way in args.way or WAYS:
                run_way(name, way, seed, rows, path, args.threads)
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} CPU cores, onebox {onebox.__version__}\n"
    )
    print(table(rows))


if __name__ == "__main__":
    main()
