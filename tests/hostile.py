"""Data sets made to do harm, one generator per layout: a sound picture with a sound annotation, and beside it one that
names whatever it is told to. Also the process that loads them while an audit hook watches which files are opened
(`python -m tests.hostile FOLDER`): such a hook cannot be taken away again, so it needs a process of its own."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from tests.small_sets import jpeg

Write = Callable[[Path, str], None]

#: Names a reader must not follow. `{outside}` is a folder beside the data set that holds `secret.jpg`, with slashes;
#: link.jpg, linked/ and fifo.jpg lie in the data set and lead out of it, or nowhere.
NAMES: tuple[str, ...] = (
    # upwards
    "../secret.jpg", "../outside/secret.jpg", "../../secret.jpg", "./../outside/secret.jpg", "..", "../", ".", "",
    "good/../../outside/secret.jpg", "good/./.././../outside/secret.jpg", "....//outside/secret.jpg",
    ".. /outside/secret.jpg", "../outside/secret.jpg.", "../outside/secret.jpg ", "..;/outside/secret.jpg",
    "../" * 1500 + "{outside}/secret.jpg",
    # backslashes, drives, hosts
    "..\\outside\\secret.jpg", "good\\..\\..\\outside\\secret.jpg", "..\\../outside/secret.jpg", "C:\\secret.jpg",
    "C:/secret.jpg", "C:secret.jpg", "c:..\\outside\\secret.jpg", "\\\\127.0.0.1\\share\\secret.jpg",
    "\\\\?\\C:\\secret.jpg", "//127.0.0.1/share/secret.jpg", "secret.jpg:stream", "CON", "NUL.jpg",
    # absolute, devices, what shells expand
    "{outside}/secret.jpg", "/{outside}/secret.jpg", "/dev/zero", "/dev/stdin", "/proc/self/environ", "/",
    "~/secret.jpg", "~root/secret.jpg", "$HOME/secret.jpg", "${{HOME}}/secret.jpg", "$(cat {outside}/secret.jpg)",
    # addresses
    "file://{outside}/secret.jpg", "http://127.0.0.1:9/secret.jpg", "https://127.0.0.1:9/secret.jpg",
    "ftp://127.0.0.1/secret.jpg", "data:image/jpeg;base64,AAAA", "s3://outside/secret.jpg",
    # escapes that somebody may undo
    "%2e%2e%2foutside%2fsecret.jpg", "..%2foutside/secret.jpg", "%2e%2e/outside/secret.jpg",
    "..%c0%afoutside/secret.jpg", "..%5coutside%5csecret.jpg", "%252e%252e%252foutside/secret.jpg",
    "&#46;&#46;/outside/secret.jpg", "\\u002e\\u002e/outside/secret.jpg",
    # control characters and letters that look like others
    "../outside/secret.jpg\0.jpg", "\0", "../outside/sec\nret.jpg", "\t../outside/secret.jpg", "\u202egpj.terces",
    "\uff0e\uff0e\uff0foutside\uff0fsecret.jpg", "\u2024\u2024/outside/secret.jpg", "..\u2044outside\u2044secret.jpg",
    "..\u2215outside/secret.jpg", "\ud800.jpg", "\udcff.jpg",
    # links, FIFOs, folders, lengths
    "link.jpg", "linked/secret.jpg", "fifo.jpg", "folder.jpg", "a" * 300 + ".jpg", "a" * 5000 + ".jpg", "a/" * 3000,
)  # fmt: skip

BOX = (10, 20, 40, 60)


def fill(name: str, outside: Path) -> str:
    """The name with the folder outside put in."""
    return name.format(outside=str(outside).lstrip("/") if "../" * 9 in name else outside)


def put(path: Path, content: str | bytes) -> None:
    """Writes a file; lone surrogates as such."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))


def put_picture(path: Path) -> None:
    """A sound picture of 100x80, once."""
    if not path.exists():
        put(path, jpeg())


def put_json(path: Path, content: object) -> None:
    """With a line per value, as many tools write."""
    put(path, json.dumps(content, indent=1))


def put_rows(path: Path, *rows: tuple[object, ...]) -> None:
    """A CSV."""
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    put(path, out.getvalue())


def put_lines(path: Path, *lines: str) -> None:
    """Text."""
    put(path, "\n".join([*lines, ""]))


