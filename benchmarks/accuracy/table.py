"""What the rows say, as Markdown: figures with intervals, paired differences, one line on who beats whom, the
comparison from scratch, the learning curves. Takes rows, gives text; every word is made from the rows, nothing is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.accuracy.answers import FIGURES
from benchmarks.accuracy.methods import METHODS, REFERENCE
from benchmarks.accuracy.paired import Mean, difference, group_by, mean_of
from benchmarks.accuracy.rows import Row

HEADINGS = {
    "joint_50": "joint",
    "mean_iou": "mean IoU",
    "top1": "top-1",
    "box_acc_50": "IoU > .5",
    "box_acc_75": "IoU > .75",
    "box_acc_90": "IoU > .9",
}
#: The two figures on which one method beats another.
DECISIVE = ("joint_50", "mean_iou")
#: From scratch, mean IoU of onebox over that of the better of these is to be at least FROM_SCRATCH_BAR.
ULTRALYTICS = ("yolo11n", "yolo26n")
FROM_SCRATCH_BAR = 1.15
#: The machine was faster or slower for one method than for another by more than this: said.
PACE_APART = 0.1


def report(rows: Sequence[Row]) -> str:
    """Everything that can be said about these rows."""
    whole = [row for row in rows if row["few"] is None]
    parts = [
        ("Figures", figures_table(whole)),
        (f"{REFERENCE} less the others, on the same pictures", paired_table(whole)),
        ("Who beats whom", summary(whole)),
        ("From scratch", from_scratch(whole)),
        ("Few labels", few_table(rows)),
        ("Circumstances", circumstances(rows)),
    ]
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in parts if text) or "No rows yet."


def figures_table(rows: Sequence[Row]) -> str:
    """One line per set, minutes and method: means over the runs with 95 % intervals."""
    lines = _head("set", "minutes", "method", "runs", "seconds", *(HEADINGS[f] for f in FIGURES))
    for (name, minutes), of_set in _by_set(rows).items():
        for method, group in _by_method(of_set).items():
            seconds = f"{max(r['seconds'] for r in group):.0f}" if METHODS[method].kind != "baseline" else ""
            cells = [_with_interval(mean_of(group, figure)) for figure in FIGURES]
            lines.append(_line(name, f"{minutes:g}", method, len(group), seconds, *cells))
    return "\n".join(lines) if rows else ""


def paired_table(rows: Sequence[Row]) -> str:
    """One line per set, minutes and other method. `beats`: both differences are positive beyond their intervals."""
    lines = _head("set", "minutes", "other", "runs", *(HEADINGS[f] for f in DECISIVE), "beats")
    for (name, minutes), of_set in _by_set(rows).items():
        groups = _by_method(of_set)
        for method, group in groups.items():
            found = _differences(groups.get(REFERENCE, []), group) if method != REFERENCE else None
            if found is not None:
                cells = [f"{d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f})" for d in found]
                lines.append(_line(name, f"{minutes:g}", method, len(group), *cells, _yes(_beats(found))))
    return "\n".join(lines) if len(lines) > 2 else ""


def summary(rows: Sequence[Row]) -> str:
    """One line per other method: on which sets the default beats it on joint and on mean IoU, beyond the paired
    interval; and one for all."""
    won: dict[str, list[str]] = {}
    lost: dict[str, list[str]] = {}
    for (name, minutes), of_set in _by_set(rows).items():
        groups = _by_method(of_set)
        for method, group in groups.items():
            found = _differences(groups.get(REFERENCE, []), group) if method != REFERENCE else None
            if found is not None:
                (won if _beats(found) else lost).setdefault(method, []).append(f"{name} ({minutes:g} min)")
    lines = []
    for method in [m for m in METHODS if m in won or m in lost]:
        yes, no = won.get(method, []), lost.get(method, [])
        less = f"; not on {', '.join(no)}" if no else ""
        lines.append(
            f"* {REFERENCE} beats {method} on joint and on mean IoU, beyond the paired 95 % interval: "
            f"{_yes(not no)} ({len(yes)} of {len(yes) + len(no)} sets{less})"
        )
    return "\n".join(lines)


def from_scratch(rows: Sequence[Row]) -> str:
    """Mean IoU of onebox from random weights beside that of the better Ultralytics model of each set: of its most
    confident boxes, and again with the median box of the training pictures wherever that confidence is below .001."""
    lines = _head("set", "minutes", "scratch", *ULTRALYTICS, "scratch / the better", "with median boxes", "ratio")
    found: list[tuple[float, float, float]] = []
    for (name, minutes), of_set in _by_set(rows).items():
        groups = _by_method(of_set)
        theirs = {m: mean_of(groups[m], "mean_iou").mean for m in ULTRALYTICS if m in groups}
        if "scratch" not in groups or not theirs:
            continue
        helped = {m: _with_median_boxes(groups[m], groups.get("median", [])) for m in theirs}
        ours = mean_of(groups["scratch"], "mean_iou").mean
        found.append((ours, max(theirs.values()), max(helped.values())))
        cells = [f"{theirs[m]:.3f}" if m in theirs else "" for m in ULTRALYTICS]
        ratios = [_ratio(ours, found[-1][1]), f"{found[-1][2]:.3f}", _ratio(ours, found[-1][2])]
        lines.append(_line(name, f"{minutes:g}", f"{ours:.3f}", *cells, *ratios))
    if not found:
        return ""
    lines.append("")
    for i, which in ((1, "its own boxes"), (2, "with median boxes")):
        ours, best = (float(np.mean([one[k] for one in found])) for k in (0, i))
        each = [one[0] / one[i] for one in found if one[i] > 0]
        lines.append(
            f"* Over {len(found)} sets, {which}: {ours:.3f} / {best:.3f} = {_ratio(ours, best)}; mean of the sets' "
            f"ratios {np.mean(each) if each else float('inf'):.2f}. At least {FROM_SCRATCH_BAR}: "
            f"{_yes(best == 0 or ours / best >= FROM_SCRATCH_BAR)}"
        )
    return "\n".join(lines)


def _with_median_boxes(rows: Sequence[Row], medians: Sequence[Row]) -> float:
    """Mean IoU where an answer that is not sure gives way to the median box of the same task; as it is where the rows
    do not tell."""
    instead = {r["task"]: r["pictures"]["iou"] for r in medians}
    means = []
    for row in rows:
        ious = np.array(row["pictures"]["iou"], dtype=np.float64)
        if "sure" in row and row["task"] in instead:
            ious = np.where(np.array(list(row["sure"])) == "1", ious, instead[row["task"]])
        means.append(ious.mean())
    return float(np.mean(means))


def few_table(rows: Sequence[Row]) -> str:
    """Learning curves: joint and mean IoU by the number of boxed pictures a class, whom onebox beats with as many or
    more, and whether onebox with a few is as good as the plain recipe with all."""
    sets = {(r["set"], r["minutes"]) for r in rows if r["few"] is not None}
    lines: list[str] = []
    for (name, minutes), of_set in _by_set(rows).items():
        if (name, minutes) not in sets:
            continue
        counts = sorted({r["few"] for r in of_set if r["few"] is not None})
        lines += ["", *_head(f"{name}, {minutes:g} min", *(f"{n} a class" for n in counts), "all")]
        for method, group in _by_method(of_set).items():
            at = group_by(group, lambda r: r["few"])
            lines.append(_line(method, *(_two(at.get(n)) for n in [*counts, None])))
        lines += ["", *_few_against_more(of_set, counts), *_few_against_all(of_set, counts)]
    return "\n".join(lines).strip()


def circumstances(rows: Sequence[Row]) -> str:
    """When and where the trainings ran, and how busy the machine was with other things."""
    rows = [row for row in rows if METHODS[row["method"]].kind != "baseline"]
    if not rows:
        return ""
    machines = sorted({f"{r['machine']}, {r['cores']} cores, onebox {r['onebox']}" for r in rows})
    busy = sorted((r["others"], r["load"], r["task"], r["method"], r["seed"]) for r in rows)[-1]
    shared = sum(r["others"] > 0.2 for r in rows)
    stolen = sorted((r.get("stolen", 0.0), r["task"], r["method"], r["seed"]) for r in rows)[-1]
    return "\n".join(
        [
            f"* {min(r['date'] for r in rows)} to {max(r['date'] for r in rows)}; {'; '.join(machines)}",
            f"* {len(rows)} trainings. Other processes kept more than a fifth of a core busy during {shared} of them; "
            f"the most, {busy[0]:.2f} cores, during {busy[2]}, {busy[3]}, seed {busy[4]} (load {busy[1]:.2f} before)",
            f"* The host kept the most back, {stolen[0]:.2f} cores, during {stolen[1]}, {stolen[2]}, seed {stolen[3]}",
            *_paces(rows),
        ]
    )


def _paces(rows: Sequence[Row]) -> list[str]:
    """How fast the machine was before the runs, and where it was another machine, so to speak, for the two sides of a
    comparison: equal minutes are then not equal work."""
    known = [row for row in rows if row.get("pace")]
    if not known:
        return []
    fast = [row["pace"] for row in known]
    lines = [
        f"* The machine's pace before {len(known)} of the trainings: {np.median(fast):.0f} turns a second in the "
        f"middle, {min(fast):.0f} to {max(fast):.0f}"
    ]
    for (name, minutes), of_set in _by_set(known).items():
        groups = {m: float(np.median([r["pace"] for r in g])) for m, g in _by_method(of_set).items()}
        ours = groups.pop(REFERENCE, None)
        apart = [f"{m} {p / ours:.2f}" for m, p in groups.items() if ours and abs(p / ours - 1) > PACE_APART]
        if apart:
            lines.append(f"* {name}, {minutes:g} min: pace over that of {REFERENCE}, in the middle: {', '.join(apart)}")
    return lines


def _few_against_more(rows: Sequence[Row], counts: Sequence[int]) -> list[str]:
    """Of each pair of counts, whom the reference with the first beats that have the second."""
    lines = []
    for ours, theirs in [(n, m) for n in counts for m in counts if m >= n]:
        few = [r for r in rows if r["method"] == REFERENCE and r["few"] == ours]
        groups = _by_method([r for r in rows if r["method"] != REFERENCE and r["few"] == theirs])
        beaten = {method: _beats(found) for method, group in groups.items() if (found := _differences(few, group))}
        if beaten:
            yes, no = ([method for method, won in beaten.items() if won is which] for which in (True, False))
            less = f"; not {', '.join(no)}" if no else ""
            lines.append(
                f"* {REFERENCE} with {ours} a class beats with {theirs}, on joint and on mean IoU, beyond the paired "
                f"95 % interval: {', '.join(yes) or 'nobody'}{less}"
            )
    return lines


def _few_against_all(rows: Sequence[Row], counts: Sequence[int]) -> list[str]:
    whole = [r for r in rows if r["method"] == "plain" and r["few"] is None]
    lines = []
    for n in counts:
        few = [r for r in rows if r["method"] == REFERENCE and r["few"] == n]
        found = _differences(few, whole)
        if found is not None:
            parts = [
                f"{HEADINGS[f]} {d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f})"
                for f, d in zip(DECISIVE, found, strict=True)
            ]
            as_good = all(d.mean >= 0 for d in found)
            lines.append(
                f"* {REFERENCE} with {n} a class less plain with all: {', '.join(parts)}; as good: {_yes(as_good)}"
            )
    return lines


def _differences(rows: Sequence[Row], others: Sequence[Row]) -> list[Mean] | None:
    found = [difference(rows, others, figure) for figure in DECISIVE]
    return [d for d in found if d is not None] or None


def _beats(found: Sequence[Mean]) -> bool:
    return all(d.low > 0 for d in found)


def _by_set(rows: Sequence[Row]) -> dict[tuple[str, float], list[Row]]:
    return group_by(rows, lambda r: (r["set"], r["minutes"]))


def _by_method(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups = group_by(rows, lambda r: r["method"])
    return {method: groups[method] for method in METHODS if method in groups}


def _two(rows: Sequence[Row] | None) -> str:
    return f"{mean_of(rows, 'joint_50').mean:.3f} / {mean_of(rows, 'mean_iou').mean:.3f}" if rows else ""


def _with_interval(m: Mean) -> str:
    return f"{m.mean:.3f} ({m.low:.2f}-{m.high:.2f})"


def _ratio(a: float, b: float) -> str:
    return f"{a / b:.2f}" if b > 0 else "-"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _head(*names: str) -> list[str]:
    return [_line(*names), "|---" * len(names) + "|"]


def _line(*cells: Any) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
