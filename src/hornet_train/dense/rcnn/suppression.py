"""Non-maximum suppression: of boxes that overlap much, the one of the highest score is left."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms


class Kept(NamedTuple):
    """Detections of a picture, the highest score first.

    Attributes:
        boxes: (D, 4).
        scores: (D,).
        labels: int64 (D,).
        rows: which of the candidates each comes from, int64 (D,).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    rows: Tensor


def suppressed(boxes_N4: Tensor, scores_N: Tensor, groups_N: Tensor, most_overlap: float) -> Tensor:
    """The numbers of the boxes that are left, the highest score first; groups do not suppress each other.

    Groups are moved apart as the published code does it, by multiples of the largest coordinate.
    """
    if not len(boxes_N4):
        return torch.zeros(0, dtype=torch.int64, device=boxes_N4.device)
    apart_N4 = boxes_N4 + (groups_N.to(boxes_N4) * (boxes_N4.max() + 1))[:, None]
    kept: Tensor = nms(apart_N4.float(), scores_N.float(), most_overlap)
    return kept


def detections(
    boxes_ND: Tensor, shares_NK: Tensor, *, least_score: float, most_overlap: float, most: int
) -> Kept:
    """Detections of all classes: those of a high score, suppressed class by class, and the best of these.

    Args:
        boxes_ND: (N, 4), or (N, 4 K), with a box for each class.
        shares_NK: scores, K classes, without the background.
        least_score: above it.
        most_overlap: IoU above which the lower one of two of a class goes.
        most: detections.
    """
    classes = shares_NK.shape[1]
    boxes_NK4 = boxes_ND.unflatten(1, (-1, 4)).expand(-1, classes, -1)
    rows, labels = (shares_NK > least_score).nonzero(as_tuple=True)
    boxes, scores = boxes_NK4[rows, labels], shares_NK[rows, labels]
    kept = suppressed(boxes, scores, labels, most_overlap)[:most]
    return Kept(boxes[kept], scores[kept], labels[kept], rows[kept])
