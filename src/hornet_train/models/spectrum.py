"""The stored weights of a global filter: one half of the spectrum of a real map, on a frequency grid.

Layout suffixes: S is the width of the layer, h and w the frequency grid; `K` holds (real, imaginary).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def resize_filter(weight_ShwK: Tensor, height: int, width: int) -> Tensor:
    """Resize a stored filter to another frequency grid, bilinearly with aligned corners, as published.

    Shape in: (S/2, h, w, 2); out: (S/2, height, width, 2). A filter that has this grid is returned itself.
    """
    if weight_ShwK.shape[1] == height and weight_ShwK.shape[2] == width:
        return weight_ShwK
    weight_KShw = weight_ShwK.permute(3, 0, 1, 2)
    resized_KShw = nn.functional.interpolate(
        weight_KShw, size=(height, width), mode="bilinear", align_corners=True
    )
    return resized_KShw.permute(1, 2, 3, 0)


def grid_of(image: tuple[int, int], stride: int) -> tuple[int, int]:
    """The grid (h, w) of the filter for an image's map at a stride: (H, W // 2 + 1), that of its real FFT."""
    height, width = (size // stride for size in image)
    return height, width // 2 + 1


def at_least_float32(x: Tensor) -> torch.dtype:
    """The dtype to filter x in: its own, but float32 for half precision."""
    return torch.promote_types(x.dtype, torch.float32)
