"""Masks of objects as squares over their boxes, and such squares as masks of the picture.

Layout suffixes: `x_RSS` is regions, and the side of their squares twice.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.dense.rcnn.boxes import clipped
from hornet_train.dense.rcnn.roi_align import roi_align

MASK_SIDE = 28


class Patch(NamedTuple):
    """A part of a picture: its first row and column, and the pixels in it, bool (height, width)."""

    top: int
    left: int
    pixels: Tensor


def mask_targets(masks_MHW: Tensor, boxes_R4: Tensor, objects_R: Tensor, side: int = MASK_SIDE) -> Tensor:
    """What masks of regions should be: bool (R, side, side).

    Each square is the mean over its cells of the object's mask, cut at a half.

    Args:
        masks_MHW: of the objects, 0 or 1, of any type.
        boxes_R4: of the regions, in the masks' pixels; they are cut to the picture.
        objects_R: which object each is of.
    """
    height, width = masks_MHW.shape[1:]
    rois_R5 = torch.cat([objects_R[:, None].to(boxes_R4), clipped(boxes_R4, (height, width))], 1)
    return roi_align(masks_MHW[:, None].float(), rois_R5, side, 1.0)[:, 0] >= 0.5


def pasted(shares_SS: Tensor, box: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Patch:
    """A square of probabilities laid over its box, as pixels of the picture, within a window around the box.

    Args:
        shares_SS: float (side, side).
        box: (x1, y1, x2, y2) in pixels.
        size: of the picture, (height, width).
        threshold: from which on a pixel belongs to the object.

    A box without width or height has no pixels.
    """
    left, top, right, bottom = box.tolist()
    if not (right > left and bottom > top):
        return Patch(0, 0, torch.zeros((0, 0), dtype=torch.bool))
    columns, rows = _around(left, right, size[1]), _around(top, bottom, size[0])
    x, y = (_places(*one, box.device) for one in ((columns, left, right), (rows, top, bottom)))
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], 2)
    found = F.grid_sample(shares_SS[None, None].float(), grid[None], align_corners=False)[0, 0]
    return Patch(rows.start, columns.start, found >= threshold)


def _around(low: float, high: float, size: int) -> range:
    """The pixels of a picture along an axis in which there may be something of a box."""
    first = min(max(0, math.floor(low) - 1), size)
    return range(first, max(first, min(size, math.ceil(high) + 1)))


def _places(pixels: range, low: float, high: float, device: torch.device) -> Tensor:
    """Where the centres of pixels lie in a box along an axis: -1 is its one end, 1 the other."""
    centres = torch.arange(pixels.start, pixels.stop, dtype=torch.float32, device=device) + 0.5
    ends = torch.tensor([low, high], device=device)
    return (centres - ends[0]) / (ends[1] - ends[0]) * 2 - 1
