"""Vector instructions for numba's loops: rows of pixels, `LANES` channels each, at addresses in memory.

A row buffer holds float32: pixel w, channel c of the block at `address + 4 * (w * LANES + c)`. What a
compiler makes of plain loops keeps its sums in memory, one load and one store a product; here they stay in
registers over a whole row. Written as LLVM's vectors of `WIDTH` floats, which becomes AVX2, AVX-512 or NEON
instructions.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from hornet_train.models.kernels import LANES

# of the code here and beside, for those who keep what it compiles to
VERSION = zlib.crc32(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*vectors.py")))
)
_FEATURES = llvmlite.binding.get_host_cpu_features()
WIDTH = 16 if _FEATURES.get("avx512f") else 8  # floats of an instruction
HAS_BFLOAT16 = bool(_FEATURES.get("avx512bf16"))  # an instruction that rounds to bfloat16
TILE = 8  # pixels whose sums stay in registers together; as many as hide the latency of a product
PIXEL = 4 * LANES  # bytes of a pixel in a row buffer

_FLOAT = ir.FloatType()
_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, WIDTH)
BLOCK = ir.VectorType(_FLOAT, LANES)
BLOCK16 = ir.VectorType(_I16, LANES)
BLOCK32 = ir.VectorType(_I32, LANES)


def instruction(emit: Callable[..., None]) -> Any:
    """A function for numba's loops, whose code `emit(builder, *arguments)` writes.

    An argument that `emit` declares as an int or a bool must be a constant where it is called, and is given
    to `emit` as it is; all others are int64.
    """
    kinds = list(get_type_hints(emit).items())[1:]
    constant = [kind in (int, bool) for name, kind in kinds if name != "return"]

    def typed(_typing: Any, *given: Any) -> Any:
        known = [
            kind.literal_value if is_constant else None
            for kind, is_constant in zip(given, constant, strict=True)
        ]

        def generate(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            emit(builder, *(value if one is None else one for one, value in zip(known, values, strict=True)))
            return context.get_dummy_value()

        kept = (
            kind if is_constant else types.int64 for kind, is_constant in zip(given, constant, strict=True)
        )
        return types.void(*kept), generate

    vars(typed)["__signature__"] = signature(emit)  # numba wants to know how many arguments there are
    return intrinsic(prefer_literal=True)(typed)


def load(builder: ir.IRBuilder, address: ir.Value, kind: ir.VectorType) -> ir.Value:
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = 2 if kind is BLOCK16 else 4
    return value


def store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = (
        2 if value.type == BLOCK16 else 4
    )


def _fused(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a * b + c, rounded once."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    name = f"llvm.fma.v{WIDTH}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def _all(value: int) -> ir.Constant:
    return ir.Constant(BLOCK32, [value] * LANES)


def _read_row(
    builder: ir.IRBuilder, half: bool, row: ir.Value, source: ir.Value, pixels: ir.Value, stride: ir.Value
) -> None:
    """`read_row(half, row, source, pixels, stride)`: LANES channels of each pixel into a row buffer.

    Args:
        half: whether the source is bfloat16, the upper half of a float32; else it is float32.
    """
    with cgutils.for_range(builder, pixels) as pixel:
        place = builder.add(source, builder.mul(pixel.index, stride))
        store(builder, widened(builder, place, half), builder.add(row, builder.mul(pixel.index, _I64(PIXEL))))


read_row = instruction(_read_row)


def _write_row(
    builder: ir.IRBuilder, half: bool, target: ir.Value, row: ir.Value, pixels: ir.Value, stride: ir.Value
) -> None:
    """`write_row(half, target, row, pixels, stride)`: the reverse, rounded to the nearest even bfloat16."""
    with cgutils.for_range(builder, pixels) as pixel:
        place = builder.add(target, builder.mul(pixel.index, stride))
        value = load(builder, builder.add(row, builder.mul(pixel.index, _I64(PIXEL))), BLOCK)
        store(builder, rounded(builder, value) if half else value, place)


write_row = instruction(_write_row)


def _enter_ring(
    builder: ir.IRBuilder,
    half: bool,
    taps: int,
    ring: ir.Value,
    row_bytes: ir.Value,
    source: ir.Value,
    by_row: ir.Value,
    by_pixel: ir.Value,
    row: ir.Value,
    height: ir.Value,
    width: ir.Value,
) -> None:
    """`enter_ring(half, K, ring, row_bytes, source, by_row, by_pixel, row, height, width)`.

    Row number `row` of a map into its place in a ring of K row buffers, behind K // 2 pixels of zeros;
    nothing where the map has no such row.
    """
    with builder.if_then(builder.icmp_signed("<", row, height)):
        slot = builder.srem(row, _I64(taps))
        place = builder.add(builder.add(ring, builder.mul(slot, row_bytes)), _I64(taps // 2 * PIXEL))
        _read_row(builder, half, place, builder.add(source, builder.mul(row, by_row)), width, by_pixel)


enter_ring = instruction(_enter_ring)


def widened(builder: ir.IRBuilder, place: ir.Value, half: bool) -> ir.Value:
    """LANES values from memory in float32; with `half` they are bfloat16, the upper half of a float32."""
    if not half:
        return load(builder, place, BLOCK)
    wide = builder.zext(load(builder, place, BLOCK16), BLOCK32)
    return builder.bitcast(builder.shl(wide, _all(16)), BLOCK)


class _BFloat(ir.Type):  # type: ignore[misc] # llvmlite, untyped, has no name for it
    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def rounded(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """float32 to the nearest bfloat16, ties to even; not-a-number stays one."""
    if HAS_BFLOAT16:
        return builder.bitcast(builder.fptrunc(value, ir.VectorType(_BFloat(), LANES)), BLOCK16)
    bits = builder.bitcast(value, BLOCK32)
    odd = builder.and_(builder.lshr(bits, _all(16)), _all(1))
    up = builder.lshr(builder.add(builder.add(bits, _all(0x7FFF)), odd), _all(16))
    unordered = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.select(unordered, _all(0x7FC0), up), BLOCK16)


@dataclass
class Held:
    """Values that stay in registers over a loop.

    Attributes:
        index: of the turn, from 0.
        values: at a turn's begin, and behind the loop at its end.
        after: filled with the values at the turn's end.
    """

    index: ir.Value
    values: list[ir.Value]
    after: list[ir.Value] = field(default_factory=list)


@contextmanager
def summing(builder: ir.IRBuilder, turns: ir.Value, start: list[ir.Value]) -> Iterator[Held]:
    """The body of a loop of so many turns that carries values from one to the next."""
    entry = builder.block
    head, body, end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    held = Held(builder.phi(_I64), [builder.phi(value.type) for value in start])
    builder.cbranch(builder.icmp_signed("<", held.index, turns), body, end)
    builder.position_at_end(body)
    yield held
    carried = zip(
        [held.index, *held.values],
        [_I64(0), *start],
        [builder.add(held.index, _I64(1)), *held.after],
        strict=True,
    )
    for now, first, later in carried:
        now.add_incoming(first, entry)
        now.add_incoming(later, builder.block)
    builder.branch(head)
    builder.position_at_end(end)


def _add_taps(
    builder: ir.IRBuilder, taps: int, sums: ir.Value, x_row: ir.Value, g_row: ir.Value, pixels: ir.Value
) -> None:
    """`add_taps(K, sums, x_row, g_row, pixels)`: sums[j] += sum over w of x_row[w + j] * g_row[w], j < K.

    `sums` is a row buffer of K pixels, x_row one of pixels + K - 1.
    """
    for part in range(0, PIXEL, 4 * WIDTH):
        sums_part, x_row_part, g_row_part = (builder.add(place, _I64(part)) for place in (sums, x_row, g_row))
        _add_taps_part(builder, taps, sums_part, x_row_part, g_row_part, pixels)


def _add_taps_part(
    builder: ir.IRBuilder, taps: int, sums: ir.Value, x_row: ir.Value, g_row: ir.Value, pixels: ir.Value
) -> None:
    places = [builder.add(sums, _I64(PIXEL * tap)) for tap in range(taps)]
    with summing(builder, pixels, [load(builder, place, _VECTOR) for place in places]) as held:
        offset = builder.mul(held.index, _I64(PIXEL))
        g = load(builder, builder.add(g_row, offset), _VECTOR)
        x_first = builder.add(x_row, offset)
        for tap, before in enumerate(held.values):
            x = load(builder, builder.add(x_first, _I64(PIXEL * tap)), _VECTOR)
            held.after.append(_fused(builder, x, g, before))
    for place, value in zip(places, held.values, strict=True):
        store(builder, value, place)


add_taps = instruction(_add_taps)


def _add_row(builder: ir.IRBuilder, total: ir.Value, row: ir.Value, pixels: ir.Value) -> None:
    """`add_row(total, row, pixels)`: total, a row buffer of one pixel, += the sum of the row's pixels."""
    with cgutils.for_range(builder, pixels) as pixel:
        value = load(builder, builder.add(row, builder.mul(pixel.index, _I64(PIXEL))), BLOCK)
        store(builder, builder.fadd(load(builder, total, BLOCK), value), total)


