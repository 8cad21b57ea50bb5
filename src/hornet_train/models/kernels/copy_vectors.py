"""Rows of a map on their way into blocks of LANES channels, for a product, and out of them."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from hornet_train.models.kernels.instructions import FLOAT, instruction, widened
from hornet_train.models.kernels.product_arguments import Finish, FinishFlags, Load, LoadFlags
from hornet_train.models.kernels.row_vectors import (
    accumulate,
    at_block,
    at_step,
    blocks_of_row,
    call,
    put,
    spaced_row,
    splat,
)


def _finish_row(
    builder: ir.IRBuilder, flags: FinishFlags, a: Finish, row: ir.Value, factor: ir.Value
) -> None:
    """`finish_row(flags, arguments, row, factor)`: out = added + factor * branch; `factor` is its address."""
    branch = spaced_row(builder, a.branch, row, a.branch_step)
    added = spaced_row(builder, a.added, row, a.added_step)
    out = spaced_row(builder, a.out, row, a.out_step)
    scale = _scalar(builder, factor)
    with cgutils.for_range(builder, blocks_of_row(builder, a.channels)) as loop:
        value = widened(builder, at_step(builder, branch, loop.index, a.branch_block), False)
        if flags.add:
            rest = widened(builder, at_block(builder, added, loop.index, flags.added_half), flags.added_half)
            value = call(builder, "fma", value, scale, rest)
        else:
            value = builder.fmul(value, scale)
        put(builder, value, at_block(builder, out, loop.index, flags.out_half), flags.out_half)


finish_row = instruction(_finish_row)


def _load_row(
    builder: ir.IRBuilder, flags: LoadFlags, a: Load, row: ir.Value, factor: ir.Value, total: ir.Value
) -> None:
    """`load_row(flags, arguments, row, factor, total)`: out = factor * source in float32, total += out."""
    source = spaced_row(builder, a.source, row, a.source_step)
    out = spaced_row(builder, a.out, row, a.out_step)
    scale = _scalar(builder, factor)
    with cgutils.for_range(builder, blocks_of_row(builder, a.channels)) as loop:
        value = widened(builder, at_block(builder, source, loop.index, flags.half), flags.half)
        value = builder.fmul(value, scale)
        put(builder, value, at_step(builder, out, loop.index, a.out_block), False)
        accumulate(builder, value, total, loop.index)


load_row = instruction(_load_row)


def _scalar(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
    """The float32 at an address, in every lane."""
    value = builder.load(builder.inttoptr(place, FLOAT.as_pointer()))
    value.align = 4
    return splat(builder, value)
