"""Affine transforms of one uint8 (3, H, W) RGB image, within one level of those of Pillow.

Shears and translations, four of RandAugment's five, move whole rows or columns by a constant each, which is
several times faster than the general case.

Layout suffixes: `x_CHW` is channels, height, width; `x_HWC` has the channels last.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from hornet_train.images.layout import RGB, Floats, Interpolation, Ints, Matrix, image_of, pixels_of
from hornet_train.images.loops import motion

Shifts = np.ndarray[tuple[int, ...], np.dtype[np.floating]]


def warp(image_CHW: Tensor, matrix: Matrix, fill: RGB, interpolation: Interpolation = "bicubic") -> Tensor:
    """Affine transform, in the convention of Pillow's `Image.transform(AFFINE)`.

    Args:
        image_CHW: uint8 (3, H, W).
        matrix: (a, b, c, d, e, f): the result at (x, y) is the image at (ax + by + c, dx + ey + f), in pixels
            with the origin in the upper left corner and pixel centres at halves.
        fill: RGB, 0..255, for points outside the image.
        interpolation: "bicubic" is the cubic convolution with a = -1, as in Pillow's transform.

    Returns:
        uint8 (3, H, W).
    """
    pixels_HWC = pixels_of(image_CHW)
    height, width = pixels_HWC.shape[:2]
    a, b, c, d, e, f = matrix
    if (a, b, c, e) == (1, 0, 0, 1):
        shifts = d * (np.arange(width) + 0.5) + f
        return image_of(motion.shift_columns(pixels_HWC, *_taps(shifts, height, interpolation), fill))
    if (a, d, e, f) == (1, 0, 1, 0):
        first, weights, bounds = _taps(b * (np.arange(height) + 0.5) + c, width, interpolation)
        moved_HWC = motion.shift_rows(pixels_HWC, first, weights, bounds)
    else:
        bounds = motion.inside_bounds(matrix, height, width)
        moved_HWC = motion.affine(
            motion.pack_channels(pixels_HWC), matrix, interpolation == "bicubic", bounds
        )
    motion.fill_rows(moved_HWC, bounds, fill)
    return image_of(moved_HWC)


def rotate(image_CHW: Tensor, degrees: float, fill: RGB, interpolation: Interpolation = "bicubic") -> Tensor:
    """Rotate an image counter-clockwise about its centre, as Pillow's `Image.rotate`.

    Args:
        image_CHW: uint8 (3, H, W).
        fill: RGB, 0..255, where the rotated image does not reach.

    Returns:
        uint8 (3, H, W).
    """
    x, y = image_CHW.shape[2] / 2, image_CHW.shape[1] / 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = (cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y)
    return warp(image_CHW, matrix, fill, interpolation)


def _taps(shifts: Shifts, length: int, interpolation: Interpolation) -> tuple[Ints, Floats, Ints]:
    """How to interpolate lines (rows or columns) that are shifted by a constant each.

    Args:
        shifts: (L,), for each line how many pixels further on it is read.
        length: of a line.

    Returns:
        `first` (L,), `weights` (taps, L) and `bounds` (2, L), the arguments of `motion.shift_rows`.
    """
    whole_pixels = np.floor(shifts)
    weights = _weights((shifts - whole_pixels).astype(np.float32), interpolation)
    bounds = np.clip(np.ceil([-shifts - 0.5, length - 0.5 - shifts]), 0, length).astype(np.int64)
    return whole_pixels.astype(np.int64) - (len(weights) // 2 - 1), weights, bounds


def _weights(fraction: Floats, interpolation: Interpolation) -> Floats:
    """The weights of the taps, (taps, L).

    `fraction` (L,) is the position past the second of four pixels, or past the first of two.
    """
    d = fraction
    # their sum is a little above 1, since truncation follows: a 5 must not become 4.99999, then 4
    if interpolation == "bilinear":
        weights = [1 - d, d]
    else:
        weights = [d * (-1 + d * (2 - d)), 1 + d * d * (d - 2), d * (1 + d * (1 - d)), d * d * (d - 1)]
    return np.array(weights) * np.float32(1 + 2**-16)
