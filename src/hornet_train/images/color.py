"""Colour and blur on one uint8 (3, H, W) RGB image, beside the operations of `pillow_ops`.

They work on numpy's (H, W, 3) view, in which a decoded image lies in memory; what they return lies so too.
None of them changes the image it is given.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter
from torch import Tensor

from hornet_train.images.layout import image_of, pixels_of
from hornet_train.images.loops import levels

_TAPS = 11  # of a Gaussian kernel, on either side of its centre


def greyscale(image: Tensor) -> Tensor:
    """ITU-R 601 luma in all three channels, as Pillow rounds it."""
    pixels = pixels_of(image)
    return image_of(levels.blend(levels.luma(pixels), pixels, 0.0))


def hue(image: Tensor, turn: float) -> Tensor:
    """Turn the hue, in Pillow's HSV of 256 steps a turn, as torchvision's `adjust_hue` does on its images.

    Args:
        image: uint8 (3, H, W).
        turn: in whole turns of the colour wheel, -0.5..0.5.
    """
    hsv = np.array(_picture(image).convert("HSV"))
    hsv[:, :, 0] += np.uint8(int(turn * 255) % 256)  # wraps around
    return image_of(np.array(Image.fromarray(hsv, mode="HSV").convert("RGB")))


def box_blur(image: Tensor, radius: float) -> Tensor:
    """Pillow's `GaussianBlur`: three box filters about as wide as a Gaussian of that many pixels.

    DeiT III and timm's `3a` blur with it. It differs from `gaussian_blur` by up to 30 levels on edges.
    """
    return image_of(np.array(_picture(image).filter(ImageFilter.GaussianBlur(radius))))


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """A Gaussian of 23 x 23 taps, mirrored at the border: torchvision's `GaussianBlur(23)`.

    Args:
        image: uint8 (3, H, W).
        sigma: the standard deviation in pixels, above 0.
    """
    offsets = np.arange(-_TAPS, _TAPS + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    values = pixels_of(image).astype(np.float32)
    for axis, length in enumerate(values.shape[:2]):
        border = [(_TAPS, _TAPS) if a == axis else (0, 0) for a in range(3)]
        padded = np.moveaxis(np.pad(values, border, mode="reflect"), axis, 0)
        total = padded[_TAPS : _TAPS + length] * kernel[_TAPS]
        for k in range(_TAPS):
            total += kernel[k] * (padded[k : k + length] + padded[2 * _TAPS - k : 2 * _TAPS - k + length])
        values = np.moveaxis(total, 0, axis)
    return image_of(np.ascontiguousarray(np.rint(values).astype(np.uint8)))


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray(pixels_of(image))
