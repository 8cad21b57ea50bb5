"""Colour to grey, for models with one input channel.

Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_RWC` has the rows of all images, their pixels
and the channels of these.
"""

from __future__ import annotations

import torch
from torch import Tensor


def luma(images_BCHW: Tensor) -> Tensor:
    """The ITU-R 601 luma as Pillow's `convert("L")` computes it, in fixed point with 16 fractional bits.

    Args:
        images_BCHW: uint8 (B, 3, H, W), RGB, on any device.

    Returns:
        uint8 (B, 1, H, W), a new tensor. Of equal channels it is each of them.
    """
    if images_BCHW.device.type == "cpu":
        from hornet_train.images.loops import levels  # compiles: for those who need it

        batch, _, height, width = images_BCHW.shape
        pixels_RWC = images_BCHW.permute(0, 2, 3, 1).reshape(batch * height, width, 3).contiguous().numpy()
        return torch.from_numpy(levels.luma(pixels_RWC)).view(batch, 1, height, width)
    return luma_by_operators(images_BCHW)


def luma_by_operators(images_BCHW: Tensor) -> Tensor:
    """The same by torch's operators, for devices without our loop."""
    sums = images_BCHW[:, :1].int().mul_(19595)
    sums.add_(images_BCHW[:, 1:2], alpha=38470).add_(images_BCHW[:, 2:], alpha=7471).add_(32768)
    return sums.bitwise_right_shift_(16).byte()
