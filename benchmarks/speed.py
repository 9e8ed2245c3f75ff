"""How fast it is, as ratios within one run: training against a bare forward and backward, one photo to its answer
against the bare sum of its parts, and whole processes against a bare Python start.

    python -m benchmarks.speed

Needs the real sets and weights beside the checkout. Every figure is a median of alternating repetitions.
"""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import onebox
from benchmarks.accuracy import SHARED, TRUNK
from onebox.dataset import load_dataset
from onebox.training import api
from onebox.training.config import IMGSZ, make_config

WEIGHTS = str(SHARED / "weights" / f"{TRUNK}.safetensors")
#: Epochs of the real loop, the first of which does not count, and steps of the bare network beside each: as many as
#: tiny_vid's 750 pictures give an epoch.
EPOCHS, BARE_STEPS = 9, 24


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def alternate(*runs: Callable[[], object], times: int) -> list[float]:
    """Median seconds of each, taken in turn, after one round that does not count."""
    taken = [[timed(run) for run in runs] for _ in range(times + 1)][1:]
    return np.median(np.array(taken), axis=0).tolist()


def training_speed() -> str:
    """Images/s of the real loop (augmentation, optimizer, average, gradient log) against the bare network."""
    import torch
    from accelerate import Accelerator

    from onebox.training.cache import build_cache
    from onebox.training.loop import train_epochs
    from onebox.training.losses import criterion

    data = load_dataset(SHARED / "data/tiny_vid/train.csv")
    wanted = make_config(backbone=TRUNK, weights=WEIGHTS, epochs=EPOCHS, trunk_lr=0.25, patience=0, imgsz=IMGSZ)
    config = api.resolve(wanted, len(data))
    torch.set_flush_denormal(True)
    cache = build_cache(data, data.class_names, config.side)
    session = api.start_session(config, data.class_names, Accelerator())
    epochs = train_epochs(session, cache, None)
    x = torch.rand(config.batch, 3, config.side, config.side).mul(255).contiguous(memory_format=torch.channels_last)
    y = torch.tensor([[0.2, 0.2, 0.8, 0.8]]).expand(config.batch, 4)
    labels = torch.zeros(config.batch, dtype=torch.int64)

    def bare() -> None:
        session.network.train()
        for _ in range(BARE_STEPS):
            out = session.network(x)
            losses = criterion(out.logits, out.box, labels, y, box_loss=config.box_loss, label_smoothing=0.1)
            session.network.zero_grad()
            (losses.class_loss + losses.box_loss).backward()

    ours, bares = [], []
    for _ in range(EPOCHS):
        ours.append(next(epochs).images_per_second)
        bares.append(BARE_STEPS * config.batch / timed(bare))
    a, b = float(np.median(ours[1:])), float(np.median(bares[1:]))
    return f"training: {a:.0f} images/s, bare forward and backward {b:.0f} images/s, ratio {a / b:.2f} (bar: >= .80)"


def answer_speed(model: Path) -> list[str]:
    """JPEG bytes to Prediction against decode + resize + session.run, one picture at a time."""
    import onnxruntime as ort

    localizer = onebox.load(model)
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    imgsz = localizer.manifest.imgsz
    small = (SHARED / "data/caltech22_mat/airplanes/image_0001.jpg").read_bytes()
    large = io.BytesIO()
    Image.open(io.BytesIO(small)).resize((4000, 3000)).save(large, "JPEG", quality=88)
    lines = []
    for name, data in (("a small photo", small), ("a 12-megapixel photo", large.getvalue())):

        def bare(data: bytes = data) -> None:
            image = Image.open(io.BytesIO(data))
            image.draft("RGB", (imgsz, imgsz))
            pixels = image.convert("RGB").resize((imgsz, imgsz), Image.Resampling.BILINEAR, reducing_gap=3.0)
            session.run(None, {"pictures": np.asarray(pixels)[None]})

        ours, base = alternate(lambda data=data: localizer.predict(data), bare, times=200 if name[2] == "s" else 40)
        lines.append(
            f"photo to answer, {name}: {ours * 1e3:.2f} ms, bare sum {base * 1e3:.2f} ms, "
            f"ratio {ours / base:.2f} (bar: <= 1.3)"
        )
    return lines


def process_speed(model: Path) -> list[str]:
    """Whole processes, from start to exit."""
    picture = SHARED / "data/caltech22_mat/airplanes/image_0001.jpg"

    def process(*args: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *args], check=True, capture_output=True)

    python, libraries, imported, helped, predicted = alternate(
        process("-c", "pass"),
        process("-c", "import onnxruntime, numpy, PIL.Image"),
        process("-c", "import onebox"),
        process("-m", "onebox", "--help"),
        process("-m", "onebox", "predict", str(model), str(picture)),
        times=9,
    )
    return [
        f"bare Python start {python:.3f} s; with onnxruntime, numpy and Pillow {libraries:.3f} s",
        f"import onebox: {imported - python:.3f} s beyond bare Python (bar: <= .25)",
        f"onebox --help: {helped - python:.3f} s beyond bare Python (bar: <= .35)",
        f"cold start, onebox predict model.onnx one.jpg: {predicted:.3f} s (bar: <= .5)",
    ]


def main() -> None:
    """The command."""
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} CPU cores, onebox {onebox.__version__}\n"
    )
    print(training_speed(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data = load_dataset(SHARED / "data/tiny_vid/train.csv")
        run = onebox.train(data, out=Path(folder) / "run", backbone=TRUNK, weights=WEIGHTS, epochs=1)
        for line in [*answer_speed(run.model), *process_speed(run.model)]:
            print(line, flush=True)


if __name__ == "__main__":
    main()
