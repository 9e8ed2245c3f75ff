"""The disjoint heads. Each takes the trunk's feature maps and shares no parameter with another; none knows of
losses."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebox.training.trunk import Trunk


class BoxOutput(NamedTuple):
    """What a box head says: `boxes_01` (B, 4) x_min, y_min, x_max, y_max in 0-1 (not clipped); `sigmas_01` (B, 4)
    standard deviation of each edge, NaN where unknown; `edge_logits` (B, 4, K) for left, top, right, bottom, or None;
    `boxes_cxcywh_01` (B, 4), the same box as the fc head gives it, or None."""

    boxes_01: Tensor
    sigmas_01: Tensor
    edge_logits: Tensor | None
    boxes_cxcywh_01: Tensor | None


class ClassHead(nn.Module):
    """Pooled features -> FC -> FC -> logits.

    The coarsest map's mean is what trunks are pretrained with. With `peaks` the largest value of every channel, of
    every map, is read too: a trunk trained from nothing finds small objects on cluttered ground much sooner that way
    (docs/log.md, 2026-11-22).
    """

    def __init__(self, channels: tuple[int, ...], classes: int, *, peaks: bool, hidden: int = 256) -> None:
        super().__init__()
        self.peaks = peaks
        self.classes = classes
        width = channels[-1] + (sum(channels) if peaks else 0)
        self.fc = nn.Sequential(nn.Linear(width, hidden), nn.Hardswish(), nn.Linear(hidden, classes))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """[..., (B, C, h, w)] -> (B, classes)."""
        pooled = [maps[-1].mean(dim=(2, 3))]
        if self.peaks:
            pooled += [m.amax(dim=(2, 3)) for m in maps]
        return self.fc(torch.cat(pooled, dim=1))


class FcBoxHead(nn.Module):
    """Pooled features of the coarsest map -> FC -> FC -> centre x, centre y, width, height in 0-1 (linear, as in the
    textbook recipe)."""

    def __init__(self, channels: int, hidden: int = 256) -> None:
        super().__init__()
        last = nn.Linear(hidden, 4)
        nn.init.constant_(last.bias, 0.5)
        self.fc = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), last)

    def forward(self, maps: list[Tensor]) -> BoxOutput:
        """[..., (B, C, h, w)] -> BoxOutput without edge distributions."""
        boxes_cxcywh_01 = self.fc(maps[-1].mean(dim=(2, 3)))
        half = boxes_cxcywh_01[:, 2:] / 2
        boxes_01 = torch.cat([boxes_cxcywh_01[:, :2] - half, boxes_cxcywh_01[:, :2] + half], dim=1)
        return BoxOutput(boxes_01, torch.full_like(boxes_01, float("nan")), None, boxes_cxcywh_01)


class EdgeBoxHead(nn.Module):
    """Finest and coarsest map fused -> a profile along x and one along y -> four 1-D distributions over K bins.

    An edge's logits are the sum of two readings of its profile: FC layers that see all of it, and know where objects
    usually lie; and FC layers that see a few places at a time, the same at every place (`SlidingFc`), and know what an
    edge looks like wherever it is - which far fewer examples teach (docs/log.md, 2026-11-23). The expectation of a
    distribution is the edge, its standard deviation the edge's sigma. In evaluation mode the expectation is that of a
    distribution SHARPER times as sharp: what little probability lies far away draws an edge towards the middle
    (docs/log.md, 2026-11-28). After SimCC (Li et al. 2022, arXiv 2107.03332),
    with edges in place of key points and the expectation in place of the argmax. The bins reach a little beyond the
    picture (`MARGIN`), so that an edge on the border is an inner value.
    """

    MARGIN = 0.06
    SHARPER = 1.5

    def __init__(
        self, channels: tuple[int, ...], map_size: tuple[int, int], bins: int, width: int = 128, hidden: int = 256
    ) -> None:
        super().__init__()
        self.map_size = map_size
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in channels)
        self.norm = nn.BatchNorm2d(width)
        self.mix = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Hardswish(),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.Hardswish(),
        )
        self.look = nn.Conv2d(width, 2, 1)  # where along the other axis each profile looks
        h, w = map_size
        self.along_x = nn.Sequential(nn.Linear(2 * width * w, hidden), nn.Hardswish(), nn.Linear(hidden, 2 * bins))
        self.along_y = nn.Sequential(nn.Linear(2 * width * h, hidden), nn.Hardswish(), nn.Linear(hidden, 2 * bins))
        centres = torch.linspace(-self.MARGIN, 1 + self.MARGIN, bins)
        self.sliding_x = SlidingFc(2 * width, w, centres, width)
        self.sliding_y = SlidingFc(2 * width, h, centres, width)
        self.register_buffer("centres", centres, persistent=False)
        self.centres: Tensor

    def forward(self, maps: list[Tensor]) -> BoxOutput:
        """[(B, C_i, h_i, w_i), ...] finest first -> BoxOutput."""
        columns, rows = self.profiles(maps)
        bins = self.centres.numel()
        x_logits = self.along_x(columns.flatten(1)).view(-1, 2, bins) + self.sliding_x(columns)
        y_logits = self.along_y(rows.flatten(1)).view(-1, 2, bins) + self.sliding_y(rows)
        return self.read(torch.stack([x_logits[:, 0], y_logits[:, 0], x_logits[:, 1], y_logits[:, 1]], dim=1))

    def profiles(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """[(B, C_i, h_i, w_i), ...] finest first -> along x (B, 2 width, w) and along y (B, 2 width, h)."""
        fused = self.lateral[0](maps[0])
        for conv, m in zip(self.lateral[1:], maps[1:], strict=True):
            fused = fused + F.interpolate(conv(m), size=self.map_size, mode="bilinear", align_corners=False)
        fused = F.hardswish(self.norm(fused))
        fused = fused + self.mix(fused)
        if fused.requires_grad:  # the profiles' gradient comes in another order, in which BatchNorm is six times slower
            fused.register_hook(_channels_last)
        look = self.look(fused)
        return _profile(fused, look[:, :1], dim=2), _profile(fused, look[:, 1:], dim=3)

    def read(self, edge_logits: Tensor) -> BoxOutput:
        """(B, 4, K) -> BoxOutput."""
        p = edge_logits.softmax(dim=2)
        edges = (p * self.centres).sum(dim=2)
        variance = (p * (self.centres - edges.unsqueeze(2)) ** 2).sum(dim=2)
        if not self.training:
            edges = ((self.SHARPER * edge_logits).softmax(dim=2) * self.centres).sum(dim=2)
        return BoxOutput(edges, variance.clamp_min(1e-12).sqrt(), edge_logits, None)


def _channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)


class SlidingFc(nn.Module):
    """A profile of n places -> logits of its low and its high edge at the bins: every place looks at its neighbours and
    says how likely each edge is at `FINER` points within it, and the bins are read off between the points. Moved
    features give moved logits."""

    FINER = 8

    def __init__(self, channels: int, places: int, centres: Tensor, hidden: int) -> None:
        """`centres` (K,): where the bins lie, in 0-1 of the profile; those outside get what its ends say."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, (1, 3), padding=(0, 1), bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
            nn.Conv2d(hidden, hidden, (1, 5), padding=(0, 2), bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
            nn.Conv2d(hidden, 2 * self.FINER, 1),
        )
        self.register_buffer("reading", _reading(places * self.FINER, centres), persistent=False)
        self.reading: Tensor

    def forward(self, profile: Tensor) -> Tensor:
        """(B, C, n) -> (B, 2, K)."""
        points = self.layers(profile.unsqueeze(2)).squeeze(2)  # (B, 2 FINER, n)
        b, _, n = points.shape
        points = points.view(b, 2, self.FINER, n).transpose(2, 3).reshape(b, 2, n * self.FINER)
        return points @ self.reading


