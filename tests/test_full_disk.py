"""A disk that is full: the command says so in one line, and what was there is still there and whole."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from onebox.files import atomic_path, write_atomic
from tests.small_runs import here, python, train_words, untouched
from tests.small_sets import text

#: Runs the command with files limited to so many bytes: writing beyond that fails as on a full disk.
LIMITED = """
import resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.argv = ["onebox", *sys.argv[2:]]
from onebox.cli import main
main()
"""


@pytest.mark.parametrize(
    ("share", "what"), [(0.9, "last.safetensors"), (0.6, "last.safetensors"), (0.00001, "config.json")]
)
def test_a_full_disk_while_training(share: float, what: str, tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    """Full at different moments of the run; one line, and nothing half-written is left."""
    assert resource.RLIMIT_FSIZE
    limit = int((tiny_run / "last.safetensors").stat().st_size * share)
    done = python("-c", LIMITED, str(limit), *train_words(tiny_set, tmp_path / "run"))
    done.says(rf"{what}: the disk is full; nothing that was there before has been changed.*--resume")
    assert {p.name for p in (tmp_path / "run").iterdir()} <= {"config.json", "metrics.jsonl"}


def test_a_full_disk_spares_the_last_checkpoint(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    """A killed run is resumed on a disk that has become full: its checkpoint stays, and later it goes on from there."""
    from tests.small_runs import TINY
    from tests.test_resume import kill_at, same_run

    run = tmp_path / "run"
    kill_at(5, tiny_set, run, TINY)
    limit = (run / "last.safetensors").stat().st_size // 2
    with untouched(run):
        before = (run / "last.safetensors").read_bytes()
        done = python("-c", LIMITED, str(limit), *train_words(tiny_set, run, "--resume"))
        done.says("last.safetensors: the disk is full")
        (run / "metrics.jsonl").write_bytes(b"".join((run / "metrics.jsonl").read_bytes().splitlines(True)[:1]))
        assert (run / "last.safetensors").read_bytes() == before
    assert here(*train_words(tiny_set, run, "--resume")).code == 0
    same_run(run, tiny_run)


def test_a_full_disk_while_exporting(tiny_run: Path, tmp_path: Path) -> None:
    size = (tiny_run / "model.onnx").stat().st_size
    done = python("-c", LIMITED, str(size // 2), "export", tiny_run, "--out", tmp_path / "model.onnx")
    done.says("model.onnx: the disk is full")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_predicting(tiny_run: Path, tiny_set: Path, tmp_path: Path) -> None:
    text(tmp_path / "out.jsonl", "from before\n")
    with untouched(tmp_path):
        words = ["predict", tiny_run, tiny_set.parent, "--json", tmp_path / "out.jsonl"]
        done = python("-c", LIMITED, "2000", *words)
        done.says("out.jsonl: the disk is full")


def test_a_file_is_replaced_in_one_piece(tmp_path: Path) -> None:
    """Who has the old file open keeps the whole old file: it is never written into, so no kill can leave half of it."""
    path = text(tmp_path / "model.onnx", "the old model")
    with path.open() as held:
        write_atomic(path, "the new model, which is longer")
        assert held.read() == "the old model"
    assert path.read_text() == "the new model, which is longer"

    def broken() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert path.read_text() == "the new model, which is longer"
    assert list(tmp_path.iterdir()) == [path]
