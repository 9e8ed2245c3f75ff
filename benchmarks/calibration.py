"""Do the promises hold, and what do they cost? Random re-splits of real test pictures into calibration and evaluation.

    python -m benchmarks.calibration [--models DIR] [--only tiny_vid] [--splits 300] [--no-early-stopping]

DIR holds run folders called SET-anything (such as tiny_vid-default-0), trained on SET/train.csv; without it one run per
set is trained first, into runs/calibration. Prints Markdown: mean coverage per promise with its Monte Carlo error and
the interval it should lie in; the same calibrated on training pictures, which must fail; areas of outer boxes beside
those of constant margins; calibration errors; coverage by class, size, position and sigma; and the bias of calibrating
on the pictures that chose the best epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import onebox
from onebox.boxes import Floats, area
from onebox.calibration import PROMISES, Judged, ece, fit_calibration, fit_temperature, tempered
from onebox.calibration.conformal import Scores, log_softmax, rank_for
from onebox.calibration.curves import position_groups, thirds
from onebox.calibration.edges import outer_scores, scales
from onebox.dataset import Dataset, load_dataset
from onebox.evaluation import judge, judged
from onebox.runtime import load
from onebox.training.cache import build_cache
from onebox.training.leaks import hold_out
from onebox.training.materials import taught_share

SHARED = Path(os.environ.get("ONEBOX_SHARED", Path(__file__).resolve().parents[2] / "shared"))
TRUNK = "tf_mobilenetv3_small_100"
#: Sets and minutes of training, as in benchmarks.accuracy.
SETS = {"tiny_vid": 2.5, "pets3": 1.5, "caltech22_mat": 2.0}
ALPHAS = (0.05, 0.1, 0.2)
#: Widths that are compared for the prior on log temperature.
PRIORS = (10.0, 1.0, 0.5, 0.35, 0.25, 0.15)
_OUTWARD = np.array([1.0, 1.0, -1.0, -1.0])
#: A mean lies where it should when it is not further off than this many of its standard errors.
_SIGMAS = 3.0


@dataclass(frozen=True)
class Model:
    """One run folder and what it answers: to the test pictures, to those it was trained on, and, where asked for, to
    the held-out ones that chose its best epoch."""

    name: str
    test: Judged
    trained_on: Judged
    chose: Judged | None
    class_names: tuple[str, ...]


def runs(models: Path | None, only: list[str]) -> Iterator[tuple[str, Path]]:
    """The run folders of each set; trained where no folder of them is given."""
    for name in only:
        if models is not None:
            yield from ((name, run) for run in sorted(models.glob(f"{name}-*")) if (run / "model.onnx").is_file())
            continue
        out = Path("runs/calibration") / f"{name}-default-0"
        if not (out / "model.onnx").is_file():
            onebox.train(
                load_dataset(SHARED / "data" / name / "train.csv"), out=out, overwrite=True, backbone=TRUNK,
                weights=str(SHARED / "weights" / f"{TRUNK}.safetensors"), minutes=SETS[name],
                learn_all_from=1.0,
            )  # fmt: skip
        yield name, out


def answers(name: str, run: Path, *, early_stopping: bool) -> Model:
    """Asks the model of a run for everything that is needed of it."""
    model = load(run)
    data = {part: load_dataset(SHARED / "data" / name / f"{part}.csv") for part in ("train", "test")}
    learnt, chose = data["train"], None
    if early_stopping:
        learnt, chose = _held_out(data["train"], model.class_names, run)

    def ask(pictures: Dataset) -> Judged:
        return judged(judge(model, pictures, resamples=0).records)

    return Model(run.name, ask(data["test"]), ask(learnt), ask(chose) if chose else None, model.class_names)


def _held_out(data: Dataset, class_names: tuple[str, ...], run: Path) -> tuple[Dataset, Dataset]:
    """The parts that the run trained on and stopped by: the same choice again, proved by its fingerprints."""
    facts = json.loads((run / "config.json").read_text("utf-8"))
    seed = facts["config"]["seed"]
    if facts["config"].get("learn_all_from", 1) != 1:
        raise SystemExit(f"{run}: has learnt what it held out; train with --learn-all-from 1")
    cache = build_cache(data, class_names, facts["config"]["imgsz"])
    train, val, *_ = hold_out(data, cache, taught_share(len(data.labelled)), seed)
    if (train.fingerprint(), val.fingerprint()) != (facts["data"], facts["val"]):
        raise SystemExit(f"{run}: these are not the pictures that this run held out")
    return train, val


def resplit(
    test: Judged, splits: int, seed: int, pool: Judged | None = None
) -> Iterator[tuple[Judged, Judged, npt.NDArray[np.int64]]]:
    """Random halves of the test pictures: to calibrate on, to evaluate on (and their rows). With a `pool` as many
    pictures of that are calibrated on instead."""
    rng = np.random.default_rng(seed)
    half = len(test) // 2
    for _ in range(splits):
        order = rng.permutation(len(test))
        source = test if pool is None else pool
        rows = order[:half] if pool is None else rng.choice(len(pool), size=min(half, len(pool)), replace=False)
        yield source.take(rows), test.take(order[half:]), order[half:]


def coverage_table(model: Model, splits: int, pool: Judged | None = None) -> list[str]:
    """One row per alpha: mean coverages, and whether that of the outer box is where it should be."""
    reached: dict[tuple[float, str], list[float]] = {}
    half = len(model.test) // 2
    for calibration, evaluation, _ in resplit(model.test, splits, 0, pool):
        fitted = fit_calibration(calibration, source="calibration")
        for alpha in ALPHAS:
            for promise, kept in fitted.kept(evaluation, 1 - alpha).items():
                reached.setdefault((alpha, promise), []).append(float(kept.mean()))
    rows: list[str] = []
    for alpha in ALPHAS:
        cells = [_mean_and_error(reached[alpha, promise]) for promise in PROMISES]
        low, high = 1 - alpha, 1 - alpha + 1 / (half + 1)
        mean, error = np.mean(reached[alpha, "outer_box"]), _error(reached[alpha, "outer_box"])
        good = low - _SIGMAS * error <= mean <= high + _SIGMAS * error
        verdict = "yes" if good else "no"
        rows.append(f"| {model.name} | {half} | {low:.2f} to {high:.4f} | {' | '.join(cells)} | {verdict} |")
    return rows


def area_table(model: Model, splits: int) -> list[str]:
    """Mean areas of outer boxes (shares of the picture) at the same calibration and evaluation pictures: grown by the
    largest edge error in sigmas, in shares of the picture, and in shares of the box's sides; the latter two also
    "raised", until on calibration pictures they keep as many of the least sure third as sigma does, and "edge by edge",
    each at a quarter of alpha (Bonferroni, as de Grancey et al. 2022 first do)."""
    test = model.test
    sides = np.maximum(test.boxes_01[:, 2:] - test.boxes_01[:, :2], 0.02)
    ways: dict[str, Floats] = {
        "sigma": scales(test.boxes_01, test.sigmas_01),
        "constant": np.ones_like(test.boxes_01),
        "share of side": np.concatenate([sides, sides], axis=1),
    }
    errors = (test.boxes_01 - test.true_boxes_01) * _OUTWARD
    plain, true = float(area(test.boxes_01).mean()), float(area(test.true_boxes_01).mean())
    unsure = thirds(ways["sigma"].max(axis=1)) == 2
    rows: list[str] = []
    half = len(test) // 2
    for alpha in ALPHAS:
        got: dict[str, list[tuple[float, float, float]]] = {}
        rng, kept_hard = np.random.default_rng(0), 0
        for _ in range(splits):
            order = rng.permutation(len(test))
            c, e = order[:half], order[half:]
            hard = c[unsure[c]]
            for way, scale in ways.items():
                ratio = errors / scale
                largest = ratio.max(axis=1)
                joint = np.full(4, np.sort(largest[c])[rank_for(1 - alpha, half) - 1])
                k = min(half, rank_for(1 - alpha / 4, half)) if (half + 1) * alpha / 4 >= 1 else half
                bounds = {way: joint, f"{way}, edge by edge": np.sort(ratio[c], axis=0)[k - 1]}
                if way == "sigma":
                    kept_hard = int((largest[hard] <= joint[0]).sum())
                elif kept_hard:
                    bounds[f"{way}, raised"] = np.full(4, np.sort(largest[hard])[kept_hard - 1])
                for name, bound in bounds.items():
                    grown = np.clip(test.boxes_01[e] - _OUTWARD * scale[e] * bound, 0, 1)
                    kept = (errors[e] <= scale[e] * bound).all(axis=1)
                    got.setdefault(name, []).append((area(grown).mean(), kept.mean(), _mean(kept[unsure[e]])))
        means = {name: np.nanmean(values, axis=0) for name, values in got.items()}
        base = min(("constant", "share of side"), key=lambda way: means[way][0])
        printed = ("sigma", *(f"{way}{how}" for how in ("", ", raised", ", edge by edge") for way in list(ways)[1:]))
        for name in printed:
            size, kept, kept_unsure = means[name]
            whole, added = size / means[base][0] - 1, (size - plain) / (means[base][0] - plain) - 1
            rows.append(
                f"| {model.name} | {1 - alpha:.2f} | {name}{' (baseline)' if name == base else ''} | {kept:.3f} | "
                f"{kept_unsure:.3f} | {size:.3f} | {whole:+.1%} | {added:+.1%} | {plain:.3f} | {true:.3f} |"
            )
    return rows


def ece_row(model: Model) -> str:
    """Expected calibration error of all test pictures: before, and after a temperature fitted on the other half of
    them, so that no picture is judged with a temperature it had a say in; mean of ten halvings."""
    log_p = log_softmax(model.test.logits)
    after: list[float] = []
    temperatures: list[float] = []
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(model.test))
        halves = np.array_split(order, 2)
        p = np.zeros_like(log_p)
        for fit_on, put_to in (halves, halves[::-1]):
            temperatures.append(fit_temperature(log_p[fit_on], model.test.labels[fit_on]))
            p[put_to] = tempered(log_p[put_to], temperatures[-1])
        after.append(ece(p, model.test.labels))
    chosen = "-"
    if model.chose is not None:
        temperature = fit_temperature(log_softmax(model.chose.logits), model.chose.labels)
        chosen = f"{ece(tempered(log_p, temperature), model.test.labels):.3f} ({temperature:.2f})"
    before = ece(np.exp(log_p), model.test.labels)
    return (
        f"| {model.name} | {len(model.test)} | {before:.3f} | {np.mean(after):.3f} ({np.mean(temperatures):.2f}) | "
        f"{chosen} |"
    )


def prior_rows(models: list[Model]) -> list[str]:
    """How wide the prior on log temperature should be, by held-out pictures alone: fitted to a random fifth or half of
    them, judged by the others' mean negative log-likelihood; means over models and 100 draws."""
    found: dict[tuple[float, float], list[float]] = {}
    rng = np.random.default_rng(0)
    for model in models:
        assert model.chose is not None
        log_p, labels = log_softmax(model.chose.logits), model.chose.labels
        for _ in range(100):
            order = rng.permutation(len(labels))
            for share in (0.2, 0.5):
                fit_on, put_to = np.split(order, [int(share * len(order))])
                for prior in PRIORS:
                    p = tempered(log_p[put_to], fit_temperature(log_p[fit_on], labels[fit_on], prior=prior))
                    loss = -np.log(p[np.arange(len(put_to)), labels[put_to]]).mean()
                    found.setdefault((share, prior), []).append(float(loss))
    means = {key: f"{np.mean(losses):.4f}" for key, losses in found.items()}
    return [f"| {share:g} | {' | '.join(means[share, prior] for prior in PRIORS)} |" for share in (0.2, 0.5)]


