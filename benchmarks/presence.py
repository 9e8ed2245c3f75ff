"""Does a model know when none of its objects is in the picture? Trained on one set without any extra labels, judged on
that set's test pictures against object-free crops of them and against pictures of the other sets.

    python -m benchmarks.presence [--only pets3] [--method default] [--minutes 1] [--seed 0] [--out runs/presence]

A run that is in OUT already is judged again, not trained again. Pictures are negatives of a model by the kind of thing
they show: a set's pictures whose kind the model was trained on (KINDS) are left out. Prints Markdown: the area under
the ROC curve of every score (0.5 is chance), and the share of negatives accepted where 95 % of the test pictures are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np

import onebox
from benchmarks.accuracy import SHARED, TRUNK
from onebox.boxes import Floats, to_01
from onebox.calibration import FEATURES, Presence, auroc, false_accept_at, presence_features
from onebox.dataset import Dataset, load_dataset
from onebox.images import ImageSource, Pixels, load_pixels, open_image
from onebox.runtime import OnnxLocalizer
from onebox.training.checkpoint import load_best
from onebox.training.config import make_config
from onebox.training.export import export_onnx
from onebox.training.model import build_network
from onebox.types import Sample

SETS = ("pets3", "tiny_vid", "caltech22_mat")
OTHERS = (
    *SETS, "asl_yolo", "caltech3_csv", "fruit_voc", "neu_det", "pets37", "plates_voc", "raccoon", "tiny_imagenet20",
    "toys_coco", "vegetables3/training_images",
)  # fmt: skip
#: What a class shows, where its name does not say it. The pets37 are cats where the breed is one of CATS, else dogs.
KINDS = {
    "american_bulldog": "dog", "Chihuahua": "dog", "Egyptian cat": "cat", "Abyssinian": "cat", "Bengal": "cat",
    "airplane": "airplanes", "car_side": "car", "licence": "car", "flamingo": "bird", "emu": "bird",
}  # fmt: skip
CATS = {
    "Abyssinian", "Bengal", "Birman", "Bombay", "British_Shorthair", "Egyptian_Mau", "Maine_Coon", "Persian", "Ragdoll",
    "Russian_Blue", "Siamese", "Sphynx",
}  # fmt: skip
#: Pictures taken of each other set, and the least number that makes a pair.
TAKEN, LEAST = 150, 20
#: Sides of a crop, as shares of the picture's; and its longer side over its shorter at most.
LEAST_SIDE, LONGEST = 0.12, 4.0
CROPS = "its own crops"


def kind_of(set_name: str, label: str) -> str:
    """What a picture of this set and class shows."""
    if set_name == "pets37":
        return "cat" if label in CATS else "dog"
    return KINDS.get(label, label)


def negatives_of(name: str, set_name: str) -> list[str]:
    """Pictures of the set `name` that show nothing a model of `set_name` knows."""
    known = {kind_of(set_name, label) for label in load_dataset(SHARED / "data" / set_name / "train.csv").class_names}
    data = load_dataset(SHARED / "data" / name, multiple="largest").labelled
    paths = [s.path for s in data if kind_of(name, str(s.label)) not in known]
    order = np.random.default_rng(1).permutation(len(paths))[:TAKEN]
    return [paths[i] for i in sorted(order)] if len(paths) >= LEAST else []


def crop_beside(sample: Sample, imgsz: int, rng: np.random.Generator) -> Pixels | None:
    """The picture seen through a window that does not touch its box, as large as there is room for on a random side;
    None where every side leaves less than LEAST_SIDE. Cut from the original, not from what training caches."""
    assert sample.box is not None
    width, height = sample.image_size
    box = to_01(np.array([sample.box.xyxy]), np.array([[width, height]], dtype=float))[0]
    rooms = [box[0], box[1], 1 - box[2], 1 - box[3]]
    sides = [i for i in range(4) if rooms[i] >= LEAST_SIDE]
    if not sides:
        return None
    side = int(rng.choice(sides))
    depth = rooms[side]
    length = float(np.clip(depth * rng.uniform(0.5, LONGEST), LEAST_SIDE, 1.0))
    across = 0.0 if side < 2 else 1 - depth
    along = rng.uniform(0, 1 - length)
    low = (across, along) if side % 2 == 0 else (along, across)
    size = (depth, length) if side % 2 == 0 else (length, depth)
    image, _ = open_image(sample.path)
    left, top = int(np.ceil(low[0] * width)), int(np.ceil(low[1] * height))
    right, bottom = int((low[0] + size[0]) * width), int((low[1] + size[1]) * height)
    return load_pixels(image.crop((left, top, max(right, left + 1), max(bottom, top + 1))), imgsz)[0]


def features_of(model: OnnxLocalizer, pictures: Sequence[Pixels | str]) -> Floats:
    """The raw scores (N, 4) of pictures, read where they are paths."""
    imgsz, found = model.manifest.imgsz, []
    for start in range(0, len(pictures), 32):
        part = pictures[start : start + 32]
        out = model.run(np.stack([p if isinstance(p, np.ndarray) else load_pixels(p, imgsz)[0] for p in part]))
        found.append(presence_features(out["logits"], out["sigmas_01"], out.get("presence_logits")))
    return np.concatenate(found)


def run_folder(set_name: str, args: argparse.Namespace) -> Path:
    """Where the run of a set lies."""
    return args.out / f"{set_name}-{args.method}-{args.seed}"


def without_presence(folder: Path, out: Path) -> OnnxLocalizer:
    """The same run's model as the loop left it: its weights without those of the presence head, exported again."""
    weights, manifest = load_best(folder / "best.safetensors")
    config = make_config(**json.loads((folder / "config.json").read_text("utf-8"))["config"])
    network = build_network(config, len(manifest.class_names), load_weights=False)
    network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("presence_head.")})
    bare = replace(manifest, calibration={})
    pictures: list[ImageSource] = [np.full((64, 64, 3), v, dtype=np.uint8) for v in (0, 90, 255)]
    export_onnx(network, bare, out / "without-presence.onnx", pictures)
    return onebox.load(out / "without-presence.onnx")


