"""Which labels and boxes are suspected: formulas worked by hand, simulations with a known truth, and the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score

from onebox.calibration import tempered
from onebox.dataset import Dataset, load_dataset
from onebox.doctor import check
from onebox.doctor.findings import Checkup, Finding, in_order
from onebox.doctor.suspects import (
    _CONTRADICTION,
    _FLOOR,
    BOX,
    LABEL,
    LISTED,
    Suspect,
    _boxes_of,
    box_scores,
    find_suspects,
    how_competent,
    label_doubts,
    surprise,
    with_suspects,
)
from onebox.predictions import Prediction
from onebox.training.fold_store import FILE
from onebox.training.folds import FOLDS, read_config
from onebox.types import Box, ImageSize, Sample
from tests.small_runs import here, untouched

SIZE = ImageSize(100, 100)
NAMES = ("cat", "dog")


def sample(number: int, label: str, corners: tuple[float, float, float, float]) -> Sample:
    return Sample(f"set/{number:03}.png", SIZE, label, Box(*corners, image_size=SIZE), f"set/a.csv:{number + 2}")


def answer(label: str, score: float, corners: tuple[float, float, float, float], sigma: float = 2.0) -> Prediction:
    probabilities = np.array([score if name == label else 1 - score for name in NAMES])
    return Prediction(label, score, probabilities, NAMES, Box(*corners, image_size=SIZE), (sigma,) * 4)


def dataset(samples: list[Sample]) -> Dataset:
    return Dataset(tuple(samples), NAMES, "csv", "set")


def ordinary(count: int, seed: int = 0) -> tuple[list[Sample], list[Prediction]]:
    """Right labels, and boxes that a model of 2 px standard deviation per edge answers."""
    rng = np.random.default_rng(seed)
    samples, answers = [], []
    for i in range(count):
        x, y = rng.uniform(5, 40, 2)
        truth = np.array([x, y, x + 40, y + 40])
        samples.append(sample(i, NAMES[i % 2], tuple(truth)))
        answers.append(answer(NAMES[i % 2], 0.95, tuple(truth + rng.normal(0, 2, 4))))
    return samples, answers


def test_the_box_score_by_hand() -> None:
    said = np.array([[0.2, 0.2, 0.6, 0.6]])
    unknown = np.full((1, 4), np.nan)
    # both edges 0.1 to the right of a box 0.4 wide; each is known to _FLOOR * 0.4, their sum to sqrt 2 times that
    moved = said + np.array([[0.1, 0, 0.1, 0]])
    assert box_scores(moved, said, unknown)[0] == pytest.approx(0.2 / (np.sqrt(2) * _FLOOR * 0.4))
    # one edge 0.1 further out: the box is 0.5 wide; place and size err alike, and the place counts
    longer = said + np.array([[0, 0, 0.1, 0]])
    assert box_scores(longer, said, unknown)[0] == pytest.approx(0.1 / (np.sqrt(2) * _FLOOR * 0.5))
    # grown by 0.05 on either side: no error of place, and two thirds of that of size
    grown = said + np.array([[-0.05, 0, 0.05, 0]])
    assert box_scores(grown, said, unknown)[0] == pytest.approx(2 / 3 * 0.1 / (np.sqrt(2) * _FLOOR * 0.5))
    assert box_scores(said, said, unknown).tolist() == [0.0]


def test_sigmas_are_brought_to_the_true_scale_of_the_set() -> None:
    rng = np.random.default_rng(0)
    said = np.tile([0.2, 0.2, 0.6, 0.6], (400, 1))
    true_sigmas = rng.uniform(0.02, 0.2, (400, 4))
    boxes = said + rng.normal(0, 1, (400, 4)) * true_sigmas
    for factor in (0.1, 1.0, 5.0):  # a model that is too sure of itself, or too modest, is judged by its errors
        assert np.allclose(box_scores(boxes, said, factor * true_sigmas), box_scores(boxes, said, true_sigmas))
    sure, unsure = true_sigmas.mean(1) < 0.08, true_sigmas.mean(1) > 0.14
    alone = np.abs(boxes - said).sum(axis=1)
    scores = box_scores(boxes, said, true_sigmas)
    # an error counts for less where the model said that it does not know
    assert scores[unsure].mean() / scores[sure].mean() < 0.8 * alone[unsure].mean() / alone[sure].mean()


@given(arrays(np.float64, (12, 4), elements=strategies.floats(0.0, 1.0)))
def test_the_box_score_does_not_depend_on_left_and_right(numbers: np.ndarray) -> None:
    low, high = np.minimum(numbers[:, :2], numbers[:, 2:]), np.maximum(numbers[:, :2], numbers[:, 2:])
    boxes = np.hstack([low, high])
    said, sigmas = np.roll(boxes, 1, axis=0), np.full((12, 4), 0.1)

    def mirrored(these: np.ndarray) -> np.ndarray:
        return np.stack([1 - these[:, 2], these[:, 1], 1 - these[:, 0], these[:, 3]], axis=1)

    scores = box_scores(boxes, said, sigmas)
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores, box_scores(mirrored(boxes), mirrored(said), sigmas), atol=1e-9)


def simulated(wrong_share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of a calibrated classifier of 5 classes, labels of which a share was swapped, and which."""
    rng = np.random.default_rng(seed)
    probabilities = tempered(rng.normal(0, 4, (3000, 5)), 1.0)
    truth = (probabilities.cumsum(axis=1) > rng.random((3000, 1))).argmax(axis=1)
    wrong = rng.random(3000) < wrong_share
    labels = np.where(wrong, (truth + rng.integers(1, 5, 3000)) % 5, truth)
    return probabilities, labels, wrong