def conditional_table(model: Model, splits: int, level: float = 0.9) -> list[str]:
    """Coverage of the outer box at one level, within groups of the evaluation pictures."""
    test = model.test
    third = thirds(scales(test.boxes_01, test.sigmas_01).max(axis=1))
    sure = {f"largest sigma, {name} third": third == i for i, name in enumerate(("lower", "middle", "upper"))}
    groups = position_groups(test) | sure
    kept, seen = np.zeros(len(test)), np.zeros(len(test))
    for calibration, _, rows in resplit(test, splits, 0):
        bound = Scores.of(outer_scores(*calibration.boxes)).bound(level)
        kept[rows] += outer_scores(*test.take(rows).boxes) <= bound
        seen[rows] += 1
    share = kept / np.maximum(seen, 1)
    lines = [f"| {model.name} | {name} | {int(g.sum())} | {share[g].mean():.3f} |" for name, g in groups.items()]
    classes = {n: share[test.labels == i].mean() for i, n in enumerate(model.class_names) if (test.labels == i).any()}
    ends = sorted(classes.items(), key=lambda pair: pair[1])
    for name, value in (ends[0], ends[-1]):
        count = int((test.labels == model.class_names.index(name)).sum())
        lines.append(
            f"| {model.name} | class {name} ({'lowest' if name == ends[0][0] else 'highest'}) | {count} | {value:.3f} |"
        )
    return lines


