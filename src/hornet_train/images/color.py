"""Colour operations and blurs on one uint8 (3, H, W) RGB image, in addition to those of `pillow_ops`.

They take and return images in channels-last memory, and never change their input.

Layout suffixes: `x_CHW` is channels, height, width; `x_HWC` has the channels last.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter
from torch import Tensor

from hornet_train.images.layout import image_of, pixels_of
from hornet_train.images.loops import levels

_RADIUS = 11  # of the Gaussian kernel, in pixels


def greyscale(image_CHW: Tensor) -> Tensor:
    """The ITU-R 601 luma in all three channels, rounded as in Pillow."""
    pixels_HWC = pixels_of(image_CHW)
    return image_of(levels.blend(levels.luma(pixels_HWC), pixels_HWC, 0.0))


def hue(image_CHW: Tensor, turn: float) -> Tensor:
    """Shift the hue in Pillow's HSV, of 256 steps a turn, as torchvision's `adjust_hue` does on a PIL image.

    Args:
        image_CHW: uint8 (3, H, W).
        turn: in turns of the colour wheel, -0.5..0.5.
    """
    hsv_HWC = np.array(_to_pil(image_CHW).convert("HSV"))
    hsv_HWC[:, :, 0] += np.uint8(int(turn * 255) % 256)  # wraps around at 256
    return image_of(np.array(Image.fromarray(hsv_HWC, mode="HSV").convert("RGB")))


def box_blur(image_CHW: Tensor, radius: float) -> Tensor:
    """Pillow's `GaussianBlur`: three box filters that approximate a Gaussian of `radius` pixels.

    DeiT III and timm's `3a` use it. It differs from `gaussian_blur` by up to 30 levels on edges.
    """
    return image_of(np.array(_to_pil(image_CHW).filter(ImageFilter.GaussianBlur(radius))))


def gaussian_blur(image_CHW: Tensor, sigma: float) -> Tensor:
    """A Gaussian of 23 x 23 taps, mirrored at the border: torchvision's `GaussianBlur(23)`.

    Args:
        image_CHW: uint8 (3, H, W).
        sigma: the standard deviation in pixels, above 0.
    """
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    values_HWC = pixels_of(image_CHW).astype(np.float32)
    for axis, length in enumerate(values_HWC.shape[:2]):
        border = [(_RADIUS, _RADIUS) if a == axis else (0, 0) for a in range(3)]
        padded = np.moveaxis(np.pad(values_HWC, border, mode="reflect"), axis, 0)
        total = padded[_RADIUS : _RADIUS + length] * kernel[_RADIUS]
        for k in range(_RADIUS):
            total += kernel[k] * (padded[k : k + length] + padded[2 * _RADIUS - k : 2 * _RADIUS - k + length])
        values_HWC = np.moveaxis(total, 0, axis)
    return image_of(np.ascontiguousarray(np.rint(values_HWC).astype(np.uint8)))


def _to_pil(image_CHW: Tensor) -> Image.Image:
    return Image.fromarray(pixels_of(image_CHW))