def test_doubted_labels_are_the_swapped_ones_about_as_often_as_said() -> None:
    probabilities, labels, wrong = simulated(0.1)
    doubts = label_doubts(probabilities, labels)
    random = average_precision_score(wrong, np.random.default_rng(1).random(len(wrong)))
    assert average_precision_score(wrong, doubts) > 4 * random
    for low, high in ((0.0, 0.05), (0.05, 0.5), (0.5, 0.8), (0.8, 1.0)):
        chosen = (doubts >= low) & (doubts < high)
        assert chosen.sum() > 50
        # four standard errors, and as much again: the rate of mistakes is itself estimated
        slack = 4 * np.sqrt(0.25 / chosen.sum()) + 0.1
        assert abs(wrong[chosen].mean() - doubts[chosen].mean()) < slack, (low, high)


def test_a_doubted_label_is_one_that_another_class_outweighs() -> None:
    # the rate of mistakes is the same for all, so the order is that of given label over best other class
    probabilities, labels, _ = simulated(0.1)
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -1
    ratio = others.max(axis=1) / probabilities[rows, labels]
    doubts = label_doubts(probabilities, labels)
    steps = np.diff(doubts[np.argsort(ratio)])
    assert steps.min() > -1e-6
    # no mistakes, no doubts: the likelihood says that nothing was replaced
    truth = probabilities.argmax(axis=1)
    assert label_doubts(probabilities, truth).max() < 0.05


def test_nothing_to_tell_apart_is_nothing_to_doubt() -> None:
    assert label_doubts(np.ones((40, 1)), np.zeros(40, dtype=int)).tolist() == [0.0] * 40
    assert label_doubts(np.full((4, 2), 0.5), np.zeros(4, dtype=int)).tolist() == [0.0] * 4
    assert surprise(np.arange(9.0)).tolist() == [0.0] * 9


def test_few_of_the_usual_are_surprising_and_most_of_the_unusual_are() -> None:
    rng = np.random.default_rng(0)
    usual = np.hypot(*rng.normal(0, 1, (2, 950)))
    assert (surprise(usual) >= LISTED).mean() < 0.01
    scores = np.concatenate([usual, rng.uniform(6, 12, 50)])
    doubts = surprise(scores)
    assert (doubts[950:] >= LISTED).mean() > 0.9
    found = doubts >= LISTED
    assert (np.nonzero(found)[0] < 950).mean() < 1 - LISTED


