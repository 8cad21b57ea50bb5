"""Layer norm of a row of channels, forward and backward."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from hornet_train.models.kernels import EPS, LANES
from hornet_train.models.kernels.arguments import Norm, NormGradient, NormGradientHalves, NormHalves
from hornet_train.models.kernels.instructions import FLOAT, I64, instruction, summing, widened
from hornet_train.models.kernels.row_vectors import (
    accumulate,
    at_block,
    at_step,
    blocks_of_row,
    call,
    filled,
    put,
    spaced_row,
    splat,
    sum_of_lanes,
)


def statistics(
    builder: ir.IRBuilder, half: bool, x: ir.Value, channels: ir.Value, step: ir.Value | None = None
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """1 / C, the mean, and 1 / sqrt(variance + eps) of a row, in every lane; the variance about the mean.

    Args:
        step: bytes from LANES channels of the row to the next; None where they lie side by side.
    """
    step = I64((2 if half else 4) * LANES) if step is None else step
    blocks = blocks_of_row(builder, channels)
    share = splat(builder, builder.fdiv(FLOAT(1.0), builder.sitofp(channels, FLOAT)))
    with summing(builder, blocks, [filled(0.0)]) as held:
        value = widened(builder, at_step(builder, x, held.index, step), half)
        held.after.append(builder.fadd(held.values[0], value))
    mean = builder.fmul(sum_of_lanes(builder, held.values[0]), share)
    with summing(builder, blocks, [filled(0.0)]) as held:
        value = builder.fsub(widened(builder, at_step(builder, x, held.index, step), half), mean)
        held.after.append(call(builder, "fma", value, value, held.values[0]))
    variance = builder.fmul(sum_of_lanes(builder, held.values[0]), share)
    root = call(builder, "sqrt", builder.fadd(variance, filled(EPS)))
    return share, mean, builder.fdiv(filled(1.0), root)


def _norm_row(builder: ir.IRBuilder, halves: NormHalves, a: Norm, row: ir.Value) -> None:
    """`norm_row(halves, arguments, row)`: out = LN(x) * weight + bias."""
    x = spaced_row(builder, a.x, row, a.x_step)
    out = spaced_row(builder, a.out, row, a.out_step)
    _, mean, scale = statistics(builder, halves.x, x, a.channels)
    with cgutils.for_range(builder, blocks_of_row(builder, a.channels)) as loop:
        value = builder.fsub(widened(builder, at_block(builder, x, loop.index, halves.x), halves.x), mean)
        w = widened(builder, at_block(builder, a.weight, loop.index, False), False)
        b = widened(builder, at_block(builder, a.bias, loop.index, False), False)
        y = call(builder, "fma", builder.fmul(value, scale), w, b)
        put(builder, y, at_step(builder, out, loop.index, a.out_block), halves.out)


norm_row = instruction(_norm_row)


def _norm_gradient_row(
    builder: ir.IRBuilder,
    halves: NormGradientHalves,
    a: NormGradient,
    row: ir.Value,
    for_weight: ir.Value,
    for_bias: ir.Value,
) -> None:
    """`norm_gradient_row(halves, arguments, row, for_weight, for_bias)`: the gradients of x, weight and bias.

    With n the normalised x and d = above * weight: out = 1 / deviation * (d - mean(d) - n * mean(d n)), plus
    `besides` where there is one; for_weight += above * n, for_bias += above.
    """
    x = spaced_row(builder, a.x, row, a.x_step)
    above = spaced_row(builder, a.above, row, a.above_step)
    besides = spaced_row(builder, a.besides, row, a.besides_step)
    out = spaced_row(builder, a.out, row, a.out_step)
    blocks = blocks_of_row(builder, a.channels)
    share, mean, scale = statistics(builder, halves.x, x, a.channels)

    def at(index: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        value = builder.fsub(widened(builder, at_block(builder, x, index, halves.x), halves.x), mean)
        gradient = widened(builder, at_step(builder, above, index, a.above_block), halves.above)
        w = widened(builder, at_block(builder, a.weight, index, False), False)
        return builder.fmul(value, scale), gradient, builder.fmul(gradient, w)

    with summing(builder, blocks, [filled(0.0), filled(0.0)]) as held:
        n, gradient, d = at(held.index)
        accumulate(builder, builder.fmul(gradient, n), for_weight, held.index)
        accumulate(builder, gradient, for_bias, held.index)
        held.after += [builder.fadd(held.values[0], d), call(builder, "fma", d, n, held.values[1])]
    of_d, of_dn = (builder.fmul(sum_of_lanes(builder, value), share) for value in held.values)
    with cgutils.for_range(builder, blocks) as loop:
        n, _, d = at(loop.index)
        value = builder.fsub(builder.fsub(d, of_d), builder.fmul(n, of_dn))
        if halves.add:
            rest = widened(builder, at_block(builder, besides, loop.index, halves.besides), halves.besides)
            value = call(builder, "fma", value, scale, rest)
        else:
            value = builder.fmul(value, scale)
        put(builder, value, at_block(builder, out, loop.index, halves.x), halves.x)


norm_gradient_row = instruction(_norm_gradient_row)
