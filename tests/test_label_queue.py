"""Which picture comes next, by hand-made numbers; and what a model proposes, by a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onebox
from onebox.errors import PictureError
from onebox.labelling.doubts import Confirmed, disagreements
from onebox.labelling.pictures import Renderer, take_in
from onebox.labelling.proposals import Proposal, survey
from onebox.labelling.queue import features, most_useful_first, shuffled, uncertainty
from onebox.labelling.rows import EMPTY, Mark
from tests.small_sets import jpeg


def test_a_shuffled_order_depends_on_the_names_alone() -> None:
    names = [f"cat_{i}.jpg" for i in range(50)] + [f"dog_{i}.jpg" for i in range(50)]
    order = shuffled(names)
    assert sorted(order) == list(range(100))
    assert 4 < sum(i < 50 for i in order[:20]) < 16  # the first ones are not all cats
    backwards = shuffled(names[::-1])
    assert [names[i] for i in order] == [names[::-1][i] for i in backwards]


def test_the_unsure_class_and_the_vague_box_come_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.55, 0.45], [0.9, 0.1]])
    boxes = np.array([[0.2, 0.2, 0.6, 0.6]] * 3)
    sigmas = np.array([[0.01] * 4, [0.01] * 4, [0.1] * 4])
    # ranks of the margin: (.25, 1, .25), the first and third share the middle of 0 and .5; of the spread: (.25, .25, 1)
    assert uncertainty(probabilities, boxes, sigmas) == pytest.approx([0.25, 0.625, 0.625])
    # without sigmas the class decides alone
    assert uncertainty(probabilities, boxes, np.full((3, 4), np.nan)) == pytest.approx([0.25, 1, 0.25])
    # a small box with the same sigma is vaguer
    small = np.array([[0.2, 0.2, 0.3, 0.3], [0.2, 0.2, 0.6, 0.6]])
    one_class = np.ones((2, 1))
    assert uncertainty(one_class, small, np.full((2, 4), 0.02)) == pytest.approx([0.75, 0.25])
    assert len(uncertainty(np.zeros((0, 2)), np.zeros((0, 4)), np.zeros((0, 4)))) == 0


def test_like_pictures_are_not_labelled_one_after_the_other() -> None:
    # three equal ones far from what is labelled, one in between, all as unsure: one of the three, then the other kind
    points = np.array([[0.0, 0], [10, 0], [10, 0], [10, 0], [4, 0]])
    labelled = np.array([True, False, False, False, False])
    assert most_useful_first(np.ones(5), points, labelled)[:2] == [1, 4]
    # certain ones wait, however far away they are
    assert most_useful_first(np.array([1, 0, 0.0, 0, 1]), points, labelled)[0] == 4
    assert most_useful_first(np.ones(5), points, np.ones(5, dtype=bool)) == []


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_order_has_every_open_picture_once(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labelled = rng.random(count) < 0.3
    points = features(rng.random((count, 4, 4, 3)), rng.dirichlet([1, 1, 1], count), rng.random((count, 4)))
    order = most_useful_first(rng.random(count), points, labelled)
    assert sorted(order) == [int(i) for i in np.flatnonzero(~labelled)]


def test_no_block_of_features_drowns_the_others() -> None:
    rng = np.random.default_rng(0)
    points = features(rng.random((30, 48)) * 255, rng.dirichlet([1, 1], 30), rng.random((30, 4)))
    for block in (points[:, :48], points[:, 48:50], points[:, 50:]):
        pairs = np.linalg.norm(block[:, None] - block[None], axis=2)
        assert np.sqrt((pairs**2).mean()) == pytest.approx(1)


def test_a_model_proposes_for_every_picture_it_can_read(
    tiny_run: Path, tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.png").write_bytes(jpeg()[:90])
    paths = [*sorted(str(p) for p in tiny_set.parent.glob("*.png")), str(tmp_path / "broken.png")]
    model = onebox.load(tiny_run)
    told: dict[str, Proposal | str] = {}
    found = survey(model, paths, told=told.__setitem__)
    assert list(told) == paths
    assert list(found.failed) == [paths[-1]]
    for path, answer in zip(paths, model.predict(paths[:-1]), strict=False):
        said = told[path]
        assert isinstance(said, Proposal)
        assert (said.label, said.box, said.size) == (answer.label, answer.box.xyxy, (64, 48))
    every_other = [i % 2 == 0 for i in range(len(found.paths))]
    assert found.order(every_other) == found.paths[1::2]  # few labels: the order they were given in
    monkeypatch.setattr("onebox.labelling.proposals.ASK_FROM", 1)
    order = found.order(every_other)
    assert order != found.paths[1::2]
    assert sorted(order) == found.paths[1::2]
    assert survey(model, paths, stopped=lambda: True).paths == []


def test_a_line_is_no_proposal() -> None:
    assert Proposal("cat", 0.9, (1, 1, 3, 3), (9, 9)).usable
    assert not Proposal("cat", 0.9, (1, 1, 9, 1.5), (9, 9)).usable
    assert not Proposal("cat", 0.9, (4, 4, 4, 4), (9, 9)).usable


def test_a_sure_model_that_contradicts_is_told() -> None:
    marks = {
        "right": Mark("cat", (0, 0, 50, 50)),
        "other": Mark("dog", (0, 0, 50, 50)),
        "far": Mark("cat", (60, 60, 99, 99)),
        "vague": Mark("dog", (0, 0, 50, 50)),
        "none": EMPTY,
    }
    sure, vague = Proposal("cat", 0.9, (0, 0, 50, 50), (99, 99)), Proposal("cat", 0.6, (0, 0, 50, 50), (99, 99))
    proposals = {name: vague if name == "vague" else sure for name in (*marks, "open")}
    assert disagreements(proposals, marks) == {
        "other": "the model sees cat (90%)",
        "far": "the model sees the object elsewhere",
    }


def test_what_was_confirmed_is_not_asked_again_until_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "confirmed.json"
    Confirmed(file).add("a.jpg", Mark("cat", (1, 2, 3.5, 4)))
    again = Confirmed(file)
    assert again.holds("a.jpg", Mark("cat", (1, 2, 3.5, 4)))
    assert not again.holds("a.jpg", Mark("dog", (1, 2, 3.5, 4)))
    assert not again.holds("b.jpg", EMPTY)
    file.write_text("[damaged")
    assert not Confirmed(file).holds("a.jpg", EMPTY)


def test_large_pictures_are_shown_smaller_with_their_own_size(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(5000, 100))
    renderer = Renderer()
    content, size = renderer.view(str(tmp_path / "a.jpg"))
    assert size == (5000, 100)
    (tmp_path / "b.jpg").write_bytes(content)
    assert onebox.images.read_size(str(tmp_path / "b.jpg")).width == 2048
    assert len(renderer.thumb(str(tmp_path / "a.jpg"))) < 4000


def test_a_link_is_no_way_out_for_a_new_picture(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "outside.jpg").write_bytes(b"mine")
    (tmp_path / "set" / "a.jpg").symlink_to(tmp_path / "outside.jpg")
    assert take_in(tmp_path / "set", "a.jpg", jpeg()) == "a-2.jpg"
    assert (tmp_path / "outside.jpg").read_bytes() == b"mine"
    with pytest.raises(PictureError):
        take_in(tmp_path / "set", "b.jpg", b"no picture")
