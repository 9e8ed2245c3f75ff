"""How two looks at a picture are best made one answer. Trains as `benchmarks.holding_out` does, on a few pictures of
each class of a set's TRAINING part, and asks the model for the others of that part: at one look, and at two in several
ways. Test pictures are never touched.

    python -m benchmarks.looks [--only tiny_vid] [--draws 0,1] [--few 20] [--minutes 1.5] [--out runs/looks]

One row a training in OUT/rows.jsonl; what has its row is not done again. The table is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

import onebox
from benchmarks.accuracy.rows import append_row, calm
from benchmarks.holding_out import SETS, parts, train_few
from onebox.boxes import Floats, iou
from onebox.calibration import fit_temperature, tempered
from onebox.dataset import Dataset
from onebox.images import open_image, resize_image
from onebox.refine import DETAIL, both_looks, look_into, windows
from onebox.runtime import Localizer

BATCH = 16
#: Box and sigmas, and logits, of: the first look alone; the second look's box; the plain mean of both; the product's.
WAYS = ("first", "second", "mean", "both")
FIGURES = {"joint_50": "joint", "mean_iou": "mean IoU", "top1": "top-1", "nll": "log loss", "doubt": "doubt"}


def both_answers(model: Localizer, data: Dataset) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """What `model` says of the pictures of `data` at its first look, and at the second, as (N, .) by output."""
    imgsz, found = model.manifest.imgsz, ([], [])
    for start in range(0, len(data), BATCH):
        paths = [sample.path for sample in list(data)[start : start + BATCH]]
        opened = [open_image(path, at_least=DETAIL * imgsz)[0] for path in paths]
        first = model.run(np.stack([resize_image(image, imgsz) for image in opened]))
        details = [resize_image(image, DETAIL * imgsz) for image in opened]
        second = look_into(model.run, windows(first["boxes_01"]), details, imgsz)
        for kept, said in zip(found, (first, second), strict=True):
            kept.append(said)
    first, second = (
        {name: np.concatenate([said[name] for said in kept]).astype(float) for name in kept[0]} for kept in found
    )
    return first, second


def figures(
    logits: Floats, boxes_01: Floats, sigmas_01: Floats, labels: npt.NDArray[np.int64], truths_01: Floats
) -> dict[str, float]:
    """`nll`: at the temperature that is best for these very pictures. `doubt`: how well the edges' sigmas tell the
    worse boxes (IoU at most .5, or the worst tenth where those are fewer than ten), as the area under the ROC curve."""
    overlap = iou(np.clip(boxes_01, 0, 1), truths_01)
    right = logits.argmax(axis=1) == labels
    p = tempered(logits, fit_temperature(logits, labels))[np.arange(len(labels)), labels]
    worse = overlap <= 0.5
    if worse.sum() < 10:
        worse = overlap <= np.quantile(overlap, 0.1)
    return {
        "joint_50": float(np.mean(right & (overlap > 0.5))),
        "mean_iou": float(overlap.mean()),
        "top1": float(right.mean()),
        "nll": float(-np.log(p).mean()),
        "doubt": float(roc_auc_score(worse, np.log(sigmas_01).mean(axis=1))),
    }


def run(name: str, draw: int, count: int, minutes: float) -> dict[str, Any]:
    """One training, and the figures of each of WAYS."""
    few, others, imgsz = parts(name, draw, count)
    with tempfile.TemporaryDirectory(prefix="onebox-run-") as folder:
        done = train_few(few, Path(folder) / "run", "default", draw, minutes, imgsz)
        model = onebox.load(done.model)
        first, second = both_answers(model, others)
    labels = np.array([model.class_names.index(sample.label or "") for sample in others])
    truths = np.array([np.divide(s.box.xyxy, (*s.image_size, *s.image_size)) for s in others if s.box is not None])
    (e1, s1, l1), (e2, s2, l2) = ((o["boxes_01"], o["sigmas_01"], o["logits"]) for o in (first, second))
    logits = (l1 + l2) / 2
    ways = {
        "first": (l1, e1, s1),
        "second": (logits, e2, s2),
        "mean": (logits, (e1 + e2) / 2, (s1 + s2) / 2),
        "both": (logits, *both_looks((e1, s1), (e2, s2))),
    }
    return {
        "set": name, "draw": draw, "count": count, "minutes": minutes, "few": len(few), "judged": len(others),
        "looks": 1 + int(model.looks_twice), "epochs": done.history[-1].epoch,
        "ways": {way: figures(*said, labels, truths) for way, said in ways.items()},
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line a set and way, means over draws."""
    heads = ["set", "taught, judged", "minutes", "draws", "way", *FIGURES.values()]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for key in sorted({(row["set"], row["count"], row["minutes"]) for row in rows}):
        chosen = [row for row in rows if (row["set"], row["count"], row["minutes"]) == key]
        for way in WAYS:
            means = [f"{np.mean([row['ways'][way][figure] for row in chosen]):.3f}" for figure in FIGURES]
            sizes = f"{chosen[0]['few']}, {chosen[0]['judged']}"
            lines.append(f"| {key[0]} | {sizes} | {key[2]:g} | {len(chosen)} | {way} | {' | '.join(means)} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SETS)
    parser.add_argument("--draws", type=lambda text: [int(k) for k in text.split(",")], default=[0])
    parser.add_argument("--few", type=int, help="boxed pictures a class")
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--calm", type=float, metavar="CORES", help="as in benchmarks.accuracy")
    parser.add_argument("--out", type=Path, default=Path("runs/looks"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {tuple(row[k] for k in ("set", "draw", "count", "minutes")) for row in rows}
    for draw in args.draws:
        for name in args.only or SETS:
            key = (name, draw, args.few or SETS[name], args.minutes)
            if key in done:
                continue
            row = calm(lambda key=key: run(*key), args.calm)
            append_row(file, row)
            rows.append(row)
            print(*key, *(f"{way} {row['ways'][way]['mean_iou']:.3f}" for way in WAYS), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