@given(arrays(np.float64, strategies.integers(10, 60), elements=strategies.floats(0, 1e6)))
def test_surprise_never_falls_where_the_score_rises(scores: np.ndarray) -> None:
    doubts = surprise(scores)
    assert ((doubts >= 0) & (doubts <= 1)).all()
    assert (np.diff(doubts[np.argsort(scores, kind="stable")]) >= -1e-12).all()


def test_a_moved_box_and_a_swapped_label_come_first() -> None:
    samples, answers = ordinary(60)
    samples[7] = replace(samples[7], label="cat")  # 7 is odd: a dog
    box = samples[20].box
    assert box is not None
    samples[20] = sample(20, "cat", (box.x_min + 15, box.y_min + 15, box.x_max + 15, box.y_max + 15))
    found = find_suspects(dataset(samples), answers)
    assert [s.sample.path for s in found] == [s.path for s in samples]
    assert found[7].label_rank == 1
    assert found[20].box_rank == 1
    assert found[20].box_doubt > LISTED
    assert max(s.box_doubt for i, s in enumerate(found) if i != 20) < LISTED
    assert sorted(s.box_rank for s in found) == list(range(1, 61))
    assert found[20].overlap == pytest.approx(25 * 25 / (2 * 1600 - 625), abs=0.1)


def test_pictures_without_a_prediction_are_passed_over() -> None:
    samples, answers = ordinary(12)
    found = find_suspects(dataset(samples), [None, *answers[1:]])
    assert len(found) == 11
    assert find_suspects(dataset(samples), [None] * 12) == []
    with pytest.raises(ValueError, match="shorter"):
        find_suspects(dataset(samples), answers[1:])


def pair(samples: list[Sample], first: int, second: int, code: str = "duplicate-boxes") -> Finding:
    box = samples[second].box
    assert box is not None
    return Finding(code, samples[first].path, None, None, "", 1.0, others=(samples[second].path,), other_box=box.xyxy)


def test_of_two_copies_with_different_boxes_the_model_says_which_is_wrong() -> None:
    samples, answers = ordinary(60)
    box = samples[0].box
    assert box is not None
    samples[1] = sample(1, "cat", (box.x_min + 12, box.y_min, box.x_max + 12, box.y_max))
    answers[1] = answers[0]
    plain = find_suspects(dataset(samples), answers)
    found = find_suspects(dataset(samples), answers, [pair(samples, 0, 1)])
    assert found[1].box_rank == 1
    assert found[1].box_doubt > 0.9 > found[0].box_doubt > plain[0].box_doubt
    assert found[0].box_rank == plain[0].box_rank  # who looks at the worse one has seen both
    assert found[0].contradicted_by == (samples[1].path,)
    # what the contradiction adds to the two doubts is shared between them
    extra = [1 - (1 - a.box_doubt) / (1 - b.box_doubt) for a, b in zip(found[:2], plain[:2], strict=True)]
    overlap = 28 * 40 / (2 * 1600 - 28 * 40)
    assert sum(extra) == pytest.approx(min(1.0, (1 - overlap) / (1 - _CONTRADICTION)))


def test_of_two_copies_with_different_classes_too() -> None:
    samples, answers = ordinary(60)
    answers[1] = answers[0]  # the same picture, "cat"
    plain = find_suspects(dataset(samples), answers)
    found = find_suspects(dataset(samples), answers, [pair(samples, 0, 1, "duplicate-classes")])
    assert found[1].label_rank == 1
    assert found[1].label_doubt > max(0.9, plain[1].label_doubt)
    assert found[0].label_doubt < LISTED


def test_a_model_that_finds_nothing_doubts_nothing() -> None:
    samples, answers = ordinary(60)
    lost = [replace(a, box=Box(0, 0, 10 + i / 10, 10, image_size=SIZE)) for i, a in enumerate(answers)]
    found = find_suspects(dataset(samples), lost)
    assert {s.box_doubt for s in found} == {0.0}
    assert "too little to doubt boxes by" in how_competent(found)
    assert "mean IoU of 0." in how_competent(find_suspects(dataset(samples), answers))
    assert "100%" in how_competent(find_suspects(dataset(samples), answers))
    assert "too few" in how_competent(found[:5])
    assert how_competent([]) == "No picture could be judged."


