"""The loops of the gating chain that numba compiles: whole blocks of rows, forward and backward."""

from __future__ import annotations

from functools import cache
from typing import Any

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.arguments import Gate, GateGradient, GateGradientHalves, GateHalves, code_of
from hornet_train.models.kernels.compile_kernel import (
    compiled,
    own_share,
    thread_number,
    unpacked,
    unpacked_at,
)
from hornet_train.models.kernels.copy_vectors import finish_row, load_row
from hornet_train.models.kernels.depthwise_vectors import clear_row
from hornet_train.models.kernels.gate_vectors import gate_gradient_row, gate_row
from hornet_train.models.kernels.instructions import VERSION
from hornet_train.models.kernels.product_arguments import Finish, FinishFlags, Load, LoadFlags, Product
from hornet_train.models.kernels.product_vectors import COLUMNS, SPAN, multiply
from hornet_train.models.kernels.tile_arguments import (
    GatingGradientTiles,
    GatingGradientTilesFlags,
    GatingOrder,
    GatingTiles,
    GatingTilesFlags,
)

_ORDERS, _BACK_ORDERS, _ORDER = (len(one._fields) for one in (GatingTiles, GatingGradientTiles, GatingOrder))


def scratch_bytes(block: int, widest: int) -> int:
    """Of one thread, forward: what goes into a product, and what comes out."""
    return 4 * block * 2 * widest


def gradient_scratch_bytes(block: int, widest: int, total_width: int) -> int:
    """Of one thread, backward: the products of all orders, and a gradient of one."""
    return 4 * block * (widest + total_width)


