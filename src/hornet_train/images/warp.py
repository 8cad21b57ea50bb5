"""Affine transforms of one uint8 (3, H, W) RGB image, within one level of those of Pillow.

Shears and translations, four of RandAugment's five, move whole rows or columns by a constant each, which is
several times faster than the general case.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from hornet_train.images.layout import RGB, Floats, Interpolation, Ints, Matrix, image_of, pixels_of
from hornet_train.images.loops import motion

Shifts = np.ndarray[tuple[int, ...], np.dtype[np.floating]]


def warp(image: Tensor, matrix: Matrix, fill: RGB, interpolation: Interpolation = "bicubic") -> Tensor:
    """Affine transform, in the convention of Pillow's `Image.transform(AFFINE)`.

    Args:
        image: uint8 (3, H, W).
        matrix: (a, b, c, d, e, f): the result at (x, y) is the image at (ax + by + c, dx + ey + f), in pixels
            with the origin in the upper left corner and pixel centres at halves.
        fill: RGB, 0..255, where that is outside the image.
        interpolation: "bicubic" is that of Pillow's transform, the cubic convolution with a = -1.

    Returns:
        uint8 (3, H, W).
    """
    pixels = pixels_of(image)
    height, width = pixels.shape[:2]
    a, b, c, d, e, f = matrix
    if (a, b, c, e) == (1, 0, 0, 1):
        shifts = d * (np.arange(width) + 0.5) + f
        return image_of(motion.slide_columns(pixels, *_taps(shifts, height, interpolation), fill))
    if (a, d, e, f) == (1, 0, 1, 0):
        first, weights, bounds = _taps(b * (np.arange(height) + 0.5) + c, width, interpolation)
        moved = motion.slide_rows(pixels, first, weights, bounds)
    else:
        bounds = motion.inside(matrix, height, width)
        moved = motion.affine(motion.packed(pixels), matrix, interpolation == "bicubic", bounds)
    motion.fill_rows(moved, bounds, fill)
    return image_of(moved)


def rotate(image: Tensor, degrees: float, fill: RGB, interpolation: Interpolation = "bicubic") -> Tensor:
    """Turn an image counter-clockwise about its centre, as Pillow's `Image.rotate`.

    Args:
        image: uint8 (3, H, W).
        fill: RGB, 0..255, where the turned image does not reach.

    Returns:
        uint8 (3, H, W).
    """
    x, y = image.shape[2] / 2, image.shape[1] / 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = (cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y)
    return warp(image, matrix, fill, interpolation)


def _taps(shifts: Shifts, length: int, interpolation: Interpolation) -> tuple[Ints, Floats, Ints]:
    """Lines read from `shifts` pixels further on: where the first tap is, the weights, and what is inside.

    Args:
        shifts: (L,) in pixels, one a line.
        length: of a line.

    Returns:
        (L,), (taps, L) and (2, L), as `motion.slide_rows` takes them.
    """
    whole = np.floor(shifts)
    weights = _weights((shifts - whole).astype(np.float32), interpolation)
    bounds = np.clip(np.ceil([-shifts - 0.5, length - 0.5 - shifts]), 0, length).astype(np.int64)
    return whole.astype(np.int64) - (len(weights) // 2 - 1), weights, bounds


def _weights(fraction: Floats, interpolation: Interpolation) -> Floats:
    """Of each tap, at `fraction` (L,) past the second of four pixels, or past the first of two: (taps, L)."""
    d = fraction
    # a little above one in sum, since truncation follows: what should be 5 is not 4.99999
    if interpolation == "bilinear":
        weights = [1 - d, d]
    else:
        weights = [d * (-1 + d * (2 - d)), 1 + d * d * (d - 2), d * (1 + d * (1 - d)), d * d * (d - 1)]
    return np.array(weights) * np.float32(1 + 2**-16)