def early_stopping_rows(models: list[Model], splits: int) -> list[str]:
    """Coverage of the test pictures calibrated on those that chose the best epoch, and on as many untouched ones
    (random ones of the test part, the others evaluated); the spread of the latter is the error of the difference."""
    rows: list[str] = []
    for alpha in ALPHAS:
        gaps: list[float] = []
        spreads: list[float] = []
        for model in models:
            assert model.chose is not None
            test, n = model.test, min(len(model.chose), len(model.test) // 2)
            rng = np.random.default_rng(0)
            scores = outer_scores(*test.boxes)
            untouched, chose = [], []
            for _ in range(splits):
                order = rng.permutation(len(test))
                bound = Scores.of(scores[order[:n]]).bound(1 - alpha)
                untouched.append(float((scores[order[n:]] <= bound).mean()))
                some = rng.choice(len(model.chose), size=n, replace=False)
                bound = Scores.of(outer_scores(*model.chose.take(some).boxes)).bound(1 - alpha)
                chose.append(float((scores[order[n:]] <= bound).mean()))
            gaps.append(float(np.mean(chose) - np.mean(untouched)))
            spreads.append(float(np.std(untouched)))
            rows.append(
                f"| {model.name} | {n} | {1 - alpha:.2f} | {np.mean(chose):.3f} | {np.mean(untouched):.3f} | "
                f"{gaps[-1]:+.3f} | {spreads[-1]:.3f} |"
            )
        error = float(np.sqrt(np.square(spreads).sum())) / len(spreads)
        rows.append(f"| mean of {len(models)} | | {1 - alpha:.2f} | | | **{np.mean(gaps):+.3f}** | {error:.3f} |")
    return rows


def _mean(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _error(values: list[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _mean_and_error(values: list[float]) -> str:
    return f"{np.mean(values):.4f} ± {_error(values):.4f}"


def _section(title: str, columns: str, lines: list[str]) -> None:
    head = [name.strip() for name in columns.split("|")]
    print(f"\n## {title}\n\n| {' | '.join(head)} |\n{'|---' * len(head)}|\n" + "\n".join(lines), flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--only", choices=SETS, action="append")
    parser.add_argument("--match", default="", help="only runs whose name has this in it, such as default-0")
    parser.add_argument("--splits", type=int, default=300)
    parser.add_argument("--early-stopping", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    models = [
        answers(name, run, early_stopping=args.early_stopping)
        for name, run in runs(args.models, args.only or list(SETS))
        if args.match in run.name
    ]
    if not models:
        raise SystemExit("no run folder found")
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} CPU cores, onebox {onebox.__version__}, "
        f"{args.splits} random halves"
    )
    columns = f"run | n | should be | {' | '.join(PROMISES)} | outer box is"
    each: Callable[[Callable[[Model], list[str]]], list[str]] = lambda table: [r for m in models for r in table(m)]  # noqa: E731
    _section("Coverage reached, mean ± Monte Carlo error", columns, each(lambda m: coverage_table(m, args.splits)))
    _section(
        "The control: calibrated on training pictures",
        columns,
        each(lambda m: coverage_table(m, args.splits, m.trained_on)),
    )
    _section(
        "Outer boxes, mean area as a share of the picture",
        "run | asked | margin | reached | reached, least sure third | area | area to baseline | "
        "added area to baseline | area of plain boxes | of true boxes",
        each(lambda m: area_table(m, args.splits)),
    )
    _section(
        "Expected calibration error of the test pictures (mean temperature)",
        "run | n | before | after, cross-fitted on test halves | after, fitted on the held-out pictures",
        [ece_row(m) for m in models],
    )
    _section(
        "Outer box asked 0.9, by group", "run | group | pictures | reached",
        each(lambda m: conditional_table(m, args.splits)),
    )  # fmt: skip
    if args.early_stopping:
        _section(
            "Width of the prior on log temperature: loss of held-out pictures that it was not fitted to",
            f"fitted to | {' | '.join(map(str, PRIORS))}",
            prior_rows(models),
        )
        _section(
            "Calibrated on the pictures that chose the best epoch",
            "run | n | asked | reached | reached, untouched | difference | its error",
            early_stopping_rows(models, args.splits),
        )


if __name__ == "__main__":
    main()