add_row = instruction(_add_row)


def _clear_row(builder: ir.IRBuilder, row: ir.Value, pixels: ir.Value) -> None:
    """`clear_row(row, pixels)`: zeros."""
    with cgutils.for_range(builder, pixels) as pixel:
        place = builder.add(row, builder.mul(pixel.index, _I64(PIXEL)))
        store(builder, ir.Constant(BLOCK, [0.0] * LANES), place)


clear_row = instruction(_clear_row)


def _filter_tile(
    builder: ir.IRBuilder,
    taps: int,
    out: ir.Value,
    ring: ir.Value,
    row_bytes: ir.Value,
    slot: ir.Value,
    kernel: ir.Value,
    rows: ir.Value,
    bias: ir.Value,
) -> None:
    """TILE pixels of a row, filtered by `rows` rows of a K x K kernel.

    `filter_tile(K, out, ring, row_bytes, slot, kernel, rows, bias)`: out[w] = bias + sum over r < rows and
    j < K of ring[(slot + r) mod K][w + j] * kernel[r * K + j]; all are row buffers, the ring has K of them.
    """
    for part in range(0, PIXEL, 4 * WIDTH):
        out_part, ring_part, kernel_part, bias_part = (
            builder.add(place, _I64(part)) for place in (out, ring, kernel, bias)
        )
        _filter_tile_part(builder, taps, out_part, ring_part, row_bytes, slot, kernel_part, rows, bias_part)


