"""Boundary IoU of label maps (Cheng et al., CVPR 2021): IoU of the pixels near the borders of each class."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.tasks.segmentation.metrics import IGNORED, Floats, mean_over_classes

WIDTH = 0.02  # of a boundary, as a share of the image's diagonal, as published for COCO and Cityscapes
_OUTSIDE = 256.0  # no label, not even that of ignored pixels


def boundary_width(height: int, width: int) -> int:
    """How many pixels a boundary is wide, at least 1."""
    return max(1, round(WIDTH * math.hypot(height, width)))


def near_border(labels_HW: Tensor, width: int) -> Tensor:
    """Where the border of a class is at most `width` pixels away, along rows, columns or both; bool (H, W).

    The image's own border is one of every class, as in the published code.

    Args:
        labels_HW: integers 0..255.
        width: pixels.
    """
    padded = F.pad(labels_HW[None, None].float(), (width,) * 4, value=_OUTSIDE)
    both = torch.cat([padded, -padded])  # the greatest and the least label in a window, row by row
    for kernel in ((1, 2 * width + 1), (2 * width + 1, 1)):
        both = F.max_pool2d(both, kernel, stride=1)
    return both[0, 0] != -both[1, 0]


def boundary_counts(labels_HW: Tensor, predicted_HW: Tensor, classes: int) -> Tensor:
    """Boundary pixels that are right, labelled and predicted, by class: int64 (3, classes), on the device.

    Ignored pixels count nowhere; their border is one of the classes beside them.

    Args:
        labels_HW: integers 0..255.
        predicted_HW: integers 0..classes - 1.
        classes: K.
    """
    width = boundary_width(*labels_HW.shape)
    counted = labels_HW != IGNORED
    ours = near_border(predicted_HW, width) & counted
    theirs = near_border(labels_HW, width) & counted
    labels, predicted = labels_HW.long(), predicted_HW.long()
    nowhere = torch.full_like(labels, classes)
    known = theirs & (labels < classes)
    rows = (
        torch.where(known & ours & (labels == predicted), labels, nowhere),
        torch.where(known, labels, nowhere),
        torch.where(ours, predicted, nowhere),
    )
    counts = torch.zeros(3, classes + 1, dtype=torch.int64, device=labels.device)
    for row, cells in zip(counts, rows, strict=True):
        row.scatter_add_(0, cells.reshape(-1), torch.ones_like(cells).reshape(-1))
    return counts[:, :-1]


def boundary_iou(counts: Tensor) -> Floats:
    """Of each class, as a share of 1, NaN for one without a boundary; from the sums of `boundary_counts`."""
    right, labelled, predicted = counts.cpu().double()
    found: Floats = (right / (labelled + predicted - right)).numpy()
    return found


def mean_boundary_iou(counts: Tensor) -> float:
    """In per cent, over the classes that have one."""
    return 100 * mean_over_classes(boundary_iou(counts))