def test_a_box_head_without_sigmas_is_judged_by_place_alone() -> None:
    samples, answers = ordinary(40)
    silent = [replace(a, edge_sigmas=(float("nan"),) * 4) for a in answers]
    samples[3] = sample(3, "dog", (50, 50, 90, 90))
    assert find_suspects(dataset(samples), silent)[3].box_rank == 1


def test_a_close_up_frees_a_right_box_and_not_a_wrong_one() -> None:
    samples, answers = ordinary(60)
    near = [replace(a) for a in answers]
    lost = Box(55, 55, 95, 95, image_size=SIZE)
    answers[5] = replace(answers[5], box=lost)  # another object, in the whole picture; near the given box, that one
    box = samples[20].box
    assert box is not None
    samples[20] = sample(20, "cat", (box.x_min + 16, box.y_min + 16, box.x_max + 16, box.y_max + 16))
    alone = find_suspects(dataset(samples), answers)
    assert alone[5].box_rank < alone[20].box_rank
    found = find_suspects(dataset(samples), answers, close_ups=near)
    assert found[20].box_rank == 1
    assert found[20].box_doubt > LISTED > found[5].box_doubt
    scores = [box_scores(*_boxes_of(samples, these)) for these in (answers, near)]
    order = np.argsort(-np.sqrt(scores[0] * scores[1]), kind="stable")
    assert [found[i].box_rank for i in order] == list(range(1, 61))


def test_the_class_is_that_of_both_looks() -> None:
    samples, answers = ordinary(60)
    unsure = [replace(a) for a in answers]
    unsure[4] = answer("dog", 0.8, answers[4].box.xyxy)  # a cat, taken for a dog in the whole picture only
    near = [replace(a) for a in answers]
    found = find_suspects(dataset(samples), unsure, close_ups=near)
    odds = np.sqrt((0.2 / 0.8) * (0.95 / 0.05))
    assert found[4].prediction.probabilities == pytest.approx([odds / (1 + odds), 1 / (1 + odds)])
    assert (found[4].prediction.label, found[4].prediction.score) == ("cat", pytest.approx(odds / (1 + odds)))
    assert found[4].label_doubt < find_suspects(dataset(samples), unsure)[4].label_doubt
    with pytest.raises(ValueError, match="shorter"):
        find_suspects(dataset(samples), unsure, close_ups=near[1:])


def test_suspicions_are_listed_surest_first() -> None:
    samples, answers = ordinary(3)
    doubts = [0.6, 0.97, 0.2]
    suspects = [
        Suspect(s, a, d, d, 1, 1, 0.4, (samples[0].path,) if d == 0.97 else ())
        for s, a, d in zip(samples, answers, doubts, strict=True)
    ]
    suspects = [
        replace(s, prediction=answer("cat", 0.8, (0, 0, 9, 9)), sample=replace(s.sample, label="dog")) for s in suspects
    ]
    checkup = with_suspects(Checkup("csv", 3, 3, {}, ()), dataset(samples), suspects)
    assert [(f.code, f.confidence) for f in checkup.findings] == [(BOX, 0.97), (BOX, 0.6), (LABEL, 0.97), (LABEL, 0.6)]
    first = checkup.findings[0]
    assert (first.picture, first.file, first.line) == ("set/001.png", "set/a.csv", 3)
    assert first.other_box == (0, 0, 9, 9)
    assert "overlap with IoU 0.40; 000.png, the same picture, differs" in first.message
    assert "labelled 'dog'; a model that never saw it says 'cat' (80%)" in checkup.findings[2].message
    assert in_order(reversed(checkup.findings)) == checkup.findings


