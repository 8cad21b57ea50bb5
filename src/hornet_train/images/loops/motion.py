"""Loops that move pixels: shears, translations, affine transforms.

Layout: `pixels` is a contiguous uint8 (H, W, 3) RGB array; results are new arrays.
"""

from __future__ import annotations

import numpy as np

from hornet_train.images.layout import RGB, Floats, Ints, Matrix, Pixels
from hornet_train.images.loops.compile_loop import compiled


@compiled
def shift_rows(pixels: Pixels, first: Ints, weights: Floats, bounds: Ints) -> Pixels:
    """Shift each row by a distance of its own, with interpolation.

    Args:
        pixels: the image.
        first: (H,), the offset of the first tap from the pixel that is computed, in whole pixels.
        weights: (taps, H), of two or four taps.
        bounds: (2, H): the columns from `bounds[0]` up to `bounds[1]` are computed from the row, extended by
            two copies of its first and last pixel; the others are not written, `fill_rows` does that.
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


@compiled
def shift_columns(pixels: Pixels, first: Ints, weights: Floats, bounds: Ints, fill: RGB) -> Pixels:
    """Shift each column by a distance of its own, like `shift_rows` on the transposed image.

    `first` is (W,), `weights` (taps, W), `bounds` (2, W); pixels outside the bounds get `fill`.
    """
    height, width = pixels.shape[:2]
    taps = len(weights)
    result = np.empty_like(pixels)
    spread = np.empty((taps, 3 * width), dtype=np.float32)  # the weights of each pixel, for its three values
    for tap in range(taps):
        for j in range(3 * width):
            spread[tap, j] = weights[tap, j // 3]
    values, all_equal = pixels.reshape(-1), first.min() == first.max()
    distance, source = first.astype(np.int32), np.empty(width, dtype=np.int32)
    lines = np.empty((taps, 3 * width), dtype=np.float32)  # tap t of row y is in line (y + t) modulo taps
    for step in range(1 - taps, height):
        y = max(step, 0)
        newest = lines[(step + taps - 1) % taps]
        for x in range(width):
            source[x] = min(max(np.int32(step + taps - 1) + distance[x], np.int32(0)), np.int32(height - 1))
        if all_equal:  # as in a translation
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


@compiled
def pack_channels(pixels: Pixels) -> Ints:
    """Pack the three channels of each pixel into one int64: 21 bits a channel, each value less 128.

    A sum of such numbers with integer weights computes the sums of all three channels at once, as long as
    each stays within its bits.

    Returns:
        (H + 4, W + 4), the image with its border pixels repeated twice on each side.
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


@compiled
def fill_rows(pixels: Pixels, bounds: Ints, fill: RGB) -> None:
    """Write `fill` into row y before column `bounds[0, y]` and from column `bounds[1, y]` on, in place."""
    width = pixels.shape[1]
    for y in range(len(pixels)):
        out = pixels[y].reshape(-1)
        for x in range(bounds[0, y]):
            for channel in range(3):
                out[3 * x + channel] = fill[channel]
        for x in range(bounds[1, y], width):
            for channel in range(3):
                out[3 * x + channel] = fill[channel]


@compiled
def inside_bounds(matrix: Matrix, height: int, width: int) -> Ints:
    """(2, H): for each row the first column whose source point is inside the image, and the end column."""
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


@compiled
def affine(packs: Ints, matrix: Matrix, cubic: bool, bounds: Ints) -> Pixels:
    """An affine transform in Pillow's convention (see `warp.warp`), in integer arithmetic.

    Weights have 11 fractional bits, so that a value is within one level of the result in floats.

    Args:
        packs: the image, from `pack_channels`.
        cubic: whether to interpolate over four pixels each way (a = -1) or over two.
        bounds: from `inside_bounds`; pixels outside are not written, `fill_rows` does that.

    Returns:
        uint8 (H, W, 3).
    """
    height, width = packs.shape[0] - 4, packs.shape[1] - 4
    result = np.empty((height, width, 3), dtype=np.uint8)
    pitch, values = np.uint64(width + 4), packs.reshape(-1)
    centres = np.arange(width) + 0.5
    wholes, parts = np.empty((2, width), dtype=np.int32), np.empty(width, dtype=np.float32)
    taps = np.empty((2, 4, width), dtype=np.int32)
    weights = np.empty((16, width), dtype=np.int32)
    sums = np.empty(width, dtype=np.int64)
    half = np.int32(1 << 19)  # keeps each channel's sum above 0
    # the 128 that `pack_channels` subtracted, and a little more: a 5 must not become 4.999, then 4
    bias = np.int64(half) + np.int64(128 << 11) + np.int64(8)
    bias += (bias << np.int64(21)) + (bias << np.int64(42))
    mask = (np.int64(1) << np.int64(21)) - np.int64(1)
    for y in range(height):
        out = result[y].reshape(-1)
        begin, end = bounds[0, y], bounds[1, y]
        count = end - begin
        x_centres = centres[begin:end]
        for axis in range(2):
            step = matrix[3 * axis]
            # in pixels, counted from the centre of the pixel before the first
            start = matrix[3 * axis + 1] * (y + 0.5) + matrix[3 * axis + 2] + 0.5
            whole, a, b, c, d = wholes[axis], taps[axis, 0], taps[axis, 1], taps[axis, 2], taps[axis, 3]
            for i in range(count):
                at = step * x_centres[i] + start
                whole[i] = np.int32(at)
                parts[i] = np.float32(at - whole[i])
            if cubic:
                for i in range(count):
                    u = parts[i]
                    scaled = u * np.float32(1024)
                    a[i] = np.int32(scaled * (u * (np.float32(2) - u) - np.float32(1)) - np.float32(0.5))
                    c[i] = np.int32(scaled * (np.float32(1) + u - u * u) + np.float32(0.5))
                    d[i] = np.int32(scaled * u * (u - np.float32(1)) - np.float32(0.5))
                    b[i] = np.int32(1024) - a[i] - c[i] - d[i]
            else:
                for i in range(count):
                    a[i] = np.int32(0)
                    c[i] = np.int32(parts[i] * np.float32(1024) + np.float32(0.5))
                    d[i] = np.int32(0)
                    b[i] = np.int32(1024) - c[i]
        for tap in range(16):
            one, other, both = taps[1, tap // 4], taps[0, tap % 4], weights[tap]
            for i in range(count):
                both[i] = (one[i] * other[i] + np.int32(256)) >> np.int32(9)
        across, down = wholes[0], wholes[1]
        for i in range(count):
            total = bias
            k = np.uint64(down[i]) * pitch + np.uint64(across[i])
            for row in range(4):
                for column in range(4):
                    total += np.int64(weights[4 * row + column, i]) * values[k + np.uint64(column)]
                k += pitch
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
