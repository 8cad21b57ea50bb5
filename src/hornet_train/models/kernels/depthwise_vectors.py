"""Vector instructions of the depthwise convolution: rows of pixels, LANES channels each.

A row buffer holds float32: pixel w, channel c of the block at `address + 4 * (w * LANES + c)`.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.arguments import Ring, Tile
from hornet_train.models.kernels.instructions import (
    BLOCK,
    I64,
    VECTOR,
    WIDTH,
    fused,
    instruction,
    load,
    rounded,
    store,
    summing,
    widened,
)

TILE = 8  # pixels whose sums stay in registers together; as many as hide the latency of a product
PIXEL = 4 * LANES  # bytes of a pixel in a row buffer


def _read_row(
    builder: ir.IRBuilder, half: bool, row: ir.Value, source: ir.Value, pixels: ir.Value, stride: ir.Value
) -> None:
    """`read_row(half, row, source, pixels, stride)`: LANES channels of each pixel into a row buffer.

    Args:
        half: whether the source is bfloat16, the upper half of a float32; else it is float32.
    """
    with cgutils.for_range(builder, pixels) as pixel:
        place = builder.add(source, builder.mul(pixel.index, stride))
        store(builder, widened(builder, place, half), builder.add(row, builder.mul(pixel.index, I64(PIXEL))))


read_row = instruction(_read_row)


def _write_row(
    builder: ir.IRBuilder, half: bool, target: ir.Value, row: ir.Value, pixels: ir.Value, stride: ir.Value
) -> None:
    """`write_row(half, target, row, pixels, stride)`: the reverse, rounded to the nearest even bfloat16."""
    with cgutils.for_range(builder, pixels) as pixel:
        place = builder.add(target, builder.mul(pixel.index, stride))
        value = load(builder, builder.add(row, builder.mul(pixel.index, I64(PIXEL))), BLOCK)
        store(builder, rounded(builder, value) if half else value, place)


write_row = instruction(_write_row)


def _enter_ring(builder: ir.IRBuilder, half: bool, taps: int, ring: Ring, row: ir.Value) -> None:
    """`enter_ring(half, K, ring, row)`: row number `row` of a map into its place in a ring of K row buffers.

    It lies behind K // 2 pixels of zeros; nothing is done where the map has no such row.
    """
    with builder.if_then(builder.icmp_signed("<", row, ring.height)):
        slot = builder.srem(row, I64(taps))
        buffer = builder.add(ring.address, builder.mul(slot, ring.row_bytes))
        place = builder.add(buffer, I64(taps // 2 * PIXEL))
        source = builder.add(ring.source, builder.mul(row, ring.source_row))
        _read_row(builder, half, place, source, ring.width, ring.source_pixel)


enter_ring = instruction(_enter_ring)


def _add_taps(
    builder: ir.IRBuilder, taps: int, sums: ir.Value, x_row: ir.Value, g_row: ir.Value, pixels: ir.Value
) -> None:
    """`add_taps(K, sums, x_row, g_row, pixels)`: sums[j] += sum over w of x_row[w + j] * g_row[w], j < K.

    `sums` is a row buffer of K pixels, x_row one of pixels + K - 1.
    """
    for part in range(0, PIXEL, 4 * WIDTH):
        sums_part, x_row_part, g_row_part = (builder.add(place, I64(part)) for place in (sums, x_row, g_row))
        _add_taps_part(builder, taps, sums_part, x_row_part, g_row_part, pixels)


def _add_taps_part(
    builder: ir.IRBuilder, taps: int, sums: ir.Value, x_row: ir.Value, g_row: ir.Value, pixels: ir.Value
) -> None:
    places = [builder.add(sums, I64(PIXEL * tap)) for tap in range(taps)]
    with summing(builder, pixels, [load(builder, place, VECTOR) for place in places]) as held:
        offset = builder.mul(held.index, I64(PIXEL))
        g = load(builder, builder.add(g_row, offset), VECTOR)
        x_first = builder.add(x_row, offset)
        for tap, before in enumerate(held.values):
            x = load(builder, builder.add(x_first, I64(PIXEL * tap)), VECTOR)
            held.after.append(fused(builder, x, g, before))
    for place, value in zip(places, held.values, strict=True):
        store(builder, value, place)


add_taps = instruction(_add_taps)


def _add_row(builder: ir.IRBuilder, total: ir.Value, row: ir.Value, pixels: ir.Value) -> None:
    """`add_row(total, row, pixels)`: total, a row buffer of one pixel, += the sum of the row's pixels."""
    with cgutils.for_range(builder, pixels) as pixel:
        value = load(builder, builder.add(row, builder.mul(pixel.index, I64(PIXEL))), BLOCK)
        store(builder, builder.fadd(load(builder, total, BLOCK), value), total)


add_row = instruction(_add_row)


def _clear_row(builder: ir.IRBuilder, row: ir.Value, pixels: ir.Value) -> None:
    """`clear_row(row, pixels)`: zeros."""
    with cgutils.for_range(builder, pixels) as pixel:
        place = builder.add(row, builder.mul(pixel.index, I64(PIXEL)))
        store(builder, ir.Constant(BLOCK, [0.0] * LANES), place)


clear_row = instruction(_clear_row)


def _filter_tile(builder: ir.IRBuilder, taps: int, tile: Tile) -> None:
    """`filter_tile(K, tile)`: TILE pixels of a row, filtered by some rows of a K x K kernel.

    out[w] = bias + sum over r < rows and j < K of ring[(slot + r) mod K][w + j] * kernel[r * K + j]; all are
    row buffers, the ring has K of them.
    """
    for part in range(0, PIXEL, 4 * WIDTH):
        parts = {
            name: builder.add(getattr(tile, name), I64(part)) for name in ("out", "ring", "kernel", "bias")
        }
        _filter_tile_part(builder, taps, tile._replace(**parts))


def _filter_tile_part(builder: ir.IRBuilder, taps: int, tile: Tile) -> None:
    """WIDTH channels of it."""
    with summing(builder, tile.rows, [load(builder, tile.bias, VECTOR)] * TILE) as held:
        turn = builder.add(tile.slot, held.index)  # around the ring, at most once
        past = builder.icmp_signed(">=", turn, I64(taps))
        turn = builder.select(past, builder.sub(turn, I64(taps)), turn)
        x_row = builder.add(tile.ring, builder.mul(turn, tile.row_bytes))
        k_row = builder.add(tile.kernel, builder.mul(held.index, I64(PIXEL * taps)))
        sums = list(held.values)
        for tap in range(taps):
            k = load(builder, builder.add(k_row, I64(PIXEL * tap)), VECTOR)
            for pixel in range(TILE):
                x = load(builder, builder.add(x_row, I64(PIXEL * (tap + pixel))), VECTOR)
                sums[pixel] = fused(builder, x, k, sums[pixel])
        held.after += sums
    for pixel, value in enumerate(held.values):
        store(builder, value, builder.add(tile.out, I64(PIXEL * pixel)))


filter_tile = instruction(_filter_tile)
