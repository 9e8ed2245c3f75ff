"""The order of the classes, for layouts that have no place for it: `classes.txt` at the root of the data set, one class
name a line. Takes and gives class names in order; a list that lacks a class of the annotations is not about them, and
is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onebox.formats.records import Reading, clean_label
from onebox.formats.tree import Tree, decode, read_bytes
from onebox.formats.writing import write_text

CLASS_LIST = "classes.txt"
_LARGEST = 2**20


def write_class_list(out: Path, class_names: Sequence[str]) -> str:
    """Writes the list; gives its relative path."""
    write_text(out / CLASS_LIST, "".join(f"{name}\n" for name in class_names))
    return CLASS_LIST


def order_classes(tree: Tree, reading: Reading) -> None:
    """Sets the reading's class order from the list, where there is one that names every class of the reading."""
    if CLASS_LIST not in tree.files:
        return
    text, _ = decode(read_bytes(tree, CLASS_LIST, _LARGEST))
    names = tuple(dict.fromkeys(name for line in text.splitlines() if (name := clean_label(line))))
    used = {raw.label for record in reading.pictures for raw in record.objects if raw.label}
    if not used <= set(names):
        return
    reading.class_order = names
    kept = [name for name in names if name in used]
    if kept != sorted(kept):
        reading.notes.append(f"the order of the classes from {CLASS_LIST}")
