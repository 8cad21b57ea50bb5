"""Resample an image of bytes by antialiasing filters, in whole numbers, as torch and Pillow do.

Along each axis a pixel of the result is sum_k w_k p_k over the pixels p below a filter, whose weights w_k are
rounded to int16. Sums of whole numbers do not depend on their order, so that the result is bit for bit that
of torch's `_upsample_bicubic2d_aa` (or bilinear); but only the part of it is computed that is asked for.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numpy as np

from hornet_train.images.layout import Array, Box, Pixels
from hornet_train.images.loops.resampled_rows import CHUNK, TILE, fill, weigh_pixels


class Axis(NamedTuple):
    """How pixels of the result are made of those of the image, along one axis.

    Attributes:
        starts: (pixels,), where the pixels that each is made of begin, rising.
        weights: (pixels, taps), int16; taps are even, the last may be 0. They stand for w / 2^bits.
        bits: by the greatest weight of all pixels of the complete result; it is among those of the first
            half, which the other mirrors.
    """

    starts: Array
    weights: Array
    bits: int

    @classmethod
    @lru_cache(maxsize=64)  # evaluated images are of few sizes
    def of(cls, length: int, size: int, first: int, count: int, *, cubic: bool, antialias: bool) -> Axis:
        """For the pixels from `first` on of `size`, made of `length`."""
        taps = 2 * ceil((2 if cubic else 1) * max(length / size, 1)) + 2 if antialias else 2
        starts, weights = np.empty(count, dtype=np.int64), np.empty((count, taps), dtype=np.int16)
        bits = weigh_pixels(length, size, first, cubic, antialias, np.empty(taps), starts, weights)
        return cls(starts, weights, bits)


def resample(
    image: Pixels, box: Box, size: tuple[int, int], part: Box, *, cubic: bool, antialias: bool = True
) -> Pixels:
    """Resize a box of an image, or compute a part of what it becomes.

    Args:
        image: uint8 (H, W, 3), contiguous.
        box: of the image, at least one pixel. Pixels outside have no influence.
        size: (height, width) of the complete result, in pixels.
        part: of the result, at least one pixel, that is computed.
        cubic: whether the filter is bicubic, else bilinear.
        antialias: False takes each pixel from two neighbours alone along each axis, bilinearly.

    Returns:
        uint8 (part height, part width, 3), contiguous.
    """
    top, left, height, width = part
    across = Axis.of(box[3], size[1], left, width, cubic=cubic, antialias=antialias)
    down = Axis.of(box[2], size[0], top, height, cubic=cubic, antialias=antialias)
    columns = across.starts[-1] - across.starts[0] + across.weights.shape[1]
    row = -(-3 * width // CHUNK) * CHUNK
    turned = np.empty((columns * 3 + TILE) * TILE, dtype=np.int16)  # columns, of 16 rows each
    narrow = np.empty(row * TILE, dtype=np.uint8)  # what becomes of these, before it is turned back
    rows = np.empty((3 * down.weights.shape[1] + 2 * TILE, row), dtype=np.int16)
    result = np.empty(height * width * 3 + CHUNK, dtype=np.uint8)
    fill(image, box[:2], across, down, turned, narrow, rows, result)
    return result[: height * width * 3].reshape(height, width, 3)
