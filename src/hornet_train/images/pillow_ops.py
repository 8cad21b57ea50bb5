"""Operations on one uint8 (3, H, W) RGB image, each the counterpart of one of Pillow's.

Inside they work on contiguous (H, W, 3) arrays, the layout that `decode` and `resize` give; another is
copied into it first. No operation changes the image it is given.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from hornet_train.images.layout import Array, image_of, pixels_of
from hornet_train.images.loops import levels


def look_up(image: Tensor, table: Array) -> Tensor:
    """Replace every value v by `table[v]`, or value v of channel c by `table[c, v]`.

    Args:
        image: uint8 (3, H, W).
        table: (256,) or (3, 256), values 0..255 of any type; they are truncated to uint8.
    """
    pixels, table = pixels_of(image), table.astype(np.uint8)
    if table.ndim == 2:
        return image_of(levels.look_up(pixels, table))
    mapped = bytearray(pixels).translate(table.tobytes())  # faster than any loop
    return image_of(np.frombuffer(mapped, np.uint8).reshape(pixels.shape))


def auto_contrast(image: Tensor) -> Tensor:
    """Stretch each channel to 0..255; a channel of one value stays."""
    pixels = pixels_of(image)
    return image_of(levels.look_up(pixels, levels.stretching(pixels)))


def equalize(image: Tensor) -> Tensor:
    """Flatten each channel's histogram, by Pillow's integer rule."""
    pixels = pixels_of(image)
    return image_of(levels.look_up(pixels, levels.equalizing(pixels)))


def invert(image: Tensor) -> Tensor:
    """255 - value."""
    return image.bitwise_not()


def posterize(image: Tensor, bits: int) -> Tensor:
    """Keep the `bits` highest bits of each value, 0..8; 0 gives black (Pillow refuses 0)."""
    return image.bitwise_and(256 - (1 << (8 - max(0, min(8, bits)))))


def solarize(image: Tensor, threshold: int) -> Tensor:
    """Invert the values from `threshold` (0..256) up."""
    pixels = pixels_of(image)
    if threshold > 255:
        return image_of(pixels.copy())
    return image_of(pixels ^ (np.uint8(255) * (pixels >= np.uint8(threshold)).view(np.uint8)))


def solarize_add(image: Tensor, add: int, threshold: int = 128) -> Tensor:
    """Add `add` (0..127) to the values below `threshold` (0..128)."""
    pixels = pixels_of(image)
    return image_of(pixels + np.uint8(add) * (pixels < np.uint8(threshold)).view(np.uint8))


def grey(image: Tensor) -> Tensor:
    """uint8 (3, H, W) to its luma, int32 (H, W), 0..255."""
    return torch.from_numpy(levels.luma(pixels_of(image)).astype(np.int32))


def brightness(image: Tensor, factor: float) -> Tensor:
    """Blend from black (0) over the image (1) outward."""
    return image_of(levels.blend_level(0.0, pixels_of(image), factor))


def contrast(image: Tensor, factor: float) -> Tensor:
    """Blend from the mean grey (0) over the image (1) outward."""
    pixels = pixels_of(image)
    grey = levels.luma(pixels)
    mean = math.floor(int(grey.sum(dtype=np.int64)) / grey.size + 0.5)
    return image_of(levels.blend_level(float(mean), pixels, factor))


def color(image: Tensor, factor: float) -> Tensor:
    """Blend from the grey image (0) over the image (1) outward."""
    pixels = pixels_of(image)
    return image_of(levels.blend(levels.luma(pixels), pixels, factor))


def sharpness(image: Tensor, factor: float) -> Tensor:
    """Blend from the smoothed image (0) over the image (1) outward; the outermost pixels stay."""
    pixels = pixels_of(image)
    if min(pixels.shape[:2]) < 3:
        return image
    return image_of(levels.blend(levels.smooth(pixels), pixels, factor))
