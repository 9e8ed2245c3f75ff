"""The parts of training, one by one, against hand-computed values: heads, losses, balance, schedule, augmentation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from onebox.training.augment import BatchAugment, move_boxes, step_generator, to_float  # noqa: E402
from onebox.training.balance import BoxWeight, Pull  # noqa: E402
from onebox.training.config import make_config  # noqa: E402
from onebox.training.heads import BoxOutput, EdgeBoxHead, SlidingFc  # noqa: E402
from onebox.training.losses import criterion, giou_loss, soft_target_loss, to_cxcywh  # noqa: E402
from onebox.training.model import Network, build_network  # noqa: E402
from onebox.training.schedule import batch_indices, lr_factor, steps_per_epoch  # noqa: E402
from onebox.training.trunk import PlainTrunk  # noqa: E402

IDENTITY_COLOUR = torch.cat([torch.eye(3), torch.zeros(3, 1)], dim=1)


def network(box_head: str, imgsz: int = 64) -> Network:
    torch.manual_seed(0)
    return Network(PlainTrunk(), 3, imgsz=imgsz, box_head=box_head, bins=16)


def fc_output(boxes_cxcywh_01: list[list[float]]) -> BoxOutput:
    cxcywh = torch.tensor(boxes_cxcywh_01)
    half = cxcywh[:, 2:] / 2
    corners = torch.cat([cxcywh[:, :2] - half, cxcywh[:, :2] + half], dim=1)
    return BoxOutput(corners, torch.full_like(corners, math.nan), None, cxcywh)


# ---- heads


@pytest.mark.parametrize("box_head", ["fc", "edges"])
def test_the_two_heads_are_disjoint(box_head: str) -> None:
    net = network(box_head)
    class_side = list(net.class_head.parameters())
    box_side = list(net.box_head.parameters())
    trunk = list(net.trunk.parameters())
    ids = [{id(p) for p in side} for side in (class_side, box_side, trunk)]
    assert sum(map(len, ids)) == len(set.union(*ids)) == len(list(net.parameters()))

    output = net(torch.rand(4, 3, 64, 64) * 255)
    losses = criterion(
        output.logits,
        output.box,
        torch.tensor([0, 1, 2, 0]),
        torch.tensor([[0.2, 0.2, 0.6, 0.7]] * 4),
        box_loss="mse" if box_head == "fc" else "edges",
        label_smoothing=0.0,
    )
    for loss, own, other in (
        (losses.class_loss, class_side, box_side),
        (losses.box_loss, box_side, class_side),
    ):
        pulled = torch.autograd.grad(loss, [*own, *trunk], retain_graph=True)
        assert all(bool(torch.isfinite(g).all()) for g in pulled)
        assert sum(float(g.abs().sum()) for g in pulled[len(own) :]) > 0  # both pull on the shared trunk
        assert torch.autograd.grad(loss, other, retain_graph=True, allow_unused=True) == (None,) * len(other)


def test_the_plain_heads_are_two_groups_of_fully_connected_layers() -> None:
    net = build_network(make_config(recipe="plain", backbone="plain", weights="none", imgsz=64), classes=3)
    for head, outputs in ((net.class_head, 3), (net.box_head, 4)):
        layers = [m for m in head.modules() if isinstance(m, nn.Linear)]
        assert [m.out_features for m in layers][-1] == outputs
        assert len(layers) == 2
        owned = sum(p.numel() for m in layers for p in m.parameters())
        assert owned == sum(p.numel() for p in head.parameters())


def test_an_edge_is_the_expectation_of_its_distribution_and_sigma_its_spread() -> None:
    head = EdgeBoxHead((8, 12), (4, 4), bins=11, width=8, hidden=8).eval()
    for mlp, (low, high) in ((head.along_x, (2, 7)), (head.along_y, (3, 9))):
        last = mlp[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        bias = torch.full((2, 11), -100.0)
        bias[0, low] = 0
        bias[1, [high - 1, high + 1]] = 0  # half here, half there: the mean lies between, sigma is one bin
        last.bias.data = bias.flatten()
    for sliding in (head.sliding_x, head.sliding_y):
        last = sliding.layers[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
    output = head([torch.rand(2, 8, 4, 4), torch.rand(2, 12, 2, 2)])
    c, bin_width = head.centres, float(head.centres[1] - head.centres[0])
    wanted = torch.stack([c[2], c[3], c[7], c[9]]).expand(2, 4)
    torch.testing.assert_close(output.boxes_01, wanted)
    torch.testing.assert_close(output.sigmas_01[:, 2:], torch.full((2, 2), bin_width))
    assert bool((output.sigmas_01[:, :2] < 1e-5).all())
    assert output.edge_logits is not None
    assert output.edge_logits.shape == (2, 4, 11)


def test_what_slides_along_a_profile_moves_with_it() -> None:
    centres = torch.linspace(0, 1, 49)[:-1] + 1 / 96  # four bins a place, so that a place is four bins
    sliding = SlidingFc(6, 12, centres, hidden=8).eval()
    profile = torch.zeros(1, 6, 12)
    profile[:, :, 5] = torch.rand(6)
    with torch.no_grad():
        here, there = sliding(profile), sliding(profile.roll(1, dims=2))
    assert here.shape == (1, 2, 48)
    # three places on either side are seen; beyond them, and at the ends, there is nothing to compare
    torch.testing.assert_close(here[:, :, 8:32], there[:, :, 12:36])
    assert float((here[:, :, 8:32] - there[:, :, 8:32]).abs().max()) > 1e-3


def test_bins_are_read_off_between_points() -> None:
    sliding = SlidingFc(2, 1, torch.tensor([-0.06, 0.0625, 0.125, 0.5, 1.06]), hidden=4)
    assert sliding.reading.shape == (8, 5)
    # points lie at 1/16, 3/16, ... 15/16; what lies outside them has what the nearest says
    wanted = torch.zeros(8, 5)
    wanted[0, 0] = wanted[0, 1] = wanted[7, 4] = 1
    wanted[0, 2] = wanted[1, 2] = wanted[3, 3] = wanted[4, 3] = 0.5
    torch.testing.assert_close(sliding.reading, wanted)


# ---- losses


def test_the_plain_losses_by_hand() -> None:
    """Probabilities 1/4 and 3/4, the first class true: ln 4. Box off by (0, .1, -.2, .2): .09 / 4."""
    losses = criterion(
        torch.tensor([[0.0, math.log(3)]]),
        fc_output([[0.5, 0.5, 0.2, 0.4]]),
        torch.tensor([0]),
        torch.tensor([[0.3, 0.3, 0.7, 0.5]]),
        box_loss="mse",
        label_smoothing=0.0,
    )
    assert float(losses.class_loss) == pytest.approx(math.log(4))
    assert float(losses.box_loss) == pytest.approx(0.0225)


def test_corners_to_centre_and_size() -> None:
    torch.testing.assert_close(to_cxcywh(torch.tensor([[0.1, 0.2, 0.5, 0.8]])), torch.tensor([[0.3, 0.5, 0.4, 0.6]]))


def test_giou_by_hand() -> None:
    """Equal boxes: 0. Two quarters of a unit square with a gap of half: IoU 0, hull 1, union .5: 1 + .5."""
    a = torch.tensor([[0.0, 0.0, 0.25, 1.0]])
    b = torch.tensor([[0.75, 0.0, 1.0, 1.0]])
    assert float(giou_loss(a, a)) == pytest.approx(0, abs=1e-5)
    assert float(giou_loss(a, b)) == pytest.approx(1.5, abs=1e-4)
    crossed = a[:, [2, 1, 0, 3]]
    assert float(giou_loss(crossed, b)) == pytest.approx(1.5, abs=1e-4)


def test_soft_targets_are_met_by_the_gaussian_and_by_nothing_else() -> None:
    truth = torch.tensor([[0.2, 0.3, 0.6, 0.9]])
    bins = 32
    centres = torch.linspace(-EdgeBoxHead.MARGIN, 1 + EdgeBoxHead.MARGIN, bins)

    def gaussian(at: Tensor) -> Tensor:
        from onebox.training.losses import SOFT_SIGMA_BINS

        sigma = SOFT_SIGMA_BINS * float(centres[1] - centres[0])
        return -0.5 * ((centres - at.unsqueeze(2)) / sigma) ** 2

    right = gaussian(truth).requires_grad_()
    loss = soft_target_loss(right, truth)
    loss.backward()
    assert right.grad is not None
    assert float(right.grad.abs().max()) < 1e-6  # the minimum
    assert float(soft_target_loss(gaussian(truth + 0.1), truth)) > float(loss.detach()) + 0.1


def test_label_smoothing_only_where_asked() -> None:
    box, truth = fc_output([[0.5, 0.5, 0.2, 0.4]]), torch.tensor([[0.4, 0.3, 0.6, 0.7]])
    logits, label = torch.tensor([[4.0, 0.0]]), torch.tensor([0])
    sharp = criterion(logits, box, label, truth, box_loss="mse", label_smoothing=0.0).class_loss
    smooth = criterion(logits, box, label, truth, box_loss="mse", label_smoothing=0.2).class_loss
    p = math.exp(4) / (1 + math.exp(4))
    assert float(sharp) == pytest.approx(-math.log(p), rel=1e-5)
    assert float(smooth) == pytest.approx(-0.9 * math.log(p) - 0.1 * math.log(1 - p), rel=1e-5)


def test_boxes_in_pixels_would_drown_the_classes() -> None:
    """Why the box lives in 0-1: the same network and pictures, only the box's unit changed."""
    net = network("fc", imgsz=160)
    pictures, labels = torch.rand(8, 3, 160, 160) * 255, torch.arange(8) % 3
    truth = torch.tensor([[0.2, 0.3, 0.6, 0.7]] * 8)

    def ratio(unit: float) -> float:
        output = net(pictures)
        losses = criterion(output.logits, output.box, labels, truth * unit, box_loss="mse", label_smoothing=0.0)
        maps = [output.class_taps[-1], output.box_taps[-1]]
        (by_class,) = torch.autograd.grad(losses.class_loss, maps[:1], retain_graph=True)
        (by_box,) = torch.autograd.grad(losses.box_loss, maps[1:])
        return float(by_box.norm() / by_class.norm())

    assert ratio(160.0) > 100 * ratio(1.0)


