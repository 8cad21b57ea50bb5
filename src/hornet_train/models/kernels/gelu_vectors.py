"""GELU of a row of channels, forward and backward.

GELU(x) = x Phi(x) and its slope Phi(x) + x phi(x), of a normal variable, are x (1/2 + x P(x^2)) and
1/2 + x Q(x^2), of degree 15 on |x| <= 5.5, fitted with Chebyshev nodes for the least absolute error: 1e-7 and
5e-7, as much as rounding. Beyond, Phi is that of 5.5 and 0. No exponential and no division.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from hornet_train.models.kernels.arguments import Gelu, GeluGradient, GeluGradientHalves, GeluHalves
from hornet_train.models.kernels.instructions import instruction, widened
from hornet_train.models.kernels.row_vectors import (
    accumulate,
    at_block,
    blocks_of_row,
    call,
    filled,
    put,
    spaced_row,
)

_EDGE = 5.5
# of t = 2 x^2 / EDGE^2 - 1, the highest power first
_P = (
    -0.000227520973,
    0.000627511082,
    -0.000560622007,
    0.000733401685,
    -0.00237428307,
    0.00460472528,
    -0.00685156354,
    0.0102386029,
    -0.0149870639,
    0.0203611003,
    -0.0260505827,
    0.0320707848,
    -0.0387925891,
    0.0477375977,
    -0.0641723434,
    0.128551931,
)
_Q = (
    -0.00469154781,
    0.0120205098,
    -0.00719721367,
    0.00442805163,
    -0.0267360973,
    0.0491468264,
    -0.0538616298,
    0.0609213445,
    -0.0726252747,
    0.075250023,
    -0.0689139997,
    0.0602001366,
    -0.0537210276,
    0.053670148,
    -0.0657402558,
    0.128759175,
)


def _polynomial(builder: ir.IRBuilder, t: ir.Value, coefficients: tuple[float, ...]) -> ir.Value:
    """By Horner's rule."""
    total: ir.Value = filled(coefficients[0])
    for coefficient in coefficients[1:]:
        total = call(builder, "fma", total, t, filled(coefficient))
    return total


def _bounded(builder: ir.IRBuilder, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """x within the edges, not-a-number as it is, and t."""
    x = builder.select(builder.fcmp_ordered(">", x, filled(_EDGE)), filled(_EDGE), x)
    x = builder.select(builder.fcmp_ordered("<", x, filled(-_EDGE)), filled(-_EDGE), x)
    return x, call(builder, "fma", builder.fmul(x, x), filled(2 / _EDGE**2), filled(-1.0))


def _gelu(builder: ir.IRBuilder, x: ir.Value, bounded: ir.Value, t: ir.Value) -> ir.Value:
    x = builder.select(builder.fcmp_ordered("<", x, filled(-_EDGE)), filled(0.0), x)
    return builder.fmul(x, call(builder, "fma", bounded, _polynomial(builder, t, _P), filled(0.5)))


def _gelu_row(builder: ir.IRBuilder, halves: GeluHalves, a: Gelu, row: ir.Value) -> None:
    """`gelu_row(halves, arguments, row)`: kept = product + bias (and may be the product), then GELU."""
    product = spaced_row(builder, a.product, row, a.product_step)
    kept = spaced_row(builder, a.kept, row, a.kept_step)
    out = spaced_row(builder, a.out, row, a.out_step)
    with cgutils.for_range(builder, blocks_of_row(builder, a.channels)) as loop:
        x = widened(builder, at_block(builder, product, loop.index, halves.product), halves.product)
        x = builder.fadd(x, widened(builder, at_block(builder, a.bias, loop.index, False), False))
        if halves.keep:
            put(builder, x, at_block(builder, kept, loop.index, halves.kept), halves.kept)
        y = _gelu(builder, x, *_bounded(builder, x))
        put(builder, y, at_block(builder, out, loop.index, halves.product), halves.product)


gelu_row = instruction(_gelu_row)


def _gelu_gradient_row(
    builder: ir.IRBuilder, halves: GeluGradientHalves, a: GeluGradient, row: ir.Value, total: ir.Value
) -> None:
    """`gelu_gradient_row(halves, arguments, row, total)`: out = GELU(kept), gradient *= its slope,
    total += gradient.
    """
    kept = spaced_row(builder, a.kept, row, a.kept_step)
    gradient = spaced_row(builder, a.gradient, row, a.gradient_step)
    out = spaced_row(builder, a.out, row, a.out_step)
    with cgutils.for_range(builder, blocks_of_row(builder, a.channels)) as loop:
        x = widened(builder, at_block(builder, kept, loop.index, halves.kept), halves.kept)
        bounded, t = _bounded(builder, x)
        y = _gelu(builder, x, bounded, t)
        put(builder, y, at_block(builder, out, loop.index, halves.gradient), halves.gradient)
        slope = call(builder, "fma", bounded, _polynomial(builder, t, _Q), filled(0.5))
        place = at_block(builder, gradient, loop.index, halves.gradient)
        gradient_x = builder.fmul(slope, widened(builder, place, halves.gradient))
        put(builder, gradient_x, place, halves.gradient)
        accumulate(builder, gradient_x, total, loop.index)


gelu_gradient_row = instruction(_gelu_gradient_row)
