"""The loops of `hornet_train.images.resample`: weights, and weighted sums of rows.

Rows of pixels come first, 16 at a time: transposed, so that a vector has the same pixel of 16 rows. What they
become is transposed back into a few rows, from which rows of the result are made while these are in the
caches.

The vector instructions are written as operations on LLVM's vectors, which become those of AVX2, AVX-512 or
NEON. All is in this one file, as numba's cache goes by the file of a loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

from hornet_train.images.layout import Array, Pixels
from hornet_train.images.loops.compile_loop import compiled

TILE = 16  # bytes of a vector, and rows of a transposed tile
_VECTORS = 3  # that `weigh` computes at a time
CHUNK = TILE * _VECTORS  # bytes: one pixel of 16 rows
ROW = 2 * TILE  # bytes of a row of a transposed tile, in int16
_MOST_BITS = 22  # of the weights' fractions

# untyped: numba passes an intrinsic's first argument itself
_untyped: Any = intrinsic
_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))
_BYTES = ir.VectorType(ir.IntType(8), TILE)
_WORDS = ir.VectorType(_I16, TILE)
_PRODUCTS = ir.VectorType(_I32, TILE)
_SUMS = ir.VectorType(_I32, TILE // 2)
# lanes in the order in which AVX2 interleaves those of two registers, and in that in which it joins them
_LOW, _HIGH = (*range(4), *range(8, 12)), (*range(4, 8), *range(12, 16))
_JOINED = (*range(4), *range(8, 12), *range(4, 8), *range(12, 16))


def _load(builder: ir.IRBuilder, address: ir.Value, kind: ir.VectorType) -> ir.Value:
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = 1
    return value


def _store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = 1


def _lanes(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: Iterable[int]) -> ir.Value:
    """Some lanes of a, and of b, which are counted on from those of a."""
    chosen = list(lanes)
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(chosen)), chosen))


def _interleaved(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: Iterable[int]) -> ir.Value:
    """These lanes of a and b in turns."""
    return _lanes(builder, a, b, (one for lane in lanes for one in (lane, TILE + lane)))


def _splat(builder: ir.IRBuilder, value: ir.Value, kind: ir.VectorType) -> ir.Value:
    """A scalar in every lane."""
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _I32(0))
    return _lanes(builder, first, first, [0] * kind.count)


@_untyped
def _transpose(
    _typing: Any, _source: Any, _source_step: Any, _farthest: Any, _target: Any, _target_step: Any
) -> Any:
    """`_transpose(source, source_step, farthest, target, target_step)`: 16 rows of 16 bytes, into int16.

    Rows that would begin more than `farthest` bytes behind the first are read there instead.
    """

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        source, source_step, farthest, target, target_step = values
        rows = []
        for i in range(TILE):
            behind = builder.mul(source_step, _I64(i))
            behind = builder.select(builder.icmp_signed("<", behind, farthest), behind, farthest)
            rows.append(_load(builder, builder.add(source, behind), _BYTES))
        for _stage in range(4):  # each doubles how many bytes of a column lie side by side
            rows = [
                _interleaved(builder, rows[i], rows[i + TILE // 2], lanes)
                for i in range(TILE // 2)
                for lanes in (range(TILE // 2), range(TILE // 2, TILE))
            ]
        for i, row in enumerate(rows):
            _store(builder, builder.zext(row, _WORDS), builder.add(target, builder.mul(target_step, _I64(i))))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@_untyped
def _weigh(
    _typing: Any, _target: Any, _source: Any, _step: Any, _weights: Any, _pairs: Any, _bits: Any
) -> Any:
    """`_weigh(target, source, step, weights, pairs, bits)`: a weighted sum of rows, CHUNK bytes.

    target = (sum_k weights_k source_k + 2^(bits - 1)) >> bits, cut to 0..255, for k < 2 pairs; the rows
    `source_k` lie `step` bytes apart; rows and weights are int16. One instruction multiplies a pair of rows
    by their weights and adds the products.
    """

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
        target, source, step, weights, pairs, bits = values
        shift = builder.trunc(bits, _I32)
        half = _splat(builder, builder.shl(_I32(1), builder.sub(shift, _I32(1))), _SUMS)
        entry, head, body, end = builder.block, *(builder.append_basic_block() for _ in range(3))
        builder.branch(head)
        builder.position_at_end(head)
        pair, sums = builder.phi(_I64), [builder.phi(_SUMS) for _ in range(2 * _VECTORS)]
        builder.cbranch(builder.icmp_signed("<", pair, pairs), body, end)

        builder.position_at_end(body)
        both = builder.load(
            builder.inttoptr(builder.add(weights, builder.mul(pair, _I64(4))), _I32.as_pointer())
        )
        both.align = 2
        factors = builder.sext(builder.bitcast(_splat(builder, both, _SUMS), _WORDS), _PRODUCTS)
        first = builder.add(source, builder.mul(pair, builder.mul(step, _I64(2))))
        second, after = builder.add(first, step), list[ir.Value]()
        for vector in range(_VECTORS):
            a, b = (
                _load(builder, builder.add(row, _I64(2 * TILE * vector)), _WORDS) for row in (first, second)
            )
            for lanes in (_LOW, _HIGH):
                taken = builder.sext(_interleaved(builder, a, b, lanes), _PRODUCTS)
                products = builder.mul(taken, factors)
                even, odd = (_lanes(builder, products, products, range(start, TILE, 2)) for start in (0, 1))
                after.append(builder.add(sums[len(after)], builder.add(even, odd)))
        for now, start, later in zip(
            [pair, *sums], [_I64(0), *[half] * len(sums)], [builder.add(pair, _I64(1)), *after], strict=True
        ):
            now.add_incoming(start, entry)
            now.add_incoming(later, body)
        builder.branch(head)

        builder.position_at_end(end)
        shifts = _splat(builder, shift, _SUMS)
        least, most = (ir.Constant(_PRODUCTS, [value] * TILE) for value in (0, 255))
        for vector in range(_VECTORS):
            low, high = (builder.ashr(one, shifts) for one in sums[2 * vector : 2 * vector + 2])
            value = _lanes(builder, low, high, _JOINED)
            value = builder.select(builder.icmp_signed("<", value, least), least, value)
            value = builder.select(builder.icmp_signed(">", value, most), most, value)
            _store(builder, builder.trunc(value, _BYTES), builder.add(target, _I64(TILE * vector)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@register_jitable
def _filter(x: float, cubic: bool) -> float:
    """The filter at a distance: a = -1/2 in Keys' cubic, or a triangle."""
    x = abs(x)
    if not cubic:
        return 1.0 - x if x < 1.0 else 0.0
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 if x < 2.0 else 0.0


