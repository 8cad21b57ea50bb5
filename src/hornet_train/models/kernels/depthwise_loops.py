"""The loops of the depthwise convolution that numba compiles.

A task is one block of LANES channels of one image (or group of images), whose rows pass through a ring of K
row buffers with zeros at both ends: each row is read once, from any strides, in float32 or bfloat16, and all
sums are in float32. Where LANES does not divide the channels, the last block overlaps the one before it and
computes the same again.

Tasks, not threads, decide in what order sums are taken: results do not depend on the number of threads.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.arguments import Filter, FilterGradient, Ring, Tile
from hornet_train.models.kernels.compile_kernel import compiled, own_share, thread_number, unpacked
from hornet_train.models.kernels.depthwise_vectors import (
    PIXEL,
    TILE,
    add_row,
    add_taps,
    clear_row,
    enter_ring,
    filter_tile,
    read_row,
    write_row,
)
from hornet_train.models.kernels.instructions import VERSION


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
        version  # noqa: B018 - a compiled loop is kept on disk under what it closes over
        a = unpacked(arguments, Filter)
        blocks = (a.channels + LANES - 1) // LANES
        padded = (a.width + TILE - 1) // TILE * TILE
        row = (padded + taps - 1) * PIXEL
        rows = a.scratch + thread_number() * a.scratch_bytes
        out = rows + taps * row
        kernel = out + padded * PIXEL
        bias = kernel + taps * taps * PIXEL
        for task in own_share(blocks * a.images):
            image, block = task // blocks, task % blocks
            channel = min(block * LANES, a.channels - LANES)
            read_row(False, kernel, a.kernel + channel * 4, taps * taps, a.channels * 4)
            read_row(False, bias, a.bias + channel * 4, 1, 0)
            source = a.x + image * a.x_image + channel * size + block * a.x_skip
            target = a.out + image * a.out_image + channel * size + block * a.out_skip
            ring = Ring(rows, row, source, a.x_row, a.x_pixel, a.height, a.width)
            for h in range(before):
                enter_ring(half, taps, ring, h)
            for h in range(a.height):
                enter_ring(half, taps, ring, h + before)
                first, last = max(0, before - h), min(taps, a.height + before - h)
                slot = (h + first - before) % taps
                k_rows = kernel + first * taps * PIXEL
                for w in range(0, a.width, TILE):
                    tile = Tile(out + w * PIXEL, rows + w * PIXEL, row, slot, k_rows, last - first, bias)
                    filter_tile(taps, tile)
                write_row(half, target + h * a.out_row, out, a.width, a.out_pixel)

    return compiled(loop)


@cache
def gradient_loop(taps: int, half: bool) -> int:
    """The address of a loop of kernels' gradients.

    For each group of images dk[i, j] = sum over n, h, w of x[n, h + i - K/2, w + j - K/2] * g[n, h, w], and
    behind these K * K rows the sum of g, which is the bias's.
    """
    before, version = taps // 2, VERSION
    size: Any = 2 if half else 4

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, FilterGradient)
        blocks = (a.channels + LANES - 1) // LANES
        padded = (a.width + TILE - 1) // TILE * TILE
        row = (padded + taps - 1) * PIXEL
        rows = a.scratch + thread_number() * a.scratch_bytes
        g_row = rows + taps * row
        sums = g_row + padded * PIXEL
        total = sums + taps * taps * PIXEL
        for task in own_share(blocks * a.groups):
            group, block = task // blocks, task % blocks
            channel = min(block * LANES, a.channels - LANES)
            clear_row(sums, taps * taps + 1)
            for image in range(a.images * group // a.groups, a.images * (group + 1) // a.groups):
                source = a.x + image * a.x_image + channel * size + block * a.x_skip
                above = a.gradient + image * a.gradient_image + channel * size + block * a.gradient_skip
                ring = Ring(rows, row, source, a.x_row, a.x_pixel, a.height, a.width)
                for h in range(before):
                    enter_ring(half, taps, ring, h)
                for h in range(a.height):
                    enter_ring(half, taps, ring, h + before)
                    read_row(half, g_row, above + h * a.gradient_row, a.width, a.gradient_pixel)
                    add_row(total, g_row, a.width)
                    for i in range(max(0, before - h), min(taps, a.height + before - h)):
                        slot = (h + i - before) % taps
                        add_taps(taps, sums + i * taps * PIXEL, rows + slot * row, g_row, a.width)
            place = a.totals + (group * (taps * taps + 1) * a.channels + channel) * 4
            write_row(False, place, sums, taps * taps + 1, a.channels * 4)

    return compiled(loop)
