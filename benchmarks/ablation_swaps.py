"""Changes that `benchmarks.ablation` can put in the place of what the product does: one `Swap` each, by name. They
reach into the product's modules for the rest of the process, so that the product need not carry what did not earn
its lines. Train nothing by themselves, but for `distil`, which says so. Those that change the losses or the box head
do not reach the heads' start: give them `--with head_start=0` where a training is short enough to have one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss

from benchmarks.accuracy import SHARED
from onebox.training import heads, losses, trunk
from onebox.training import model as model_module
from onebox.training.augment import BatchAugment, step_generator
from onebox.training.cache import Cache
from onebox.training.heads import BoxOutput, EdgeBoxHead
from onebox.training.loop import train_epochs
from onebox.training.losses import Losses, criterion
from onebox.training.model import Network
from onebox.training.session import Session
from onebox.training.transfer import FirstLook, ridge

loop = importlib.import_module("onebox.training.loop")
api = importlib.import_module("onebox.training.api")

#: What a ridge regression's scores are multiplied by to be logits: its "probabilities" are timid.
RIDGE_TO_LOGITS = 8.0
#: `distil`: the teacher's trunk and how many times as many pictures as the student it sees; temperature and share of
#: its soft answer in the student's class loss (Hinton et al. 2015, arXiv 1503.02531), and weight of the distance to its
#: boxes.
TEACHER_TRUNK, TEACHER_MORE = "mobilenetv2_100", 1.5
DISTIL_TEMPERATURE, DISTIL_SHARE, DISTIL_BOX = 2.0, 0.5, 2.5


def _nothing(session: Session, first: FirstLook | None, taught: Cache) -> None:
    del session, first, taught


@dataclass(frozen=True)
class Swap:
    """`put` is called before the network is made, `prepare` before the loop, with what the untouched trunk said of the
    pictures (None from random weights)."""

    put: Callable[[], None] = lambda: None
    prepare: Callable[[Session, FirstLook | None, Cache], None] = _nothing


# ---- losses


def _iou_loss(loss: Any) -> Callable[[], None]:
    def put() -> None:
        def ordered(boxes: Any, true: Any) -> Any:
            low, high = torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])
            return loss(torch.cat([low, high], dim=1), true, reduction="mean")

        losses.giou_loss = ordered

    return put


def _laplace() -> None:
    """Each edge's error by its own spread: -log of a Laplace density, beside the other parts."""
    before = losses.criterion

    def spread_too(logits: Any, box: Any, labels: Any, true: Any, **options: Any) -> Any:
        found = before(logits, box, labels, true, **options)
        spread = box.sigmas_01.clamp_min(0.005)
        return found._replace(
            box_loss=found.box_loss + 0.5 * ((box.boxes_01 - true).abs() / spread + spread.log()).mean()
        )

    loop.criterion = spread_too


# ---- what learns, and how


def _still_norms() -> None:
    """Every BatchNorm of the trunk keeps its pretrained statistics."""
    train = trunk.TimmTrunk.train

    def still(self: Any, mode: bool = True) -> Any:
        train(self, mode)
        for layer in self.net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        return self

    trunk.TimmTrunk.train = still


def _still_depthwise() -> None:
    """The trunk's depthwise filters keep their pretrained weights."""
    build = model_module.build_trunk

    def held(*args: Any, **options: Any) -> Any:
        made = build(*args, **options)
        for layer in made.modules():
            if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1:
                layer.weight.requires_grad_(False)
        return made

    model_module.build_trunk = held


def _same_padding() -> None:
    """The trunk pads as TensorFlow does, which weights that come from there were made with."""
    create = trunk.timm.create_model
    trunk.timm.create_model = lambda name, **options: create(name, pad_type="same", **options)


def _decay_all() -> None:
    """Weight decay on biases and normalisation, too."""
    make = api.make_optimizer

    def everything(network: Any, config: Any, share: float) -> Any:
        optimizer = make(network, config, share)
        for group in optimizer.param_groups:
            group["weight_decay"] = config.weight_decay
        return optimizer

    api.make_optimizer = everything


# ---- the class head begins with what the trunk already knows


class _DirectClassHead(heads.ClassHead):
    """The class head with a linear map on the same pooled features beside it."""

    def __init__(self, channels: tuple[int, ...], classes: int, **options: Any) -> None:
        super().__init__(channels, classes, **options)
        self.direct = nn.Linear(channels[-1], classes)
        nn.init.zeros_(self.direct.weight)
        nn.init.zeros_(self.direct.bias)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return super().forward(maps) + self.direct(maps[-1].mean(dim=(2, 3)))


