"""Which runs there are to do: every task of a set with every seed, number of pictures and method, and how long that
takes. Takes names, gives `Step`s and Markdown; trains nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.methods import METHODS
from benchmarks.accuracy.rows import KEY
from benchmarks.accuracy.tasks import SETS, Task, copies_across, make_tasks, take_few
from onebox.dataset import Dataset


@dataclass(frozen=True)
class Step:
    """One run. `few`: boxed pictures a class to train on, None for all."""

    task: Task
    method: str
    seed: int
    minutes: float
    few: int | None

    @property
    def name(self) -> str:
        """A name for people and folders."""
        few = f"-few{self.few}" if self.few is not None else ""
        return f"{self.task.name.replace('/', '-')}{few}-{self.method}-{self.seed}"

    def key(self) -> dict[str, Any]:
        """What tells this run from any other, in the order of KEY."""
        found = (self.task.name, self.method, self.seed, self.minutes, self.few)
        return dict(zip(KEY, found, strict=True))

    def train(self) -> Dataset:
        """The pictures that it may train on."""
        return self.task.train if self.few is None else take_few(self.task.train, self.few, self.seed)


def steps(
    name: str, methods: Sequence[str], seeds: int, minutes: float | None, few: Sequence[int], out: Path
) -> Iterator[Step]:
    """The runs of a set: seed by seed, so that a benchmark that was stopped has whole comparisons. With `few` only
    those parts of the training pictures are trained on."""
    tasks = make_tasks(name, out)
    for seed in range(seeds):
        for task in tasks:
            if task.replicate is None or task.replicate == seed:
                for count in few or [None]:
                    for method in methods:
                        yield Step(task, method, seed, minutes or SETS[name].minutes, count)


def plan(names: Sequence[str], seeds: int) -> str:
    """Markdown: how each set is cut, the minutes of a run, the runs of one method, the hours of one method and of all
    that train by default. Loading, converting and judging are not in it."""
    trained = sum(not m.optional and m.kind != "baseline" for m in METHODS.values())
    lines = [f"| set | cut | minutes | runs | hours a method | hours, {trained} methods |", "|---" * 6 + "|"]
    total = 0.0
    for name in names:
        one = SETS[name]
        runs = min(one.parts, seeds) if one.parts_are_seeds else one.parts * seeds
        hours = runs * one.minutes / 60
        total += hours
        lines.append(f"| {name} | {one.cut} | {one.minutes:g} | {runs} | {hours:.2f} | {hours * trained:.1f} |")
    lines.append(f"| all | | | | {total:.1f} | {total * trained:.1f} |")
    return "\n".join(lines)


def facts(names: Sequence[str], out: Path) -> str:
    """Markdown: pictures and classes of each task, and how many of its test pictures are copies of training ones."""
    lines = ["| task | train | test | classes | test pictures that are copies of training pictures |", "|---" * 5 + "|"]
    for name in names:
        for task in make_tasks(name, out):
            classes = sum(count > 0 for count in task.train.counts().values())
            sizes = f"{len(task.train)} | {len(task.test)} | {classes}"
            lines.append(f"| {task.name} | {sizes} | {copies_across(task)} |")
    return "\n".join(lines)
