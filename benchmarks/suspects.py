"""Whether the wrong labels come first: labels and boxes are spoilt on purpose in real sets, and the two rankings of
`onebox check --model` are judged by who was spoilt; where a set holds the same picture twice with different boxes, by
where those pictures rank.

    python -m benchmarks.suspects [--only tiny_vid] [--seeds 1] [--epochs 12] [--folds 5] [--out runs/suspects]

Out-of-fold predictions are kept in OUT and not computed again. At the end a Markdown table is printed.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

from onebox.dataset import Dataset, load_dataset
from onebox.doctor import check
from onebox.doctor.suspects import LISTED, find_suspects
from onebox.training.config import PROBE_WEIGHT, make_config
from onebox.training.fold_store import OutOfFold
from onebox.training.folds import out_of_fold
from onebox.types import Box, Sample

SHARED = Path(os.environ.get("ONEBOX_SHARED", Path(__file__).resolve().parents[2] / "shared"))
TRUNK = "tf_mobilenetv3_small_100"
#: Of the pictures, once for their labels and once, others, for their boxes.
SPOILT = 0.05
SPOILT_SETS = ("tiny_vid", "caltech22_mat")
REAL_SETS = ("raccoon", "plates_voc")


def spoil(data: Dataset, seed: int, along: str) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """The labelled pictures, SPOILT of the labels changed to another class and SPOILT of the boxes, of other pictures,
    moved by half their width and half their height (`along` "one": by one of the two) and cut at the picture's edge;
    which labels, and which boxes."""
    rng = np.random.default_rng(seed)
    samples = list(data.labelled)
    order = rng.permutation(len(samples))
    count = round(SPOILT * len(samples))
    labels, boxes = np.zeros(len(samples), dtype=bool), np.zeros(len(samples), dtype=bool)
    labels[order[:count]] = True
    boxes[order[count : 2 * count]] = True
    for i in np.nonzero(labels)[0]:
        others = [name for name in data.class_names if name != samples[i].label]
        samples[i] = replace(samples[i], label=others[rng.integers(len(others))])
    for i in np.nonzero(boxes)[0]:
        samples[i] = _moved(samples[i], along, rng)
    return replace(data, samples=tuple(samples)), labels, boxes


def _moved(sample: Sample, along: str, rng: np.random.Generator) -> Sample:
    assert sample.box is not None
    box, (width, height) = sample.box, sample.image_size
    dx, dy = 0.5 * box.width * rng.choice([-1, 1]), 0.5 * box.height * rng.choice([-1, 1])
    if along == "one":
        dx, dy = (dx, 0.0) if rng.integers(2) else (0.0, dy)
    moved = Box(
        max(0.0, box.x_min + dx), max(0.0, box.y_min + dy), min(width, box.x_max + dx), min(height, box.y_max + dy)
    )
    return replace(sample, box=moved)


def load(name: str) -> Dataset:
    """The training pictures of a set, or all where it names no parts."""
    folder = SHARED / "data" / name
    return load_dataset(folder / "train.csv") if name in SPOILT_SETS else load_dataset(folder, multiple="largest")


def ask(name: str, data: Dataset, seed: int, args: argparse.Namespace) -> tuple[OutOfFold, float]:
    """Out-of-fold predictions, from OUT where they are there already, and the seconds that it took."""
    weights = SHARED / "weights" / f"{TRUNK}.safetensors"
    minutes = args.minutes / args.folds if args.minutes else None
    config = make_config(
        backbone=TRUNK, weights=str(weights), epochs=args.epochs, minutes=minutes, imgsz=args.imgsz, seed=seed,
        threads=args.threads,
    )  # fmt: skip
    store = args.out / f"{name}-{seed}-{args.epochs}-{args.minutes}-{args.imgsz}-{args.along}.jsonl"
    started = time.perf_counter()
    found = out_of_fold(data, config=config, folds=args.folds, store=store, probe_weight=PROBE_WEIGHT * args.probed)
    return found, time.perf_counter() - started


def judge_spoilt(name: str, seed: int, args: argparse.Namespace) -> str:
    """One row: how often the judges say the unspoilt class, average precision of both rankings, and what is listed as
    suspect of how much of it is."""
    data, labels, boxes = spoil(load(name), seed, args.along)
    found, seconds = ask(name, data, seed, args)
    suspects = find_suspects(data, found.predictions, close_ups=found.close_ups if args.close_ups else ())
    truth = {sample.path: sample.label for sample in load(name).labelled}
    right = np.mean([s.prediction.label == truth[s.sample.path] for s in suspects])
    row_of = {sample.path: i for i, sample in enumerate(data)}
    rows = np.array([row_of[s.sample.path] for s in suspects])
    cells = []
    for wrong, ranks, doubts in (
        (labels[rows], [s.label_rank for s in suspects], [s.label_doubt for s in suspects]),
        (boxes[rows], [s.box_rank for s in suspects], [s.box_doubt for s in suspects]),
    ):
        listed = np.array(doubts) >= LISTED
        precision = average_precision_score(wrong, -np.array(ranks))
        cells.append(
            f"{precision:.3f} | {int((wrong & listed).sum())} of {int(listed.sum())}, {int(wrong.sum())} wrong"
        )
    return f"| {name} | {seed} | {len(rows)} | {seconds:.0f} | {right:.3f} | {' | '.join(cells)} |"


def judge_real(name: str, seed: int, args: argparse.Namespace) -> str:
    """One line: of the copies that are boxed differently, how many pairs have one of the two in the first fifth of the
    ranking - with what the doctor knows of copies, and by the models alone."""
    data = load(name)
    found, seconds = ask(name, data, seed, args)
    findings = check(data).findings
    pairs = [(str(f.picture), f.others[0]) for f in findings if f.code == "duplicate-boxes"]
    shares = []
    for known in (findings, ()):
        suspects = find_suspects(data, found.predictions, known, found.close_ups if args.close_ups else ())
        rank = {s.sample.path: s.box_rank for s in suspects}
        first = [min(rank[a], rank[b]) <= 0.2 * len(suspects) for a, b in pairs if a in rank and b in rank]
        shares.append(f"{sum(first)} of {len(first)}")
    return f"| {name} | {seed} | {len(data)} | {seconds:.0f} | {shares[0]} | {shares[1]} |"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=(*SPOILT_SETS, *REAL_SETS), action="append")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--epochs", type=int, help="per fold  [default: as `onebox train`]")
    parser.add_argument("--minutes", type=float, help="for all folds together")
    parser.add_argument("--imgsz", type=int, default=192)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--along", choices=("both", "one"), default="both", help="axes that boxes are moved along")
    parser.add_argument(
        "--probed", action=argparse.BooleanOptionalAction, default=True,
        help="with what the untouched trunk says, as `onebox check` asks",
    )  # fmt: skip
    parser.add_argument(
        "--close-ups", action=argparse.BooleanOptionalAction, default=True,
        help="with what is said of the given boxes' surroundings, as `onebox check` asks",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/suspects"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for heads, judge, names in (
        (("right class", "label AP", "of the listed", "box AP", "of the listed"), judge_spoilt, SPOILT_SETS),
        (("pairs in the first fifth", "by the models alone"), judge_real, REAL_SETS),
    ):
        columns = ("set", "seed", "pictures", "seconds", *heads)
        lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for name in names:
            if args.only is None or name in args.only:
                lines += [judge(name, args.start + i, args) for i in range(args.seeds)]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