@register_jitable
def _exact(i: int, length: int, size: int, cubic: bool, antialias: bool, weights: Array) -> tuple[int, int]:
    """The weights of pixel number `i` of the result; gives where its pixels begin and how many they are."""
    scale = length / size
    if not antialias:  # the two neighbours of its centre, whatever the scale
        place = max(scale * (i + 0.5) - 0.5, 0.0)
        start = min(int(place), length - 1)
        weights[1] = min(place - start, 1.0) if start + 1 < length else 0.0
        weights[0] = 1.0 - weights[1]
        return start, min(2, length - start)
    radius = (2.0 if cubic else 1.0) * max(scale, 1.0)
    narrower = 1.0 / scale if scale >= 1.0 else 1.0
    centre = scale * (i + 0.5)
    start = max(int(centre - radius + 0.5), 0)
    taps = max(min(int(centre + radius + 0.5), length) - start, 0)
    total = 0.0
    for j in range(taps):
        weights[j] = _filter((j + start - centre + 0.5) * narrower, cubic)
        total += weights[j]
    for j in range(taps):
        weights[j] = weights[j] / total if total != 0.0 else weights[j]
    return start, taps


@compiled
def weigh_pixels(
    length: int,
    size: int,
    first: int,
    cubic: bool,
    antialias: bool,
    exact: Array,
    starts: Array,
    rounded: Array,
) -> int:
    """Fill in what `Axis` has of the pixels from `first` on of `size`, made of `length`; gives its `bits`.

    `exact` is memory, float64, for the weights of one pixel.
    """
    greatest = 0.0
    for i in range(size // 2 + 1):
        taps = _exact(min(i, size - 1), length, size, cubic, antialias, exact)[1]
        for j in range(taps):
            greatest = max(greatest, exact[j])
    bits = 0
    while bits < _MOST_BITS and int(0.5 + greatest * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    for i in range(len(starts)):
        starts[i], taps = _exact(first + i, length, size, cubic, antialias, exact)
        for j in range(taps):
            weight = exact[j] * (1 << bits)
            rounded[i, j] = int(weight - 0.5) if weight < 0.0 else int(weight + 0.5)
        for j in range(taps, rounded.shape[1]):
            rounded[i, j] = 0
    return bits


@register_jitable
def _make_rows(
    image: Pixels,
    row: int,
    last: int,
    left: int,
    across: Any,
    turned: Array,
    narrow: Array,
    rows: Array,
    to: int,
) -> None:
    """16 rows of the image from `row` on, none beyond `last`, resampled into `rows` from number `to` on.

    `left` is the image's first column that is read; `turned` and `narrow` are memory.
    """
    starts, weights, bits = across
    step, taps, at_turned = image.strides[0], weights.shape[1], turned.ctypes.data
    source, farthest = image.ctypes.data + row * step + 3 * left, (last - row) * step
    length = 3 * min(starts[-1] - starts[0] + taps, image.shape[1] - left)
    whole = length // TILE * TILE
    for j in range(0, whole, TILE):
        _transpose(source + j, step, farthest, at_turned + j * ROW, ROW)
    for j in range(whole, length):  # less than a vector is left of a row
        for i in range(TILE):
            turned[j * TILE + i] = image[min(row + i, last), left + j // 3, j % 3]
    at_narrow, at_weights = narrow.ctypes.data, weights.ctypes.data
    for x in range(len(starts)):
        source = at_turned + (starts[x] - starts[0]) * 3 * ROW
        _weigh(at_narrow + x * CHUNK, source, 3 * ROW, at_weights + 2 * x * taps, taps // 2, bits)
    target = rows.ctypes.data + to * rows.strides[0]
    for j in range(0, 3 * len(starts), TILE):
        _transpose(at_narrow + j * TILE, TILE, (TILE - 1) * TILE, target + 2 * j, rows.strides[0])


@compiled
def fill(
    image: Pixels,
    corner: tuple[int, int],
    across: Any,
    down: Any,
    turned: Array,
    narrow: Array,
    rows: Array,
    result: Array,
) -> None:
    """Rows of the result one after the other, and whenever it takes them the next 16 rows of the image.

    Args:
        image: uint8 (H, W, 3), contiguous.
        corner: where in it the box begins that is resized, (top, left).
        across, down: what `Axis` has of the box's columns and rows.
        turned, narrow, rows: memory; see `resample`.
        result: uint8, of 3 bytes a pixel and CHUNK more.
    """
    starts, weights, bits = down
    top, left = corner[0], corner[1] + across[0][0]
    taps, width = weights.shape[1], 3 * len(across[0])
    end = min(starts[-1] + taps, image.shape[0] - top)
    most = len(rows) - taps  # as many as are made; weights of 0 may stand for rows behind these
    lowest = made = starts[0]  # the first row in memory, and the one behind the last
    for y in range(len(starts)):
        if starts[y] > made:  # without antialiasing, rows between are never read
            lowest = made = starts[y]
        while made < min(starts[y] + taps, end):
            if made - lowest + TILE > most:
                for row in range(starts[y], made):
                    for j in range(rows.shape[1]):
                        rows[row - starts[y], j] = rows[row - lowest, j]
                lowest = starts[y]
            _make_rows(image, top + made, top + end - 1, left, across, turned, narrow, rows, made - lowest)
            made += TILE
        target = result.ctypes.data + y * width
        source = rows.ctypes.data + (starts[y] - lowest) * rows.strides[0]
        at_weights = weights.ctypes.data + 2 * y * taps
        for j in range(0, width, CHUNK):  # writes into the next row too, which comes later
            _weigh(target + j, source + 2 * j, rows.strides[0], at_weights, taps // 2, bits)
