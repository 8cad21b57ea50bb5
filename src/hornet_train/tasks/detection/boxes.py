"""Boxes as they are annotated: which of them are trained on, and their corners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hornet_train.tasks.detection.objects import PictureObjects

Floats = np.ndarray[Any, np.dtype[np.float64]]
NARROW, OUTSIDE = "bbox narrower than a pixel", "bbox outside of its picture"


def corners_of(boxes_N4: Floats) -> Floats:
    """Left, top, right, bottom of boxes given as left, top, width, height."""
    return np.concatenate([boxes_N4[:, :2], boxes_N4[:, :2] + boxes_N4[:, 2:]], 1)


def unusable(box: Sequence[float], size: tuple[int, int]) -> str:
    """Why an object cannot be trained on, as the published pipelines have it; "" for one that can.

    Args:
        box: left, top, width, height in pixels.
        size: (height, width) of the picture.
    """
    left, top, width, height = box
    if width < 1 or height < 1:
        return NARROW
    if min(left + width, size[1]) <= max(left, 0) or min(top + height, size[0]) <= max(top, 0):
        return OUTSIDE
    return ""


def usable(boxes_N4: Floats, sizes_N2: np.ndarray) -> np.ndarray:
    """Of which objects `unusable` has nothing to say, bool (N,).

    Args:
        boxes_N4: left, top, width, height.
        sizes_N2: (height, width) of each one's picture; (2,) where they are of one.
    """
    heights, widths = sizes_N2[..., 0], sizes_N2[..., 1]
    left, top, wide, tall = boxes_N4.T
    seen_wide = np.minimum(left + wide, widths) - np.maximum(left, 0)
    seen_tall = np.minimum(top + tall, heights) - np.maximum(top, 0)
    found: np.ndarray = (wide >= 1) & (tall >= 1) & (seen_wide > 0) & (seen_tall > 0)
    return found


def trained(objects: PictureObjects, size: tuple[int, int]) -> np.ndarray:
    """Which objects of a picture of (height, width) pixels are trained on, bool (N,): no crowds, none
    without area or unusable."""
    found: np.ndarray = usable(objects.boxes, np.array(size)) & ~objects.crowd & (objects.areas > 0)
    return found
