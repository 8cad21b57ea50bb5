"""The loops of RoIAlign that numba compiles.

Average RoIAlign is separable. A bin's value is the mean over a grid of samples of it, each sample is a
bilinear mean of four pixels, and both means are products of one along the rows and one along the columns. So
for each region there are two small matrices, of weights of rows and of columns, and

    out[i, j] = sum over y of rows[i, y] * sum over x of columns[j, x] * map[y, x]

whose rows have weights in but a few places. Samples are those of torchvision's operator with `aligned=True`,
a sampling ratio of 0 and its rules at the borders.

Forward, a task is a region; backward, some channels of an image, through all of its regions in their order.
So results do not depend on the number of threads.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable
from numba.np.numpy_support import carray

from hornet_train.models.kernels.compile_kernel import compiled, own_share, thread_number, unpacked
from hornet_train.models.kernels.instructions import VERSION

CHANNELS = 64  # of a task of the backward pass


class Alignment(NamedTuple):
    """Addresses, and extents; scratch is in floats, of each thread.

    maps (images, height, width, channels), of values or of their gradients; boxes (regions, 4), their corners
    in the map's pixels, of whose centres the first is 0; image (regions,) int64; bins (regions, side, side,
    channels), of values or gradients.
    """

    maps: int
    boxes: int
    image: int
    bins: int
    images: int
    height: int
    width: int
    channels: int
    regions: int
    side: int
    scratch: int
    scratch_floats: int


def scratch_floats(side: int, height: int, width: int, channels: int) -> int:
    """Of one thread: weights of rows and columns, where they begin and end, a row of the map."""
    return side * (height + width) + 4 * side + width * channels


@intrinsic
def _pointer_to(_typing: Any, _address: Any, kind: Any) -> Any:
    """`_pointer_to(address, kind)`: to float32 or int64."""
    pointer = types.CPointer(kind.dtype)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> ir.Value:
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return pointer(types.int64, kind), generate


pointer_to: Any = _pointer_to  # untyped: numba passes the first argument itself


@register_jitable
def _weigh(start: Any, length: Any, extent: Any, weights: Any, ends: Any) -> None:
    """The weights of `extent` pixels in each bin of a side, (side, extent), and its first and last pixel."""
    side = weights.shape[0]
    size = length / np.float32(side)
    samples = int(np.ceil(size))
    weights[:] = np.float32(0)
    for i in range(side):
        first, last = extent, -1
        for s in range(samples):
            place = (
                start + np.float32(i) * size + (np.float32(s) + np.float32(0.5)) * size / np.float32(samples)
            )
            if place < np.float32(-1) or place > np.float32(extent):
                continue
            place = max(place, np.float32(0))
            low = min(int(place), extent - 1)
            high = min(low + 1, extent - 1)
            share = place - np.float32(low) if high > low else np.float32(0)
            weights[i, low] += (np.float32(1) - share) / np.float32(samples)
            weights[i, high] += share / np.float32(samples)
            first, last = min(first, low), max(last, high)
        ends[i, 0], ends[i, 1] = np.float32(first), np.float32(last)


@register_jitable
def _weights_of(a: Any, box: Any) -> Any:
    """The weights and ends of rows and of columns of a box, and what is left of this thread's memory."""
    memory = carray(
        pointer_to(a.scratch + thread_number() * a.scratch_floats * 4, np.float32), (a.scratch_floats,)
    )
    at = 0
    rows = memory[at : at + a.side * a.height].reshape((a.side, a.height))
    at += a.side * a.height
    columns = memory[at : at + a.side * a.width].reshape((a.side, a.width))
    at += a.side * a.width
    row_ends = memory[at : at + 2 * a.side].reshape((a.side, 2))
    at += 2 * a.side
    column_ends = memory[at : at + 2 * a.side].reshape((a.side, 2))
    at += 2 * a.side
    _weigh(box[1], box[3] - box[1], a.height, rows, row_ends)
    _weigh(box[0], box[2] - box[0], a.width, columns, column_ends)
    return rows, row_ends, columns, column_ends, memory[at:]


@cache
def forward_loop() -> int:
    """The address of the loop that fills `bins`."""
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - a compiled loop is kept on disk under what it closes over
        a = unpacked(arguments, Alignment)
        maps = carray(pointer_to(a.maps, np.float32), (a.images, a.height, a.width, a.channels))
        boxes = carray(pointer_to(a.boxes, np.float32), (a.regions, 4))
        image = carray(pointer_to(a.image, np.int64), (a.regions,))
        bins = carray(pointer_to(a.bins, np.float32), (a.regions, a.side, a.side, a.channels))
        for region in own_share(a.regions):
            rows, row_ends, columns, column_ends, memory = _weights_of(a, boxes[region])
            picture, out = maps[image[region]], bins[region]
            left = int(column_ends[:, 0].min())
            right = int(column_ends[:, 1].max())
            for i in range(a.side):
                top, bottom = int(row_ends[i, 0]), int(row_ends[i, 1])
                if bottom < 0 or right < 0:
                    out[i] = np.float32(0)
                    continue
                wide = (right + 1 - left) * a.channels
                line = memory[:wide]
                for y in range(top, bottom + 1):
                    source, weight = picture[y, left : right + 1].reshape(-1), rows[i, y]
                    if y == top:
                        for k in range(wide):
                            line[k] = weight * source[k]
                    else:
                        for k in range(wide):
                            line[k] += weight * source[k]
                for j in range(a.side):
                    target = out[i, j]
                    target[:] = np.float32(0)
                    for x in range(int(column_ends[j, 0]), int(column_ends[j, 1]) + 1):
                        source, weight = line[(x - left) * a.channels :], columns[j, x]
                        for k in range(a.channels):
                            target[k] += weight * source[k]

    return compiled(loop)


@cache
def backward_loop() -> int:
    """The address of the loop that adds to `maps`, gradients of the maps, those of `bins`."""
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, Alignment)
        maps = carray(pointer_to(a.maps, np.float32), (a.images, a.height, a.width, a.channels))
        boxes = carray(pointer_to(a.boxes, np.float32), (a.regions, 4))
        image = carray(pointer_to(a.image, np.int64), (a.regions,))
        bins = carray(pointer_to(a.bins, np.float32), (a.regions, a.side, a.side, a.channels))
        blocks = (a.channels + CHANNELS - 1) // CHANNELS
        for task in own_share(a.images * blocks):
            channel = task % blocks * CHANNELS
            some = min(CHANNELS, a.channels - channel)
            for region in range(a.regions):
                if image[region] != task // blocks:
                    continue
                rows, row_ends, columns, column_ends, memory = _weights_of(a, boxes[region])
                picture, given = maps[image[region]], bins[region]
                left = int(column_ends[:, 0].min())
                right = int(column_ends[:, 1].max())
                for i in range(a.side):
                    top, bottom = int(row_ends[i, 0]), int(row_ends[i, 1])
                    if bottom < 0 or right < 0:
                        continue
                    line = memory[: (right + 1 - left) * some]
                    line[:] = np.float32(0)
                    for j in range(a.side):
                        source = given[i, j, channel : channel + some]
                        for x in range(int(column_ends[j, 0]), int(column_ends[j, 1]) + 1):
                            target, weight = line[(x - left) * some :], columns[j, x]
                            for k in range(some):
                                target[k] += weight * source[k]
                    for y in range(top, bottom + 1):
                        weight = rows[i, y]
                        for x in range(left, right + 1):
                            target = picture[y, x, channel : channel + some]
                            source = line[(x - left) * some :]
                            for k in range(some):
                                target[k] += weight * source[k]

    return compiled(loop)