def put_voc(path: Path, name: str) -> None:
    """A VOC annotation that names a picture in three ways."""
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True))
    shown = escape(name)
    put_lines(
        path,
        f"<annotation><folder>{shown}</folder><filename>{shown}</filename><path>{shown}</path>",
        "<size><width>100</width><height>80</height><depth>3</depth></size>",
        f"<object><name>cat</name><bndbox>{corners}</bndbox></object></annotation>",
    )


def _onebox(root: Path, name: str) -> None:
    rows = [{"picture": n, "label": "cat", "box": BOX} for n in ("good.jpg", name)]
    put_lines(root / "labels.jsonl", json.dumps({"onebox": 1, "classes": ["cat"]}), *map(json.dumps, rows))


def _openimages(root: Path, name: str) -> None:
    columns = (
        "ImageID Source LabelName Confidence XMin XMax YMin YMax IsOccluded IsTruncated IsGroupOf IsDepiction IsInside"
    )
    rows = [(n, "x", "/m/01yrx", 1, 0.1, 0.4, 0.25, 0.75, 0, 0, 0, 0, 0) for n in ("good", name)]
    put_rows(root / "train-annotations-bbox.csv", tuple(columns.split()), *rows)
    put_rows(root / "class-descriptions-boxable.csv", ("/m/01yrx", "Cat"))


def _class_folders(root: Path, name: str) -> None:
    put_picture(root / "cat" / "sound.jpg")
    put_picture(root / "dog" / "other.jpg")
    header = ("filename", "xmin", "ymin", "xmax", "ymax")
    put_rows(root / "boxes.csv", header, ("cat/sound.jpg", *BOX), ("dog/other.jpg", *BOX), (name, *BOX))


def _csv(root: Path, name: str) -> None:
    header = ("filename", "class", "xmin", "ymin", "xmax", "ymax")
    put_rows(root / "labels.csv", header, ("good.jpg", "cat", *BOX), (name, "dog", *BOX))


def _coco(root: Path, name: str) -> None:
    box = [10, 20, 30, 40.0]
    content = {
        "images": [{"id": i, "file_name": n, "width": 100, "height": 80} for i, n in enumerate(("good.jpg", name))],
        "annotations": [{"id": i, "image_id": i, "category_id": 7, "bbox": box, "iscrowd": 0} for i in range(2)],
        "categories": [{"id": 7, "name": "cat"}],
    }
    put_json(root / "annotations.json", content)


def _createml(root: Path, name: str) -> None:
    place = {"x": 25, "y": 40, "width": 30, "height": 40}
    entries = [{"image": n, "annotations": [{"label": "cat", "coordinates": place}]} for n in ("good.jpg", name)]
    put_json(root / "annotations.json", entries)


def _labelstudio(root: Path, name: str) -> None:
    value = {"x": 10, "y": 25, "width": 30, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]}
    result = {"original_width": 100, "original_height": 80, "value": value, "type": "rectanglelabels"}
    annotations = [{"id": 1, "result": [result], "was_cancelled": False}]
    tasks: list[dict[str, Any]] = [
        {"id": i, "file_upload": n, "data": {"image": n}, "annotations": annotations}
        for i, n in enumerate(("good.jpg", name))
    ]
    put_json(root / "project-1.json", tasks)


def _via(root: Path, name: str) -> None:
    shape = {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 40}
    region = {"shape_attributes": shape, "region_attributes": {"class": "cat"}}
    entries = {
        f"{n}22": {"filename": n, "size": 22, "regions": [region], "file_attributes": {"image_url": n}}
        for n in ("good.jpg", name)
    }
    put_json(root / "via.json", entries)


def _labelme(root: Path, name: str) -> None:
    shape = {"label": "cat", "points": [[10, 20], [40, 60]], "group_id": None, "shape_type": "rectangle", "flags": {}}
    for file, picture in (("good.json", "good.jpg"), ("other.json", name)):
        rest = {"imagePath": picture, "imageData": None, "imageHeight": 80, "imageWidth": 100}
        put_json(root / file, {"version": "5.5.0", "flags": {}, "shapes": [shape], **rest})


def _imagenet(root: Path, name: str) -> None:
    put_picture(root / "ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_18.JPEG")
    words = "n01440764 10 20 40 60 "
    rows = [(n, words) for n in ("n01440764_18", name)]
    put_rows(root / "LOC_train_solution.csv", ("ImageId", "PredictionString"), *rows)
    put_lines(root / "LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca")
    put_voc(root / "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml", name)


