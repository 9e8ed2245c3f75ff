"""Which epoch should a training keep? Short trainings with the product's own loop, as in `benchmarks.ablation` and on a
part of the TRAINING pictures of each set alone; after every epoch the averaged weights answer for the others.

    python -m benchmarks.keeping [--only pets3] [--folds 0,1] [--seen 5000] [--imgsz 192] [--out runs/keeping]
    python -m benchmarks.keeping --table

The answers are kept in OUT/SET-FOLD.npz. The table draws, many times, some of these pictures to choose the epoch by, as
held-out ones do in the product (`loop.note_score`), and judges the choice on the rest, for several widths of "as good
as the best" - 0 is the best epoch itself, `last` the last one - and for trainings that would have been stopped early.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.ablation import cut
from benchmarks.accuracy import TRUNK, WEIGHTS
from benchmarks.accuracy.tasks import make_tasks
from onebox.boxes import iou
from onebox.training.api import resolve, start_engine, start_session
from onebox.training.augment import to_float
from onebox.training.cache import Cache, build_cache
from onebox.training.config import TrainConfig, make_config
from onebox.training.headstart import start_heads
from onebox.training.loop import AS_GOOD, TEMPERATURES, train_epochs
from onebox.training.model import Network
from onebox.training.processor import processor_set_up
from onebox.training.session import set_trunk_share
from onebox.training.transfer import choose_share, look_first

SETS = ("asl_yolo", "pets3", "caltech22_mat", "tiny_vid")
#: Widths of "as good", each with the share of a training after which it is stopped without a better epoch; 0 never.
WAYS = [(width, 0.0) for width in (0.0, 0.25, 0.5, 1.0, 2.0, math.inf)] + [(0.5, 0.35), (1.0, 0.35), (0.5, 0.5)]
PRODUCT = (AS_GOOD, TrainConfig().patience)
WAYS += [] if PRODUCT in WAYS else [PRODUCT]
#: Pictures that choose: a hundred, as in the product, but never more than half of those there are.
CHOOSING = 100
DRAWS = 400

Floats = npt.NDArray[np.float64]


def run(taught: Cache, judged: Cache, classes: tuple[str, ...], config: TrainConfig) -> dict[str, Any]:
    """`iou` (E, N) and `logits` (E, N, C) of the pictures of `judged` after each of E epochs, and their `labels`."""
    ious, logits = [], []
    with processor_set_up(config):
        session = start_session(resolve(config, len(taught)), classes, start_engine(config))
        starts = bool(session.config.head_start)
        first = look_first(session.average, taught, judged, probed=False, keep_maps=starts)
        set_trunk_share(session.optimizer, choose_share(first, taught, judged)[0])
        if first.maps is not None:
            start_heads(session, first.maps, taught)
            first = replace(first, maps=None)
        for _ in train_epochs(session, taught, None):
            answer = _answers(session.average, judged)
            ious.append(answer[0])
            logits.append(answer[1])
    return {"iou": np.array(ious), "logits": np.array(logits), "labels": judged.labels}


@torch.no_grad()
def _answers(network: Network, judged: Cache) -> tuple[Floats, Floats]:
    network.eval()
    ious, logits = [], []
    for start in range(0, len(judged), 64):
        part = slice(start, start + 64)
        answer = network(to_float(torch.from_numpy(judged.pictures[part])))
        ious.append(iou(answer.box.boxes_01.clamp(0, 1).numpy(), judged.boxes_01[part]))
        logits.append(answer.logits.double().numpy())
    network.train()
    return np.concatenate(ious), np.concatenate(logits)


def kept(quality: Floats, error: Floats, width: float, patience: float) -> int:
    """The epoch that `loop.note_score` would keep with AS_GOOD = `width`, the last one for an infinite width, of those
    that the loop would have come to."""
    best, found = -math.inf, 0
    for epoch, (score, doubt) in enumerate(zip(quality, error, strict=True)):
        best = max(best, float(score))
        if width == math.inf or score >= best - width * doubt:
            found = epoch
        done = (epoch + 1) / len(quality)
        if patience > 0 and done > 0.5 and done - (found + 1) / len(quality) > patience:
            break
    return found


def _quality(overlaps: Floats, log_p: Floats) -> tuple[float, float]:
    """As `loop.validate`: `overlaps` (N,) and log-probabilities of the true class (T, N) at each of TEMPERATURES."""
    best = int(log_p.mean(axis=1).argmax())
    values = np.exp(log_p[best]) * overlaps
    return float(values.mean()), float(values.std() / math.sqrt(len(values)))


def judge(found: Any, seed: int) -> dict[tuple[float, float], Floats]:
    """Of one run: for every way the joint score and the mean IoU (DRAWS, 2) of the epoch that is kept."""
    overlaps, logits, labels = found["iou"], found["logits"], found["labels"]
    epochs, pictures = overlaps.shape
    tempered = logits[:, None] / np.array(TEMPERATURES).reshape(1, -1, 1, 1)
    tempered = tempered - np.logaddexp.reduce(tempered, axis=3, keepdims=True)
    log_p = tempered[:, :, np.arange(pictures), labels]  # (E, T, N)
    joint = (logits.argmax(axis=2) == labels) & (overlaps > 0.5)
    rng = np.random.default_rng(seed)
    scores: dict[tuple[float, float], list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(DRAWS):
        order = rng.permutation(pictures)
        count = min(CHOOSING, pictures // 2)
        choosing, rest = order[:count], order[count:]
        pairs = [_quality(overlaps[e, choosing], log_p[e][:, choosing]) for e in range(epochs)]
        quality, error = np.array(pairs).T
        for way in WAYS:
            epoch = kept(quality, error, *way)
            scores[way].append((float(joint[epoch, rest].mean()), float(overlaps[epoch, rest].mean())))
    return {way: np.array(values) for way, values in scores.items()}


def table(folder: Path) -> str:
    """Markdown: a line a way and set; means over draws and runs, and what they are above the product's."""
    files = sorted(folder.glob("*.npz"))
    found = {file.stem: judge(np.load(file), 0) for file in files}
    lines = ["| standard errors | patience | set | joint | mean IoU | runs |", "|---" * 6 + "|"]
    for width, patience in WAYS:
        for name in ("all", *SETS):
            runs = [scores for stem, scores in found.items() if name in ("all", stem.rpartition("-")[0])]
            if not runs:
                continue
            mean = np.mean([scores[width, patience].mean(axis=0) for scores in runs], axis=0)
            gap = mean - np.mean([scores[PRODUCT].mean(axis=0) for scores in runs], axis=0)
            cells = " | ".join(f"{m:.4f} ({g:+.4f})" for m, g in zip(mean, gap, strict=True))
            lines.append(
                f"| {'last' if width == math.inf else width} | {patience:g} | {name} | {cells} | {len(runs)} |"
            )
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--only", action="append", choices=SETS)
    parser.add_argument("--folds", type=lambda text: [int(k) for k in text.split(",")], default=[0, 1])
    parser.add_argument("--seen", type=int, default=5000)
    parser.add_argument("--imgsz", type=int, default=192)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/keeping"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.table:
        print(table(args.out))
        return
    for name in args.only or SETS:
        task = make_tasks(name, Path("runs/accuracy"))[0]
        config = make_config(backbone=TRUNK, weights=str(WEIGHTS), threads=args.threads, imgsz=args.imgsz, patience=0.0)
        cache = build_cache(task.train, task.train.class_names, config.side)
        for fold in args.folds:
            file = args.out / f"{name}-{fold}.npz"
            if file.exists():
                continue
            taught, judged = cut(task.train, cache, fold)
            epochs = max(1, round(args.seen / len(taught)))
            np.savez(file, **run(taught, judged, task.train.class_names, replace(config, epochs=epochs)))
            print(file, flush=True)


if __name__ == "__main__":
    main()
