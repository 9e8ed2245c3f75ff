"""THE table of layouts, and the choice among them. Takes the tree of files; gives the layout that reads it, its
annotation files, and one sentence that says what was chosen and what else was there. A further layout is one file with
`detect` and `read`, and one row here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onebox.errors import LayoutError
from onebox.formats import coco, tabular, voc, yolo
from onebox.formats.pictures import Pictures, is_picture
from onebox.formats.records import Reading, ReadOptions
from onebox.formats.tree import Tree, depth_of, enumerate_some, folder_of

#: (tree, annotation files, pictures, wishes) -> everything found.
Reader: TypeAlias = Callable[[Tree, list[str], Pictures, ReadOptions], Reading]


@dataclass(frozen=True, slots=True)
class Layout:
    """One row. `detect` gives the annotation files (relative), none where it is not this
    layout; `endings` are those of a single annotation file (lower case, with the dot)."""

    name: str
    title: str
    endings: tuple[str, ...]
    detect: Callable[[Tree], list[str]]
    read: Reader


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout that reads, its annotation files, and why it."""

    layout: Layout
    files: list[str]
    note: str


#: Where two layouts' annotations lie at the same depth, the upper row wins: a table or one JSON was made for a purpose
#: and may carry parts and finer classes; XML or text files per picture are what it was made from.
LAYOUTS: tuple[Layout, ...] = (
    Layout("csv", "CSV or TSV table", (".csv", ".tsv"), tabular.detect, tabular.read),
    Layout("coco", "COCO JSON", (".json",), coco.detect, coco.read),
    Layout("yolo", "YOLO text files", (".yaml", ".yml"), yolo.detect, yolo.read),
    Layout("voc", "Pascal VOC XML", (".xml",), voc.detect, voc.read),
)


def choose_layout(tree: Tree, wanted: str | None = None) -> Choice:
    """The layout whose annotations lie shallowest, or the `wanted` one. Raises LayoutError where there is none."""
    known = ", ".join(row.name for row in LAYOUTS)
    rows = [row for row in LAYOUTS if wanted is None or row.name == wanted]
    if not rows:
        raise LayoutError(f"unknown layout {wanted!r}", fix=f"Layouts known: {known}.")
    if tree.only is not None:
        return _for_one_file(tree, rows, known)
    found = found_layouts(tree, rows)
    if not found:
        seen = describe_files(tree)
        if wanted is not None:
            raise LayoutError(f"nothing here reads as {wanted} (seen: {seen})", where=tree.root)
        if any(is_picture(f) for f in tree.files):
            raise LayoutError(
                f"pictures but no annotations that onebox knows (seen: {seen})",
                where=tree.root,
                fix=f"Layouts known: {known}.",
            )
        raise LayoutError(
            f"no pictures and no annotations (seen: {seen})", where=tree.root, fix="Give the data set's folder."
        )
    row, files = found[0]
    note = f"read as {row.name}: {describe_annotations(files)}"
    others = [f"{o.name} in {folder_of(f[0]) or '.'}" for o, f in found if o is not row]
    if others:
        switches = " or ".join(o.name for o, _ in found if o is not row)
        note += f"; also found {', '.join(others)} (choose with --layout {switches})"
    return Choice(row, files, note)


def found_layouts(tree: Tree, rows: Sequence[Layout] = LAYOUTS) -> list[tuple[Layout, list[str]]]:
    """Every layout that has annotation files in this folder, with them, the one to be chosen first: the shallowest
    annotations first, equal depths in the table's order."""
    found = [(row, files) for row in rows if (files := row.detect(tree))]
    return sorted(found, key=lambda item: min(map(depth_of, item[1])))


def describe_annotations(files: list[str]) -> str:
    """ "train.csv, test.csv", or "200 files in annotations" where there are many."""
    telling = [f for f in files if not f.endswith((".txt", ".xml"))]
    if telling:
        return enumerate_some(telling)
    if len(files) <= 2:
        return ", ".join(files)
    folders = sorted({folder_of(f) or "." for f in files})
    return f"{len(files)} files in {enumerate_some(folders)}"


def describe_files(tree: Tree) -> str:
    """ "120 .jpg, 3 .txt", the most frequent endings first."""
    endings = Counter(f.rpartition("/")[2].lower().rpartition(".")[2] for f in tree.files)
    listed = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{n} .{ending[:12]}" for ending, n in listed[:5]) or "nothing"
    if tree.links_out:
        text += f", {tree.links_out} links out of the folder, not followed"
    return text


def _for_one_file(tree: Tree, rows: list[Layout], known: str) -> Choice:
    """The layout of a single annotation file: by its ending, and where several share that, by its content."""
    name = tree.only or ""
    fitting = [row for row in rows if name.lower().endswith(row.endings)]
    if not fitting:
        endings = " ".join(ending for row in LAYOUTS for ending in row.endings)
        raise LayoutError(
            "not an annotation file that onebox knows",
            where=tree.path(name),
            fix=f"Give a folder, or a file that ends in one of {endings} (layouts known: {known}).",
        )
    # none recognises it: let the first read it, for its error says what is missing
    row = next((row for row in fitting if row.detect(tree)), fitting[0])
    return Choice(row, [name], f"read as {row.name}: {name}")
