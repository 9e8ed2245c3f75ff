"""torchvision's SSDlite detector, from random weights as it comes, or its heads on a pretrained trunk. Takes a job;
gives for each test picture the box of the highest score and its class. Uses torchvision's model, losses and anchors;
only the loop around them is written here.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.misc import Conv2dNormActivation

from benchmarks.accuracy.answers import Answers, Job, median_answers
from benchmarks.peers.loop import STRENGTH_PRETRAINED, STRENGTH_SCRATCH, Clock, all_cores, batches, load, pictures_of
from onebox.training.schedule import lr_factor
from onebox.training.trunk import Trunk, build_trunk

#: torchvision's reference trains with batches of 24 on each of eight devices, for days. The rate is onebox's own, with
#: a one-cycle schedule: a first choice that converges in minutes, not tuned.
BATCH = 24
LR, TRUNK_SHARE, WEIGHT_DECAY, WARMUP = 1e-3, 0.25, 0.01, 0.15
#: As in torchvision's ssdlite: two aspect ratios and their inverses on six maps, and the widths of the four added maps.
ASPECTS, ADDED = (2, 3), (512, 256, 256, 128)
NORM = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)


class Maps(nn.Module):
    """A trunk's maps at strides 16 and 32, and four coarser ones made from the last."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        widths = [trunk.channels[-1], *ADDED]
        self.added = nn.ModuleList(_halve(a, b) for a, b in pairwise(widths))

    def forward(self, pictures: Tensor) -> OrderedDict[str, Tensor]:
        """(B, 3, S, S) normalised -> six maps, finest first."""
        maps = list(self.trunk(pictures))
        for layer in self.added:
            maps.append(layer(maps[-1]))
        return OrderedDict((str(i), m) for i, m in enumerate(maps))


def train_and_answer(job: Job, trunk: tuple[str, str] | None) -> Answers:
    """One training of `job.minutes`. `trunk`: (timm name, weights file), or None for torchvision's own from scratch.
    The last weights answer. Raises OneboxError."""
    with all_cores(job.seed):
        return _train(job, trunk)


def _train(job: Job, trunk: tuple[str, str] | None) -> Answers:
    began = time.perf_counter()
    train, test = load(job, job.side)
    model = _build(job, trunk)
    heads = [p for name, p in model.named_parameters() if not name.startswith("backbone.trunk.")]
    of_trunk = [p for name, p in model.named_parameters() if name.startswith("backbone.trunk.")]
    groups = [{"params": heads, "share": 1.0}, {"params": of_trunk, "share": TRUNK_SHARE}]
    optimizer = torch.optim.AdamW(groups, lr=LR, weight_decay=WEIGHT_DECAY)
    strength = STRENGTH_SCRATCH if trunk is None else STRENGTH_PRETRAINED
    size, steps, clock = min(BATCH, len(train)), 0, Clock(job.minutes)
    model.train()
    for batch in batches(train, clock, size=size, seed=job.seed, strength=strength):
        for group in optimizer.param_groups:
            group["lr"] = LR * lr_factor(batch.progress, WARMUP) * group["share"]
        targets = [
            {"boxes": (box * job.side).view(1, 4), "labels": label.view(1) + 1}  # 0 is the background
            for box, label in zip(batch.boxes_01.clamp(0, 1), batch.labels, strict=True)
        ]
        loss = sum(model(list(batch.pictures / 255), targets).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    seconds = clock.seconds()
    labels, boxes_01, silent = _answers(model.eval(), list(pictures_of(test)), job)
    epochs = round(steps * size / len(train), 1)
    details = {"epochs": epochs, "silent": silent}
    return Answers(labels, boxes_01, seconds, time.perf_counter() - began, details)


def _build(job: Job, trunk: tuple[str, str] | None) -> SSD:
    classes = len(job.class_names) + 1
    if trunk is None:
        model = ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=classes, score_thresh=0.0
        )
        # its maps and anchors go with any size; at 320 px a CPU would see a third of the pictures in the same time
        model.transform = _transform(job.side, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        return model
    maps = Maps(build_trunk(*trunk, job.side))
    anchors = DefaultBoxGenerator([list(ASPECTS)] * 6, min_ratio=0.2, max_ratio=0.95)
    channels = [*maps.trunk.channels, *ADDED]
    head = SSDLiteHead(channels, anchors.num_anchors_per_location(), classes, NORM)
    size = (job.side, job.side)
    model = SSD(
        maps, anchors, size, classes, head=head, score_thresh=0.0, nms_thresh=0.55, detections_per_img=300,
        topk_candidates=300,
    )  # fmt: skip
    model.transform = _transform(job.side, maps.trunk.mean, maps.trunk.std)
    return model


def _transform(side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> GeneralizedRCNNTransform:
    return GeneralizedRCNNTransform(
        side, side, list(mean), list(std), size_divisible=1, fixed_size=(side, side)
    )  # fmt: skip


def _halve(channels_in: int, channels_out: int) -> nn.Sequential:
    """As torchvision's ssdlite adds a map: 1x1 to half the width, 3x3 depthwise at stride 2, 1x1 to the width."""
    inner = channels_out // 2
    layer = partial(Conv2dNormActivation, norm_layer=NORM, activation_layer=nn.ReLU6)
    return nn.Sequential(
        layer(channels_in, inner, kernel_size=1),
        layer(inner, inner, kernel_size=3, stride=2, groups=inner),
        layer(inner, channels_out, kernel_size=1),
    )


@torch.inference_mode()
def _answers(model: SSD, pictures: list[Tensor], job: Job) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels, boxes, and how many pictures got no box: those are given the median box and the majority class."""
    labels, boxes_01 = median_answers(job)
    found = [one for x in pictures for one in model(list(x / 255))]
    silent = 0
    for i, one in enumerate(found):
        if len(one["scores"]) == 0:
            silent += 1
            continue
        best = int(one["scores"].argmax())
        labels[i] = int(one["labels"][best]) - 1
        boxes_01[i] = one["boxes"][best].double().numpy() / job.side
    return labels, boxes_01, silent