def _reading(points: int, centres: Tensor) -> Tensor:
    """(points, K): linear interpolation from `points` evenly spread over 0-1 to `centres`."""
    place = (centres * points - 0.5).clamp(0, points - 1)
    low = place.floor().long().clamp(max=max(points - 2, 0))
    share = place - low
    matrix, bins = torch.zeros(points, len(centres)), torch.arange(len(centres))
    matrix[low, bins] = 1 - share
    matrix[(low + 1).clamp(max=points - 1), bins] += share
    return matrix


def _profile(features: Tensor, look: Tensor, dim: int) -> Tensor:
    """(B, C, h, w) and where to look (B, 1, h, w) -> (B, 2C, n): mean and attended mean over `dim`."""
    attended = (features * look.softmax(dim=dim)).sum(dim=dim)
    return torch.cat([features.mean(dim=dim), attended], dim=1)


class Probe(nn.Module):
    """What the pretrained trunk, as it was before it learnt anything here, says of the class: a linear map on the means
    of its coarsest map, fitted by `onebox.training.transfer` after the loop. Added to the class head's logits it is
    wrong about other pictures than that (docs/log.md, 2026-11-28). Never learns; always in evaluation mode."""

    def __init__(self, trunk: Trunk, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.linear = nn.Linear(trunk.channels[-1], classes)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Probe:
        """Stays in evaluation mode."""
        del mode
        super().train(False)
        return self

    def share(self, trunk: nn.Module) -> None:
        """Uses the layers of `trunk` wherever they are still the same, the held ones: they are computed once then."""
        theirs = dict(trunk.named_modules())
        for name, layer in list(self.trunk.named_modules()):
            other = theirs.get(name)
            if other is None or other is layer or list(layer.children()) or not layer.state_dict():
                continue
            if all(torch.equal(a, b) for a, b in zip(_tensors(layer), _tensors(other), strict=True)):
                parent, _, last = name.rpartition(".")
                setattr(self.trunk.get_submodule(parent), last, other)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (B, C), to be added to logits."""
        return self.linear(self.trunk(x)[-1].mean(dim=(2, 3)))


def _tensors(layer: nn.Module) -> list[Tensor]:
    """All that a layer's answer depends on, the BatchNorm that it is folded with included."""
    return [value for one in (layer, *getattr(layer, "norm", ())) for value in one.state_dict().values()]


class PresenceHead(nn.Module):
    """Is any of the classes in the picture? The sum of three scores, each in standard deviations of pictures with an
    object, weighed by WEIGHTS (measured, docs/log.md, 2026-11-22):

    * pooled maps -> FC -> FC, taught with negatives: knows the ground around the objects;
    * how near the maps' means lie to those of the training pictures: knows what no training picture was like. It is the
      Mahalanobis distance of Lee et al. 2018 (arXiv 1807.03888, eq. 2) to one mean, the covariance exact along its main
      directions and of one variance across them (Tipping and Bishop 1999, section 3);
    * the negative energy of the class head's logits (Liu et al. 2020, arXiv 2010.03759, eq. 4).

    Fitted by `onebox.training.presence`, never by the loop; shares no parameter with another head.
    """

    WEIGHTS = (1.0, 3.0, 1.0)
    HIDDEN = 64
    RANK = 128

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.means = sum(channels)  # so many of the pooled values are means, and they come first
        rank = min(self.RANK, self.means - 1)
        self.fc = nn.Sequential(nn.Linear(2 * self.means, self.HIDDEN), nn.Hardswish(), nn.Linear(self.HIDDEN, 1))
        self.register_buffer("centre", torch.zeros(2 * self.means))
        self.register_buffer("scale", torch.ones(2 * self.means))
        self.register_buffer("directions", torch.zeros(self.means, rank))  # orthonormal columns
        self.register_buffer("variances", torch.ones(rank))  # along the directions
        self.register_buffer("rest", torch.ones(1))  # across them
        self.register_buffer("usual", torch.zeros(3))  # the three scores of pictures with an object: mean
        self.register_buffer("spread", torch.ones(3))  # and standard deviation
        self.register_buffer("weights", torch.tensor(self.WEIGHTS), persistent=False)
        self.centre: Tensor
        self.scale: Tensor
        self.directions: Tensor
        self.variances: Tensor
        self.rest: Tensor
        self.usual: Tensor
        self.spread: Tensor
        self.weights: Tensor

    @staticmethod
    def pool(maps: list[Tensor]) -> Tensor:
        """[(B, C_i, h_i, w_i), ...] -> (B, 2 sum C_i): the mean, then the largest value, of every channel."""
        return torch.cat([m.mean(dim=(2, 3)) for m in maps] + [m.amax(dim=(2, 3)) for m in maps], dim=1)

    def scores(self, pooled: Tensor, logits: Tensor) -> Tensor:
        """(B, 2 sum C_i), (B, C) -> (B, 3), each larger where an object is more surely there."""
        z = (pooled - self.centre) / self.scale
        means = z[:, : self.means]
        along = means @ self.directions
        across = (means.square().sum(dim=1) - along.square().sum(dim=1)).clamp_min(0)
        distance = ((along.square() / self.variances).sum(dim=1) + across / self.rest) / self.means
        return torch.stack([self.fc(z).squeeze(1), -torch.log(distance + 1e-6), logits.logsumexp(dim=1)], dim=1)

    def forward(self, maps: list[Tensor], logits: Tensor) -> Tensor:
        """[(B, C_i, h_i, w_i), ...], (B, C) -> (B,): about 0 for pictures with an object, lower without."""
        return ((self.scores(self.pool(maps), logits) - self.usual) / self.spread * self.weights).sum(dim=1)
