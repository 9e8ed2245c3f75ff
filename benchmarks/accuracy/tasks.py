"""Which pictures are trained on and which are judged: a `Task` for each part of each set, made from the files alone,
the same on every machine. Test pictures are never in the training part; where copies of them are, `copies_across`
counts them. Trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy import SHARED
from onebox.copies import find_copies
from onebox.dataset import Dataset, load_dataset
from onebox.likeness import pairs_across
from onebox.types import Multiple


@dataclass(frozen=True)
class Task:
    """One cut of a set. `name` is SET or SET/part; `replicate` is the only seed to run it with, None for all seeds;
    `imgsz` where the set asks for an input size of its own."""

    name: str
    train: Dataset
    test: Dataset
    replicate: int | None = None
    imgsz: int | None = None

    @property
    def set_name(self) -> str:
        """The set that it is a part of."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Set:
    """A data set: the minutes each training gets, how it is cut, in one line, and into how many parts."""

    minutes: float
    cut: str
    load: Callable[[str, Path], list[Task]]
    parts: int = 1
    parts_are_seeds: bool = False


def make_tasks(name: str, out: Path) -> list[Task]:
    """The tasks of a set. The built-in set is drawn into `out`. Raises OneboxError."""
    tasks = SETS[name].load(name, out)
    for task in tasks:
        shared = {s.path for s in task.train} & {s.path for s in task.test}
        assert not shared, f"{task.name}: {len(shared)} pictures on both sides"
    return tasks


def take_few(data: Dataset, count: int, seed: int) -> Dataset:
    """`count` pictures of each class (all, where there are fewer), drawn by `seed`; fewer are a part of more."""
    order = np.random.default_rng(seed).permutation(len(data)).tolist()
    chosen: list[int] = []
    for name in data.class_names:
        chosen += [i for i in order if data[i].label == name][:count]
    return data.subset(chosen)


def copies_across(task: Task) -> int:
    """How many test pictures are copies of a training picture (`onebox.likeness`; looks at every picture)."""
    train, test = [s.path for s in task.train], [s.path for s in task.test]
    parts = [0] * len(train) + [1] * len(test)
    return len({pair.second for pair in pairs_across(find_copies([*train, *test]), parts)})


def _files(train: str, test: str, multiple: Multiple = "error") -> Callable[[str, Path], list[Task]]:
    """The set's own two tables."""

    def load(name: str, out: Path) -> list[Task]:
        folder = SHARED / "data" / name
        trained, tested = (load_dataset(folder / file, multiple=multiple).labelled for file in (train, test))
        return [Task(name, trained, tested)]

    return load


def _folders(*test: str, imgsz: int | None = None) -> Callable[[str, Path], list[Task]]:
    """The set's own train part against some of its other parts."""

    def load(name: str, out: Path) -> list[Task]:
        whole = load_dataset(SHARED / "data" / name).labelled
        tested = whole.subset([i for i, s in enumerate(whole) if s.split in test])
        return [Task(name, whole.part("train"), tested, imgsz=imgsz)]

    return load


def _folds(source: str, count: int) -> Callable[[str, Path], list[Task]]:
    """Parts of equal size by one permutation; each is judged by what was trained on the others."""

    def load(name: str, out: Path) -> list[Task]:
        whole = load_dataset(SHARED / "data" / name / source).labelled
        order = np.random.default_rng(0).permutation(len(whole)).tolist()
        return [Task(f"{name}/fold{k}", *_apart(whole, order[k::count])) for k in range(count)]

    return load


def _random_splits(of: str, test_pictures: int, count: int) -> Callable[[str, Path], list[Task]]:
    """All pictures of the set `of`, cut at random `count` times; cut k is trained with seed k alone."""

    def load(name: str, out: Path) -> list[Task]:
        one = SETS[of].load(of, out)[0]
        samples = tuple(sorted([*one.train, *one.test], key=lambda s: s.path))
        whole = replace(one.train, samples=samples)
        tasks = []
        for k in range(count):
            order = np.random.default_rng(k).permutation(len(whole)).tolist()
            tasks.append(Task(f"{name}/split{k}", *_apart(whole, order[:test_pictures]), replicate=k))
        return tasks

    return load


def _drawn(pictures: int, imgsz: int) -> Callable[[str, Path], list[Task]]:
    """The set that `onebox demo` draws, with its own test part."""

    def load(name: str, out: Path) -> list[Task]:
        from onebox.demo_data import write_demo_data

        folder = out / "data" / f"{name}-{pictures}"
        if not (folder / "test.csv").exists():
            write_demo_data(folder, count=pictures, seed=0)
        trained, tested = (load_dataset(folder / file).labelled for file in ("train.csv", "test.csv"))
        return [Task(name, trained, tested, imgsz=imgsz)]

    return load


def _apart(whole: Dataset, test: Sequence[int]) -> tuple[Dataset, Dataset]:
    left = set(range(len(whole))).difference(test)
    return whole.subset(left), whole.subset(test)


#: Minutes: what a person with a laptop may be asked to wait for that many pictures. Chosen once, before the first run.
SETS: dict[str, Set] = {
    "tiny_vid": Set(5.0, "official: ids 1-150 of each class train, 151-180 test", _files("train.csv", "test.csv")),
    "tiny_vid_random": Set(
        5.0, "all 900 pictures, 150 drawn at random as test, three times", _random_splits("tiny_vid", 150, 3), 3, True
    ),
    "pets3": Set(3.0, "official lists, body boxes", _files("train.csv", "test.csv")),
    "caltech22_mat": Set(3.0, "its train and test tables", _files("train.csv", "test.csv")),
    "vegetables3": Set(0.75, "three folds", _folds("training_images", 3), 3),
    "asl_yolo": Set(3.0, "its train part against its valid and test parts", _folders("val", "test")),
    "pets37": Set(1.5, "head boxes, breeds from the CSV, five folds", _folds("csv/bboxes.csv", 5), 5),
    "raccoon": Set(
        1.0,
        "its train and test tables, pictures of several animals left out",
        _files("data/train_labels.csv", "data/test_labels.csv", multiple="skip"),
    ),
    "tiny_imagenet20": Set(5.0, "its train part against its val part, 64 px", _folders("val", imgsz=64)),
    "demo": Set(2.0, "what `onebox demo` draws, 96 px", _drawn(1500, 96)),
}
