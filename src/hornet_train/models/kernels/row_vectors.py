"""Vector instructions over the channels of one pixel: layer norm, GELU and gating, forward and backward.

A row is `blocks` times LANES values that lie side by side, float32 or, where a flag says half, bfloat16; all
that is computed in between is float32. Weights, biases and sums are float32.

GELU(x) = x Phi(x) and its slope Phi(x) + x phi(x), of a normal variable, are x (1/2 + x P(x^2)) and
1/2 + x Q(x^2), of degree 15 on |x| <= 5.5, fitted with Chebyshev nodes for the least absolute error: 1e-7 and
5e-7, as much as rounding. Beyond, Phi is that of 5.5 and 0. No exponential and no division.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.vectors import BLOCK, instruction, rounded, store, summing, widened

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
_EPS = 1e-6  # of layer norm
_FLOAT, _I64 = ir.FloatType(), ir.IntType(64)


def _of(value: float) -> ir.Constant:
    return ir.Constant(BLOCK, [value] * LANES)


def _call(builder: ir.IRBuilder, name: str, *values: ir.Value) -> ir.Value:
    kind = ir.FunctionType(BLOCK, [BLOCK] * len(values))
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")
    return builder.call(function, values)


def _splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    lane = builder.insert_element(ir.Constant(BLOCK, ir.Undefined), value, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(lane, lane, mask)


def _sum(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Of all lanes, in every lane, by halves: the same order on every processor."""
    lanes = ir.VectorType(ir.IntType(32), LANES)
    for step in (8, 4, 2, 1):
        other = builder.shuffle_vector(
            value, value, ir.Constant(lanes, [(lane ^ step) for lane in range(LANES)])
        )
        value = builder.fadd(value, other)
    return value


def _at(builder: ir.IRBuilder, row: ir.Value, block: ir.Value, half: bool) -> ir.Value:
    return builder.add(row, builder.mul(block, _I64((2 if half else 4) * LANES)))


def _put(builder: ir.IRBuilder, value: ir.Value, place: ir.Value, half: bool) -> None:
    store(builder, rounded(builder, value) if half else value, place)


def _accumulate(builder: ir.IRBuilder, value: ir.Value, totals: ir.Value, block: ir.Value) -> None:
    place = _at(builder, totals, block, False)
    store(builder, builder.fadd(widened(builder, place, False), value), place)


def _polynomial(builder: ir.IRBuilder, t: ir.Value, coefficients: tuple[float, ...]) -> ir.Value:
    """By Horner's rule."""
    total: ir.Value = _of(coefficients[0])
    for coefficient in coefficients[1:]:
        total = _call(builder, "fma", total, t, _of(coefficient))
    return total


