"""How long a large COCO file takes to load, against `json.load` of the same file, and what a loaded data set costs in
memory. Makes its own data in a temporary folder: the file, and one directory entry for every picture (hard links to a
few small JPEGs, so that a million pictures can be listed and their headers read without a million files on disk).

Run from the checkout: `python -m benchmarks.loading`, or with `--pictures 20000` for a quick look.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from PIL import Image

import onebox
from onebox.dataset import Dataset, load_dataset

SIZES = ((500, 375), (375, 500), (640, 480), (333, 500))
#: A file may have 65,000 links on ext4: 64 originals carry a million with room to spare.
ORIGINALS = 64
A_FOLDER = 1000
CLASSES = 20


def make_pictures(root: Path, count: int) -> list[tuple[str, int, int]]:
    """`count` directory entries in folders of 1,000 below `root`; (name relative to root, width, height) of each."""
    originals: list[tuple[Path, int, int]] = []
    for i in range(ORIGINALS):
        width, height = SIZES[i % len(SIZES)]
        path = root.parent.with_name("originals") / f"{i}.jpg"  # beside the data set
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 1 + i // 8 % 8
        # every eighth as a camera writes it, with EXIF, on its side in half of the cases
        Image.new("RGB", (width, height), (i, 90, 90)).save(path, quality=50, exif=exif if i % 8 == 7 else b"")
        sideways = i % 8 == 7 and 1 + i // 8 % 8 >= 5
        originals.append((path, *((height, width) if sideways else (width, height))))
    pictures: list[tuple[str, int, int]] = []
    for i in range(count):
        folder = f"{i // A_FOLDER:04d}"
        if i % A_FOLDER == 0:
            (root / folder).mkdir(parents=True)
        path, width, height = originals[i % ORIGINALS]
        name = f"{folder}/{i:012d}.jpg"
        os.link(path, root / name)
        pictures.append((name, width, height))
    return pictures


def make_coco(
    path: Path,
    pictures: list[tuple[str, int, int]],
    annotations: int,
    *,
    lean: bool = False,
    shuffled: bool = False,
    seed: int = 0,
) -> Path:
    """A COCO file of `annotations` boxes spread over the pictures, on one line, picture by picture, the pictures in the
    order of their names or in random order. The fields are those of Roboflow's exports; `lean` leaves out all that a
    reader can do without."""
    rng = random.Random(seed)
    order = list(range(len(pictures)))
    if shuffled:
        rng.shuffle(order)
    extra = {} if lean else {"license": 1, "date_captured": "2024-05-17T09:30:00+00:00"}
    images = [
        {"id": i, "file_name": pictures[i][0], "height": pictures[i][2], "width": pictures[i][1], **extra}
        for i in order
    ]
    objects: list[dict[str, object]] = []
    for i in range(annotations):
        image = order[i * len(pictures) // annotations]
        _, width, height = pictures[image]
        x, y = round(rng.uniform(0, width / 2), 2), round(rng.uniform(0, height / 2), 2)
        w, h = round(rng.uniform(9, width / 2 - 1), 2), round(rng.uniform(9, height / 2 - 1), 2)
        more: dict[str, object] = {} if lean else {"area": round(w * h, 2), "segmentation": [], "iscrowd": 0}
        objects.append({"id": i, "image_id": image, "category_id": i % CLASSES, "bbox": [x, y, w, h], **more})
    categories = [{"id": i, "name": f"class {i}", "supercategory": "none"} for i in range(CLASSES)]
    path.write_text(json.dumps({"categories": categories, "images": images, "annotations": objects}))
    return path


def cpu(function: object, *args: object, **kwargs: object) -> tuple[float, object]:
    """(CPU seconds of this process, the result)."""
    assert callable(function)
    started = time.process_time()
    result = function(*args, **kwargs)
    return time.process_time() - started, result


def bare(path: str) -> object:
    """What the bar is measured against."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return json.load(file)