def _tiny_imagenet(root: Path, name: str) -> None:
    put_picture(root / "train/n01443537/images/n01443537_0.JPEG")
    put_lines(
        root / "train/n01443537/n01443537_boxes.txt", "n01443537_0.JPEG\t10\t20\t40\t60", f"{name}\t10\t20\t40\t60"
    )
    put_lines(root / "val/val_annotations.txt", f"{name}\tn01443537\t10\t20\t40\t60")
    put_lines(root / "words.txt", "n01443537\tgoldfish, Carassius auratus")


def _cub(root: Path, name: str) -> None:
    put_picture(root / "images/001.Albatross/A_01.jpg")
    put_lines(root / "images.txt", "1 001.Albatross/A_01.jpg", f"2 {name}")
    put_lines(root / "classes.txt", "1 001.Albatross")
    put_lines(root / "image_class_labels.txt", "1 1", "2 1")
    put_lines(root / "bounding_boxes.txt", "1 10.0 20.0 30.0 40.0", "2 10.0 20.0 30.0 40.0")
    put_lines(root / "train_test_split.txt", "1 1", "2 0")


def _oxford_pets(root: Path, name: str) -> None:
    put_picture(root / "images/Abyssinian_1.jpg")
    put_lines(root / "annotations/list.txt", "#Image CLASS-ID SPECIES BREED ID", "Abyssinian_1 1 1 1", f"{name} 1 1 1")
    put_lines(root / "annotations/trainval.txt", "Abyssinian_1 1 1 1", f"{name} 1 1 1")
    put_voc(root / "annotations/xmls/Abyssinian_1.xml", "Abyssinian_1.jpg")
    put_voc(root / "annotations/xmls/Abyssinian_2.xml", name)


def _class_text(root: Path, name: str) -> None:
    put_picture(root / "cat/000001.jpg")
    put_lines(root / "cat_gt.txt", "1 10 20 40 60", f"{name} 10 20 40 60")


def _caltech(root: Path, name: str) -> None:
    """The files name no picture; the name stands where the variable's name does."""
    put_picture(root / "ant/image_0001.jpg")
    put_picture(root / "ant/image_0002.jpg")
    put(root / "ant/annotation_0001.mat", mat("box_coord", (21, 60, 11, 40)))
    put(root / "ant/annotation_0002.mat", mat(name, (21, 60, 11, 40)))


def mat(name: str, numbers: tuple[float, ...]) -> bytes:
    """A MATLAB 5 file with one row of doubles."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)

    called = name.encode("utf-8", "surrogatepass")
    parts = [
        element(6, struct.pack("<II", 6, 0)),
        element(5, struct.pack("<ii", 1, len(numbers))),
        element(1, called),
        element(9, struct.pack(f"<{len(numbers)}d", *numbers)),
    ]
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + element(14, b"".join(parts))


def _cvat(root: Path, name: str) -> None:
    box = '<box label="cat" xtl="10" ytl="20" xbr="40" ybr="60"></box>'
    images = [
        f'<image id="{i}" name={quoteattr(n)} width="100" height="80">{box}</image>'
        for i, n in enumerate(("good.jpg", name))
    ]
    meta = "<version>1.1</version><meta><task><labels><label><name>cat</name></label></labels></task></meta>"
    put_lines(root / "annotations.xml", '<?xml version="1.0"?>', f"<annotations>{meta}", *images, "</annotations>")


def _parquet(root: Path, name: str) -> None:
    """A name alone, and pictures inside the table that bring the name along."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = name.encode("utf-8", "replace").decode()
    objects = {"bbox": [[10.0, 20.0, 30.0, 40.0]], "category": ["cat"]}
    inside = [{"bytes": jpeg(), "path": n} for n in ("good.jpg", name)] + [{"bytes": None, "path": name}]
    pq.write_table(pa.Table.from_pylist([{"image": i, "objects": objects} for i in inside]), root / "train.parquet")


def _huggingface(root: Path, name: str) -> None:
    objects = {"bbox": [[10.0, 20.0, 30.0, 40.0]], "category": ["cat"]}
    rows = [{"file_name": n, "objects": objects} for n in ("good.jpg", name)]
    put_lines(root / "metadata.jsonl", *map(json.dumps, rows))


