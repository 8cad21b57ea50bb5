"""What the vector instructions over the channels of one pixel share: parts of a row, sums, constants.

A row is `channels` values that lie side by side, a multiple of LANES, float32 or, where a flag says half,
bfloat16; all that is computed in between is float32. Weights, biases and sums are float32.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.instructions import BLOCK, I64, rounded, store, widened


def filled(value: float) -> ir.Constant:
    """A constant in every lane."""
    return ir.Constant(BLOCK, [value] * LANES)


def call(builder: ir.IRBuilder, name: str, *values: ir.Value) -> ir.Value:
    """LLVM's own function of LANES float32, "fma" or "sqrt"."""
    kind = ir.FunctionType(BLOCK, [BLOCK] * len(values))
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")
    return builder.call(function, values)


def splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A scalar in every lane."""
    lane = builder.insert_element(ir.Constant(BLOCK, ir.Undefined), value, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(lane, lane, mask)


def sum_of_lanes(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The sum of all lanes, in every lane, by halves: the same order on every processor."""
    lanes = ir.VectorType(ir.IntType(32), LANES)
    for step in (8, 4, 2, 1):
        other = builder.shuffle_vector(
            value, value, ir.Constant(lanes, [(lane ^ step) for lane in range(LANES)])
        )
        value = builder.fadd(value, other)
    return value


def at_block(builder: ir.IRBuilder, row: ir.Value, block: ir.Value, half: bool) -> ir.Value:
    """The address of block number `block` of a row, LANES values each."""
    return builder.add(row, builder.mul(block, I64((2 if half else 4) * LANES)))


def at_step(builder: ir.IRBuilder, row: ir.Value, block: ir.Value, step: ir.Value) -> ir.Value:
    """The same of a row whose blocks lie `step` bytes apart."""
    return builder.add(row, builder.mul(block, step))


def put(builder: ir.IRBuilder, value: ir.Value, place: ir.Value, half: bool) -> None:
    """Store LANES float32 as they are, or rounded to bfloat16."""
    store(builder, rounded(builder, value) if half else value, place)


def accumulate(builder: ir.IRBuilder, value: ir.Value, totals: ir.Value, block: ir.Value) -> None:
    """Add LANES values to those of a float32 row of totals."""
    place = at_block(builder, totals, block, False)
    store(builder, builder.fadd(widened(builder, place, False), value), place)


def blocks_of_row(builder: ir.IRBuilder, channels: ir.Value) -> ir.Value:
    """How many times LANES channels a row has."""
    return builder.sdiv(channels, I64(LANES))


def spaced_row(builder: ir.IRBuilder, array: ir.Value, row: ir.Value, step: ir.Value) -> ir.Value:
    """The address of row number `row` of an array whose rows lie `step` bytes apart."""
    return builder.add(array, builder.mul(row, step))
