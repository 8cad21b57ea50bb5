"""The loops that numba compiles: the depthwise convolution's passes over rows.

A convolution's task is one block of LANES channels of one image (or group of images), whose rows pass through
a ring of K row buffers with zeros at both ends: each row is read once, from any strides, in float32 or
bfloat16, and all sums are in float32. Where LANES does not divide the channels, the last block overlaps the
one before it and computes the same again.

Tasks, not threads, decide in what order sums are taken: results do not depend on the number of threads.
Arguments are int64 addresses, extents and strides in bytes; arrays' element sizes are 2 or 4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
from numba import carray, types  # type: ignore[attr-defined]

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.openmp import THREAD_COUNT, THREAD_NUMBER, export_symbols
from hornet_train.models.kernels.row_vectors import (
    gate_row,
    gate_slope_row,
    gelu_row,
    gelu_slope_row,
    norm_row,
    norm_slope_row,
)
from hornet_train.models.kernels.vectors import (
    PIXEL,
    TILE,
    VERSION,
    add_row,
    add_taps,
    clear_row,
    enter_ring,
    filter_tile,
    read_row,
    write_row,
)
from hornet_train.untrusted import keeps_code

_thread_number: Any = types.ExternalFunction(THREAD_NUMBER, types.int32())
_thread_count: Any = types.ExternalFunction(THREAD_COUNT, types.int32())
_SIGNATURE = types.void(types.CPointer(types.int64))


def _compiled(loop: Callable[[Any], None]) -> int:
    """The address of a loop, compiled once on a machine and kept on disk."""
    export_symbols()
    try:
        function = numba.cfunc(_SIGNATURE, cache=keeps_code())(loop)
    except RuntimeError:  # nothing can be written beside this file or in the home folder
        function = numba.cfunc(_SIGNATURE)(loop)
    _alive.append(function)
    address: Any = function.address
    return int(address)


_alive: list[Any] = []  # what compiled loops belong to, as long as the process


def scratch_bytes(taps: int, width: int) -> int:
    """Of one thread: the ring, a row, the kernel or its gradient, a bias; whole cache lines of 64 bytes."""
    padded = (width + TILE - 1) // TILE * TILE
    return PIXEL * (taps * (padded + taps - 1) + padded + taps * taps + 1)


@cache
def filter_loop(taps: int, half: bool) -> int:
    """The address of a loop: y[h, w] = bias + sum over i, j of x[h + i - K/2, w + j - K/2] * k[i, j]."""
    before, version = taps // 2, VERSION
    size: Any = 2 if half else 4

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - a loop is kept on disk by what it closes over
        a = carray(arguments, 16)
        x, x_n, x_h, x_w, y, y_n, y_h, y_w = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
        kernel, bias, images, height, width, channels = a[8], a[9], a[10], a[11], a[12], a[13]
        blocks = (channels + LANES - 1) // LANES
        padded = (width + TILE - 1) // TILE * TILE
        row = (padded + taps - 1) * PIXEL
        ring = a[15] + _thread_number() * a[14]
        out = ring + taps * row
        own_kernel = out + padded * PIXEL
        own_bias = own_kernel + taps * taps * PIXEL
        tasks, number, count = blocks * images, _thread_number(), _thread_count()
        for task in range(tasks * number // count, tasks * (number + 1) // count):
            image, channel = task // blocks, min(task % blocks * LANES, channels - LANES)
            read_row(False, own_kernel, kernel + channel * 4, taps * taps, channels * 4)
            read_row(False, own_bias, bias + channel * 4, 1, 0)
            source, target = x + image * x_n + channel * size, y + image * y_n + channel * size
            for h in range(before):
                enter_ring(half, taps, ring, row, source, x_h, x_w, h, height, width)
            for h in range(height):
                enter_ring(half, taps, ring, row, source, x_h, x_w, h + before, height, width)
                first, last = max(0, before - h), min(taps, height + before - h)
                slot = (h + first - before) % taps
                for w in range(0, width, TILE):
                    filter_tile(
                        taps,
                        out + w * PIXEL,
                        ring + w * PIXEL,
                        row,
                        slot,
                        own_kernel + first * taps * PIXEL,
                        last - first,
                        own_bias,
                    )
                write_row(half, target + h * y_h, out, width, y_w)

    return _compiled(loop)


@cache
def gradient_loop(taps: int, half: bool) -> int:
    """The address of a loop of kernels' gradients.

    For each group of images dk[i, j] = sum over n, h, w of x[n, h + i - K/2, w + j - K/2] * g[n, h, w], and
    behind these K * K rows the sum of g, which is the bias's.
    """
    before, version = taps // 2, VERSION
    size: Any = 2 if half else 4

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - a loop is kept on disk by what it closes over
        a = carray(arguments, 16)
        x, x_n, x_h, x_w, g, g_n, g_h, g_w = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
        out, groups, images, height, width, channels = a[8], a[9], a[10], a[11], a[12], a[13]
        blocks = (channels + LANES - 1) // LANES
        padded = (width + TILE - 1) // TILE * TILE
        row = (padded + taps - 1) * PIXEL
        ring = a[15] + _thread_number() * a[14]
        g_row = ring + taps * row
        sums = g_row + padded * PIXEL
        total = sums + taps * taps * PIXEL
        tasks, number, count = blocks * groups, _thread_number(), _thread_count()
        for task in range(tasks * number // count, tasks * (number + 1) // count):
            group, channel = task // blocks, min(task % blocks * LANES, channels - LANES)
            clear_row(sums, taps * taps + 1)
            for image in range(images * group // groups, images * (group + 1) // groups):
                source, above = x + image * x_n + channel * size, g + image * g_n + channel * size
                for h in range(before):
                    enter_ring(half, taps, ring, row, source, x_h, x_w, h, height, width)
                for h in range(height):
                    enter_ring(half, taps, ring, row, source, x_h, x_w, h + before, height, width)
                    read_row(half, g_row, above + h * g_h, width, g_w)
                    add_row(total, g_row, width)
                    for i in range(max(0, before - h), min(taps, height + before - h)):
                        slot = (h + i - before) % taps
                        add_taps(taps, sums + i * taps * PIXEL, ring + slot * row, g_row, width)
            place = out + (group * (taps * taps + 1) * channels + channel) * 4
            write_row(False, place, sums, taps * taps + 1, channels * 4)

    return _compiled(loop)


@cache
def gelu_loop(half: bool, half_kept: bool, keep: bool) -> int:
    """The address of a loop of `gelu_row` over rows of one size that lie one behind the other."""
    size: Any = 2 if half else 4
    size_kept: Any = 2 if half_kept else 4
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = carray(arguments, 8)
        product, bias, kept, out, rows, channels = a[0], a[1], a[2], a[3], a[4], a[5]
        number, count = _thread_number(), _thread_count()
        for row in range(rows * number // count, rows * (number + 1) // count):
            at, at_kept = row * channels * size, row * channels * size_kept
            gelu_row(half, half_kept, keep, product + at, bias, kept + at_kept, out + at, channels // LANES)

    return _compiled(loop)


@cache
def gelu_slope_loop(half: bool, half_kept: bool) -> int:
    """The same of `gelu_slope_row`, with sums for each of so many groups of rows."""
    size: Any = 2 if half else 4
    size_kept: Any = 2 if half_kept else 4
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = carray(arguments, 9)
        kept, gradient, out, totals, groups, rows, channels = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
        number, count = _thread_number(), _thread_count()
        for group in range(groups * number // count, groups * (number + 1) // count):
            total = totals + group * channels * 4
            clear_row(total, channels // LANES)
            for row in range(rows * group // groups, rows * (group + 1) // groups):
                at, at_kept = row * channels * size, row * channels * size_kept
                gelu_slope_row(
                    half, half_kept, kept + at_kept, gradient + at, out + at, total, channels // LANES
                )

    return _compiled(loop)


@cache
def norm_loop(half: bool, half_out: bool) -> int:
    """The same of `norm_row`."""
    size: Any = 2 if half else 4
    size_out: Any = 2 if half_out else 4
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = carray(arguments, 8)
        x, weight, bias, out, rows, channels = a[0], a[1], a[2], a[3], a[4], a[5]
        number, count = _thread_number(), _thread_count()
        for row in range(rows * number // count, rows * (number + 1) // count):
            at, at_out = row * channels * size, row * channels * size_out
            norm_row(half, half_out, x + at, weight, bias, out + at_out, channels // LANES)

    return _compiled(loop)


@cache
def norm_slope_loop(half: bool, half_above: bool, half_besides: bool, add: bool) -> int:
    """The same of `norm_slope_row`, with sums for each of so many groups of rows: two rows of totals each."""
    size: Any = 2 if half else 4
    size_above: Any = 2 if half_above else 4
    size_besides: Any = 2 if half_besides else 4
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = carray(arguments, 11)
        x, above, weight, besides, out, totals = a[0], a[1], a[2], a[3], a[4], a[5]
        groups, rows, channels = a[6], a[7], a[8]
        number, count = _thread_number(), _thread_count()
        for group in range(groups * number // count, groups * (number + 1) // count):
            for_weight = totals + group * channels * 8
            for_bias = for_weight + channels * 4
            clear_row(for_weight, 2 * channels // LANES)
            for row in range(rows * group // groups, rows * (group + 1) // groups):
                place = row * channels
                norm_slope_row(
                    half,
                    half_above,
                    half_besides,
                    add,
                    x + place * size,
                    above + place * size_above,
                    weight,
                    besides + place * size_besides,
                    out + place * size,
                    for_weight,
                    for_bias,
                    channels // LANES,
                )

    return _compiled(loop)


@cache
def gate_loop(half: bool, half_gate: bool, half_out: bool, add: bool) -> int:
    """The same of `gate_row`, over rows that lie any number of bytes apart."""
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        x = carray(arguments, 11)
        a, by_a, gate, by_gate, out, by_out, bias, rows, channels = (
            x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8],
        )  # fmt: skip
        number, count = _thread_number(), _thread_count()
        for row in range(rows * number // count, rows * (number + 1) // count):
            gate_row(
                half,
                half_gate,
                half_out,
                add,
                a + row * by_a,
                bias,
                gate + row * by_gate,
                out + row * by_out,
                channels // LANES,
            )

    return _compiled(loop)


@cache
def gate_slope_loop(half: bool, half_gate: bool, half_above: bool, half_out: bool, add: bool) -> int:
    """The same of `gate_slope_row`, with sums for each of so many groups of rows."""
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        x = carray(arguments, 17)
        a, by_a, gate, by_gate, above, by_above = x[0], x[1], x[2], x[3], x[4], x[5]
        for_gate, by_for_gate, out, by_out, bias, totals = x[6], x[7], x[8], x[9], x[10], x[11]
        groups, rows, channels = x[12], x[13], x[14]
        number, count = _thread_number(), _thread_count()
        for group in range(groups * number // count, groups * (number + 1) // count):
            total = totals + group * channels * 4
            clear_row(total, channels // LANES)
            for row in range(rows * group // groups, rows * (group + 1) // groups):
                gate_slope_row(
                    half,
                    half_gate,
                    half_above,
                    half_out,
                    add,
                    a + row * by_a,
                    bias,
                    gate + row * by_gate,
                    above + row * by_above,
                    for_gate + row * by_for_gate,
                    out + row * by_out,
                    total,
                    channels // LANES,
                )

    return _compiled(loop)
