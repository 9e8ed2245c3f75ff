"""Models side by side on the same pictures. Takes saved evaluations, or models and a data set to judge them on; gives
their figures, the paired differences with bootstrap intervals, and everything in which the runs differ. Changes no run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from onebox.boxes import Floats
from onebox.errors import ConfigError, DataError
from onebox.evaluation_file import IN_RUN_FOLDER, Answer, SavedEvaluation, read_evaluation, saved
from onebox.metrics import bootstrap_means

if TYPE_CHECKING:
    from onebox.dataset import Dataset

#: What is compared: name -> how it is called in print. All are means over pictures, 0-1, better when larger.
COMPARED: dict[str, str] = {
    "joint_50": "class right and IoU > .5",
    "mean_iou": "mean IoU",
    "top1": "class right (top-1)",
    "box_acc_50": "IoU > .5",
    "box_acc_75": "IoU > .75",
    "box_acc_90": "IoU > .9",
}
#: A letter for each run: short enough for the head of a column.
LETTERS = "ABCDEF"
#: What the intervals do not cover.
OVER_PICTURES = "The intervals are over pictures, not over trainings: another --seed moves the figures, too."
# In a run folder, besides the evaluation.
_CONFIG, _HISTORY = "config.json", "metrics.jsonl"

#: Called with (done, total).
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the runs: its `letter`, its `name` as given, what was judged, its `settings` (those of the run folder,
    else what the model says of itself) and `history` (one mapping per epoch, or empty)."""

    letter: str
    name: str
    evaluation: SavedEvaluation
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    history: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """`mean` of (this run minus the first) over the shared pictures, with the 95 % interval `low` to `high`."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """ "better" or "worse" where the interval leaves out 0, else "no clear difference"."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no clear difference"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`runs` in the order given; the first is what the others are compared with. `paths` are the `n` shared pictures,
    `answers[r][i]` what run r said of picture i. `figures[r]`: name -> mean over the shared pictures.
    `differences[r]`: name -> Difference to the first run, empty for the first itself. `settings`: (name, one value per
    run) where they differ. `warnings`: what makes the comparison less than it seems, most important first."""

    runs: tuple[Contender, ...]
    paths: tuple[str, ...]
    answers: tuple[tuple[Answer, ...], ...]
    figures: tuple[dict[str, float], ...]
    differences: tuple[dict[str, Difference], ...]
    settings: tuple[tuple[str, tuple[Any, ...]], ...]
    warnings: tuple[str, ...]

    @property
    def n(self) -> int:
        """How many pictures are shared."""
        return len(self.paths)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "pictures": self.n,
            "runs": [
                {
                    "letter": run.letter,
                    "name": run.name,
                    "figures": self.figures[i],
                    "differences": {
                        name: {"mean": d.mean, "low": d.low, "high": d.high, "verdict": d.verdict}
                        for name, d in self.differences[i].items()
                    },
                }
                for i, run in enumerate(self.runs)
            ],
            "settings": {name: list(values) for name, values in self.settings},
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        """The comparison as plain text."""
        lines = [f"{run.letter}  {run.name}" for run in self.runs]
        lines += ["", *(f"Note: {warning}" for warning in self.warnings)]
        wide = max(len(text) for text in COMPARED.values())
        heads = "".join(f"{run.letter:>8}" for run in self.runs)
        heads += "".join(f"   {f'{run.letter} - A':>7}  {'95 % interval':<16}" for run in self.runs[1:])
        lines += ["", f"{'':{wide}}{heads}".rstrip()]
        for name, text in COMPARED.items():
            row = f"{text:{wide}}" + "".join(f"{figures[name]:>8.3f}" for figures in self.figures)
            for differences in self.differences[1:]:
                d = differences[name]
                mark = {"better": " *", "worse": " *"}.get(d.verdict, "")
                row += f"   {d.mean:>+7.3f}  {f'{d.low:+.3f} to {d.high:+.3f}{mark}':<18}"
            lines.append(row.rstrip())
        lines.append(f"{self.n:,} shared pictures; * the interval leaves out 0. {OVER_PICTURES}")
        if self.settings:
            lines += ["", "Settings that differ:"]
            rows = [("", tuple(run.letter for run in self.runs)), *self.settings]
            table = [[name, *map(_shown, values)] for name, values in rows]
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        return "\n".join(line for i, line in enumerate(lines) if line or (i and lines[i - 1]))


def compare(
    runs: Sequence[str | os.PathLike[str]],
    data: Dataset | None = None,
    *,
    progress: Progress | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Comparison:
    """Compares run folders and files of `onebox evaluate --json`, the first with each of the others, on the pictures
    that all of them judged; with `data` all models (run folders or model files) judge it anew instead.

    The interval is the 95 % percentile bootstrap of the mean of each picture's difference (Efron and Tibshirani 1993,
    chapter 13): what both find hard cancels out, so it is far narrower than two single intervals suggest. It depends on
    `seed` and on nothing else. Raises ConfigError for fewer than two runs or too many, DataError where one cannot be
    read or no picture is shared, and what `judge` raises.
    """
    if not 2 <= len(runs) <= len(LETTERS):
        raise ConfigError(f"{len(runs)} given; 2 to {len(LETTERS)} runs can be compared")
    contenders = tuple(
        _contender(letter, Path(run), data, progress) for letter, run in zip(LETTERS, runs, strict=False)
    )
    paths, answers, told = _shared(contenders)
    values = [_values(each) for each in answers]
    differences: list[dict[str, Difference]] = [{}]
    for other in values[1:]:
        columns = {name: other[name] - values[0][name] for name in COMPARED}
        intervals = bootstrap_means(columns, seed=seed, resamples=resamples)
        differences.append({name: Difference(float(columns[name].mean()), *intervals[name]) for name in COMPARED})
    return Comparison(
        runs=contenders,
        paths=paths,
        answers=answers,
        figures=tuple({name: float(column.mean()) for name, column in v.items()} for v in values),
        differences=tuple(differences),
        settings=_settings(contenders),
        warnings=(*told, *_trained_on_these(contenders), *_other_training(contenders)),
    )


def _contender(letter: str, path: Path, data: Dataset | None, progress: Progress | None) -> Contender:
    settings, history = (_settings_of(path), _history_of(path)) if path.is_dir() else ({}, ())
    if data is not None:
        from onebox.evaluation import judge
        from onebox.runtime import load

        model = load(path)
        evaluation = saved(judge(model, data, progress=progress, resamples=0), model.manifest, data)
    elif path.is_dir():
        file = path / IN_RUN_FOLDER
        if not file.is_file():
            raise DataError(
                f"this folder holds no {IN_RUN_FOLDER}, so its answers to single pictures are not known",
                where=str(path),
                fix="Judge the models anew: --data DATA.",
            )
        evaluation = read_evaluation(file)
    elif path.suffix == ".onnx":
        raise ConfigError("a model alone keeps no answers", fix="Judge the models anew: --data DATA.")
    else:
        evaluation = read_evaluation(path)
    known = ("recipe", "backbone", "box_head", "imgsz")
    return Contender(
        letter, str(path), evaluation, settings or {key: evaluation.model.get(key) for key in known}, history
    )


def _settings_of(folder: Path) -> dict[str, Any]:
    """`config.json`; empty where there is none: the folder may hold a model only."""
    file = folder / _CONFIG
    try:
        return dict(json.loads(file.read_bytes())["config"]) if file.is_file() else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DataError("damaged", where=str(file), fix="Leave this run out.") from None


def _history_of(folder: Path) -> list[dict[str, Any]]:
    file = folder / _HISTORY
    try:
        lines = file.read_text("utf-8").splitlines() if file.is_file() else []
        rows = [json.loads(line) for line in lines]
    except (OSError, ValueError, RecursionError):
        raise DataError("damaged", where=str(file), fix="Leave this run out.") from None
    return [cast("dict[str, Any]", row) for row in rows if isinstance(row, dict)]


def _shared(runs: Sequence[Contender]) -> tuple[tuple[str, ...], tuple[tuple[Answer, ...], ...], list[str]]:
    """The pictures that all runs judged by the same truth, each run's answers to them, and what is to be told."""
    by_path = [{answer.path: answer for answer in run.evaluation.answers} for run in runs]
    common = [path for path in by_path[0] if all(path in each for each in by_path[1:])]
    same = [path for path in common if len({_truth(each[path]) for each in by_path}) == 1]
    told: list[str] = []
    if len({run.evaluation.data.get("fingerprint") for run in runs}) > 1:
        counts = ", ".join(f"{run.letter} {len(each):,}" for run, each in zip(runs, by_path, strict=True))
        told.append(
            f"THE RUNS WERE NOT JUDGED ON THE SAME DATA. Compared on the {len(same):,} pictures that all have in common"
            f" (judged: {counts}); a picture is known by its path below the data's folder."
        )
    if len(same) < len(common):
        told.append(f"{len(common) - len(same):,} pictures have another label or box in one of the runs: left out.")
    if not same:
        raise DataError(
            "the runs have no judged picture in common, so nothing can be paired",
            where=f"{runs[0].name} and {runs[-1].name}",
            fix="Judge the models on one data set: --data DATA.",
        )
    return tuple(same), tuple(tuple(each[path] for path in same) for each in by_path), told


