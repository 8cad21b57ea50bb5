"""GELU and its slope in vector instructions: y = x Phi(x), y' = Phi(x) + x phi(x), of a normal variable.

One exponential serves both: with a = |x| and t = 1 / (1 + P a / sqrt 2), Phi(-a) = exp(-a^2 / 2) q(t) / 2.
The form is that of 7.1.26 in Abramowitz and Stegun's Handbook; the polynomial q of degree 8 is fitted to
exp(z^2) erfc(z) for z in 0 .. 10, least in its greatest relative error, which is 1.3e-07. So the tail keeps
its digits too, where 1 + erf(x / sqrt 2) has lost them.
"""

from __future__ import annotations

import math

from llvmlite import ir
from numba.core import cgutils

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.vectors import (
    BLOCK,
    BLOCK32,
    instruction,
    rounded,
    store,
    widened,
)

_P = 0.3275911
_Q = (
    0.1850412344,
    0.1808860503,
    0.2050342638,
    0.02793137546,
    0.4490201111,
    -0.401773302,
    0.4945068446,
    -0.1406464434,
)
_LOG2_E = 1.44269504088896
_LN_2 = (0.693359375, -2.12194440e-4)  # the first has few digits, so that its multiples are exact
_EXP = tuple(1 / math.factorial(power) for power in range(7, 1, -1))  # on +-ln(2) / 2: 5e-9


def _of(value: float) -> ir.Constant:
    return ir.Constant(BLOCK, [value] * LANES)


def _call(builder: ir.IRBuilder, name: str, *values: ir.Value) -> ir.Value:
    kind = ir.FunctionType(BLOCK, [BLOCK] * len(values))
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")
    return builder.call(function, values)


def _polynomial(builder: ir.IRBuilder, x: ir.Value, coefficients: tuple[float, ...]) -> ir.Value:
    """By Horner's rule, the highest power first."""
    total: ir.Value = _of(coefficients[0])
    for coefficient in coefficients[1:]:
        total = _call(builder, "fma", total, x, _of(coefficient))
    return total


def _exponential(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """e^x = 2^n e^r for x <= 0, from -87 on; n whole, |r| <= ln(2) / 2."""
    x = builder.select(builder.fcmp_ordered("<", x, _of(-87.0)), _of(-87.0), x)
    n = _call(builder, "rint", builder.fmul(x, _of(_LOG2_E)))
    r = _call(builder, "fma", n, _of(-_LN_2[0]), x)
    r = _call(builder, "fma", n, _of(-_LN_2[1]), r)
    e_r = _polynomial(builder, r, (*_EXP, 1.0, 1.0))
    biased = builder.add(builder.fptosi(n, BLOCK32), ir.Constant(BLOCK32, [127] * LANES))
    power = builder.bitcast(builder.shl(biased, ir.Constant(BLOCK32, [23] * LANES)), BLOCK)
    return builder.fmul(e_r, power)


def _gelu(builder: ir.IRBuilder, half: bool, x: ir.Value, out: ir.Value, blocks: ir.Value) -> None:
    """`gelu(half, x, out, blocks)`: out = y, of blocks of LANES values."""
    _of_blocks(builder, half, x, None, out, blocks)


def _gelu_gradient(
    builder: ir.IRBuilder, half: bool, x: ir.Value, gradient: ir.Value, out: ir.Value, blocks: ir.Value
) -> None:
    """`gelu_gradient(half, x, gradient, out, blocks)`: out = y' * gradient."""
    _of_blocks(builder, half, x, gradient, out, blocks)


def _of_blocks(
    builder: ir.IRBuilder, half: bool, x: ir.Value, gradient: ir.Value | None, out: ir.Value, blocks: ir.Value
) -> None:
    with cgutils.for_range(builder, blocks) as block:
        offset = builder.mul(block.index, ir.IntType(64)((2 if half else 4) * LANES))
        value = widened(builder, builder.add(x, offset), half)
        density = _exponential(builder, builder.fmul(builder.fmul(value, value), _of(-0.5)))
        z = _call(builder, "fma", _call(builder, "fabs", value), _of(_P / math.sqrt(2)), _of(1.0))
        t = builder.fdiv(_of(1.0), z)
        q = builder.fmul(t, _polynomial(builder, t, tuple(0.5 * one for one in reversed(_Q))))
        tail = builder.fmul(density, q)
        positive = builder.fcmp_ordered(">", value, _of(0.0))
        share = builder.select(positive, builder.fsub(_of(1.0), tail), tail)  # Phi(x)
        if gradient is None:
            result = builder.fmul(value, share)
        else:
            phi = builder.fmul(density, _of(1 / math.sqrt(2 * math.pi)))
            slope = _call(builder, "fma", value, phi, share)
            result = builder.fmul(slope, widened(builder, builder.add(gradient, offset), half))
        store(builder, rounded(builder, result) if half else result, builder.add(out, offset))


gelu = instruction(_gelu)
gelu_gradient = instruction(_gelu_gradient)
