"""THE table of layouts, and the choice among them. Takes the tree of files; gives the layout that reads it, its
annotation files, and one sentence that says what was chosen and what else was there. A further layout is one file with
`detect` and `read`, and one row here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onebox.errors import ConfigError, LayoutError
from onebox.formats import (
    caltech,
    class_folders,
    class_text,
    coco,
    createml,
    cub,
    cvat,
    huggingface,
    imagenet,
    jsonl,
    labelme,
    labelstudio,
    openimages,
    oxford_pets,
    parquet,
    tabular,
    tiny_imagenet,
    via,
    voc,
    write_coco,
    write_createml,
    write_csv,
    write_jsonl,
    write_voc,
    write_yolo,
    yolo,
)
from onebox.formats.pictures import Pictures, is_picture
from onebox.formats.records import Reading, ReadOptions
from onebox.formats.tree import Tree, depth_of, enumerate_some, folder_of
from onebox.formats.writing import Writer

#: (tree, annotation files, pictures, wishes) -> everything found.
Reader: TypeAlias = Callable[[Tree, list[str], Pictures, ReadOptions], Reading]


@dataclass(frozen=True, slots=True)
class Layout:
    """One row. `detect` gives the annotation files (relative), none where it is not this
    layout; `endings` are those of a single annotation file (lower case, with the dot). `write` are the ways to write
    it, none where it is only read; `shape` is an example of its files, the pictures included; `boxes` are the kinds of
    boxes that one may choose among, none where there is but one."""

    name: str
    title: str
    endings: tuple[str, ...]
    detect: Callable[[Tree], list[str]]
    read: Reader
    write: tuple[Writer, ...] = ()
    shape: str = ""
    boxes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout that reads, its annotation files, and why it."""

    layout: Layout
    files: list[str]
    note: str


#: More annotation files than these are one per picture, and their names tell nothing.
_FEW_FILES = 20
#: Where two layouts' annotations lie at the same depth, the upper row wins: a table or one JSON was made for a purpose
#: and may carry parts and finer classes; XML or text files per picture are what it was made from.
LAYOUTS: tuple[Layout, ...] = (
    # our own lies beside others only where somebody converted or labelled with onebox: it is the newer word
    Layout(
        "onebox",
        "onebox's own JSON Lines",
        (".jsonl",),
        jsonl.detect,
        jsonl.read,
        (write_jsonl.WRITER,),
        "labels.jsonl images/a.jpg",
    ),
    Layout(
        "openimages",
        "Open Images CSV",
        (".csv",),
        openimages.detect,
        openimages.read,
        shape="train-annotations-bbox.csv class-descriptions-boxable.csv train/000026e7ee790996.jpg",
    ),
    Layout(
        "class_folders",
        "class-named folders and a table without classes",
        (".csv", ".tsv", ".txt"),
        class_folders.detect,
        class_folders.read,
        shape="boxes.csv cat/1.jpg dog/1.jpg",
    ),
    Layout(
        "csv",
        "CSV or TSV table",
        (".csv", ".tsv"),
        tabular.detect,
        tabular.read,
        (write_csv.CSV, write_csv.TSV),
        "train.csv test.csv images/a.jpg",
    ),
    Layout(
        "coco",
        "COCO JSON",
        (".json",),
        coco.detect,
        coco.read,
        (write_coco.WRITER,),
        "annotations/instances_train.json images/a.jpg",
    ),
    Layout(
        "createml",
        "Create ML JSON",
        (".json",),
        createml.detect,
        createml.read,
        (write_createml.WRITER,),
        "train/_annotations.createml.json train/a.jpg",
    ),
    Layout(
        "labelstudio",
        "Label Studio JSON export",
        (".json",),
        labelstudio.detect,
        labelstudio.read,
        shape="project-1-at-2026-05-01-10-00.json images/1a2b3c4d-a.jpg",
    ),
    Layout(
        "via",
        "VGG Image Annotator project, JSON or CSV export",
        (".json", ".csv"),
        via.detect,
        via.read,
        shape="via_project.json a.jpg",
    ),
    Layout(
        "labelme",
        "labelme JSON, one per picture",
        (".json",),
        labelme.detect,
        labelme.read,
        shape="a.json a.jpg",
    ),
    Layout(
        "imagenet",
        "ImageNet CLS-LOC",
        (".csv",),
        imagenet.detect,
        imagenet.read,
        shape="LOC_train_solution.csv LOC_synset_mapping.txt ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_18.JPEG",
    ),
    Layout(
        "tiny_imagenet",
        "Tiny ImageNet folder",
        (),
        tiny_imagenet.detect,
        tiny_imagenet.read,
        shape="train/n01443537/n01443537_boxes.txt train/n01443537/images/n01443537_0.JPEG words.txt",
    ),
    Layout(
        "cub",
        "CUB-200-2011 folder",
        (),
        cub.detect,
        cub.read,
        shape="images.txt bounding_boxes.txt image_class_labels.txt classes.txt images/001.Albatross/a.jpg",
    ),
    Layout(
        "oxford_pets",
        "Oxford-IIIT Pet folder",
        (),
        oxford_pets.detect,
        oxford_pets.read,
        shape="annotations/list.txt annotations/xmls/Abyssinian_1.xml images/Abyssinian_1.jpg",
        boxes=oxford_pets.BOXES,
    ),
    Layout(
        "class_text",
        "one text file per class",
        ("_gt.txt",),
        class_text.detect,
        class_text.read,
        shape="cat_gt.txt cat/000001.jpg",
    ),
    Layout(
        "caltech",
        "Caltech-101 .mat annotations",
        (".mat",),
        caltech.detect,
        caltech.read,
        shape="Annotations/ant/annotation_0001.mat 101_ObjectCategories/ant/image_0001.jpg",
    ),
    Layout(
        "cvat",
        "CVAT XML for images",
        (".xml",),
        cvat.detect,
        cvat.read,
        shape="annotations.xml images/a.jpg",
    ),
    Layout(
        "parquet",
        "parquet, the pictures in it or beside",
        (".parquet",),
        parquet.detect,
        parquet.read,
        shape="data/train-00000-of-00001.parquet",
    ),
    Layout(
        "huggingface",
        "Hugging Face image folder",
        (".jsonl", ".csv", ".parquet"),
        huggingface.detect,
        huggingface.read,
        shape="train/metadata.jsonl train/a.jpg",
    ),
    Layout(
        "yolo",
        "YOLO text files",
        (".yaml", ".yml"),
        yolo.detect,
        yolo.read,
        (write_yolo.WRITER,),
        "data.yaml images/train/a.jpg labels/train/a.txt",
    ),
    Layout(
        "voc",
        "Pascal VOC XML",
        (".xml",),
        voc.detect,
        voc.read,
        (write_voc.WRITER,),
        "Annotations/a.xml JPEGImages/a.jpg ImageSets/Main/train.txt",
    ),
)