def _bounded(builder: ir.IRBuilder, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """x within the edges, not-a-number as it is, and t."""
    x = builder.select(builder.fcmp_ordered(">", x, _of(_EDGE)), _of(_EDGE), x)
    x = builder.select(builder.fcmp_ordered("<", x, _of(-_EDGE)), _of(-_EDGE), x)
    return x, _call(builder, "fma", builder.fmul(x, x), _of(2 / _EDGE**2), _of(-1.0))


def _gelu(builder: ir.IRBuilder, x: ir.Value, bounded: ir.Value, t: ir.Value) -> ir.Value:
    x = builder.select(builder.fcmp_ordered("<", x, _of(-_EDGE)), _of(0.0), x)
    return builder.fmul(x, _call(builder, "fma", bounded, _polynomial(builder, t, _P), _of(0.5)))


def _gelu_row(
    builder: ir.IRBuilder,
    half: bool,
    half_kept: bool,
    keep: bool,
    product: ir.Value,
    bias: ir.Value,
    kept: ir.Value,
    out: ir.Value,
    blocks: ir.Value,
) -> None:
    """`gelu_row(half, half_kept, keep, product, bias, kept, out, blocks)`: kept = product + bias, then GELU.

    Args:
        half: of product and out.
        half_kept: of kept, which is written with `keep` alone and may be the product itself.
    """
    with cgutils.for_range(builder, blocks) as loop:
        x = widened(builder, _at(builder, product, loop.index, half), half)
        x = builder.fadd(x, widened(builder, _at(builder, bias, loop.index, False), False))
        if keep:
            _put(builder, x, _at(builder, kept, loop.index, half_kept), half_kept)
        _put(builder, _gelu(builder, x, *_bounded(builder, x)), _at(builder, out, loop.index, half), half)


gelu_row = instruction(_gelu_row)


def _gelu_slope_row(
    builder: ir.IRBuilder,
    half: bool,
    half_kept: bool,
    kept: ir.Value,
    gradient: ir.Value,
    out: ir.Value,
    total: ir.Value,
    blocks: ir.Value,
) -> None:
    """`gelu_slope_row(half, half_kept, kept, gradient, out, total, blocks)`: out = GELU(kept),
    gradient *= its slope, total += gradient.

    Args:
        half: of gradient and out.
        half_kept: of kept.
    """
    with cgutils.for_range(builder, blocks) as loop:
        x = widened(builder, _at(builder, kept, loop.index, half_kept), half_kept)
        bounded, t = _bounded(builder, x)
        _put(builder, _gelu(builder, x, bounded, t), _at(builder, out, loop.index, half), half)
        slope = _call(builder, "fma", bounded, _polynomial(builder, t, _Q), _of(0.5))
        place = _at(builder, gradient, loop.index, half)
        gradient_x = builder.fmul(slope, widened(builder, place, half))
        _put(builder, gradient_x, place, half)
        _accumulate(builder, gradient_x, total, loop.index)


gelu_slope_row = instruction(_gelu_slope_row)


def _statistics(
    builder: ir.IRBuilder, half: bool, x: ir.Value, blocks: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """1 / C, the mean, and 1 / sqrt(variance + eps) of a row, in every lane; the variance about the mean."""
    count = builder.sitofp(builder.mul(blocks, _I64(LANES)), _FLOAT)
    share = _splat(builder, builder.fdiv(_FLOAT(1.0), count))
    with summing(builder, blocks, [_of(0.0)]) as held:
        value = widened(builder, _at(builder, x, held.index, half), half)
        held.after.append(builder.fadd(held.values[0], value))
    mean = builder.fmul(_sum(builder, held.values[0]), share)
    with summing(builder, blocks, [_of(0.0)]) as held:
        value = builder.fsub(widened(builder, _at(builder, x, held.index, half), half), mean)
        held.after.append(_call(builder, "fma", value, value, held.values[0]))
    variance = builder.fmul(_sum(builder, held.values[0]), share)
    root = _call(builder, "sqrt", builder.fadd(variance, _of(_EPS)))
    return share, mean, builder.fdiv(_of(1.0), root)


def _norm_row(
    builder: ir.IRBuilder,
    half: bool,
    half_out: bool,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value,
    out: ir.Value,
    blocks: ir.Value,
) -> None:
    """`norm_row(half, half_out, x, weight, bias, out, blocks)`: out = LN(x) * weight + bias."""
    _, mean, scale = _statistics(builder, half, x, blocks)
    with cgutils.for_range(builder, blocks) as loop:
        value = builder.fsub(widened(builder, _at(builder, x, loop.index, half), half), mean)
        w = widened(builder, _at(builder, weight, loop.index, False), False)
        b = widened(builder, _at(builder, bias, loop.index, False), False)
        y = _call(builder, "fma", builder.fmul(value, scale), w, b)
        _put(builder, y, _at(builder, out, loop.index, half_out), half_out)


norm_row = instruction(_norm_row)


def _norm_slope_row(
    builder: ir.IRBuilder,
    half: bool,
    half_above: bool,
    half_besides: bool,
    add: bool,
    x: ir.Value,
    above: ir.Value,
    weight: ir.Value,
    besides: ir.Value,
    out: ir.Value,
    for_weight: ir.Value,
    for_bias: ir.Value,
    blocks: ir.Value,
) -> None:
    """`norm_slope_row(half, half_above, half_besides, add, x, above, weight, besides, out, for_weight,
    for_bias, blocks)`: the gradients of x, weight and bias, from `above`, that of LN(x) * weight + bias.

    With n the normalised x and d = above * weight: out = 1 / deviation * (d - mean(d) - n * mean(d n)),
    for_weight += above * n, for_bias += above.

    Args:
        half: of x and out.
        besides: with `add`, added to out.
    """
    share, mean, scale = _statistics(builder, half, x, blocks)

    def at(index: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        value = builder.fsub(widened(builder, _at(builder, x, index, half), half), mean)
        gradient = widened(builder, _at(builder, above, index, half_above), half_above)
        w = widened(builder, _at(builder, weight, index, False), False)
        return builder.fmul(value, scale), gradient, builder.fmul(gradient, w)

    with summing(builder, blocks, [_of(0.0), _of(0.0)]) as held:
        n, gradient, d = at(held.index)
        _accumulate(builder, builder.fmul(gradient, n), for_weight, held.index)
        _accumulate(builder, gradient, for_bias, held.index)
        held.after += [builder.fadd(held.values[0], d), _call(builder, "fma", d, n, held.values[1])]
    of_d, of_dn = (builder.fmul(_sum(builder, value), share) for value in held.values)
    with cgutils.for_range(builder, blocks) as loop:
        n, _, d = at(loop.index)
        value = builder.fsub(builder.fsub(d, of_d), builder.fmul(n, of_dn))
        if add:
            rest = widened(builder, _at(builder, besides, loop.index, half_besides), half_besides)
            value = _call(builder, "fma", value, scale, rest)
        else:
            value = builder.fmul(value, scale)
        _put(builder, value, _at(builder, out, loop.index, half), half)


norm_slope_row = instruction(_norm_slope_row)


def _biased(
    builder: ir.IRBuilder, half: bool, add: bool, a: ir.Value, bias: ir.Value, index: ir.Value
) -> ir.Value:
    """A block of a row, plus the bias's with `add`."""
    value = widened(builder, _at(builder, a, index, half), half)
    return builder.fadd(value, widened(builder, _at(builder, bias, index, False), False)) if add else value


def _gate_row(
    builder: ir.IRBuilder,
    half: bool,
    half_gate: bool,
    half_out: bool,
    add: bool,
    a: ir.Value,
    bias: ir.Value,
    gate: ir.Value,
    out: ir.Value,
    blocks: ir.Value,
) -> None:
    """`gate_row(half, half_gate, half_out, add, a, bias, gate, out, blocks)`: out = (a + bias) * gate.

    Args:
        half: of a.
        add: whether there is a bias.
    """
    with cgutils.for_range(builder, blocks) as loop:
        value = _biased(builder, half, add, a, bias, loop.index)
        factor = widened(builder, _at(builder, gate, loop.index, half_gate), half_gate)
        _put(builder, builder.fmul(value, factor), _at(builder, out, loop.index, half_out), half_out)


gate_row = instruction(_gate_row)


def _gate_slope_row(
    builder: ir.IRBuilder,
    half: bool,
    half_gate: bool,
    half_above: bool,
    half_out: bool,
    add: bool,
    a: ir.Value,
    bias: ir.Value,
    gate: ir.Value,
    above: ir.Value,
    for_gate: ir.Value,
    out: ir.Value,
    total: ir.Value,
    blocks: ir.Value,
) -> None:
    """`gate_slope_row(half, half_gate, half_above, half_out, add, a, bias, gate, above, for_gate, out, total,
    blocks)`: for_gate = above * (a + bias), out = above * gate, total += out.

    Args:
        half_gate: of gate and for_gate.
    """
    with cgutils.for_range(builder, blocks) as loop:
        gradient = widened(builder, _at(builder, above, loop.index, half_above), half_above)
        value = _biased(builder, half, add, a, bias, loop.index)
        factor = widened(builder, _at(builder, gate, loop.index, half_gate), half_gate)
        place = _at(builder, for_gate, loop.index, half_gate)
        _put(builder, builder.fmul(gradient, value), place, half_gate)
        result = builder.fmul(gradient, factor)
        _put(builder, result, _at(builder, out, loop.index, half_out), half_out)
        _accumulate(builder, result, total, loop.index)


gate_slope_row = instruction(_gate_slope_row)
