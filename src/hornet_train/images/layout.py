"""Convert an image between a (3, H, W) tensor and an (H, W, 3) array, and the types that images/ uses.

Layout suffixes: `x_CHW` is channels, height, width; `x_HWC` has the channels last.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic"]
RGB = tuple[int, int, int]  # 0..255
Box = tuple[int, int, int, int]  # top, left, height, width, in pixels
Matrix = tuple[float, float, float, float, float, float]  # of an affine transform, see `warp.warp`
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Points = np.ndarray[tuple[int, ...], np.dtype[np.float64]]  # (..., 2): x, y
Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Array = np.ndarray[Any, Any]


def pixels_of(image_CHW: Tensor) -> Pixels:
    """uint8 (3, H, W) tensor to a contiguous (H, W, 3) array: a view of channels-last memory, or a copy."""
    return np.ascontiguousarray(image_CHW.permute(1, 2, 0).numpy())


def image_of(pixels_HWC: Pixels) -> Tensor:
    """uint8 (H, W, 3) array to a (3, H, W) tensor on the same memory, which must be writable."""
    return torch.from_numpy(pixels_HWC).permute(2, 0, 1)
