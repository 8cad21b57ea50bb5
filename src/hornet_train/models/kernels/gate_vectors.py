"""A gating product of a row of channels, (a + bias) * gate, forward and backward."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from hornet_train.models.kernels.arguments import Gate, GateGradient, GateGradientHalves, GateHalves
from hornet_train.models.kernels.instructions import instruction, widened
from hornet_train.models.kernels.row_vectors import (
    accumulate,
    at_block,
    at_step,
    blocks_of_row,
    put,
    spaced_row,
)


def _gate_row(builder: ir.IRBuilder, halves: GateHalves, a: Gate, row: ir.Value) -> None:
    """`gate_row(halves, arguments, row)`: out = (a + bias) * gate."""
    a_row = spaced_row(builder, a.a, row, a.a_step)
    gate = spaced_row(builder, a.gate, row, a.gate_step)
    out = spaced_row(builder, a.out, row, a.out_step)
    with cgutils.for_range(builder, blocks_of_row(builder, a.channels)) as loop:
        value = widened(builder, at_step(builder, a_row, loop.index, a.a_block), halves.a)
        if halves.add:
            value = builder.fadd(value, widened(builder, at_block(builder, a.bias, loop.index, False), False))
        factor = widened(builder, at_block(builder, gate, loop.index, halves.gate), halves.gate)
        put(builder, builder.fmul(value, factor), at_step(builder, out, loop.index, a.out_block), halves.out)


gate_row = instruction(_gate_row)


def _gate_gradient_row(
    builder: ir.IRBuilder, halves: GateGradientHalves, a: GateGradient, row: ir.Value, total: ir.Value
) -> None:
    """`gate_gradient_row(halves, arguments, row, total)`: for_gate = above * (a + bias), out = above * gate,
    total += out.
    """
    a_row = spaced_row(builder, a.a, row, a.a_step)
    gate = spaced_row(builder, a.gate, row, a.gate_step)
    above = spaced_row(builder, a.above, row, a.above_step)
    for_gate = spaced_row(builder, a.for_gate, row, a.for_gate_step)
    out = spaced_row(builder, a.out, row, a.out_step)
    with cgutils.for_range(builder, blocks_of_row(builder, a.channels)) as loop:
        gradient = widened(builder, at_step(builder, above, loop.index, a.above_block), halves.above)
        value = widened(builder, at_step(builder, a_row, loop.index, a.a_block), halves.a)
        if halves.add:
            value = builder.fadd(value, widened(builder, at_block(builder, a.bias, loop.index, False), False))
        factor = widened(builder, at_block(builder, gate, loop.index, halves.gate), halves.gate)
        place = at_block(builder, for_gate, loop.index, halves.gate)
        put(builder, builder.fmul(gradient, value), place, halves.gate)
        result = builder.fmul(gradient, factor)
        put(builder, result, at_step(builder, out, loop.index, a.out_block), halves.out)
        accumulate(builder, result, total, loop.index)


gate_gradient_row = instruction(_gate_gradient_row)
