"""Arithmetic of boxes: overlaps, and their coding as changes of other boxes.

A box is (x1, y1, x2, y2) in pixels, its corners; it is x2 - x1 wide. Layout suffixes: `x_N4` is N boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_EPS = 1e-6
_MOST = abs(math.log(16 / 1000))  # of a change of the logarithm of a side


def areas(boxes_N4: Tensor) -> Tensor:
    """Shape (N,)."""
    return (boxes_N4[..., 2] - boxes_N4[..., 0]) * (boxes_N4[..., 3] - boxes_N4[..., 1])


def iou(a_N4: Tensor, b_M4: Tensor) -> Tensor:
    """Intersection over union of each pair, float32 (N, M), 0 where both have no area."""
    low = torch.maximum(a_N4[:, None, :2], b_M4[None, :, :2])
    high = torch.minimum(a_N4[:, None, 2:], b_M4[None, :, 2:])
    sides = (high - low).clamp(min=0)
    overlap = sides[..., 0] * sides[..., 1]
    union = areas(a_N4)[:, None] + areas(b_M4)[None] - overlap
    return overlap / union.clamp(min=_EPS)


def giou_loss(predicted_N4: Tensor, target_N4: Tensor, eps: float = 1e-7) -> Tensor:
    """1 - generalised IoU (Rezatofighi et al., CVPR 2019) of boxes in pairs; shape (N,)."""
    low = torch.maximum(predicted_N4[:, :2], target_N4[:, :2])
    high = torch.minimum(predicted_N4[:, 2:], target_N4[:, 2:])
    overlap = (high - low).clamp(min=0).prod(1)
    union = (areas(predicted_N4) + areas(target_N4) - overlap).clamp(min=eps)
    least = torch.minimum(predicted_N4[:, :2], target_N4[:, :2])
    most = torch.maximum(predicted_N4[:, 2:], target_N4[:, 2:])
    around = (most - least).clamp(min=0).prod(1).clamp(min=eps)
    return 1 - (overlap / union - (around - union) / around)


def clipped(boxes_N4: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes within a picture of (height, width); their last dimension may hold several boxes."""
    height, width = size
    most = boxes_N4.new_tensor([width, height]).repeat(boxes_N4.shape[-1] // 2)
    return torch.minimum(boxes_N4.clamp(min=0), most)


@dataclass(frozen=True)
class BoxCoder:
    """A box as a change of another one: its centre moves by shares of the sides, these change by factors.

    (dx, dy, dw, dh) = ((x' - x) / w, (y' - y) / h, log(w' / w), log(h' / h)) / stds, of centres and sides
    (R-CNN, Girshick et al., CVPR 2014).

    Attributes:
        stds: by which the four numbers are divided.
    """

    stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0)

    def encode(self, boxes_N4: Tensor, targets_N4: Tensor) -> Tensor:
        """The changes that make boxes their targets, (N, 4). Boxes and targets have sides above 0."""
        centre, sides = _centre_and_sides(boxes_N4)
        target, wanted = _centre_and_sides(targets_N4)
        deltas_N4 = torch.cat([(target - centre) / sides, (wanted / sides).log()], 1)
        return deltas_N4 / deltas_N4.new_tensor(self.stds)

    def decode(self, boxes_N4: Tensor, deltas_ND: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Boxes that are changed.

        Args:
            boxes_N4: the boxes.
            deltas_ND: (N, 4), or (N, 4 K) with the changes for K classes, class by class.
            size: of the picture, (height, width), to which the result is cut; None leaves it as it is.

        Returns:
            Of the shape of the changes.
        """
        deltas_NK4 = deltas_ND.unflatten(1, (-1, 4)) * deltas_ND.new_tensor(self.stds)
        centre, sides = (one[:, None] for one in _centre_and_sides(boxes_N4))
        centre = centre + sides * deltas_NK4[..., :2]
        sides = sides * deltas_NK4[..., 2:].clamp(-_MOST, _MOST).exp()
        found_ND = torch.cat([centre - sides / 2, centre + sides / 2], 2).flatten(1)
        return found_ND if size is None else clipped(found_ND, size)


def _centre_and_sides(boxes_N4: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes_N4[:, :2], boxes_N4[:, 2:]
    return (low + high) / 2, high - low
