"""An image as a tensor, for models, and as an array, for loops, on the same memory; and the types of both."""

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
Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Array = np.ndarray[Any, Any]


def pixels_of(image: Tensor) -> Pixels:
    """uint8 (3, H, W) as a contiguous (H, W, 3) array: a view where memory has that order, else a copy."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def image_of(pixels: Pixels) -> Tensor:
    """uint8 (H, W, 3) as a (3, H, W) tensor on the same, writable memory."""
    return torch.from_numpy(pixels).permute(2, 0, 1)