def own_strings(data: Dataset) -> int:
    """Bytes of all strings that the data set holds, each object once."""
    seen: dict[int, int] = {}
    for sample in data:
        for text in (sample.path, sample.where, sample.label, sample.split):
            if text is not None:
                seen[id(text)] = sys.getsizeof(text)
    for told in (*data.skipped, *data.remarks):
        for text in told:
            seen[id(text)] = sys.getsizeof(text)
    return sum(seen.values())


def one(what: str, path: str) -> None:
    """One measurement in a process of its own; prints a JSON line."""
    if what == "bare":
        seconds, _ = cpu(bare, path)
        print(json.dumps({"seconds": seconds}))
        return
    if what == "memory":
        tracemalloc.start()
        data = load_dataset(path, multiple="largest")
        total = tracemalloc.get_traced_memory()[0]
        print(json.dumps({"total": total, "strings": own_strings(data), "pictures": len(data)}))
        return
    if what == "headers":
        pictures = [s.path for s in load_dataset(path, multiple="largest")]
        from onebox.images import read_size

        seconds, _ = cpu(lambda: [read_size(p) for p in pictures])
        print(json.dumps({"seconds": seconds}))
        return
    if what == "scan":
        from onebox.formats.tree import scan

        seconds, _ = cpu(scan, os.path.dirname(path))  # noqa: PTH120
        print(json.dumps({"seconds": seconds}))
        return
    seconds, data = cpu(load_dataset, path, multiple="largest")
    assert isinstance(data, Dataset)
    # not getrusage's figure: that one begins with the memory of the process which started this one
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps({"seconds": seconds, "peak": peak, "samples": len(data.labelled), "skipped": len(data.skipped)}))


def child(what: str, path: Path) -> dict[str, float]:
    """`one` in a fresh interpreter, so that no measurement meets the memory of another."""
    command = [sys.executable, "-m", "benchmarks.loading", "--one", what, str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(root: Path, pictures: int, annotations: int, rounds: int, *, lean: bool, shuffled: bool) -> list[str]:
    """The lines of the log for one shape of file."""
    root.mkdir(parents=True)
    listed = make_pictures(root / "images", pictures)
    path = make_coco(root / "annotations.json", listed, annotations, lean=lean, shuffled=shuffled)
    how = (", lean" if lean else "") + (", in random order" if shuffled else "")
    size = path.stat().st_size
    base, loads = [], []
    for _ in range(rounds):
        base.append(child("bare", path)["seconds"])
        loads.append(child("load", path))
    json_seconds = sorted(base)[rounds // 2]
    load = sorted(loads, key=lambda one: one["seconds"])[rounds // 2]
    assert load["samples"] == min(pictures, annotations)
    assert load["skipped"] == 0
    headers, scanned = child("headers", path)["seconds"], child("scan", path)["seconds"]
    memory = child("memory", path)
    own = (memory["total"] - memory["strings"]) / memory["pictures"]
    strings = memory["strings"] / memory["pictures"]
    without = load["seconds"] - headers
    return [
        f"{annotations:,} annotations over {pictures:,} pictures{how}, {size / 1e6:.0f} MB "
        f"(CPU seconds, median of {rounds}):",
        f"  json.load {json_seconds:.2f} s; load_dataset {load['seconds']:.2f} s, ratio "
        f"{load['seconds'] / json_seconds:.2f} (bar: <= 3), highest memory {load['peak'] / 1e6:.0f} MB",
        f"  of it reading the pictures' headers {headers:.2f} s, listing the folder {scanned:.2f} s; without headers "
        f"the ratio is {without / json_seconds:.2f}",
        f"  a loaded picture costs {own:.0f} bytes beyond its strings (bar: <= 600); strings {strings:.0f} bytes",
    ]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where to make the data (default: the system's temporary folder)")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(*given.one)
        return
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} CPU cores, onebox {onebox.__version__}")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        n = given.pictures
        shapes = ((n, False, False), (n, False, True), (n, True, False), (n // 5, False, False))
        for i, (pictures, lean, shuffled) in enumerate(shapes):
            root = Path(folder) / str(i) / "set"
            for line in measure(root, pictures, n, given.rounds, lean=lean, shuffled=shuffled):
                print(line, flush=True)
            shutil.rmtree(root.parent)


if __name__ == "__main__":
    main()
