"""The table of docs/formats.md that says how each of the real sets is read: one command line, and what it finds. Reads
the sets, writes nothing; the flags are parsed by the command line's own parser, so that each line works as it stands.

Run from the checkout: `python -m benchmarks.formats_table`, and put what it prints into docs/formats.md.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import typer.main

from onebox.cli.app import app
from onebox.dataset import load_dataset
from onebox.errors import OneboxError

FOLDER = "../shared/data"
#: What stands behind `onebox train ../shared/data/`, one line or more for each set.
LINES = (
    "asl_yolo",
    "caltech22_mat",
    "caltech22_mat --layout caltech",
    "caltech3_csv",
    "cub_annotations_only",
    "fruit_voc --multiple largest",
    "neu_det --multiple largest",
    "pets3",
    "pets3 --layout oxford_pets --boxes head --multiple largest",
    "pets3/body_boxes.csv",
    "pets37",
    "pets37 --layout coco",
    "pets37 --layout yolo",
    "plates_voc --multiple largest",
    "raccoon --multiple largest",
    "raccoon --layout voc --multiple largest",
    "tiny_imagenet20",
    "tiny_vid",
    "tiny_vid --layout class_text",
    "toys_coco --multiple largest",
    "vegetables3",
)


def table(root: Path) -> str:
    """Markdown: command, layout, pictures, labelled ones, classes, parts, what was left out. `root` holds the sets."""
    lines = [
        "| `onebox train ../shared/data/` | read as | pictures | labelled | classes | parts | left out |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(row(root, line) for line in LINES)])


def row(root: Path, line: str) -> str:
    """One line of the table."""
    wishes = parse(line)
    place = wishes.pop("data").relative_to(FOLDER)
    try:
        data = load_dataset(root / place, **wishes)
    except OneboxError as error:
        return f"| `{line}` | refused: {error.what} | | | | | |"
    parts = ", ".join(data.parts()) or "none"
    cells = (f"`{data.layout}`", len(data), len(data.labelled), len(data.class_names), parts, len(data.skipped))
    return f"| `{line}` | {' | '.join(map(str, cells))} |"


def parse(line: str) -> dict[str, Any]:
    """DATA and the wishes of a line, as `onebox train` understands them."""
    words = shlex.split(f"{FOLDER}/{line}")
    command: Any = typer.main.get_command(app)
    given = command.commands["train"].make_context("train", [*words, "--out", "runs/set"]).params
    return {key: given[key] for key in ("data", "layout", "multiple", "boxes")}


if __name__ == "__main__":
    print(table(Path(sys.argv[1] if len(sys.argv) > 1 else FOLDER)))