# ---- balance


def test_a_given_box_weight_stays() -> None:
    weight = BoxWeight.start(2.5, balance=1.0)
    weight.update(Pull(class_norm=1.0, box_norm=100.0, cosine=0.0))
    assert weight.value == 2.5


def test_the_box_weight_is_the_geometric_mean_then_frozen() -> None:
    weight = BoxWeight.start(None, balance=3.0)
    weight.update(Pull(class_norm=8.0, box_norm=2.0, cosine=0.0))  # raw box norm 2 (weight 1): 4
    assert weight.value == pytest.approx(3 * 4)
    weight.update(Pull(class_norm=1.0, box_norm=12.0, cosine=0.0))  # raw 12 / 12 = 1: 1; mean of 4 and 1 is 2
    assert weight.value == pytest.approx(3 * 2)
    weight.update(Pull(class_norm=0.0, box_norm=1.0, cosine=0.0))  # a silent branch says nothing
    assert weight.value == pytest.approx(6)
    weight.freeze()
    weight.update(Pull(class_norm=100.0, box_norm=1.0, cosine=0.0))
    assert weight.value == pytest.approx(6)


# ---- schedule


@pytest.mark.parametrize(("pictures", "batch"), [(10, 4), (7, 7), (3, 8), (1, 5)])
def test_every_picture_comes_equally_often(pictures: int, batch: int) -> None:
    steps = pictures * batch // math.gcd(pictures, batch) // batch  # the first step at which laps and batches meet
    seen = torch.cat([batch_indices(pictures, batch, 5, step) for step in range(steps)])
    assert torch.equal(torch.bincount(seen, minlength=pictures), torch.full((pictures,), len(seen) // pictures))
    epoch = torch.cat([batch_indices(pictures, batch, 5, s) for s in range(steps_per_epoch(pictures, batch))])
    assert set(epoch.tolist()) == set(range(pictures))


def test_a_step_s_pictures_are_a_function_of_seed_and_step_alone() -> None:
    first = batch_indices(50, 8, 1, 20)
    for step in (3, 7, 19):
        batch_indices(50, 8, 2, step)
    assert torch.equal(batch_indices(50, 8, 1, 20), first)
    assert not torch.equal(batch_indices(50, 8, 2, 20), first)


def test_one_cycle() -> None:
    warmup = 0.2
    assert lr_factor(0, warmup) == pytest.approx(1 / 25)
    assert lr_factor(warmup, warmup) == pytest.approx(1)
    assert lr_factor(1, warmup) == lr_factor(2, warmup) == pytest.approx(1 / 1000)
    rates = [lr_factor(i / 100, warmup) for i in range(101)]
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert lr_factor(0, 0.0) == pytest.approx(1)


# ---- augmentation


def bright_box(picture: Tensor) -> list[float]:
    """The white rectangle in a (3, H, W) picture, in 0-1."""
    rows, columns = np.nonzero(picture.mean(0).numpy() > 150)
    n = picture.shape[1]
    return [columns.min() / n, rows.min() / n, (columns.max() + 1) / n, (rows.max() + 1) / n]


def white_rectangles(count: int, side: int) -> tuple[Tensor, Tensor]:
    pictures = torch.zeros(count, side, side, 3, dtype=torch.uint8)
    boxes = []
    for i in range(count):
        x, y, w, h = 8 + i % 30, 10 + (i * 7) % 25, 24 + i % 17, 20 + i % 23
        pictures[i, y : y + h, x : x + w] = 255
        boxes.append([x / side, y / side, (x + w) / side, (y + h) / side])
    return pictures, torch.tensor(boxes)


def test_picture_and_box_move_together_and_the_object_stays_inside() -> None:
    pictures, boxes = white_rectangles(64, side=96)
    augment = BatchAugment(hflip=0.5, strength=1.0, close=0.3)
    windows, flips, _ = augment.draw(step_generator(0, 0), boxes)
    moved_pictures, moved = augment(pictures, boxes, (windows, flips, IDENTITY_COLOUR.expand(64, 3, 4)))
    assert moved_pictures.shape == (64, 3, 96, 96)
    assert float(moved.min()) >= -1e-6
    assert float(moved.max()) <= 1 + 1e-6
    assert 0 < int(flips.sum()) < 64
    for picture, box in zip(moved_pictures, moved, strict=True):
        assert bright_box(picture) == pytest.approx(box.tolist(), abs=1.5 / 96)
    assert float((moved - boxes).abs().max()) > 0.1  # something did happen


def test_a_part_of_the_pictures_is_seen_close() -> None:
    boxes = torch.tensor([[0.4, 0.45, 0.5, 0.6], [0.0, 0.9, 0.02, 1.0]]).repeat(2000, 1)
    windows, _, _ = BatchAugment(hflip=0.5, strength=0.5, close=0.3).draw(step_generator(0, 0), boxes)
    assert bool((windows[:, :2] <= boxes[:, :2]).all())
    assert bool((windows[:, 2:] >= boxes[:, 2:]).all())
    size, side = windows[:, 2:] - windows[:, :2], boxes[:, 2:] - boxes[:, :2]
    # at most twice as large and a tenth off, yet no side below a tenth of the picture; all others are much larger here
    close = (size <= (2 * 1.11 * side).clamp_min(0.1)).all(dim=1)
    assert 0.28 < float(close.float().mean()) < 0.32
    inner = close & (windows[:, 0] > 0)
    assert 1.1 < float((size / side)[inner].mean()) < 1.9


def test_moved_boxes_by_hand() -> None:
    """Seen through the left half of the picture, a box is twice as wide; mirrored, left and right change places."""
    box, window = torch.tensor([[0.1, 0.2, 0.3, 0.6]]), torch.tensor([[0.0, 0.0, 0.5, 1.0]])
    straight = move_boxes(box, window, torch.tensor([False]))
    mirrored = move_boxes(box, window, torch.tensor([True]))
    torch.testing.assert_close(straight, torch.tensor([[0.2, 0.2, 0.6, 0.6]]))
    torch.testing.assert_close(mirrored, torch.tensor([[0.4, 0.2, 0.8, 0.6]]))


def test_an_untouched_window_gives_the_picture_itself_and_a_flip_its_mirror() -> None:
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    boxes, windows = torch.tensor([[0.1, 0.2, 0.3, 0.6]] * 2), torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2)
    drawn = (windows, torch.tensor([False, True]), IDENTITY_COLOUR.expand(2, 3, 4))
    x, _ = BatchAugment(hflip=0.5, strength=1.0)(pictures, boxes, drawn)
    plain = to_float(pictures)
    torch.testing.assert_close(x[0], plain[0], atol=0.02, rtol=0)
    torch.testing.assert_close(x[1], plain[1].flip(2), atol=0.02, rtol=0)


def test_augmentation_is_a_function_of_seed_and_step_and_stays_in_range() -> None:
    pictures, boxes = white_rectangles(16, side=48)
    augment = BatchAugment(hflip=0.5, strength=1.0)

    def at(seed: int, step: int) -> Tensor:
        return augment(pictures, boxes, augment.draw(step_generator(seed, step), boxes))[0]

    assert torch.equal(at(1, 5), at(1, 5))
    assert not torch.equal(at(1, 5), at(1, 6))
    assert not torch.equal(at(1, 5), at(2, 5))
    assert float(at(1, 5).min()) >= -0.01
    assert float(at(1, 5).max()) <= 255.01
    never = BatchAugment(hflip=0.0, strength=1.0).draw(step_generator(0, 0), boxes)
    assert not bool(never[1].any())


def test_the_log_probabilities_are_normalised() -> None:
    """NLL is taken of log-probabilities: adding a constant to every logit changes nothing."""
    box, truth = fc_output([[0.5, 0.5, 0.2, 0.4]]), torch.tensor([[0.4, 0.3, 0.6, 0.7]])
    options: dict[str, Any] = {"box_loss": "mse", "label_smoothing": 0.0}
    logits, label = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([1])
    one = criterion(logits, box, label, truth, **options).class_loss
    other = criterion(logits + 50, box, label, truth, **options).class_loss
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one, nn.functional.cross_entropy(logits, label))
