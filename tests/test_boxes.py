"""Box arithmetic: hand-computed cases, properties, and torchvision as the referee."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onebox import boxes as bx

coordinate = st.floats(-1e4, 1e4, allow_nan=False, allow_subnormal=False)


@st.composite
def proper_boxes(draw: st.DrawFn, n: int = 6) -> np.ndarray:
    """(n, 4) boxes with sides of at least 0.01."""
    corners = draw(arrays(np.float64, (n, 2), elements=coordinate))
    sides = draw(arrays(np.float64, (n, 2), elements=st.floats(0.01, 1e4)))
    return np.concatenate([corners, corners + sides], axis=1)


whole_boxes = st.lists(
    st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2).map(
        lambda t: (t[0], t[1], t[0] + t[2], t[1] + t[3])
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 50 / 150),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),  # touching edges share no area
        ((0, 0, 10, 10), (11, 11, 20, 20), 0.0),
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04),
        ((0, 0, 10, 10), (3, 3, 3, 3), 0.0),
        ((3, 3, 3, 3), (3, 3, 3, 3), 0.0),
        ((10, 10, 0, 0), (0, 0, 10, 10), 0.0),  # inverted: no area
    ],
)
def test_iou_by_hand(a: tuple[float, ...], b: tuple[float, ...], expected: float) -> None:
    assert bx.iou([a], [b])[0] == pytest.approx(expected)


def test_there_is_no_plus_one() -> None:
    assert bx.area([[0, 0, 1, 1]])[0] == 1.0
    assert bx.xyxy_to_cxcywh([[0, 0, 10, 4]]).tolist() == [[5, 2, 10, 4]]


@given(proper_boxes(), proper_boxes())
def test_iou_is_symmetric_and_bounded(a: np.ndarray, b: np.ndarray) -> None:
    forth, back = bx.iou(a, b), bx.iou(b, a)
    assert np.array_equal(forth, back)
    assert ((forth >= 0) & (forth <= 1)).all()
    assert (bx.iou(a, a) == 1).all()


@given(whole_boxes, whole_boxes)
def test_iou_is_one_only_for_the_same_box(a: list[tuple[int, ...]], b: list[tuple[int, ...]]) -> None:
    n = min(len(a), len(b))
    same = [x == y for x, y in zip(a[:n], b[:n], strict=True)]
    assert (bx.iou(a[:n], b[:n]) == 1).tolist() == same


@given(proper_boxes(), proper_boxes(), st.floats(0.1, 10), coordinate, coordinate)
def test_iou_does_not_mind_moving_and_scaling(a: np.ndarray, b: np.ndarray, s: float, dx: float, dy: float) -> None:
    shift = np.array([dx, dy, dx, dy])
    # Coordinates up to 1e5 against sides from 0.01: the shift itself costs about 1e-9 of a side.
    assert np.allclose(bx.iou(a * s + shift, b * s + shift), bx.iou(a, b), atol=1e-6)


@given(proper_boxes(), proper_boxes())
def test_iou_does_not_mind_mirroring(a: np.ndarray, b: np.ndarray) -> None:
    def mirror(boxes: np.ndarray) -> np.ndarray:
        return np.stack([-boxes[:, 2], boxes[:, 1], -boxes[:, 0], boxes[:, 3]], axis=1)

    assert np.allclose(bx.iou(mirror(a), mirror(b)), bx.iou(a, b))


@given(proper_boxes(), proper_boxes())
def test_iou_does_not_mind_units(a: np.ndarray, b: np.ndarray) -> None:
    size = (640, 37)
    assert np.allclose(bx.iou(bx.to_01(a, size), bx.to_01(b, size)), bx.iou(a, b), atol=1e-6)


@given(proper_boxes())
def test_centre_form_there_and_back(a: np.ndarray) -> None:
    assert np.allclose(bx.cxcywh_to_xyxy(bx.xyxy_to_cxcywh(a)), a, atol=1e-9)
    assert np.allclose(bx.xyxy_to_cxcywh(a)[:, 2:].prod(axis=1), bx.area(a))


@given(proper_boxes(), st.integers(1, 9000), st.integers(1, 9000))
def test_pixels_there_and_back_and_clip(a: np.ndarray, width: int, height: int) -> None:
    assert np.allclose(bx.to_pixels(bx.to_01(a, (width, height)), (width, height)), a)
    cut = bx.clip(a, (width, height))
    assert (cut >= 0).all()
    assert (cut <= [width, height, width, height]).all()
    assert np.array_equal(bx.clip(cut, (width, height)), cut)
    assert (bx.area(cut) <= bx.area(a)).all()


def test_sizes_may_differ_by_row() -> None:
    got = bx.to_01([[1, 1, 2, 2], [1, 1, 2, 2]], [(10, 20), (4, 2)])
    assert got.tolist() == [[0.1, 0.05, 0.2, 0.1], [0.25, 0.5, 0.5, 1.0]]


def test_torchvision_agrees_on_iou() -> None:
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    rng = np.random.default_rng(7)
    corners = np.sort(rng.uniform(0, 500, (2, 400, 2, 2)), axis=2)
    a, b = corners.reshape(2, 400, 4)
    theirs = ops.box_iou(torch.from_numpy(a), torch.from_numpy(b)).diagonal().numpy()
    assert np.allclose(bx.iou(a, b), theirs, atol=1e-12)
    assert (theirs > 0).sum() > 100


def test_centre_error_is_a_fraction_of_the_diagonal() -> None:
    corner_to_corner = bx.centre_error([[0, 0, 0, 0]], [[1, 1, 1, 1]])
    assert corner_to_corner[0] == pytest.approx(1.0)
    assert bx.centre_error([[0, 0, 1, 1]], [[0.25, 0.25, 0.75, 0.75]])[0] == 0
    assert bx.centre_error([[0.0, 0, 0.2, 0.2]], [[0.3, 0.4, 0.5, 0.6]])[0] == pytest.approx(0.5 / np.sqrt(2))


def test_shapes_are_checked() -> None:
    assert bx.as_boxes([]).shape == (0, 4)
    assert bx.iou([], []).shape == (0,)
    for wrong in ([1, 2, 3, 4], [[1, 2, 3]], np.zeros((2, 2, 4))):
        with pytest.raises(ValueError, match="shape"):
            bx.as_boxes(wrong)
    with pytest.raises(ValueError, match="pairs rows"):
        bx.iou([[0, 0, 1, 1]], [[0, 0, 1, 1], [0, 0, 1, 1]])
