"""Tiny data that can be learnt, tiny trainings, and the command line as a person meets it: in a process of its own, or,
where that makes no difference, in this one. Writes only below the folder it is given."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30)}

#: As small as a training gets; the same as flags and as keywords. One thread: the same sums in every process. Held-out
#: pictures stay held out: what a run is without that has tests of its own.
TINY: dict[str, Any] = {
    "backbone": "plain",
    "weights": "none",
    "imgsz": 32,
    "batch": 8,
    "epochs": 4,
    "bins": 16,
    "threads": 1,
    "seed": 3,
    "learn_all_from": 1.0,
}
TINY_FLAGS = [word for key, value in TINY.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def train_words(data: Path, out: Path, *flags: str | Path) -> list[str | Path]:
    """The command that trains with the settings TINY, without the program's name."""
    return ["train", data, "--out", out, *TINY_FLAGS, *flags]


#: A trunk that timm knows, as small as it has them.
SMALL_TRUNK = "mobilenetv3_small_050"


def as_pretrained(path: Path) -> Path:
    """Not pretrained on anything: random weights of SMALL_TRUNK, as a file that is taken for pretrained ones."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(dict(timm.create_model(SMALL_TRUNK, pretrained=False).state_dict()), path)
    return path


def coloured_set(folder: Path, count: int = 24, seed: int = 0) -> Path:
    """Pictures of 64x48 noise with one red or green rectangle each, and `labels.csv`, whose path is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        label = list(COLOURS)[i % len(COLOURS)]
        x, y, w, h = (int(v) for v in (rng.integers(0, 30), rng.integers(0, 20), rng.integers(16, 30), 24))
        image = Image.fromarray(rng.integers(60, 120, (48, 64, 3), dtype=np.uint8))
        image.paste(COLOURS[label], (x, y, x + w, y + h))
        image.save(folder / f"{i:03}.png")
        rows.append([f"{i:03}.png", label, x, y, x + w, y + h])
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["filename", "class", "xmin", "ymin", "xmax", "ymax"], *rows])
    return folder / "labels.csv"


@dataclass(frozen=True)
class Done:
    """A command that came to its end."""

    code: int
    out: str
    err: str

    def says(self, pattern: str) -> None:
        """It failed as promised: exit code 1 and, after any notes, one line that begins with `onebox:` and matches."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert self.code == 1, self.err
        assert "Traceback" not in self.err + self.out, self.err
        assert [line for line in lines if line.startswith("onebox:")] == lines[-1:], self.err
        assert re.search(pattern, lines[-1]), lines[-1]


def environment(**more: str) -> dict[str, str]:
    """The environment for a child process: this checkout, one quiet core."""
    return os.environ | {"PYTHONPATH": str(ROOT), "GOMP_SPINCOUNT": "1000", "OMP_NUM_THREADS": "1"} | more


def shell(*words: str | os.PathLike[str] | bytes, timeout: float = 300, **more: str) -> Done:
    """`onebox WORDS...` in a process of its own; `more` are environment variables."""
    return python("-m", "onebox", *words, timeout=timeout, **more)


def python(*words: str | os.PathLike[str] | bytes, timeout: float = 300, cwd: Path | None = None, **more: str) -> Done:
    """`python WORDS...` in a process of its own, in the folder `cwd`."""
    command = [sys.executable, *words]
    done = subprocess.run(command, env=environment(**more), cwd=cwd, capture_output=True, timeout=timeout)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def here(*words: str | os.PathLike[str]) -> Done:
    """`onebox WORDS...` by the same `main`, in this process."""
    from onebox.cli import main

    out, err = io.StringIO(), io.StringIO()
    argv = ["onebox", *(os.fspath(word) for word in words)]
    with patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Done(code, out.getvalue(), err.getvalue())


def json_lines(text: str) -> list[dict[str, Any]]:
    """One JSON value per line."""
    return [json.loads(line) for line in text.splitlines()]


@contextlib.contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """No file below `folder` is changed, removed or added during the block."""
    before = _hashes(folder)
    yield
    assert _hashes(folder) == before


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


#: `python -c BLOCKED ...` runs the rest as `python ...` would where the [train] extra is not installed.
BLOCKED = """
import importlib.machinery, runpy, sys
missing = {"torch", "torchvision", "timm", "accelerate", "onnx", "onnxscript", "safetensors", "matplotlib"}
found = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in missing else found(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
sys.argv = sys.argv[1:]
if sys.argv[0] == "-m":
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