def _linear_first(*, held: bool) -> Swap:
    """Kumar et al. 2022 (arXiv 2202.10054): the best linear classifier of the untouched trunk first, then everything.
    `held`: the linear map itself does not learn, only what is added to it."""

    def put() -> None:
        model_module.ClassHead = _DirectClassHead

    def prepare(session: Session, first: FirstLook | None, taught: Cache) -> None:
        assert first is not None
        for network in {session.accelerator.unwrap_model(session.network), session.average}:
            head = network.class_head
            weights, bias = ridge(first.known, taught.labels[first.rows], head.classes)
            with torch.no_grad():
                head.direct.weight.copy_(torch.from_numpy(RIDGE_TO_LOGITS * weights.T))
                head.direct.bias.copy_(torch.from_numpy(RIDGE_TO_LOGITS * bias))
                last = head.fc[-1]
                last.weight.zero_()
                last.bias.zero_()
            head.direct.requires_grad_(not held)

    return Swap(put, prepare)


# ---- what the class head reads


def _class_peaks() -> None:
    """Of a pretrained trunk, too, the largest value of every channel of every map beside the coarsest map's means."""
    model_module.ClassHead = lambda channels, classes, peaks: heads.ClassHead(channels, classes, peaks=True)


class _AttentiveClassHead(heads.ClassHead):
    """Beside the coarsest map's mean, LOOKS weighted means of it: where to look is learnt, and begins as everywhere."""

    LOOKS = 4

    def __init__(self, channels: tuple[int, ...], classes: int, *, peaks: bool, hidden: int = 256) -> None:
        super().__init__((*channels[:-1], channels[-1] * (1 + self.LOOKS)), classes, peaks=False, hidden=hidden)
        del peaks
        self.look = nn.Conv2d(channels[-1], self.LOOKS, 1)
        nn.init.zeros_(self.look.weight)

    def forward(self, maps: list[Tensor]) -> Tensor:
        coarse = maps[-1]
        where = self.look(coarse).flatten(2).softmax(dim=2)  # (B, LOOKS, h w)
        seen = torch.einsum("bcp,blp->blc", coarse.flatten(2), where)
        return self.fc(torch.cat([coarse.mean(dim=(2, 3)), seen.flatten(1)], dim=1))


def _class_attention() -> None:
    model_module.ClassHead = _AttentiveClassHead


class _DroppingClassHead(heads.ClassHead):
    """Three in ten of what the class head reads, and of what it makes of that, are dropped in training."""

    SHARE = 0.3

    def __init__(self, channels: tuple[int, ...], classes: int, *, peaks: bool, hidden: int = 256) -> None:
        super().__init__(channels, classes, peaks=peaks, hidden=hidden)
        first, rise, last = self.fc
        self.fc = nn.Sequential(nn.Dropout(self.SHARE), first, rise, nn.Dropout(self.SHARE), last)


def _class_dropout() -> None:
    model_module.ClassHead = _DroppingClassHead


# ---- what is seen around the object

#: `strange_ground`: share of the pictures, and how far the window that is kept goes beyond the box, in its sides.
GROUND_SHARE, GROUND_ROOM = 0.25, 0.5
#: Side of the coarse picture that another one is made into, so that its own object is not to be told.
GROUND_SIDE = 12


