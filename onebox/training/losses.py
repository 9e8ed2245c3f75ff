"""The criterion, apart from model and loop. Takes what the network gives and what is true; gives one class loss and one
box loss, unweighted. Adding and weighting them is the loop's and the balance's business.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from onebox.training.heads import BoxOutput, EdgeBoxHead

#: Weights of the three parts of the `edges` loss (L1 and GIoU as in DETR, Carion et al. 2020, arXiv 2005.12872), and
#: the width of the soft target in bins. The last two are a first choice, not tuned.
L1_WEIGHT = 5.0
GIOU_WEIGHT = 2.0
SOFT_WEIGHT = 0.5
SOFT_SIGMA_BINS = 1.5


class Losses(NamedTuple):
    """Two scalars, means over the batch."""

    class_loss: Tensor
    box_loss: Tensor


def criterion(
    logits: Tensor, box: BoxOutput, labels: Tensor, true_boxes_01: Tensor, *, box_loss: str, label_smoothing: float
) -> Losses:
    """`logits` (B, C), `labels` (B,) int64, `true_boxes_01` (B, 4) corners in 0-1 -> Losses.

    `box_loss`: "mse" compares (cx, cy, w, h) in 0-1; "l1_giou" corners; "edges" adds the soft-target cross-entropy.
    """
    class_loss = F.nll_loss(F.log_softmax(logits, dim=1), labels)
    if label_smoothing:
        class_loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    if box_loss == "mse":
        return Losses(class_loss, F.mse_loss(_cxcywh(box), to_cxcywh(true_boxes_01)))
    loss = L1_WEIGHT * F.l1_loss(box.boxes_01, true_boxes_01) + GIOU_WEIGHT * giou_loss(box.boxes_01, true_boxes_01)
    if box_loss == "edges":
        assert box.edge_logits is not None
        loss = loss + SOFT_WEIGHT * soft_target_loss(box.edge_logits, true_boxes_01)
    return Losses(class_loss, loss)


def giou_loss(boxes_01: Tensor, true_boxes_01: Tensor) -> Tensor:
    """Mean of 1 - GIoU (Rezatofighi et al. 2019, arXiv 1902.09630), torchvision's, with crossed edges put in order."""
    low = torch.minimum(boxes_01[:, :2], boxes_01[:, 2:])
    high = torch.maximum(boxes_01[:, :2], boxes_01[:, 2:])
    return generalized_box_iou_loss(torch.cat([low, high], dim=1), true_boxes_01, reduction="mean")


def soft_target_loss(edge_logits: Tensor, true_boxes_01: Tensor) -> Tensor:
    """Cross-entropy of each edge's distribution (B, 4, K) against a Gaussian around the true edge, on the bins."""
    bins = edge_logits.shape[2]
    centres = torch.linspace(-EdgeBoxHead.MARGIN, 1 + EdgeBoxHead.MARGIN, bins, device=edge_logits.device)
    sigma = SOFT_SIGMA_BINS * (1 + 2 * EdgeBoxHead.MARGIN) / (bins - 1)
    target = torch.softmax(-0.5 * ((centres - true_boxes_01.unsqueeze(2)) / sigma) ** 2, dim=2)
    return -(target * edge_logits.log_softmax(dim=2)).sum(dim=2).mean()


def to_cxcywh(boxes_01: Tensor) -> Tensor:
    """(B, 4) corners -> centre x, centre y, width, height."""
    return torch.cat([(boxes_01[:, :2] + boxes_01[:, 2:]) / 2, boxes_01[:, 2:] - boxes_01[:, :2]], dim=1)


def _cxcywh(box: BoxOutput) -> Tensor:
    return box.boxes_cxcywh_01 if box.boxes_cxcywh_01 is not None else to_cxcywh(box.boxes_01)
