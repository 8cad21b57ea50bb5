"""Operations on one uint8 (3, H, W) RGB image, each with the result of the same one in Pillow.

They work on contiguous (H, W, 3) arrays, the memory layout that `decode` and `resize` return; an image in
another layout is copied. No operation changes its input.

Layout suffixes: `x_CHW` is channels, height, width; `x_HWC` has the channels last.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from hornet_train.images.layout import Array, image_of, pixels_of
from hornet_train.images.loops import levels


def look_up(image_CHW: Tensor, table: Array) -> Tensor:
    """Replace every value v by `table[v]`, or value v of channel c by `table[c, v]`.

    Args:
        image_CHW: uint8 (3, H, W).
        table: (256,) or (3, 256), values 0..255 of any number type, truncated to uint8.
    """
    pixels_HWC, table = pixels_of(image_CHW), table.astype(np.uint8)
    if table.ndim == 2:
        return image_of(levels.look_up(pixels_HWC, table))
    mapped = bytearray(pixels_HWC).translate(table.tobytes())  # faster than a compiled loop
    return image_of(np.frombuffer(mapped, np.uint8).reshape(pixels_HWC.shape))


def auto_contrast(image_CHW: Tensor) -> Tensor:
    """Stretch each channel to 0..255; a channel of a single value stays as it is."""
    pixels_HWC = pixels_of(image_CHW)
    return image_of(levels.look_up(pixels_HWC, levels.auto_contrast_tables(pixels_HWC)))


def equalize(image_CHW: Tensor) -> Tensor:
    """Flatten each channel's histogram, by Pillow's integer rule."""
    pixels_HWC = pixels_of(image_CHW)
    return image_of(levels.look_up(pixels_HWC, levels.equalize_tables(pixels_HWC)))


def invert(image_CHW: Tensor) -> Tensor:
    """255 - value."""
    return image_CHW.bitwise_not()


def posterize(image_CHW: Tensor, bits: int) -> Tensor:
    """Keep the `bits` highest bits of each value, 0..8; 0 gives black (Pillow refuses 0)."""
    return image_CHW.bitwise_and(256 - (1 << (8 - max(0, min(8, bits)))))


def solarize(image_CHW: Tensor, threshold: int) -> Tensor:
    """Invert the values that are at least `threshold`, 0..256."""
    pixels_HWC = pixels_of(image_CHW)
    if threshold > 255:
        return image_of(pixels_HWC.copy())
    return image_of(pixels_HWC ^ (np.uint8(255) * (pixels_HWC >= np.uint8(threshold)).view(np.uint8)))


def solarize_add(image_CHW: Tensor, add: int, threshold: int = 128) -> Tensor:
    """Add `add` (0..127) to the values below `threshold` (0..128)."""
    pixels_HWC = pixels_of(image_CHW)
    return image_of(pixels_HWC + np.uint8(add) * (pixels_HWC < np.uint8(threshold)).view(np.uint8))


def grey(image_CHW: Tensor) -> Tensor:
    """The luma of a uint8 (3, H, W) image: int32 (H, W), 0..255."""
    return torch.from_numpy(levels.luma(pixels_of(image_CHW)).astype(np.int32))


def brightness(image_CHW: Tensor, factor: float) -> Tensor:
    """Blend with black: factor 0 gives black, 1 the image, above 1 extrapolates."""
    return image_of(levels.blend_level(0.0, pixels_of(image_CHW), factor))


def contrast(image_CHW: Tensor, factor: float) -> Tensor:
    """Blend with the mean grey level: factor 0 gives that, 1 the image, above 1 extrapolates."""
    pixels_HWC = pixels_of(image_CHW)
    grey_HW = levels.luma(pixels_HWC)
    mean = math.floor(int(grey_HW.sum(dtype=np.int64)) / grey_HW.size + 0.5)
    return image_of(levels.blend_level(float(mean), pixels_HWC, factor))


def color(image_CHW: Tensor, factor: float) -> Tensor:
    """Blend with the grey image: factor 0 gives that, 1 the image, above 1 extrapolates."""
    pixels_HWC = pixels_of(image_CHW)
    return image_of(levels.blend(levels.luma(pixels_HWC), pixels_HWC, factor))


def sharpness(image_CHW: Tensor, factor: float) -> Tensor:
    """Blend with the smoothed image: factor 0 gives that, 1 the image, above 1 extrapolates.

    The border pixels stay as they are.
    """
    pixels_HWC = pixels_of(image_CHW)
    if min(pixels_HWC.shape[:2]) < 3:
        return image_CHW
    return image_of(levels.blend(levels.smooth(pixels_HWC), pixels_HWC, factor))