class _Changed(BatchAugment):
    """As the product's, and then `change`, with random numbers of its own for every call."""

    SEED = 0
    asked = 0

    def __call__(self, pictures: Tensor, boxes_01: Tensor, drawn: Any) -> tuple[Tensor, Tensor]:
        x, y = super().__call__(pictures, boxes_01, drawn)
        self.asked += 1
        return self.change(x, y, step_generator(self.SEED, self.asked - 1)), y

    def change(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Pictures (B, 3, H, W) and where their objects are by now, (B, 4) -> the pictures to learn from."""
        raise NotImplementedError


def _strange_ground() -> None:
    """Some pictures keep a window about their object alone; around it lies another picture of the batch, blurred: what
    usually lies about an object should not tell its class."""

    class Grounded(_Changed):
        SEED = 1

        def change(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
            n, _, height, width = x.shape
            u = torch.rand(n, 5, generator=generator)
            side = y[:, 2:] - y[:, :2]
            low, high = y[:, :2] - GROUND_ROOM * u[:, :2] * side, y[:, 2:] + GROUND_ROOM * u[:, 2:4] * side
            at_x, at_y = ((torch.arange(n) + 0.5) / n for n in (width, height))
            inside = ((at_x >= low[:, :1]) & (at_x <= high[:, :1])).unsqueeze(1)
            inside = inside & ((at_y >= low[:, 1:]) & (at_y <= high[:, 1:])).unsqueeze(2)
            kept = (inside | (u[:, 4] >= GROUND_SHARE).view(-1, 1, 1)).unsqueeze(1)
            other = functional.adaptive_avg_pool2d(x.roll(1, dims=0), GROUND_SIDE)
            other = functional.interpolate(other, size=(height, width), mode="bilinear", align_corners=False)
            return torch.where(kept, x, other).contiguous(memory_format=torch.channels_last)

    loop.BatchAugment = Grounded


# ---- pictures that teach the class alone

#: `turned`: share of the pictures, and how far they are turned at most, in degrees. `mixed`: share of the pictures
#: that another one shines through, by a Beta(MIX, MIX) share below a half (Zhang et al. 2017, arXiv 1710.09412).
TURN_SHARE, TURN_MOST = 0.3, 25.0
MIX_SHARE, MIX = 0.3, 0.8


class _ClassAlone:
    """What the latest batch holds: rows whose box is not asked for, and each row's second class and its share."""

    boxed: Tensor
    second: Tensor
    share: Tensor

    @classmethod
    def criterion(cls, logits: Tensor, box: BoxOutput, labels: Tensor, true: Tensor, **options: Any) -> Any:
        kept = cls.boxed
        seen = BoxOutput(*(None if part is None else part[kept] for part in box))
        boxes = criterion(logits[kept], seen, labels[kept], true[kept], **options).box_loss
        smooth = options["label_smoothing"]
        one, two = (
            functional.cross_entropy(logits, of, label_smoothing=smooth, reduction="none")
            for of in (labels, labels[cls.second])
        )
        return Losses(((1 - cls.share) * one + cls.share * two).mean(), boxes)


def _turned() -> None:
    """Some pictures are turned about their object's middle; their class is learnt, their box, which a turn makes loose,
    is not."""

    class Turning(_Changed):
        SEED = 2

        def change(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
            u = torch.rand(len(x), 2, generator=generator)
            rows = torch.nonzero(u[:, 0] < TURN_SHARE).flatten()
            angle = torch.deg2rad(TURN_MOST * (2 * u[rows, 1] - 1))
            centre = y[rows, :2] + y[rows, 2:] - 1
            turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
            shift = centre - (turn @ centre.unsqueeze(2)).squeeze(2)
            grid = functional.affine_grid(
                torch.cat([turn, shift.unsqueeze(2)], dim=2), [len(rows), *x.shape[1:]], align_corners=False
            )
            seen = functional.grid_sample(x[rows] - 127.5, grid, mode="bilinear", align_corners=False) + 127.5
            x[rows] = seen
            _ClassAlone.boxed = torch.nonzero(u[:, 0] >= TURN_SHARE).flatten()
            _ClassAlone.second, _ClassAlone.share = torch.arange(len(x)), torch.zeros(len(x))
            return x

    loop.BatchAugment = Turning
    loop.criterion = _ClassAlone.criterion


def _mixed() -> None:
    """Through some pictures another one of the batch shines; the class is that of both, the box is not learnt there."""

    class Mixing(_Changed):
        SEED = 3

        def change(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
            mixed = torch.rand(len(x), generator=generator) < MIX_SHARE
            rng = np.random.default_rng((self.SEED, self.asked))
            share = torch.from_numpy(rng.beta(MIX, MIX, len(x))).float()
            share = torch.minimum(share, 1 - share) * mixed
            second = (torch.arange(len(x)) + 1) % len(x)
            x = torch.lerp(x, x[second], share.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
            _ClassAlone.boxed = torch.nonzero(~mixed).flatten()
            _ClassAlone.second, _ClassAlone.share = second, share
            return x

    loop.BatchAugment = Mixing
    loop.criterion = _ClassAlone.criterion


# ---- a box for each class


class _PerClassBoxHead(EdgeBoxHead):
    """Edge distributions for every class; the box is that of the true class in training, of the likeliest otherwise."""

    classes = 0

    def __init__(self, channels: tuple[int, ...], map_size: tuple[int, int], bins: int, **options: Any) -> None:
        super().__init__(channels, map_size, bins, **options)
        for fc in (self.along_x, self.along_y):
            hidden = fc[-1].in_features
            fc[-1] = nn.Linear(hidden, 2 * bins * self.classes)
        self.every: Tensor

    def forward(self, maps: list[Tensor]) -> BoxOutput:
        """As the product's; keeps what it says of every class in `every` (B, C, 4, K)."""
        columns, rows = self.profiles(maps)
        bins = self.centres.numel()
        x = self.along_x(columns.flatten(1)).view(-1, self.classes, 2, bins) + self.sliding_x(columns).unsqueeze(1)
        y = self.along_y(rows.flatten(1)).view(-1, self.classes, 2, bins) + self.sliding_y(rows).unsqueeze(1)
        self.every = torch.stack([x[:, :, 0], y[:, :, 0], x[:, :, 1], y[:, :, 1]], dim=2)
        return self.of(torch.zeros(len(x), dtype=torch.long))

    def of(self, labels: Tensor) -> BoxOutput:
        """The answer for these classes (B,)."""
        return self.read(self.every[torch.arange(len(labels)), labels])


def _per_class_boxes() -> None:
    build = model_module.Network.__init__
    forward = model_module.Network.forward
    latest: list[_PerClassBoxHead] = []

    def init(self: Network, made: Any, classes: int, **options: Any) -> None:
        _PerClassBoxHead.classes = classes
        build(self, made, classes, **options)

    def ask(self: Network, pictures: Tensor) -> Any:
        output = forward(self, pictures)
        head = self.box_head
        assert isinstance(head, _PerClassBoxHead)
        latest[:] = [head]
        return output if self.training else output._replace(box=head.of(output.logits.argmax(dim=1)))

    def of_the_true_class(logits: Tensor, box: BoxOutput, labels: Tensor, true: Tensor, **options: Any) -> Any:
        del box
        return criterion(logits, latest[0].of(labels), labels, true, **options)

    model_module.EdgeBoxHead = _PerClassBoxHead
    model_module.Network.__init__ = init
    model_module.Network.forward = ask
    loop.criterion = of_the_true_class


# ---- a larger teacher


def _distil(session: Session, first: FirstLook | None, taught: Cache) -> None:
    """Trains the teacher, a onebox model with TEACHER_TRUNK, by the same loop; then the student hears what it says of
    every augmented picture. The teacher's processor time is the swap's, too."""
    del first
    config = session.config
    assert config.epochs is not None
    weights = str(SHARED / "weights" / f"{TEACHER_TRUNK}.safetensors")
    asked = replace(config, backbone=TEACHER_TRUNK, weights=weights, epochs=round(TEACHER_MORE * config.epochs))
    names = tuple(str(i) for i in range(session.average.class_head.classes))
    theirs = api.start_session(asked, names, session.accelerator)
    for _ in train_epochs(theirs, taught, None):
        pass
    teacher = theirs.average.eval()
    forward = Network.forward
    heard: list[Any] = []

    def ask(self: Network, pictures: Tensor) -> Any:
        if self.training and self is not teacher:
            with torch.no_grad():
                heard[:] = [forward(teacher, pictures)]
        return forward(self, pictures)

    def with_the_teacher(logits: Tensor, box: BoxOutput, labels: Tensor, true: Tensor, **options: Any) -> Any:
        found, t, said = criterion(logits, box, labels, true, **options), DISTIL_TEMPERATURE, heard[0]
        soft = functional.kl_div(
            functional.log_softmax(logits / t, dim=1), functional.softmax(said.logits / t, dim=1), reduction="batchmean"
        )  # fmt: skip
        return found._replace(
            class_loss=(1 - DISTIL_SHARE) * found.class_loss + DISTIL_SHARE * t * t * soft,
            box_loss=found.box_loss + DISTIL_BOX * functional.l1_loss(box.boxes_01, said.box.boxes_01),
        )

    Network.forward = ask
    loop.criterion = with_the_teacher


SWAPS: dict[str, Swap] = {
    "ciou": Swap(_iou_loss(complete_box_iou_loss)),
    "diou": Swap(_iou_loss(distance_box_iou_loss)),
    "laplace": Swap(_laplace),
    "still_norms": Swap(_still_norms),
    "still_depthwise": Swap(_still_depthwise),
    "decay_all": Swap(_decay_all),
    "same_padding": Swap(_same_padding),
    "linear_first": _linear_first(held=False),
    "linear_held": _linear_first(held=True),
    "class_peaks": Swap(_class_peaks),
    "class_attention": Swap(_class_attention),
    "class_dropout": Swap(_class_dropout),
    "strange_ground": Swap(_strange_ground),
    "turned": Swap(_turned),
    "mixed": Swap(_mixed),
    "per_class_boxes": Swap(_per_class_boxes),
    "distil": Swap(prepare=_distil),
}
