"""Loops over pixels that neither numpy, torch nor Pillow has in one pass; numba compiles them.

A kernel is compiled when it is first called, a second or less, and kept on disk for later processes. What
numba is written for shows here: loops over one index from 0 on slices become vector instructions, others do
not, and a constant is of the type that its sum is to have.

Layouts: `pixels` is uint8 (H, W, 3), contiguous, RGB; results are new arrays. Floats are float32, products
and sums rounded one by one, so that a result does not depend on the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from hornet_train.data.pixels import RGB, Floats, Ints, Matrix, Pixels

P = ParamSpec("P")
R = TypeVar("R")


def _compiled(kernel: Callable[P, R]) -> Callable[P, R]:
    """The kernel compiled at its first call: who needs none does not wait for numba's import."""

    @cache
    def compiled() -> Callable[P, R]:
        import numba

        how: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
        try:
            return cast(Callable[P, R], numba.njit(kernel, cache=True, **how))
        except RuntimeError:  # neither beside this file nor in the home folder can anything be written
            return cast(Callable[P, R], numba.njit(kernel, **how))

    @wraps(kernel)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return compiled()(*args, **kwargs)

    return call


@_compiled
def look_up(pixels: Pixels, tables: Pixels) -> Pixels:
    """Value v of channel c replaced by `tables[c, v]`; `tables` is (3, 256)."""
    result = np.empty_like(pixels)
    values, found = pixels.reshape(-1), result.reshape(-1)
    red, green, blue = tables[0], tables[1], tables[2]
    for i in range(values.size // 3):
        found[3 * i] = red[values[3 * i]]
        found[3 * i + 1] = green[values[3 * i + 1]]
        found[3 * i + 2] = blue[values[3 * i + 2]]
    return result


@_compiled
def extremes(pixels: Pixels) -> Pixels:
    """The least and the greatest value of each channel, (2, 3)."""
    rows = pixels.reshape(len(pixels), -1)
    low, high = rows[0].copy(), rows[0].copy()
    for y in range(1, len(rows)):
        row = rows[y]
        for j in range(row.size):
            low[j] = min(low[j], row[j])
        for j in range(row.size):
            high[j] = max(high[j], row[j])
    result = np.empty((2, 3), dtype=np.uint8)
    for channel in range(3):
        result[0, channel] = low[channel::3].min()
        result[1, channel] = high[channel::3].max()
    return result


@_compiled
def histograms(pixels: Pixels) -> Ints:
    """How often each channel has each value, (3, 256)."""
    counts = np.zeros((3, 256), dtype=np.int64)
    values = pixels.reshape(-1)
    for i in range(values.size // 3):
        counts[0, values[3 * i]] += 1
        counts[1, values[3 * i + 1]] += 1
        counts[2, values[3 * i + 2]] += 1
    return counts


@_compiled
def luma(pixels: Pixels) -> Pixels:
    """ITU-R 601 luma as Pillow computes it, in 16 bits of fraction: uint8 (H, W)."""
    result = np.empty(pixels.shape[:2], dtype=np.uint8)
    values, grey = pixels.reshape(-1), result.reshape(-1)
    for i in range(grey.size):
        red, green, blue = values[3 * i], values[3 * i + 1], values[3 * i + 2]
        grey[i] = (
            np.int32(19595) * red + np.int32(38470) * green + np.int32(7471) * blue + np.int32(32768)
        ) >> 16
    return result


@_compiled
def blend(base: Pixels, other: Pixels, share: float) -> Pixels:
    """base + share * (other - base), cut off at 0 and 255, the fraction dropped.

    `base` is (H, W, 3), or (H, W) for the same in every channel.
    """
    part = np.float32(share)
    result = np.empty_like(other)
    width = other.shape[1]
    line = np.empty(3 * width, dtype=np.float32)
    for y in range(len(other)):
        row, out = other[y].reshape(-1), result[y].reshape(-1)
        if base.ndim == 2:
            grey = base.reshape(-1)[y * width : (y + 1) * width]
            for x in range(width):
                level = np.float32(grey[x])
                line[3 * x] = level
                line[3 * x + 1] = level
                line[3 * x + 2] = level
        else:
            below = base.reshape(-1)[3 * y * width : 3 * (y + 1) * width]
            for j in range(row.size):
                line[j] = np.float32(below[j])
        for j in range(row.size):
            value = line[j] + part * (np.float32(row[j]) - line[j])
            out[j] = np.uint8(np.int32(min(max(value, np.float32(0)), np.float32(255))))
    return result


@_compiled
def blend_level(level: float, other: Pixels, share: float) -> Pixels:
    """`blend` with one level, 0..255, in place of `base`."""
    base, part = np.float32(level), np.float32(share)
    result = np.empty_like(other)
    values, out = other.reshape(-1), result.reshape(-1)
    for j in range(values.size):
        value = base + part * (np.float32(values[j]) - base)
        out[j] = np.uint8(np.int32(min(max(value, np.float32(0)), np.float32(255))))
    return result


@_compiled
def smooth(pixels: Pixels) -> Pixels:
    """Pillow's `ImageFilter.SMOOTH`: 3x3 ones with a 5 in the middle, over 13, rounded; the border stays.

    Both sides have at least three pixels.
    """
    result = pixels.copy()
    inside = 3 * (pixels.shape[1] - 2)
    middle = np.empty(inside + 6, dtype=np.float32)
    column = np.empty(inside + 6, dtype=np.float32)
    left, centre, right = column[:inside], column[3 : 3 + inside], column[6:]
    itself = middle[3 : 3 + inside]
    for y in range(1, len(pixels) - 1):
        above, row, below = (
            pixels[y - 1].reshape(-1),
            pixels[y].reshape(-1),
            pixels[y + 1].reshape(-1),
        )
        out = result[y].reshape(-1)[3 : 3 + inside]
        for j in range(row.size):
            middle[j] = np.float32(row[j])
            column[j] = np.float32(np.int32(above[j]) + np.int32(row[j]) + np.int32(below[j]))
        for j in range(inside):
            total = left[j] + centre[j] + right[j] + np.float32(4) * itself[j]
            out[j] = np.uint8(np.int32(total * np.float32(1 / 13) + np.float32(0.5)))
    return result


@_compiled
def slide_rows(pixels: Pixels, first: Ints, weights: Floats, bounds: Ints) -> Pixels:
    """Each row interpolated at a constant distance from its pixels.

    Args:
        first: (H,), how far the first tap is from the pixel it is for, in whole pixels.
        weights: (taps, H), of two or four taps.
        bounds: (2, H), the columns from `bounds[0]` up to `bounds[1]` come from the row, whose outermost
            pixels count as repeated twice; others are left for `fill_rows`.
    """
    height, width = pixels.shape[:2]
    result = np.empty_like(pixels)
    line = np.empty(3 * (width + 4), dtype=np.float32)
    inside = line[6 : 6 + 3 * width]
    for y in range(height):
        row, out = pixels[y].reshape(-1), result[y].reshape(-1)
        for j in range(row.size):
            inside[j] = np.float32(row[j])
        for x in range(2):
            for channel in range(3):
                line[3 * x + channel] = inside[channel]
                line[3 * (width + 2 + x) + channel] = inside[row.size - 3 + channel]
        begin, end = bounds[0, y], bounds[1, y]
        count, start = 3 * (end - begin), 3 * (begin + first[y] + 2)
        moved = out[3 * begin : 3 * end]
        a, b = line[start : start + count], line[start + 3 : start + 3 + count]
        if len(weights) == 2:
            for j in range(count):
                value = weights[0, y] * a[j] + weights[1, y] * b[j]
                moved[j] = np.uint8(np.int32(min(max(value, np.float32(0)), np.float32(255))))
        else:
            c, d = line[start + 6 : start + 6 + count], line[start + 9 : start + 9 + count]
            at_a, at_b, at_c, at_d = weights[0, y], weights[1, y], weights[2, y], weights[3, y]
            for j in range(count):
                value = at_a * a[j] + at_b * b[j] + at_c * c[j] + at_d * d[j]
                moved[j] = np.uint8(np.int32(min(max(value, np.float32(0)), np.float32(255))))
    return result


@_compiled
def slide_columns(pixels: Pixels, first: Ints, weights: Floats, bounds: Ints, fill: RGB) -> Pixels:
    """`slide_rows` of the transposed image, transposed: first (W,), weights (taps, W), bounds (2, W)."""
    height, width = pixels.shape[:2]
    taps = len(weights)
    result = np.empty_like(pixels)
    spread = np.empty((taps, 3 * width), dtype=np.float32)  # of each value what its pixel has
    for tap in range(taps):
        for j in range(3 * width):
            spread[tap, j] = weights[tap, j // 3]
    values, same = pixels.reshape(-1), first.min() == first.max()
    distance, source = first.astype(np.int32), np.empty(width, dtype=np.int32)
    lines = np.empty((taps, 3 * width), dtype=np.float32)  # tap t of row y is in line (y + t) modulo taps
    for step in range(1 - taps, height):
        y = max(step, 0)
        newest = lines[(step + taps - 1) % taps]
        for x in range(width):
            source[x] = min(max(np.int32(step + taps - 1) + distance[x], np.int32(0)), np.int32(height - 1))
        if same:  # as in a translation
            row = pixels[source[0]].reshape(-1)
            for j in range(row.size):
                newest[j] = np.float32(row[j])
        else:
            for x in range(width):
                k = np.uint64(source[x]) * np.uint64(3 * width) + np.uint64(3 * x)
                newest[3 * x] = np.float32(values[k])
                newest[3 * x + 1] = np.float32(values[k + np.uint64(1)])
                newest[3 * x + 2] = np.float32(values[k + np.uint64(2)])
        if step < 0:
            continue
        out = result[y].reshape(-1)
        a, b = lines[y % taps], lines[(y + 1) % taps]
        at_a, at_b = spread[0], spread[1]
        if taps == 2:
            for j in range(out.size):
                value = at_a[j] * a[j] + at_b[j] * b[j]
                out[j] = np.uint8(np.int32(min(max(value, np.float32(0)), np.float32(255))))
        else:
            c, d = lines[(y + 2) % taps], lines[(y + 3) % taps]
            at_c, at_d = spread[2], spread[3]
            for j in range(out.size):
                value = at_a[j] * a[j] + at_b[j] * b[j] + at_c[j] * c[j] + at_d[j] * d[j]
                out[j] = np.uint8(np.int32(min(max(value, np.float32(0)), np.float32(255))))
    for x in range(width):
        for y in range(bounds[0, x]):
            for channel in range(3):
                result[y, x, channel] = fill[channel]
        for y in range(bounds[1, x], height):
            for channel in range(3):
                result[y, x, channel] = fill[channel]
    return result


@_compiled
def packed(pixels: Pixels) -> Ints:
    """int64 (H + 4, W + 4): values less 128, three to a number of 21 bits each; the outermost pixels thrice.

    A sum of such numbers with whole weights is the three sums at once, as long as each stays within its bits.
    """
    height, width = pixels.shape[:2]
    result = np.empty((height + 4, width + 4), dtype=np.int64)
    for y in range(height):
        row, line = pixels[y].reshape(-1), result[y + 2]
        inside = line[2 : 2 + width]
        for x in range(width):
            inside[x] = (
                (np.int64(row[3 * x]) - 128)
                + ((np.int64(row[3 * x + 1]) - 128) << np.int64(21))
                + ((np.int64(row[3 * x + 2]) - 128) << np.int64(42))
            )
        line[:2] = inside[0]
        line[2 + width :] = inside[-1]
    result[:2] = result[2]
    result[2 + height :] = result[1 + height]
    return result


@_compiled
def fill_rows(pixels: Pixels, bounds: Ints, fill: RGB) -> None:
    """`fill` into row y before column `bounds[0, y]` and from `bounds[1, y]` on, in place."""
    width = pixels.shape[1]
    for y in range(len(pixels)):
        out = pixels[y].reshape(-1)
        for x in range(bounds[0, y]):
            for channel in range(3):
                out[3 * x + channel] = fill[channel]
        for x in range(bounds[1, y], width):
            for channel in range(3):
                out[3 * x + channel] = fill[channel]


@_compiled
def inside(matrix: Matrix, height: int, width: int) -> Ints:
    """(2, H): of each row the first column that a transform takes from inside the image, and the end."""
    bounds = np.empty((2, height), dtype=np.int64)
    for y in range(height):
        from_x, from_y = matrix[1] * (y + 0.5) + matrix[2], matrix[4] * (y + 0.5) + matrix[5]
        begin, end = 0, width
        for x in range(width):
            at_x, at_y = matrix[0] * (x + 0.5) + from_x, matrix[3] * (x + 0.5) + from_y
            if 0 <= at_x < width and 0 <= at_y < height:
                break
            begin += 1
        for x in range(width - 1, begin, -1):
            at_x, at_y = matrix[0] * (x + 0.5) + from_x, matrix[3] * (x + 0.5) + from_y
            if 0 <= at_x < width and 0 <= at_y < height:
                break
            end -= 1
        bounds[0, y], bounds[1, y] = begin, end
    return bounds


@_compiled
def affine(packs: Ints, matrix: Matrix, cubic: bool, bounds: Ints) -> Pixels:
    """An affine transform in Pillow's convention, see `warp.warp`, in whole numbers.

    Weights have 11 bits of fraction, so that a value is within one level of that in floats.

    Args:
        packs: the image, as of `packed`.
        cubic: whether to interpolate over four pixels each way (a = -1) or over two.
        bounds: as of `inside`; what is beyond is left for `fill_rows`.

    Returns:
        uint8 (H, W, 3).
    """
    height, width = packs.shape[0] - 4, packs.shape[1] - 4
    result = np.empty((height, width, 3), dtype=np.uint8)
    pitch, values = np.uint64(width + 4), packs.reshape(-1)
    across, down = np.empty((4, width), dtype=np.int32), np.empty((4, width), dtype=np.int32)
    weights = np.empty((16, width), dtype=np.int32)
    corners, sums = np.empty(width, dtype=np.int32), np.empty(width, dtype=np.int64)
    half = np.int32(1 << 19)  # keeps each channel's sum above 0
    # the 128 that `packed` took off, and so much that what should be 5 does not become 4.999, then 4
    bias = np.int64(half) + np.int64(128 << 11) + np.int64(8)
    bias += (bias << np.int64(21)) + (bias << np.int64(42))
    mask = (np.int64(1) << np.int64(21)) - np.int64(1)
    for y in range(height):
        out = result[y].reshape(-1)
        from_x, from_y = matrix[1] * (y + 0.5) + matrix[2], matrix[4] * (y + 0.5) + matrix[5]
        begin, end = bounds[0, y], bounds[1, y]
        count = end - begin
        for axis in range(2):
            step, start, taps = (matrix[3], from_y, down) if axis else (matrix[0], from_x, across)
            a, b, c, d = taps[0], taps[1], taps[2], taps[3]
            line = np.int32(width + 4 if axis else 1)
            for i in range(count):
                at = step * (begin + i + 0.5) + start + 0.5  # in pixel centres, from one before the first on
                whole = np.int32(at)
                u = np.float32(at - whole)
                corners[i] = whole * line + (corners[i] if axis else np.int32(0))
                if cubic:
                    scaled = u * np.float32(1024)
                    a[i] = np.int32(scaled * (u * (np.float32(2) - u) - np.float32(1)) - np.float32(0.5))
                    c[i] = np.int32(scaled * (np.float32(1) + u - u * u) + np.float32(0.5))
                    d[i] = np.int32(scaled * u * (u - np.float32(1)) - np.float32(0.5))
                else:
                    a[i], c[i], d[i] = (
                        np.int32(0),
                        np.int32(u * np.float32(1024) + np.float32(0.5)),
                        np.int32(0),
                    )
                b[i] = np.int32(1024) - a[i] - c[i] - d[i]
        for tap in range(16):
            one, other, both = down[tap // 4], across[tap % 4], weights[tap]
            for i in range(count):
                both[i] = (one[i] * other[i] + np.int32(256)) >> np.int32(9)
        for i in range(count):
            total = bias
            for row in range(4):
                k = np.uint64(corners[i]) + np.uint64(row) * pitch
                for column in range(4):
                    total += np.int64(weights[4 * row + column, i]) * values[k + np.uint64(column)]
            sums[i] = total
        moved = out[3 * begin : 3 * end]
        for i in range(count):
            red = (np.int32(sums[i] & mask) - half) >> np.int32(11)
            green = (np.int32((sums[i] >> np.int64(21)) & mask) - half) >> np.int32(11)
            blue = (np.int32(sums[i] >> np.int64(42)) - half) >> np.int32(11)
            moved[3 * i] = np.uint8(min(max(red, np.int32(0)), np.int32(255)))
            moved[3 * i + 1] = np.uint8(min(max(green, np.int32(0)), np.int32(255)))
            moved[3 * i + 2] = np.uint8(min(max(blue, np.int32(0)), np.int32(255)))
    return result