def trained(set_name: str, args: argparse.Namespace) -> OnnxLocalizer:
    """The model of `set_name`, trained now unless it is there."""
    folder = run_folder(set_name, args)
    if not (folder / "model.onnx").is_file():
        weights = str(SHARED / "weights" / f"{TRUNK}.safetensors")
        data = load_dataset(SHARED / "data" / set_name / "train.csv")
        onebox.train(
            data, out=folder, overwrite=True, recipe=args.method, backbone=TRUNK, weights=weights, minutes=args.minutes,
            seed=args.seed,
        )  # fmt: skip
        (folder / "last.safetensors").unlink(missing_ok=True)
    return onebox.load(folder)


def judge(set_name: str, model: OnnxLocalizer, test: Dataset) -> tuple[list[str], dict[str, Floats]]:
    """Markdown lines, one for each score, and per score (crops, mean of others, false accepts of both)."""
    rng = np.random.default_rng(0)
    present = features_of(model, [s.path for s in test])
    crops = [c for s in test if (c := crop_beside(s, model.manifest.imgsz, rng)) is not None]
    absent = {CROPS: features_of(model, crops)}
    for other in OTHERS:
        paths = negatives_of(other, set_name) if other != set_name else []
        if paths:
            absent[other.split("/")[0]] = features_of(model, paths)
    saved = model.manifest.calibration.get("presence")
    scores: dict[str, Callable[[Floats], Floats]] = {}
    for i, name in enumerate(FEATURES):
        scores[name] = itemgetter((slice(None), i))
    if saved is not None:
        scores["`presence`"] = Presence.from_dict(saved).probability
    names = [name for name in absent if name != CROPS]
    print(f"\n{set_name}: {len(present)} test pictures, {len(crops)} crops; " + ", ".join(names))
    lines, kept = [], {}
    for score, of in scores.items():
        inside = of(present)
        if not np.isfinite(inside).all():
            continue
        areas = {name: auroc(inside, of(x)) for name, x in absent.items()}
        accepts = {name: false_accept_at(inside, of(x), 0.95) for name, x in absent.items()}
        figures = [
            areas[CROPS],
            np.mean([areas[n] for n in names]),
            accepts[CROPS],
            np.mean([accepts[n] for n in names]),
        ]
        kept[score] = np.array(figures)
        pairs = " ".join(f"{areas[n]:.2f}" for n in names)
        lines.append(f"| {set_name} | {score} | " + " | ".join(f"{v:.3f}" for v in figures) + f" | {pairs} |")
    return lines, kept


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SETS, action="append")
    parser.add_argument("--method", choices=("default", "plain"), default="default")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/presence"))
    args = parser.parse_args()
    lines: list[str] = []
    kept: list[dict[str, Floats]] = []
    accuracy: list[str] = []
    for set_name in args.only or SETS:
        model = trained(set_name, args)
        test = load_dataset(SHARED / "data" / set_name / "test.csv").labelled
        some, figures = judge(set_name, model, test)
        lines += some
        kept.append(figures)
        metrics = onebox.evaluate(model, test)
        folder = run_folder(set_name, args)
        minutes = json.loads((folder / "config.json").read_text("utf-8"))["config"]["minutes"]
        before = onebox.evaluate(without_presence(folder, args.out), test)
        gap = max(abs(metrics.top1 - before.top1), abs(metrics.mean_iou - before.mean_iou))
        accuracy.append(f"| {set_name} | {minutes} | {metrics.top1:.3f} | {metrics.mean_iou:.3f} | {gap:g} |")
    print(
        f"\n{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} CPU cores, onebox {onebox.__version__},"
        f" recipe {args.method}\n"
    )
    print("| set | score | AUROC crops | AUROC others | accepted crops | accepted others | each other set |")
    print("|---" * 7 + "|")
    print("\n".join(lines))
    for score in kept[0]:
        means = np.mean([k[score] for k in kept if score in k], axis=0)
        print(f"| mean | {score} | " + " | ".join(f"{v:.3f}" for v in means) + " | |")
    print("\n| set | minutes | top-1 | mean IoU | largest difference without presence |\n" + "|---" * 5 + "|")
    print("\n".join(accuracy))


if __name__ == "__main__":
    main()