def _yolo(root: Path, name: str) -> None:
    put_picture(root / "images/a.jpg")
    put_picture(root / "images/b.jpg")
    put_lines(root / "labels/a.txt", "0 0.25 0.5 0.3 0.5")
    put_lines(root / "labels/b.txt", "0 0.25 0.5 0.3 0.5")
    put_lines(root / "held_out.txt", "images/b.jpg", name)
    quoted = json.dumps(name)
    put_lines(root / "data.yaml", f"path: {quoted}", f"train: [images, {quoted}]", "val: held_out.txt", "names: [cat]")


def _voc(root: Path, name: str) -> None:
    put_voc(root / "good.xml", "good.jpg")
    put_voc(root / "other.xml", name)
    put_lines(root / "ImageSets/Main/train.txt", "good", name)


#: Layout -> its writer. The tests see to it that every row of the table has one.
WRITERS: dict[str, Write] = {
    "onebox": _onebox,
    "openimages": _openimages,
    "class_folders": _class_folders,
    "csv": _csv,
    "coco": _coco,
    "createml": _createml,
    "labelstudio": _labelstudio,
    "via": _via,
    "labelme": _labelme,
    "imagenet": _imagenet,
    "tiny_imagenet": _tiny_imagenet,
    "cub": _cub,
    "oxford_pets": _oxford_pets,
    "class_text": _class_text,
    "caltech": _caltech,
    "cvat": _cvat,
    "parquet": _parquet,
    "huggingface": _huggingface,
    "yolo": _yolo,
    "voc": _voc,
}


def make_set(layout: str, root: Path, name: str = "fine.jpg") -> Path:
    """A data set of this layout with a sound picture and one called `name` (by default it is there)."""
    root.mkdir(parents=True, exist_ok=True)
    put_picture(root / "good.jpg")
    if name == "fine.jpg":
        put_picture(root / name)
    WRITERS[layout](root, name)
    return root


def plant(base: Path) -> None:
    """What no reader may reach: pictures and annotations beside the data set `base/set`, and ways out of it."""
    for folder in (base, base / "outside"):
        put(folder / "secret.jpg", jpeg())
        put(folder / "secret.txt", "0 0.25 0.5 0.3 0.5\n")
    root = base / "set"
    (root / "folder.jpg").mkdir(parents=True, exist_ok=True)
    (root / "link.jpg").symlink_to(base / "outside" / "secret.jpg")
    (root / "linked").symlink_to(base / "outside")
    os.mkfifo(root / "fifo.jpg")


# ---- the process with the hook

#: Events that reach a file, a folder, another process or the network, and where their path stands.
WATCHED = ("open", "os.listdir", "os.scandir", "os.chdir", "socket.", "subprocess.", "os.system", "os.exec", "urllib.")


def main(base: Path) -> None:
    """Loads every layout with every name and prints, as JSON lines, what came of it and what was reached outside."""
    from onebox.dataset import load_dataset
    from onebox.errors import OneboxError

    events: list[str] = []
    watching = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event.startswith(WATCHED):
            target = arguments[0] if arguments else ""
            if isinstance(target, bytes):
                target = os.fsdecode(target)
            events.append(f"{event} {target}")

    for encoding in ("cp1252", "utf-16", "utf-8-sig"):  # the modules of encodings are imported on first use
        codecs.lookup(encoding)
    sys.addaudithook(hook)
    for layout in WRITERS:  # a sound set: also to have everything imported
        data = load_dataset(make_set(layout, base / "sound" / layout), multiple="largest", layout=layout)
        print(json.dumps({"layout": layout, "case": None, "paths": [s.path for s in data.labelled]}))
    for layout in WRITERS:
        home = base / layout
        plant(home)
        for number, raw in enumerate(NAMES):
            root = make_set(layout, home / "set", fill(raw, home / "outside"))
            events.clear()
            told: dict[str, Any] = {"layout": layout, "case": number, "paths": [], "error": ""}
            watching = True
            try:
                data = load_dataset(root, multiple="largest", layout=layout)
                told["paths"] = [s.path for s in data.labelled]
            except OneboxError as error:
                told["error"] = str(error)
            watching = False
            told["events"] = [e for e in events if not e.partition(" ")[2].startswith(str(root))]
            print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
