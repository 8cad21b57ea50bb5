"""Affine transforms of one uint8 (3, H, W) RGB image, pixel for pixel those of Pillow.

Shears and translations, four of RandAugment's five, move whole lines by a constant each and are four
multiplications with rows of numbers; the rest is left to Pillow.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hornet_train.data.image_ops import Floats, Interpolation, Pixels, image_of, pixels_of, truncated

Matrix = tuple[float, float, float, float, float, float]
RGB = tuple[int, int, int]
Shifts = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


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
    if (a, d, e, f) == (1, 0, 1, 0):
        return image_of(_slide(pixels, _shifts(b, height, c), fill, interpolation))
    if (a, b, c, e) == (1, 0, 0, 1):
        columns = pixels.swapaxes(0, 1)
        slid = _slide(columns, _shifts(d, width, f), fill, interpolation)
        return image_of(slid.swapaxes(0, 1))
    picture = Image.fromarray(pixels)
    method = Image.Transform.AFFINE
    warped = picture.transform(picture.size, method, matrix, _FILTERS[interpolation], fillcolor=fill)
    return image_of(np.array(warped))


def rotate(image: Tensor, degrees: float, fill: RGB, interpolation: Interpolation = "bicubic") -> Tensor:
    """Turn an image counter-clockwise about its centre, as Pillow's `Image.rotate`.

    Args:
        image: uint8 (3, H, W).
        fill: RGB, 0..255, where the turned image does not reach.

    Returns:
        uint8 (3, H, W).
    """
    picture = Image.fromarray(pixels_of(image))
    return image_of(np.array(picture.rotate(degrees, _FILTERS[interpolation], fillcolor=fill)))


def _shifts(slope: float, lines: int, constant: float) -> Shifts:
    return np.asarray(slope * (np.arange(lines) + 0.5) + constant, dtype=np.float64)


def _slide(lines: Pixels, shifts: Shifts, fill: RGB, interpolation: Interpolation) -> Pixels:
    """Each line read from `shifts[line]` pixels further on.

    Args:
        lines: uint8 (L, N, 3), in memory by lines, or by positions (a swapped view, for columns).
        shifts: (L,) in pixels.

    Returns:
        uint8 (L, N, 3) in the memory layout of `lines`.
    """
    length = lines.shape[1]
    whole = np.floor(shifts)
    weights = _weights((shifts - whole).astype(np.float32), interpolation)
    before = len(weights) // 2 - 1  # taps left of the point
    first = whole.astype(np.int64) - before
    gathered = _gather(lines, first, length + len(weights) - 1).astype(np.float32)
    moved = truncated(_mixed(gathered, weights, length))
    outside = _canvas(fill, len(lines), length, lines.strides[0] < lines.strides[1])
    for (begin, end), at in _runs(np.clip(np.ceil(-shifts - 0.5), 0, length)):
        if at:
            moved[begin:end, :at] = outside[begin:end, :at]
    for (begin, end), at in _runs(np.clip(np.ceil(length - 0.5 - shifts), 0, length)):
        if at < length:
            moved[begin:end, at:] = outside[begin:end, at:]
    return moved


@lru_cache(maxsize=4)
def _canvas(fill: RGB, lines: int, length: int, by_columns: bool) -> Pixels:
    """(lines, length, 3) of one colour; with the memory layout of what it is copied onto."""
    canvas = np.tile(np.array(fill, dtype=np.uint8), (length, lines, 1) if by_columns else (lines, length, 1))
    return canvas.swapaxes(0, 1) if by_columns else canvas


def _mixed(gathered: Floats, weights: list[Floats], length: int) -> Floats:
    """The sum over the taps k of weights[k] times `gathered` from position k on, `length` long."""
    by_columns = gathered.strides[0] < gathered.strides[1]
    # as matrices whose rows are those of memory, three channels to a pixel; torch adds products in one pass
    if by_columns:
        rows = torch.from_numpy(gathered.swapaxes(0, 1).reshape(gathered.shape[1], -1))
        shaped = [torch.from_numpy(np.repeat(weight, 3)) for weight in weights]
        parts = [rows[k : k + length] for k in range(len(weights))]
    else:
        rows = torch.from_numpy(gathered.reshape(len(gathered), -1))
        shaped = [torch.from_numpy(weight)[:, None] for weight in weights]
        parts = [rows[:, 3 * k : 3 * (k + length)] for k in range(len(weights))]
    total = parts[0] * shaped[0]
    for part, weight in zip(parts[1:], shaped[1:], strict=True):
        total.addcmul_(part, weight)
    values: Floats = total.numpy()
    if by_columns:
        return values.reshape(length, -1, 3).swapaxes(0, 1)
    return values.reshape(-1, length, 3)


def _gather(lines: Pixels, first: np.ndarray[tuple[int, ...], np.dtype[np.int64]], count: int) -> Pixels:
    """(L, count, 3): of each line `count` pixels from `first[line]` on, in the memory layout of `lines`.

    The outermost pixels are repeated twice beyond the line, as far as an interpolation reaches; what is
    further out is left as it comes.
    """
    length = lines.shape[1]
    first = first.clip(-count - 2, length + 2)
    before, after = (max(2, int(far)) for far in (-first.min(), first.max() + count - length))
    padded = _empty(lines, before + length + after)
    padded[:, before : before + length] = lines
    padded[:, before - 2 : before] = lines[:, :1]
    padded[:, before + length : before + length + 2] = lines[:, -1:]
    found = _empty(lines, count)
    for (begin, end), start in _runs(first + before):
        found[begin:end] = padded[begin:end, start : start + count]
    return found


def _empty(lines: Pixels, count: int) -> Pixels:
    """Of `count` pixels a line, in the memory layout of `lines`."""
    if lines.strides[0] < lines.strides[1]:
        return np.empty((count, len(lines), 3), dtype=np.uint8).swapaxes(0, 1)
    return np.empty((len(lines), count, 3), dtype=np.uint8)


def _runs(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Iterator[tuple[tuple[int, int], int]]:
    """((begin, end), value) of each stretch of equal values, as whole numbers."""
    ends = [*(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    begin = 0
    for end in ends:
        yield (begin, end), int(values[begin])
        begin = end


def _weights(fraction: Floats, interpolation: Interpolation) -> list[Floats]:
    """Of each tap at `fraction` (0..1) past the second of four pixels, or past the first of two."""
    d = fraction
    # a little above one in sum, since truncation follows: what should be 5 is not 4.99999
    if interpolation == "bilinear":
        weights = [1 - d, d]
    else:
        weights = [d * (-1 + d * (2 - d)), 1 + d * d * (d - 2), d * (1 + d * (1 - d)), d * d * (d - 1)]
    return [weight * np.float32(1 + 2**-16) for weight in weights]
