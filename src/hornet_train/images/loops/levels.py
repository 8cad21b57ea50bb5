"""Loops over the values of pixels: lookup tables, blends, smoothing.

Layout: `pixels` is a contiguous uint8 (H, W, 3) RGB array; results are new arrays.
"""

from __future__ import annotations

import numpy as np

from hornet_train.images.layout import Pixels
from hornet_train.images.loops.compile_loop import compiled


@compiled
def look_up(pixels: Pixels, tables: Pixels) -> Pixels:
    """Replace value v of channel c by `tables[c, v]`; `tables` is (3, 256)."""
    result = np.empty_like(pixels)
    values, replaced = pixels.reshape(-1), result.reshape(-1)
    red, green, blue = tables[0], tables[1], tables[2]
    for i in range(values.size // 3):
        replaced[3 * i] = red[values[3 * i]]
        replaced[3 * i + 1] = green[values[3 * i + 1]]
        replaced[3 * i + 2] = blue[values[3 * i + 2]]
    return result


@compiled
def auto_contrast_tables(pixels: Pixels) -> Pixels:
    """Tables for `look_up` that stretch each channel to 0..255 by Pillow's rule.

    A channel of a single value stays as it is.
    """
    rows = pixels.reshape(len(pixels), -1)
    lows, highs = rows[0].copy(), rows[0].copy()
    for y in range(1, len(rows)):
        row = rows[y]
        for j in range(row.size):
            lows[j] = min(lows[j], row[j])
        for j in range(row.size):
            highs[j] = max(highs[j], row[j])
    tables = np.empty((3, 256), dtype=np.uint8)
    for channel in range(3):
        low, high = np.float64(lows[channel::3].min()), np.float64(highs[channel::3].max())
        scale = 255 / (high - low) if high > low else 1.0
        offset = low * scale if high > low else 0.0
        for value in range(256):
            tables[channel, value] = np.uint8(np.int32(min(max(value * scale - offset, 0.0), 255.0)))
    return tables


@compiled
def equalize_tables(pixels: Pixels) -> Pixels:
    """Tables for `look_up` that flatten each channel's histogram, by Pillow's integer rule."""
    counts = np.zeros((3, 256), dtype=np.int64)
    values = pixels.reshape(-1)
    for i in range(values.size // 3):
        counts[0, values[3 * i]] += 1
        counts[1, values[3 * i + 1]] += 1
        counts[2, values[3 * i + 2]] += 1
    tables = np.empty((3, 256), dtype=np.uint8)
    for channel in range(3):
        brightest = 255
        while counts[channel, brightest] == 0:
            brightest -= 1
        step = (values.size // 3 - counts[channel, brightest]) // 255  # Pillow leaves out the brightest value
        below = step // 2
        for value in range(256):
            tables[channel, value] = min(below // step, 255) if step else value
            below += counts[channel, value]
    return tables


@compiled
def luma(pixels: Pixels) -> Pixels:
    """The ITU-R 601 luma as Pillow computes it, in fixed point with 16 fractional bits: uint8 (H, W)."""
    result = np.empty(pixels.shape[:2], dtype=np.uint8)
    values, grey = pixels.reshape(-1), result.reshape(-1)
    for i in range(grey.size):
        red, green, blue = values[3 * i], values[3 * i + 1], values[3 * i + 2]
        grey[i] = (
            np.int32(19595) * red + np.int32(38470) * green + np.int32(7471) * blue + np.int32(32768)
        ) >> 16
    return result


@compiled
def blend(base: Pixels, other: Pixels, share: float) -> Pixels:
    """base + share * (other - base), clipped to 0..255, then truncated.

    `base` is (H, W, 3), or (H, W) if its channels are equal.
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


@compiled
def blend_level(level: float, other: Pixels, share: float) -> Pixels:
    """`blend` with a single level, 0..255, as `base`."""
    base, part = np.float32(level), np.float32(share)
    result = np.empty_like(other)
    values, out = other.reshape(-1), result.reshape(-1)
    for j in range(values.size):
        value = base + part * (np.float32(values[j]) - base)
        out[j] = np.uint8(np.int32(min(max(value, np.float32(0)), np.float32(255))))
    return result


@compiled
def smooth(pixels: Pixels) -> Pixels:
    """Pillow's `ImageFilter.SMOOTH`: a 3x3 kernel of ones with a 5 in the middle, divided by 13.

    Results are rounded; the border pixels stay. Height and width must be at least 3.
    """
    result = pixels.copy()
    inside = 3 * (pixels.shape[1] - 2)
    middle = np.empty(inside + 6, dtype=np.float32)
    column = np.empty(inside + 6, dtype=np.float32)
    left, centre, right = column[:inside], column[3 : 3 + inside], column[6:]
    middle_row = middle[3 : 3 + inside]
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
            total = left[j] + centre[j] + right[j] + np.float32(4) * middle_row[j]
            out[j] = np.uint8(np.int32(total * np.float32(1 / 13) + np.float32(0.5)))
    return result
