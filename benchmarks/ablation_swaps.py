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

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss

from benchmarks.ablation_boxes import per_class_boxes, where
from benchmarks.ablation_pictures import detail, erased, mixed, strange_ground, turned
from benchmarks.ablation_rates import rate_found, rate_free
from benchmarks.accuracy import SHARED
from onebox.training import heads, losses, trunk
from onebox.training import model as model_module
from onebox.training.cache import Cache
from onebox.training.heads import BoxOutput
from onebox.training.loop import train_epochs
from onebox.training.losses import criterion
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
    "erased": Swap(erased),
    "strange_ground": Swap(strange_ground),
    "detail": Swap(prepare=detail),
    "turned": Swap(turned),
    "mixed": Swap(mixed),
    "per_class_boxes": Swap(per_class_boxes),
    "where": Swap(where),
    "rate_found": Swap(prepare=rate_found),
    "rate_free": Swap(prepare=rate_free),
    "distil": Swap(prepare=_distil),
}