def _filter_tile_part(
    builder: ir.IRBuilder,
    taps: int,
    out: ir.Value,
    ring: ir.Value,
    row_bytes: ir.Value,
    slot: ir.Value,
    kernel: ir.Value,
    rows: ir.Value,
    bias: ir.Value,
) -> None:
    with summing(builder, rows, [load(builder, bias, _VECTOR)] * TILE) as held:
        turn = builder.add(slot, held.index)  # around the ring, at most once
        past = builder.icmp_signed(">=", turn, _I64(taps))
        turn = builder.select(past, builder.sub(turn, _I64(taps)), turn)
        x_row = builder.add(ring, builder.mul(turn, row_bytes))
        k_row = builder.add(kernel, builder.mul(held.index, _I64(PIXEL * taps)))
        sums = list(held.values)
        for tap in range(taps):
            k = load(builder, builder.add(k_row, _I64(PIXEL * tap)), _VECTOR)
            for pixel in range(TILE):
                x = load(builder, builder.add(x_row, _I64(PIXEL * (tap + pixel))), _VECTOR)
                sums[pixel] = _fused(builder, x, k, sums[pixel])
        held.after += sums
    for pixel, value in enumerate(held.values):
        store(builder, value, builder.add(out, _I64(PIXEL * pixel)))


filter_tile = instruction(_filter_tile)
