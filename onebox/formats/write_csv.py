"""Writes CSV and TSV tables: pictures in `images/`, one row a picture. A table for each part where every picture has
one, otherwise one table, with a column `split` where some have. Cells that a spreadsheet would run are escaped; a
column says so, and that boxes are in pixels.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from onebox.formats.class_list import write_class_list
from onebox.formats.spreadsheet import MARK, safe_cell
from onebox.formats.writing import Writer, by_part, in_images, number_text, write_text
from onebox.types import Sample

_COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
_VERSION = "1"


def _write(samples: Sequence[Sample], class_names: Sequence[str], out: Path, delimiter: str, ending: str) -> list[str]:
    parts = by_part(samples)
    if None in parts:
        tables = {f"labels{ending}": list(samples)}
    else:
        tables = {f"{part}{ending}": members for part, members in parts.items()}
    with_split = None in parts and len(parts) > 1
    for name, members in tables.items():
        write_text(out / name, _table(members, delimiter, with_split=with_split))
    return [*tables, write_class_list(out, class_names)]


def _table(samples: Sequence[Sample], delimiter: str, *, with_split: bool) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    rows.writerow([*_COLUMNS, *(["split"] if with_split else []), MARK])
    for sample in samples:
        corners = map(number_text, sample.box.xyxy) if sample.box else [""] * 4
        split = [sample.split or ""] if with_split else []
        label = safe_cell(sample.label or "")
        rows.writerow([safe_cell(sample.path), *sample.image_size, label, *corners, *split, _VERSION])
    return text.getvalue()


def _write_csv(samples: Sequence[Sample], class_names: Sequence[str], out: Path) -> list[str]:
    return _write(samples, class_names, out, ",", ".csv")


def _write_tsv(samples: Sequence[Sample], class_names: Sequence[str], out: Path) -> list[str]:
    return _write(samples, class_names, out, "\t", ".tsv")


CSV = Writer("csv", in_images, _write_csv)
TSV = Writer("tsv", in_images, _write_tsv)
