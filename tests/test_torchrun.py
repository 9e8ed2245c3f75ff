"""Two processes with half a batch each train what one process trains with the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import onebox  # noqa: E402
from onebox.training.reporter import Silent  # noqa: E402
from tests.small_runs import TINY, TINY_FLAGS, json_lines, python  # noqa: E402

#: The two add up in another order. That alone moves gradients by 1e-5 of their size (measured), and Adam, which divides
#: each gradient by its own size, turns the rounding of the smallest ones into whole steps; at the usual rate losses
#: drift apart by 4e-3 in two epochs. Hence a small rate, at which they agree to 2e-4. A BatchNorm over half a batch,
#: gradients summed instead of averaged, or pictures seen twice are off by 1e-2 and more.
TOLERANCE = 2e-3
#: Gradients' norms and directions answer to single ReLUs that open a step earlier or later.
PULL_TOLERANCE = 2e-2
RATE = 2e-4
COMPARED = dict.fromkeys(("loss_class", "loss_box", "val_top1", "val_mean_iou", "val_joint_50"), TOLERANCE)
COMPARED |= dict.fromkeys(("grad_class", "grad_box", "grad_ratio", "grad_cosine", "box_weight"), PULL_TOLERANCE)


def rows(run: Path) -> list[dict[str, Any]]:
    return json_lines((run / "metrics.jsonl").read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "share"), [("default", 1.0), ("plain", 1.0), ("default", 0.5)])
def test_two_processes_are_one(recipe: str, share: float, tiny_set: Path, tmp_path: Path) -> None:
    """Of the two epochs the second learns the held-out pictures, too, where it begins at half of the run."""
    settings = {"recipe": recipe, "epochs": 2, "lr": RATE, "learn_all_from": share}
    alone = onebox.train(onebox.load_dataset(tiny_set), out=tmp_path / "alone", reporter=Silent(), **TINY | settings)
    flags = [*TINY_FLAGS, "--recipe", recipe, "--epochs", "2", "--lr", str(RATE), "--learn-all-from", str(share)]
    done = python(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "onebox", "train", tiny_set, "--out", tmp_path / "both", *flags),
    )
    assert done.code == 0, done.err[-4000:]
    one, two = rows(tmp_path / "alone"), rows(tmp_path / "both")
    assert len(one) == len(two) == 2
    for mine, theirs in zip(one, two, strict=True):
        assert mine["step"] == theirs["step"]
        for key, tolerance in COMPARED.items():
            if mine[key] is None:
                assert theirs[key] is None, key
            else:
                assert theirs[key] == pytest.approx(mine[key], rel=tolerance, abs=tolerance), key
    assert [row["val_mean_iou"] is None for row in two] == [False, share < 1]
    assert one[0]["loss_class"] != two[0]["loss_class"]  # two did share the work: the last digits differ
    assert "Warning" not in done.err
    assert done.err.count("Held out") == done.err.count("Best epoch") == 1  # one voice
    answers = [onebox.load(run).predict(tiny_set.parent / "001.png")[0] for run in (tmp_path / "both", alone.folder)]
    assert answers[0].box.xyxy == pytest.approx(answers[1].box.xyxy, abs=0.5)
    assert answers[0].probabilities == pytest.approx(answers[1].probabilities, abs=0.01)


@pytest.mark.slow
def test_an_error_ends_both_processes(tiny_set: Path, tiny_run: Path) -> None:
    done = python(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "onebox", "train", tiny_set, "--out", tiny_run, *TINY_FLAGS),
        timeout=120,
    )
    assert done.code != 0
    assert "onebox: " in done.err
    assert "already holds a run" in done.err
