"""A run killed with SIGKILL in mid-epoch and then resumed is the run that was never interrupted, bit for bit."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
from onnx import numpy_helper  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import onebox  # noqa: E402
from onebox.training.reporter import Silent  # noqa: E402
from tests.small_runs import TINY, TINY_FLAGS, coloured_set, environment, json_lines, python, shell  # noqa: E402

#: Trains like `tiny_run`, and kills itself without a word at the step given; and each epoch's state is saved, however
#: long saving takes.
KILLED = """
import contextlib, json, os, signal, sys
import onebox
from onebox.training import driving
from onebox.training.reporter import Silent
driving.SAVING_SHARE = float("inf")
data, out, at, settings = sys.argv[1:]

class Killer(Silent):
    @contextlib.contextmanager
    def bar(self, title):
        def tell(done, total):
            if title == "training" and done == int(at):
                os.kill(os.getpid(), signal.SIGKILL)
        yield tell

onebox.train(onebox.load_dataset(data), out=out, reporter=Killer(), **json.loads(settings))
"""


def kill_at(step: int, data: Path, out: Path, settings: dict[str, Any]) -> None:
    words = [sys.executable, "-c", KILLED, str(data), str(out), str(step), json.dumps(settings)]
    done = subprocess.run(words, env=environment(), capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def same_tensors(a: Path, b: Path) -> None:
    one, other = load_file(a), load_file(b)
    assert one.keys() == other.keys()
    different = [key for key in one if not torch.equal(one[key], other[key])]
    assert different == []


def same_run(a: Path, b: Path) -> None:
    """Weights, averages, optimizer, exported model and log, apart from what the clock says."""
    same_tensors(a / "best.safetensors", b / "best.safetensors")
    same_tensors(a / "last.safetensors", b / "last.safetensors")
    graphs = [onnx.load(str(run / "model.onnx")).graph for run in (a, b)]
    constants = [{t.name: numpy_helper.to_array(t).tobytes() for t in graph.initializer} for graph in graphs]
    assert constants[0] == constants[1]
    assert sum(map(len, constants[0].values())) > 1_000_000
    clock = {"seconds", "images_per_second"}
    logs = [json_lines((run / "metrics.jsonl").read_text("utf-8")) for run in (a, b)]
    assert [{k: row[k] for k in row.keys() - clock} for row in logs[0]] == [
        {k: row[k] for k in row.keys() - clock} for row in logs[1]
    ]


@pytest.mark.slow
def test_killed_and_resumed_is_never_interrupted(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    """Twelve steps in four epochs; killed at a random one of the second or third epoch, by the command line resumed."""
    step = random.randint(4, 9)
    print(f"killed at step {step}")
    out = tmp_path / "run"
    kill_at(step, tiny_set, out, TINY)
    saved = json_lines((out / "metrics.jsonl").read_text("utf-8"))
    assert len(saved) == (step - 1) // 3  # whole epochs only
    assert not (out / "model.onnx").exists()
    done = shell("train", tiny_set, "--out", out, *TINY_FLAGS, "--resume")
    assert done.code == 0, done.err
    assert f"Resuming after epoch {len(saved)}." in done.err
    same_run(out, tiny_run)


@pytest.mark.slow
def test_the_plain_recipe_resumes_too(tiny_set: Path, tmp_path: Path) -> None:
    """Without averaging, network and average are one and the same."""
    settings = TINY | {"recipe": "plain", "epochs": 2}
    data = onebox.load_dataset(tiny_set)
    onebox.train(data, out=tmp_path / "whole", reporter=Silent(), **settings)
    kill_at(5, tiny_set, tmp_path / "cut", settings)
    onebox.train(data, out=tmp_path / "cut", resume=True, reporter=Silent(), **settings)
    same_run(tmp_path / "cut", tmp_path / "whole")


def test_killed_before_anything_was_saved(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    kill_at(1, tiny_set, out, TINY)
    assert sorted(p.name for p in out.iterdir()) == ["config.json"]
    onebox.train(onebox.load_dataset(tiny_set), out=out, resume=True, reporter=Silent(), **TINY)
    same_run(out, tiny_run)


def test_resuming_a_finished_run_changes_nothing(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    import shutil

    out = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    run = onebox.train(onebox.load_dataset(tiny_set), out=out, resume=True, reporter=Silent(), **TINY)
    assert [row.epoch for row in run.history] == [1, 2, 3, 4]
    same_run(out, tiny_run)


def test_a_killed_run_can_be_exported_as_it_stands(tiny_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    kill_at(5, tiny_set, out, TINY)
    done = shell("export", out)
    assert done.code == 0, done.err
    assert "torch and ONNX Runtime differ by at most" in done.out
    assert onebox.load(out).predict(tiny_set.parent / "000.png")[0].label in {"red", "green"}


def test_stopping_by_hand_says_how_to_go_on(tmp_path: Path) -> None:
    data = coloured_set(tmp_path / "set")
    flags = [*TINY_FLAGS, "--epochs", "100000"]
    words = [sys.executable, "-m", "onebox", "train", str(data), "--out", str(tmp_path / "run"), *flags]
    # a new session: the interrupt must reach it even where the tests themselves run in the background
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    words[1:3] = ["-c", f"{code} sys.argv[0] = 'onebox'; from onebox.cli import main; main()"]
    with subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while not (tmp_path / "run" / "last.safetensors").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert err.decode().splitlines()[-1].startswith("onebox: stopped; the same command with --resume goes on")
    assert "Traceback" not in err.decode()
    assert list((tmp_path / "run").glob("*.part")) == []


def test_no_unfinished_file_is_taken_for_a_checkpoint(tiny_run: Path) -> None:
    """Saving writes under another name first; what is left of that after a kill is not one of the run's files."""
    from onebox.training.run_folder import RUN_FILES

    assert not any(name.endswith(".part") for name in RUN_FILES)
    assert list(tiny_run.glob(".*")) == []
    assert python("-c", "import onebox.files").code == 0