@pytest.fixture(scope="module")
def asked(tiny_run: Path, tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy of the tiny set with one box moved and one label swapped, and a run whose folds answer the truth."""
    folder = tmp_path_factory.mktemp("asked")
    shutil.copytree(tiny_set.parent, folder / "set")
    shutil.copytree(tiny_run, folder / "run")
    truth = load_dataset(tiny_set)
    rows = (folder / "set/labels.csv").read_text("utf-8").splitlines()
    swapped = rows[5].split(",")
    rows[5] = ",".join([swapped[0], "green" if swapped[1] == "red" else "red", *swapped[2:]])
    moved = rows[9].split(",")
    rows[9] = ",".join([*moved[:2], "0", "0", "12", "12"])
    (folder / "set/labels.csv").write_text("\n".join([*rows, ""]), "utf-8")
    data = load_dataset(folder / "set")
    head = {
        "data": data.labelled.fingerprint(),
        "config": read_config(folder / "run").to_dict() | {"refine": False},  # as the run found out
        "folds": FOLDS,
        "manifest": json.dumps({
            "class_names": ["green", "red"], "imgsz": 32, "backbone": "plain", "recipe": "default",
            "box_head": "edges", "onebox_version": "0", "baseline": {}, "data": {}, "schema": 1,
        }),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    lines = []
    for one in truth:
        assert one.box is not None
        box = (np.array(one.box.xyxyn) + rng.normal(0, 0.02, 4)).tolist()
        logits = [0.0, 4.0] if one.label == "red" else [4.0, 0.0]
        outputs = {"logits": logits, "boxes_01": box, "sigmas_01": [0.02] * 4}
        outputs |= {f"close_{name}": values for name, values in outputs.items()}
        lines.append({"path": truth.relative_path(one), "outputs": outputs})
    text = "".join(json.dumps(line) + "\n" for line in (head, *lines))
    (folder / "run" / FILE).write_text(text, "utf-8")
    return folder / "set", folder / "run"


def test_the_command_says_it_in_words_in_json_and_on_the_page(asked: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = asked
    with untouched(data), untouched(run):
        done = here("check", data, "--model", run, "--json", tmp_path / "c.json", "--page", tmp_path / "c.html")
    assert done.code == 0, done.err
    assert "say the given class of 96% of the pictures" in done.err
    found = {f["code"]: f for f in json.loads((tmp_path / "c.json").read_text("utf-8"))["findings"]}
    assert found[LABEL]["picture"].endswith("004.png")
    assert found[LABEL]["line"] == 6
    assert found[BOX]["picture"].endswith("008.png")
    assert found[BOX]["confidence"] >= LISTED
    assert "008.png: the box and that of a model that never saw it" in done.out
    text = (tmp_path / "c.html").read_text("utf-8")
    assert text.count("data:image") == 2
    assert "the model’s box" in text


def test_without_a_model_nothing_of_it_is_there(asked: tuple[Path, Path]) -> None:
    assert not {f.code for f in check(asked[0]).findings} & {LABEL, BOX}


def test_wrong_input_is_one_line(asked: tuple[Path, Path], tiny_run: Path, tmp_path: Path) -> None:
    data, run = asked
    here("check", data, "--folds", "3").says("--folds and --minutes are for --model")
    here("check", data, "--model", tmp_path).says("no run folder")
    here("check", data, "--model", run / "model.onnx").says("a file, not a run folder")
    other = tmp_path / "other"
    shutil.copytree(data, other)
    table = (other / "labels.csv").read_text("utf-8")
    (other / "labels.csv").write_text(table.replace(",red,", ",blue,"), "utf-8")
    here("check", other, "--model", run).says("other classes: the model does not know 'blue'")


@pytest.mark.real
def test_real_copies_that_contradict_each_other_rank_high_whatever_the_model_says(real_data: Path) -> None:
    data = load_dataset(real_data / "raccoon", multiple="largest")
    checkup = check(real_data / "raccoon")
    rng = np.random.default_rng(0)
    answers = []
    for one in data.labelled:
        assert one.box is not None
        size = np.array([one.box.width, one.box.height] * 2)
        box = np.array(one.box.xyxy) + rng.normal(0, 0.1, 4) * size  # as good as a model gets on this set
        answers.append(
            Prediction("raccoon", 1.0, np.ones(1), ("raccoon",), Box(*box, image_size=one.image_size), (9.0,) * 4)
        )
    found = find_suspects(data, answers, checkup.findings)
    rank = {s.sample.path: s.box_rank for s in found}
    pairs = [(f.picture, f.others[0]) for f in checkup.findings if f.code == "duplicate-boxes"]
    assert len(pairs) == 5
    assert max(min(rank[str(a)], rank[b]) for a, b in pairs) <= 0.2 * len(found)
