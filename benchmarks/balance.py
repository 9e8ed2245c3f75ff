"""Six ways to balance the pull of two losses on the shared trunk, on the same pictures, batches and number of steps:
the question behind `balance` in the training settings.

    python -m benchmarks.balance [--only tiny_vid] [--way kendall] [--seeds 3] [--epochs 20] [--out runs/balance]

Judged on a fifth of the TRAINING part of each set; test parts are never read. One line a run in OUT/rows.jsonl, runs
that have one are not done again; at the end a Markdown table with differences from our way, paired by seed.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.accuracy import SHARED
from onebox.dataset import load_dataset
from onebox.training.api import PRETRAINED_BALANCE, resolve, start_engine, start_session
from onebox.training.augment import BatchAugment, step_generator
from onebox.training.balance import BoxWeight, measure, watch
from onebox.training.cache import Cache, build_cache
from onebox.training.config import IMGSZ, TrainConfig, make_config
from onebox.training.headstart import start_heads
from onebox.training.leaks import hold_out
from onebox.training.loop import update_average, validate
from onebox.training.losses import Losses, criterion
from onebox.training.model import Network, NetworkOutput
from onebox.training.processor import processor_set_up
from onebox.training.schedule import batch_indices, lr_factor, steps_per_epoch
from onebox.training.session import MOST_GRADIENT
from onebox.training.transfer import look_first

SETS = ("tiny_vid", "pets3")
TRUNK = "tf_mobilenetv3_small_100"
SCORES = ("top1", "mean_iou", "joint_50", "quality")
#: GradNorm's strength of the restoring force and the rate of its weights (Chen et al. 2018, section 5.1 and 4).
GRADNORM_ALPHA, GRADNORM_LR = 1.5, 0.025


class Fixed:
    """Both losses with weight 1, added up."""

    def __init__(self, network: Network, steps: int) -> None:
        del network, steps

    def backward(self, losses: Losses, output: NetworkOutput, step: int) -> None:
        """Leaves the gradients where the optimizer finds them."""
        del output, step
        (losses.class_loss + losses.box_loss).backward()


class NormMatched:
    """Ours: in the first epoch the box loss gets the weight that brings its gradient at the trunk to `balance` times
    that of the class loss (geometric mean so far), which is then kept."""

    balance = PRETRAINED_BALANCE

    def __init__(self, network: Network, steps: int) -> None:
        del network
        self.weight = BoxWeight.start(None, self.balance)
        self.steps = steps
        self.engine = Accelerator(cpu=True)

    def backward(self, losses: Losses, output: NetworkOutput, step: int) -> None:
        """See `Fixed`."""
        watch(output)
        (losses.class_loss + self.weight.value * losses.box_loss).backward()
        self.weight.update(measure(output, self.engine))
        if step + 1 == self.steps:
            self.weight.freeze()


class NormMatchedThird(NormMatched):
    """The same with a box branch that pulls a third as hard: the default until 2026-11-28."""

    balance = 0.3


class Kendall:
    """Weights from learnt uncertainties: class loss / s_c^2 + box loss / (2 s_b^2) + log s_c + log s_b (Kendall, Gal
    and Cipolla 2018, arXiv 1705.07115, eq. 10), with the logarithms of the variances as parameters."""

    def __init__(self, network: Network, steps: int) -> None:
        del steps
        self.logs = torch.nn.Parameter(torch.zeros(2))
        self.optimizer = torch.optim.Adam([self.logs], lr=1e-2)
        del network

    def backward(self, losses: Losses, output: NetworkOutput, step: int) -> None:
        """See `Fixed`."""
        del output, step
        self.optimizer.zero_grad()
        weights = torch.exp(-self.logs)
        total = weights[0] * losses.class_loss + weights[1] * losses.box_loss / 2 + self.logs.sum() / 2
        total.backward()
        self.optimizer.step()


class GradNorm:
    """Weights that keep each loss's gradient norm at the shared features near their mean, times how far that loss lags
    behind (Chen et al. 2018, arXiv 1711.02257, algorithm 1); weights sum to 2."""

    def __init__(self, network: Network, steps: int) -> None:
        del network, steps
        self.weights = torch.ones(2, dtype=torch.float64)
        self.first: Tensor | None = None

    def backward(self, losses: Losses, output: NetworkOutput, step: int) -> None:
        """See `Fixed`."""
        del step
        watch(output)
        w = self.weights
        (float(w[0]) * losses.class_loss + float(w[1]) * losses.box_loss).backward()
        taps = (output.class_taps, output.box_taps)
        norms = torch.tensor(
            [math.sqrt(sum(float((t.grad**2).sum()) for t in tap if t.grad is not None)) for tap in taps]
        )
        norms = norms.double()
        now = torch.tensor([losses.class_loss.item(), losses.box_loss.item()], dtype=torch.float64)
        self.first = now if self.first is None else self.first
        behind = now / self.first
        target = norms.mean() * (behind / behind.mean()) ** GRADNORM_ALPHA
        # d |G_i - target_i| / d w_i, where G_i grows in proportion to w_i and the target is held constant
        w = (w - GRADNORM_LR * torch.sign(norms - target) * norms / w / norms.mean()).clamp_min(1e-3)
        self.weights = 2 * w / w.sum()


class PCGrad:
    """Where the two gradients of the trunk's parameters point against each other, each loses its part along the other
    (Yu et al. 2020, arXiv 2001.06782, algorithm 1). Two backward passes through the trunk."""

    def __init__(self, network: Network, steps: int) -> None:
        del steps
        self.trunk = [p for _, p in network.trunk_parameters() if p.requires_grad]

    def backward(self, losses: Losses, output: NetworkOutput, step: int) -> None:
        """See `Fixed`."""
        del output, step
        first = torch.autograd.grad(losses.class_loss, self.trunk, retain_graph=True, allow_unused=True)
        second = torch.autograd.grad(losses.box_loss, self.trunk, retain_graph=True, allow_unused=True)
        (losses.class_loss + losses.box_loss).backward()
        one, other = (torch.cat([_flat(g, p) for g, p in zip(gs, self.trunk, strict=True)]) for gs in (first, second))
        against = float(torch.dot(one, other))
        if against >= 0:
            return
        total = (
            one - against / float(torch.dot(other, other)) * other + other - against / float(torch.dot(one, one)) * one
        )
        for p, part in zip(self.trunk, total.split([p.numel() for p in self.trunk]), strict=True):
            p.grad = part.view_as(p).clone()


def _flat(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    return torch.zeros(parameter.numel()) if gradient is None else gradient.reshape(-1)


WAYS: dict[str, Callable[[Network, int], Any]] = {
    "ours": NormMatched,
    "third": NormMatchedThird,
    "fixed": Fixed,
    "kendall": Kendall,
    "gradnorm": GradNorm,
    "pcgrad": PCGrad,
}


def train(way: str, config: TrainConfig, epochs: int, train: Cache, val: Cache, classes: int) -> dict[str, float]:
    """The default recipe's head start and steps, with the backward pass of `way`; scores of the averaged weights at the
    end."""
    names = tuple(str(i) for i in range(classes))
    session = start_session(resolve(replace(config, epochs=epochs), len(train)), names, start_engine(config))
    config, optimizer, average = session.config, session.optimizer, session.average
    network = session.accelerator.unwrap_model(session.network)
    if config.head_start:
        maps = look_first(average, train, None, probed=False, keep_maps=True).maps
        assert maps is not None
        start_heads(session, maps, train)
    augment = BatchAugment(hflip=config.hflip, strength=config.augment or 0.0, close=config.close)
    pictures, boxes, labels = (torch.from_numpy(a) for a in (train.pictures, train.boxes_01, train.labels))
    per_epoch = steps_per_epoch(len(train), config.batch)
    balance = WAYS[way](network, per_epoch)
    network.train()
    begun = time.perf_counter()
    for step in range(epochs * per_epoch):
        rows = batch_indices(len(train), config.batch, config.seed, step)
        drawn = augment.draw(step_generator(config.seed, step), boxes[rows])
        x, y = augment(pictures[rows], boxes[rows], drawn)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * group["share"] * lr_factor(step / (epochs * per_epoch), config.warmup)
        output = network(x)
        losses = criterion(
            output.logits, output.box, labels[rows], y, box_loss="edges", label_smoothing=config.label_smoothing
        )
        optimizer.zero_grad()
        balance.backward(losses, output, step)
        torch.nn.utils.clip_grad_norm_(network.parameters(), MOST_GRADIENT)
        optimizer.step()
        update_average(average, network, config.ema, step + 1)
    return {"seconds": time.perf_counter() - begun, **validate(average, val, session.accelerator)}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: means over seeds, and differences from "ours" with a 95 % t interval over the seeds both have."""
    from scipy.stats import t as student

    lines = [
        f"| set | way | seeds | {' | '.join(SCORES)} | joint - ours | mean IoU - ours | seconds |",
        "|---" * 10 + "|",
    ]
    for name in sorted({row["set"] for row in rows}):
        ours = {row["seed"]: row for row in rows if (row["set"], row["way"]) == (name, "ours")}
        for way in WAYS:
            mine = {row["seed"]: row for row in rows if (row["set"], row["way"]) == (name, way)}
            if not mine:
                continue
            cells = [f"{np.mean([r[s] for r in mine.values()]):.3f}" for s in SCORES]
            for score in ("joint_50", "mean_iou"):
                gaps = np.array([mine[seed][score] - ours[seed][score] for seed in mine if seed in ours])
                if way == "ours" or len(gaps) < 2:
                    cells.append("")
                    continue
                wide = student.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / math.sqrt(len(gaps))
                cells.append(f"{gaps.mean():+.3f} ± {wide:.3f}")
            seconds = np.mean([r["seconds"] for r in mine.values()])
            lines.append(f"| {name} | {way} | {len(mine)} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SETS)
    parser.add_argument("--way", action="append", choices=tuple(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/balance"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(row["set"], row["way"], row["seed"], row["epochs"]) for row in rows}
    for name in args.only or SETS:
        data = load_dataset(SHARED / "data" / name / "train.csv").labelled
        for seed in range(args.seeds):
            weights = str(SHARED / "weights" / f"{TRUNK}.safetensors")
            config = make_config(backbone=TRUNK, weights=weights, seed=seed, threads=args.threads, imgsz=IMGSZ)
            parts: tuple[Cache, Cache] | None = None
            for way in args.way or WAYS:
                if (name, way, seed, args.epochs) in done:
                    continue
                if parts is None:
                    cache = build_cache(data, data.class_names, config.side)
                    _, _, taught, held, _ = hold_out(data, cache, 0.8, seed)
                    assert held is not None
                    parts = taught, held
                with processor_set_up(config):
                    scores = train(way, config, args.epochs, *parts, len(data.class_names))
                row = {"set": name, "way": way, "seed": seed, "epochs": args.epochs, **scores}
                rows.append(row)
                with file.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                print(row, flush=True)
    print(table([row for row in rows if row["epochs"] == args.epochs]))


if __name__ == "__main__":
    main()