@cache
def gating_loop(flags: GatingTilesFlags) -> int:
    """The address of a loop: x = p * gates_0, x = (W_k x + b_k) * gates_k, and the last projection."""
    first_gate = code_of(GateHalves(a=flags.p, gate=flags.gates, out=False, add=False))
    later_gate = code_of(GateHalves(a=False, gate=flags.gates, out=False, add=False))
    finish = code_of(FinishFlags(add=flags.add, added_half=flags.residual, out_half=flags.out))
    p_block: Any = LANES * (2 if flags.p else 4)
    gate_size: Any = 2 if flags.gates else 4
    out_size: Any = 2 if flags.out else 4
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - a compiled loop is kept on disk under what it closes over
        a = unpacked(arguments, GatingTiles)
        out_step, wide = a.columns * out_size, SPAN * a.block
        x = a.scratch + thread_number() * a.scratch_bytes
        product = x + a.widest // LANES * wide
        zeroth = unpacked_at(arguments, _ORDERS, GatingOrder)
        for block in own_share((a.rows + a.block - 1) // a.block):
            first = block * a.block
            rows = min(a.block, a.rows - first)
            p, gates = a.p + first * a.p_step, a.gates + first * a.gates_step
            gated = Gate(p, a.p_step, p_block, gates, a.gates_step, x, SPAN, wide, 0, rows, zeroth.width)
            for r in range(rows):
                gate_row(first_gate, gated, r)
            depth = zeroth.width
            for k in range(1, a.orders):
                order = unpacked_at(arguments, _ORDERS + k * _ORDER, GatingOrder)
                panel = 4 * COLUMNS * depth
                multiply(
                    Product(
                        *(x, wide, order.weight, panel, 0, depth, product, wide, rows, order.width),
                        *(order.bias, 0),
                    )
                )
                gate = gates + order.skipped * gate_size
                gated = Gate(product, SPAN, wide, gate, a.gates_step, x, SPAN, wide, 0, rows, order.width)
                for r in range(rows):
                    gate_row(later_gate, gated, r)
                depth = order.width
            panel = 4 * COLUMNS * depth
            multiply(Product(x, wide, a.weight, panel, 0, depth, product, wide, rows, a.columns, a.bias, 0))
            residual, out = a.residual + first * a.residual_step, a.out + first * out_step
            ends = Finish(product, SPAN, wide, residual, a.residual_step, out, out_step, a.columns)
            for r in range(rows):
                finish_row(finish, ends, r, a.factors + (first + r) // a.pixels * 4)

    return compiled(loop)


@cache
def gating_gradient_loop(flags: GatingGradientTilesFlags) -> int:
    """The address of a loop: the gradients of p and the gates, and what the parameters' are made of."""
    first_gate = code_of(GateHalves(a=flags.p, gate=flags.gates, out=False, add=False))
    later_gate = code_of(GateHalves(a=False, gate=flags.gates, out=False, add=False))
    given = code_of(LoadFlags(half=flags.gradient))
    first_back = code_of(GateGradientHalves(a=flags.p, gate=flags.gates, above=False, out=flags.p, add=False))
    later_back = code_of(GateGradientHalves(a=False, gate=flags.gates, above=False, out=False, add=False))
    p_size: Any = 2 if flags.p else 4
    p_block: Any = LANES * p_size
    gate_size: Any = 2 if flags.gates else 4
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, GatingGradientTiles)
        wide, held = SPAN * a.block, a.held_block
        for_x = a.scratch + thread_number() * a.scratch_bytes
        products = for_x + a.widest // LANES * wide
        zeroth = unpacked_at(arguments, _BACK_ORDERS, GatingOrder)
        for_gates_step, for_p_step = a.total_width * gate_size, zeroth.width * p_size
        for block in own_share((a.rows + a.block - 1) // a.block):
            first = block * a.block
            rows = min(a.block, a.rows - first)
            p, gates = a.p + first * a.p_step, a.gates + first * a.gates_step
            for_gates = a.for_gates + first * for_gates_step
            inputs, above = a.inputs + first * SPAN, a.above + first * SPAN
            total = a.totals + block * (a.total_width + a.columns) * 4
            clear_row(total, (a.total_width + a.columns) // LANES)
            # the chain again
            gated = Gate(p, a.p_step, p_block, gates, a.gates_step, inputs, SPAN, held, 0, rows, zeroth.width)
            for r in range(rows):
                gate_row(first_gate, gated, r)
            x, depth = inputs, zeroth.width
            for k in range(1, a.orders):
                order = unpacked_at(arguments, _BACK_ORDERS + k * _ORDER, GatingOrder)
                panel, product = 4 * COLUMNS * depth, products + order.skipped // LANES * wide
                multiply(
                    Product(
                        *(x, held, order.weight, panel, 0, depth, product, wide, rows, order.width),
                        *(order.bias, 0),
                    )
                )
                gate, x = gates + order.skipped * gate_size, inputs + order.skipped // LANES * held
                gated = Gate(product, SPAN, wide, gate, a.gates_step, x, SPAN, held, 0, rows, order.width)
                for r in range(rows):
                    gate_row(later_gate, gated, r)
                depth = order.width
            # and back
            gradient = a.gradient + first * a.gradient_step
            behind = above + a.total_width // LANES * held
            loads = Load(gradient, a.gradient_step, behind, SPAN, held, a.columns)
            for r in range(rows):
                factor = a.factors + (a.row + first + r) // a.pixels * 4
                load_row(given, loads, r, factor, total + a.total_width * 4)
            weight, deep = a.weight, a.columns
            for k in range(a.orders - 1, -1, -1):
                order = unpacked_at(arguments, _BACK_ORDERS + k * _ORDER, GatingOrder)
                panel, width = 4 * COLUMNS * deep, order.width
                multiply(Product(behind, held, weight, panel, 0, deep, for_x, wide, rows, width, a.zeros, 0))
                gate, for_gate = gates + order.skipped * gate_size, for_gates + order.skipped * gate_size
                sums = total + order.skipped * 4
                if k > 0:
                    behind = above + order.skipped // LANES * held
                    product = products + order.skipped // LANES * wide
                    slopes = GateGradient(
                        *(product, SPAN, wide, gate, a.gates_step, for_x, SPAN, wide),
                        *(for_gate, for_gates_step, behind, SPAN, held, 0, 0, 1, rows, width),
                    )
                    for r in range(rows):
                        gate_gradient_row(later_back, slopes, r, sums)
                else:
                    for_p = a.for_p + first * for_p_step
                    slopes = GateGradient(
                        *(p, a.p_step, p_block, gate, a.gates_step, for_x, SPAN, wide),
                        *(for_gate, for_gates_step, for_p, for_p_step, p_block, 0, 0, 1, rows, width),
                    )
                    for r in range(rows):
                        gate_gradient_row(first_back, slopes, r, sums)
                weight, deep = order.weight_back, width

    return compiled(loop)
