"""What `onebox check` costs: processor time a picture, on pictures of about 256 pixels, and peak memory.

    python -m benchmarks.check

Processor time, not wall time, so that what else runs on the machine counts little. Needs the real sets beside the
checkout.
"""

from __future__ import annotations

import io
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import onebox
from benchmarks.accuracy import SHARED
from onebox.dataset import load_dataset
from onebox.doctor import check
from onebox.doctor.pictures import examine

#: Their longer side is 256 pixels, but for the last: 416.
SETS = ("pets3", "raccoon", "fruit_voc", "toys_coco", "plates_voc")
COUNTS = (500, 5000, 10_000)


def cpu(run: object) -> tuple[float, float]:
    """Processor and wall seconds of a call, all threads."""
    assert callable(run)
    started, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - started, time.perf_counter() - wall


def of_real_sets() -> list[str]:
    """Within this process: the pictures alone, by one thread and by all, and the whole check."""
    lines: list[str] = []
    for name in SETS:
        root = SHARED / "data" / name
        paths = [sample.path for sample in load_dataset(root, multiple="largest")]
        list(examine(paths))  # once unmeasured: files into the cache, decoders loaded
        n = len(paths)
        alone, one = cpu(lambda paths=paths: list(examine(paths, workers=1)))
        _, several = cpu(lambda paths=paths: list(examine(paths)))
        whole, _ = cpu(lambda root=root: check(root))
        lines.append(
            f"{name}: {n} pictures, pictures alone {alone / n * 1e3:.2f} ms, whole check {whole / n * 1e3:.2f} ms of "
            f"processor time a picture (bar: <= 4); wall time of one thread / of all {one / several:.2f}"
        )
    return lines


def drawn_set(folder: Path, n: int) -> Path:
    """`n` different pictures of 256 x 192 with boxes of two classes: smooth random colours under fine noise, which
    weigh about as much as photos."""
    rng = np.random.default_rng(0)
    rows = ["filename,class,xmin,ymin,xmax,ymax"]
    folder.mkdir()
    for i in range(n):
        colours = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        smooth = np.asarray(colours.resize((256, 192), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = np.clip(smooth + rng.integers(-9, 10, smooth.shape, dtype=np.int16), 0, 255).astype(np.uint8)
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "JPEG", quality=88)
        (folder / f"{i:05}.jpg").write_bytes(sink.getvalue())
        x, y, width, height = rng.integers(1, 90, 4)
        rows.append(f"{i:05}.jpg,{'ab'[i % 2]},{x},{y},{x + width + 20},{y + height + 10}")
    (folder / "labels.csv").write_text("\n".join([*rows, ""]))
    return folder


def of_processes(folder: Path) -> list[str]:
    """`onebox check` from start to exit: processor time and peak memory of each process."""
    lines: list[str] = []
    for n in COUNTS:
        data = drawn_set(folder / str(n), n)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", _PEAK, "check", str(data)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        peak = int(done.stderr.split()[-1]) / 1024  # kB
        lines.append(
            f"onebox check, {n} drawn pictures: {spent / n * 1e3:.2f} ms of processor time a picture, start and exit "
            f"included (bar: <= 4); peak memory {peak:.0f} MiB"
        )
    return lines


#: The high-water mark of this program alone: getrusage's begins with the memory of the process that started it.
_PEAK = """
import sys
from pathlib import Path
from onebox.cli.app import app
try:
    app()
finally:
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""


def main() -> None:
    """The command."""
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} CPU cores, onebox {onebox.__version__}\n"
    )
    for line in of_real_sets():
        print(line, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for line in of_processes(Path(folder)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
