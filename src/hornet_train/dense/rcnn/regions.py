"""Regions of interest of the pictures of a batch, and their features.

Layout suffixes: `x_R4` is R boxes; `x_R5` has the number of each one's picture before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.dense.rcnn.anchors import STRIDES
from hornet_train.dense.rcnn.boxes import areas
from hornet_train.dense.rcnn.roi_align import roi_align

Picture = tuple[int, int]  # (height, width) without padding, in pixels
REGION_STRIDES = STRIDES[:4]  # of the levels that regions are seen on
_FINEST = 14  # strides: regions of less than twice this side are seen on the finest level


class Objects(NamedTuple):
    """What is in a picture.

    Attributes:
        boxes: (M, 4).
        labels: int64 (M,).
        masks: (M, H, W), 0 or 1; None where masks are not trained.
        outlined: bool (M,), of which of them the mask is known; None for all.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None
    outlined: Tensor | None = None


def of_class(values: Tensor, labels_R: Tensor) -> Tensor:
    """Of each region the values of its class, (R, ...), out of those of all classes, (R, K, ...)."""
    own: Tensor = values[torch.arange(len(labels_R), device=labels_R.device), labels_R]
    return own


def level_of(boxes_R4: Tensor, strides: Sequence[int] = REGION_STRIDES) -> Tensor:
    """The level, 0..3, on which each region is seen: by the logarithm of its side (FPN, CVPR 2017, eq. 1)."""
    sides_R = areas(boxes_R4).clamp(min=0).sqrt()
    found: Tensor = (sides_R / (_FINEST * strides[0]) + 1e-6).log2().floor().clamp(0, len(strides) - 1).long()
    return found


def regions_of(
    levels: Sequence[Tensor], rois_R5: Tensor, side: int, strides: Sequence[int] = REGION_STRIDES
) -> Tensor:
    """Features of regions, each from its level, (R, C, side, side).

    Args:
        levels: (B, C, H, W), of these strides; there may be more.
        rois_R5: the picture's number, and the box in its pixels.
        side: bins along an axis.
        strides: of the levels that regions are seen on.
    """
    level_R = level_of(rois_R5[:, 1:], strides)
    order, parts = list[Tensor](), list[Tensor]()
    for number, stride in enumerate(strides):
        rows = (level_R == number).nonzero()[:, 0]
        order.append(rows)
        parts.append(roi_align(levels[number], rois_R5[rows], side, 1 / stride))
    return torch.cat(parts)[torch.cat(order).argsort()]  # levels without a region are part of the graph, too


def with_numbers(boxes: Sequence[Tensor]) -> Tensor:
    """(R, 5): boxes of all pictures, each with its picture's number before it."""
    return torch.cat([F.pad(one, (1, 0), value=float(number)) for number, one in enumerate(boxes)])