def _truth(answer: Answer) -> tuple[str, tuple[float, ...]]:
    """Label and box to a thousandth of a pixel: what a file written elsewhere may have rounded is the same."""
    return answer.label, tuple(round(v, 3) for v in answer.box)


def _values(answers: Sequence[Answer]) -> dict[str, Floats]:
    """Every compared figure as (N,) values whose mean is the figure, as `compute_metrics` has them."""
    overlap = np.array([answer.iou for answer in answers])
    right = np.array([answer.class_right for answer in answers], dtype=np.float64)
    above = {t: (overlap > t / 100).astype(np.float64) for t in (50, 75, 90)}
    return {
        "joint_50": right * above[50],
        "mean_iou": overlap,
        "top1": right,
        **{f"box_acc_{t}": hit for t, hit in above.items()},
    }


def _settings(runs: Sequence[Contender]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Those that differ, among those that every run knows; who was told of the training is none."""
    names = [n for n in runs[0].settings if n != "tracker" and all(n in run.settings for run in runs)]
    rows = [(name, tuple(run.settings[name] for run in runs)) for name in names]
    return tuple((name, values) for name, values in rows if len({json.dumps(v, default=str) for v in values}) > 1)


def _trained_on_these(runs: Sequence[Contender]) -> list[str]:
    """`given`: the whole of which a share was held out."""
    letters = [
        run.letter
        for run in runs
        if run.evaluation.data.get("fingerprint") in {_training(run).get("fingerprint"), _training(run).get("given")}
    ]
    return [f"TRAINED ON PICTURES JUDGED HERE: {', '.join(letters)}."] if letters else []


def _training(run: Contender) -> dict[str, Any]:
    facts = run.evaluation.model.get("trained_on")
    return cast("dict[str, Any]", facts) if isinstance(facts, dict) else {}


def _other_training(runs: Sequence[Contender]) -> list[str]:
    groups: dict[Any, list[str]] = {}
    for run in runs:
        groups.setdefault(_training(run).get("fingerprint"), []).append(run.letter)
    if len(groups) == 1:
        return []
    told = "; ".join(f"{', '.join(letters)}: {str(key)[:12]}" for key, letters in groups.items())
    return [f"THE MODELS WERE NOT TRAINED ON THE SAME DATA (fingerprints: {told})."]


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
