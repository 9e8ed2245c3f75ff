"""Means with intervals, and differences between two methods on the same pictures. Takes rows as `rows`
reads them, gives (mean, low, high); the bootstrap draws seeds and, within each task, pictures. numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.accuracy.rows import Row

RESAMPLES = 2000


class Mean(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def values_of(row: Row, figure: str) -> npt.NDArray[np.float64]:
    """One value for each test picture: `figure` is "joint_50", "mean_iou", "top1" or "box_acc_NN"."""
    pictures = row["pictures"]
    if figure in {"joint_50", "top1"}:
        return np.array([c == "1" for c in pictures["joint" if figure == "joint_50" else "right"]], dtype=np.float64)
    iou = np.array(pictures["iou"], dtype=np.float64)
    return iou if figure == "mean_iou" else (iou > int(figure.removeprefix("box_acc_")) / 100).astype(np.float64)


def mean_of(rows: Sequence[Row], figure: str) -> Mean:
    """The mean over runs of each run's mean over pictures."""
    return _bootstrap([(r["seed"], r["task"], values_of(r, figure)) for r in rows])


def difference(rows: Sequence[Row], others: Sequence[Row], figure: str) -> Mean | None:
    """`rows` less `others`, picture by picture, over the runs (task, seed) that both have; None where there is none.

    Raises ValueError where two runs of one task were not judged on the same pictures.
    """
    theirs = {(r["task"], r["seed"]): r for r in others}
    pairs = [(r, theirs[r["task"], r["seed"]]) for r in rows if (r["task"], r["seed"]) in theirs]
    for a, b in pairs:
        if a["test"] != b["test"]:
            raise ValueError(f"{a['task']}: these runs were judged on different pictures")
    if not pairs:
        return None
    return _bootstrap([(a["seed"], a["task"], values_of(a, figure) - values_of(b, figure)) for a, b in pairs])


def _bootstrap(runs: Sequence[tuple[int, str, npt.NDArray[np.float64]]]) -> Mean:
    """Percentile bootstrap on two levels, the same drawn pictures for every seed of a task: Davison and Hinkley 1997,
    section 3.8. With few seeds it understates what another seed would do: their variance comes out too small by
    (n - 1) / n. With one seed the interval speaks of pictures alone."""
    seeds = sorted({seed for seed, _, _ in runs})
    tasks = sorted({task for _, task, _ in runs})
    rng = np.random.default_rng(0)
    sums, counts = np.zeros((RESAMPLES, len(seeds))), np.zeros(len(seeds))
    for task in tasks:
        of_task = [(seed, values) for seed, name, values in runs if name == task]
        n = len(of_task[0][1])
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n  # (RESAMPLES, n): how often, as weights
        for seed, values in of_task:
            sums[:, seeds.index(seed)] += drawn @ values
            counts[seeds.index(seed)] += 1
    times = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=RESAMPLES)
    means = (times * sums).sum(axis=1) / (times * counts).sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Mean(float(np.mean([values.mean() for _, _, values in runs])), float(low), float(high))


def group_by(rows: Sequence[Row], of: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Rows by what `of` says of them, in order of first appearance."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(of(row), []).append(row)
    return groups