def choose_layout(tree: Tree, wanted: str | None = None, boxes: str | None = None) -> Choice:
    """The layout whose annotations lie shallowest, or the `wanted` one; where a kind of `boxes` is asked for, the first
    that offers it. Raises LayoutError where there is none, ConfigError for boxes that it does not offer."""
    _check_boxes(boxes)
    choice = _choose(tree, wanted, boxes)
    if boxes is not None and boxes not in choice.layout.boxes:
        offering = " or ".join(row.name for row in LAYOUTS if boxes in row.boxes)
        raise ConfigError(
            f"the layout {choice.layout.name} has no choice of boxes, so {boxes!r} cannot be had",
            fix=f"Leave out --boxes; only {offering} has it.",
        )
    return choice


def _check_boxes(boxes: str | None) -> None:
    offered = list(dict.fromkeys(kind for row in LAYOUTS for kind in row.boxes))
    if boxes is not None and boxes not in offered:
        raise ConfigError(f"unknown choice of boxes {boxes!r}", fix=f"Use {' or '.join(offered)}.")


def _choose(tree: Tree, wanted: str | None, boxes: str | None) -> Choice:
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
    row, files = next((item for item in found if boxes in item[0].boxes), found[0])
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
    telling = [f for f in files if not f.endswith((".txt", ".xml", ".mat", ".png"))]
    if telling and len(telling) <= _FEW_FILES:
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
        endings = " ".join(dict.fromkeys(ending for row in LAYOUTS for ending in row.endings))
        raise LayoutError(
            "not an annotation file that onebox knows",
            where=tree.path(name),
            fix=f"Give a folder, or a file that ends in one of {endings} (layouts known: {known}).",
        )
    # none recognises it: let the plainest read it, one of those that are also written: its error says what is missing
    plainest = next((row for row in fitting if row.write), fitting[0])
    row = next((row for row in fitting if row.detect(tree)), plainest)
    return Choice(row, [name], f"read as {row.name}: {name}")
