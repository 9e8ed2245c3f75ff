"""The confusion matrix as a table that can be read, with two classes and with hundreds. Takes counts and names; gives
rows of cells. Where there are too many classes, those that are mixed up most are shown, and the others as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onebox.metrics import Metrics

#: Up to so many classes have a row each, and a number in every cell.
MOST_SHOWN, MOST_NUMBERED = 40, 20
OTHERS = "all others"


@dataclass(frozen=True, slots=True)
class Cell:
    """`n` pictures, their `share` of the row in 0-1; `right` on the diagonal."""

    n: int
    share: float
    right: bool


@dataclass(frozen=True, slots=True)
class Row:
    """The true class, its `n` pictures, and one cell per answer."""

    label: str
    n: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Confusion:
    """`rows` and columns in one order; `columns` names the answers; `dense` where cells are too many for numbers to be
    read; `hidden` classes are counted together in the last column."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    dense: bool
    hidden: int


def confusion(metrics: Metrics) -> Confusion | None:
    """None for a single class. Classes without pictures or answers are left out where there are too many."""
    names, counts = metrics.class_names, metrics.confusion
    if len(names) < 2:
        return None
    shown = list(range(len(names)))
    if len(names) > MOST_SHOWN:
        mixed = [_mistakes(counts, i) for i in shown]
        # the most mixed up, in their own order
        shown = sorted(sorted(shown, key=lambda i: (-mixed[i], i))[:MOST_SHOWN])
        shown = [i for i in shown if mixed[i]]
    hidden = len(names) - len(shown)
    if not shown:
        return None
    rows: list[Row] = []
    for i in shown:
        total = sum(counts[i])
        ns = [counts[i][j] for j in shown]
        if hidden:
            ns.append(total - sum(ns))
        own = shown.index(i)
        cells = tuple(Cell(n, n / total if total else 0.0, at == own) for at, n in enumerate(ns))
        rows.append(Row(names[i], total, cells))
    columns = tuple(names[j] for j in shown) + ((OTHERS,) if hidden else ())
    return Confusion(tuple(rows), columns, len(columns) > MOST_NUMBERED, hidden)


def mixed_up(metrics: Metrics, most: int) -> list[tuple[str, str, int]]:
    """The commonest mistakes: (true class, answer, pictures)."""
    names = metrics.class_names
    wrong = [(n, i, j) for i, row in enumerate(metrics.confusion) for j, n in enumerate(row) if n and i != j]
    wrong.sort(key=lambda item: (-item[0], item[1], item[2]))
    return [(names[i], names[j], n) for n, i, j in wrong[:most]]


def _mistakes(counts: Sequence[Sequence[int]], i: int) -> int:
    """Pictures of class i taken for another, and of another taken for i."""
    return sum(counts[i]) + sum(row[i] for row in counts) - 2 * counts[i][i]
