"""`onebox formats`: the table of layouts, as plain aligned lines; the same table for docs/formats.md."""

from __future__ import annotations

import typer

from onebox.formats.table import LAYOUTS

_TITLES = ("layout", "what it is", "--to", "one file", "for example")


def run_formats() -> None:
    """Prints one line a layout: its name, what it is, the names to write it by, the endings of an annotation file that
    may be given alone, and an example of its files."""
    rows = [_TITLES, *_rows()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def formats_table() -> str:
    """The same in Markdown."""
    lines = ["| name | what it is | `--to` | one file may be given | for example |", "|---|---|---|---|---|"]
    for name, title, to, endings, shape in _rows():
        codes = [" ".join(f"`{word}`" for word in text.split() if word != "-") for text in (to, endings, shape)]
        lines.append(f"| `{name}` | {title} | {' | '.join(codes)} |")
    return "\n".join(lines)


def _rows() -> list[tuple[str, str, str, str, str]]:
    rows: list[tuple[str, str, str, str, str]] = []
    for row in LAYOUTS:
        written = " ".join(writer.name for writer in row.write)
        rows.append((row.name, row.title, written or "-", " ".join(row.endings) or "-", row.shape))
    return rows
