"""The loops over rows of pixels that numba compiles: GELU, layer norm and gating, forward and backward.

The backward loops sum over rows in groups of rows: groups, not threads, decide in what order sums are taken,
so that results do not depend on the number of threads.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.arguments import (
    Gate,
    GateGradient,
    GateGradientHalves,
    GateHalves,
    Gelu,
    GeluGradient,
    GeluGradientHalves,
    GeluHalves,
    Norm,
    NormGradient,
    NormGradientHalves,
    NormHalves,
    code_of,
)
from hornet_train.models.kernels.compile_kernel import compiled, own_share, unpacked
from hornet_train.models.kernels.depthwise_vectors import clear_row
from hornet_train.models.kernels.gate_vectors import gate_gradient_row, gate_row
from hornet_train.models.kernels.gelu_vectors import gelu_gradient_row, gelu_row
from hornet_train.models.kernels.instructions import VERSION
from hornet_train.models.kernels.norm_vectors import norm_gradient_row, norm_row


@cache
def gelu_loop(halves: GeluHalves) -> int:
    """The address of a loop of `gelu_row` over all rows."""
    code, version = code_of(halves), VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - a compiled loop is kept on disk under what it closes over
        a = unpacked(arguments, Gelu)
        for row in own_share(a.rows):
            gelu_row(code, a, row)

    return compiled(loop)


@cache
def gelu_gradient_loop(halves: GeluGradientHalves) -> int:
    """The same of `gelu_gradient_row`, with totals for each group of rows."""
    code, version = code_of(halves), VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, GeluGradient)
        for group in own_share(a.groups):
            total = a.totals + group * a.channels * 4
            clear_row(total, a.channels // LANES)
            for row in range(a.rows * group // a.groups, a.rows * (group + 1) // a.groups):
                gelu_gradient_row(code, a, row, total)

    return compiled(loop)


@cache
def norm_loop(halves: NormHalves) -> int:
    """The same of `norm_row`."""
    code, version = code_of(halves), VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, Norm)
        for row in own_share(a.rows):
            norm_row(code, a, row)

    return compiled(loop)


@cache
def norm_gradient_loop(halves: NormGradientHalves) -> int:
    """The same of `norm_gradient_row`, with two rows of totals for each group of rows."""
    code, version = code_of(halves), VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, NormGradient)
        for group in own_share(a.groups):
            for_weight = a.totals + group * a.channels * 8
            for_bias = for_weight + a.channels * 4
            clear_row(for_weight, 2 * a.channels // LANES)
            for row in range(a.rows * group // a.groups, a.rows * (group + 1) // a.groups):
                norm_gradient_row(code, a, row, for_weight, for_bias)

    return compiled(loop)


@cache
def gate_loop(halves: GateHalves) -> int:
    """The same of `gate_row`."""
    code, version = code_of(halves), VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, Gate)
        for row in own_share(a.rows):
            gate_row(code, a, row)

    return compiled(loop)


@cache
def gate_gradient_loop(halves: GateGradientHalves) -> int:
    """The same of `gate_gradient_row`, with totals for each group of rows."""
    code, version = code_of(halves), VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, GateGradient)
        for group in own_share(a.groups):
            total = a.totals + group * a.channels * 4
            clear_row(total, a.channels // LANES)
            for row in range(a.rows * group // a.groups, a.rows * (group + 1) // a.groups):
                gate_gradient_row(code, a, row, total)

    return compiled(loop)
