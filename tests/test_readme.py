"""The README is run, not read: its shell lines and its Python lines, as they stand, on a small set named as there. Also
the docs that are made from the code, and claims that would be easy to break."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onebox.demo_data import write_demo_data
from onebox.training.config import settings_table
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text("utf-8")
TRUNK = "tf_mobilenetv3_small_100"


@pytest.fixture
def place(tmp_path: Path, real_weights: Path) -> Path:
    """A folder with what the README speaks of: birds/, more-birds/, photos/, robin.jpg; and, in a cache of the hub's
    own layout, the weights that timm would download."""
    data = write_demo_data(tmp_path / "drawn", count=80, seed=5)
    (data / "test.csv").unlink()
    (data / "train.csv").rename(data / "labels.csv")
    shutil.copytree(data, tmp_path / "more-birds")
    data.rename(tmp_path / "birds")
    (tmp_path / "photos").mkdir()
    shutil.copy(tmp_path / "birds/images/00003.jpg", tmp_path / "photos/one.jpg")
    shutil.copy(tmp_path / "birds/images/00004.jpg", tmp_path / "robin.jpg")
    snapshot = tmp_path / f"hub/hub/models--timm--{TRUNK}.in1k"
    (snapshot / "refs").mkdir(parents=True)
    (snapshot / "snapshots/local").mkdir(parents=True)
    (snapshot / "refs/main").write_text("local")
    (snapshot / "snapshots/local/model.safetensors").symlink_to(real_weights / f"{TRUNK}.safetensors")
    return tmp_path


def block(language: str, must_hold: str) -> str:
    """The one fenced block of that language with that text in it."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    (found,) = [b for b in blocks if must_hold in b]
    return found


def run(command: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "HF_HOME": str(place / "hub"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
        "GOMP_SPINCOUNT": "1000",
    }
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow
@pytest.mark.real
def test_every_shell_line_of_the_readme_runs(place: Path) -> None:
    lines = [shlex.split(line, comments=True) for line in block("sh", "onebox check").splitlines()]
    assert len(lines) == 6
    for words in lines:
        assert words[0] == "onebox"
        # two short passes instead of the full training: what is tested is that the line works as written
        short = ["--epochs", "2"] if words[1] == "train" else []
        run([sys.executable, "-m", "onebox", *words[1:], *short], place)
    assert (place / "runs/birds/model.onnx").is_file()
    assert (place / "runs/birds/report.html").is_file()
    assert (place / "score.json").is_file()
    assert (place / "drawn/robin.jpg").is_file()
    assert len((place / "answers.csv").read_text().splitlines()) == 2


@pytest.mark.slow
@pytest.mark.real
def test_the_python_lines_of_the_readme_run(place: Path) -> None:
    code = block("python", "import onebox")
    assert len([line for line in code.splitlines() if line]) == 5
    shortened = code.replace('out="runs/birds")', 'out="runs/birds", epochs=2)')
    assert shortened != code
    done = run([sys.executable, "-c", shortened], place)
    assert re.fullmatch(r"\w+ 0\.\d+ \(.*\)", done.stdout.strip().splitlines()[-1])


def test_what_the_readme_shows_is_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_the_table_of_settings_is_the_one_of_the_code() -> None:
    assert settings_table() in (ROOT / "docs/training.md").read_text("utf-8"), (
        "docs/training.md is behind TrainConfig: put the output of settings_table() there"
    )


def test_the_versions_pinned_are_within_the_ranges_stated() -> None:
    from packaging.requirements import Requirement

    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
    )
    normal = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    stated = re.findall(r'^\s+"([A-Za-z][\w.-]*>=[^"]+)",$', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert len(stated) > 15
    for text in stated:
        requirement = Requirement(text)
        assert normal[re.sub(r"[-_.]+", "-", requirement.name).lower()] in requirement.specifier, text
