"""Boxes as they are annotated: which of them are trained on, and their corners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hornet_train.tasks.detection.objects import PictureObjects

Floats = np.ndarray[Any, np.dtype[np.float64]]
_FEWEST, _MANY = 5, 0.2  # boxes, and the share of them, that careless annotation does not explain
_NEARLY_ALL = 0.99
NARROW, OUTSIDE = "bbox narrower than a pixel", "bbox outside of its picture"


def corners_of(boxes_N4: Floats) -> Floats:
    """Left, top, right, bottom of boxes given as left, top, width, height."""
    return np.concatenate([boxes_N4[:, :2], boxes_N4[:, :2] + boxes_N4[:, 2:]], 1)


def reach_out(boxes_N4: Floats, sizes_N2: np.ndarray) -> np.ndarray:
    """Which boxes reach out of their picture by more than a pixel, bool (N,).

    Args:
        boxes_N4: left, top, width, height.
        sizes_N2: (height, width) of each one's picture.
    """
    corners_N4 = corners_of(boxes_N4)
    first_N2, last_N2 = corners_N4[:, :2], corners_N4[:, 2:]
    over_N4 = np.concatenate([first_N2 < -1, last_N2 > sizes_N2[:, ::-1] + 1], 1)
    found: np.ndarray = np.logical_or.reduce(over_N4, axis=1)
    return found


def look_like_corners(boxes_N4: Floats, sizes_N2: np.ndarray) -> bool:
    """Whether boxes that are read as left, top, width, height must be left, top, right, bottom.

    So it is if many reach out of their pictures, and nearly all would fit as corners. See `reach_out`.
    """
    known = (sizes_N2 > 0).all(1) & (boxes_N4[:, 2:] > 0).all(1)
    boxes_N4, sizes_N2 = boxes_N4[known], sizes_N2[known]
    if int(reach_out(boxes_N4, sizes_N2).sum()) < max(_FEWEST, _MANY * len(boxes_N4)):
        return False
    if_corners_N4 = np.concatenate([boxes_N4[:, :2], boxes_N4[:, 2:] - boxes_N4[:, :2]], 1)
    fit = (if_corners_N4[:, 2:] > 0).all(1) & ~reach_out(if_corners_N4, sizes_N2)
    return bool(fit.mean() >= _NEARLY_ALL)


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
