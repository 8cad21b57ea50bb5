"""The gating chain with products in float32, which are ours.

Shape suffixes: N rows (pixels), C channels of the first order, S of all orders, D out.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hornet_train.models.kernels import LANES, openmp
from hornet_train.models.kernels.rows import (
    FLOAT32,
    dense,
    is_half,
    like_map,
    matrix,
    row_bytes,
    rows_of,
    unscale_,
    vector,
)
from hornet_train.models.kernels.tile_arguments import (
    GatingGradientTiles,
    GatingGradientTilesFlags,
    GatingOrder,
    GatingTiles,
    GatingTilesFlags,
)
from hornet_train.models.kernels.tiles import (
    Held,
    add_weight_gradient,
    block_rows,
    factors_of,
    packed,
    results,
)

if TYPE_CHECKING:
    from hornet_train.models.kernels.gating import Gating


class _Chain:
    """The parameters of all orders as the loops take them.

    Attributes:
        widths: of each order.
        skipped: the channels before it.
        orders: the numbers behind a loop's structure.
    """

    def __init__(self, inputs: Gating, *, backward: bool) -> None:
        *widening, out_weight, out_bias = inputs.parameters
        weights = [matrix(one, torch.float32) for one in widening[::2]]
        out_matrix = matrix(out_weight, torch.float32, inputs.gamma)
        self.widths = [inputs.p_BCHW.shape[1], *(len(one) for one in weights)]
        self.skipped = [0, *accumulate(self.widths)][:-1]
        self.widest, self.total = max(*self.widths, len(out_bias)), sum(self.widths)
        self.out_weight = packed(out_matrix, backward=backward)
        self.out_bias = vector(out_bias, torch.float32, inputs.gamma)
        forth = [packed(one) for one in weights]
        back = [packed(one, backward=True) for one in weights] if backward else forth
        biases = [dense(one) for one in widening[1::2]]
        self._alive = forth, back, biases
        addresses = [
            (0, 0, 0),
            *(tuple(one.data_ptr() for one in of) for of in zip(forth, back, biases, strict=True)),
        ]
        self.orders = [
            number
            for width, skipped, rest in zip(self.widths, self.skipped, addresses, strict=True)
            for number in GatingOrder(width, skipped, *rest)
        ]


def forward(inputs: Gating) -> Tensor:
    """See `gating.gating`."""
    from hornet_train.models.kernels.gating_loops import gating_loop, scratch_bytes

    p_BCHW, gates_BSHW, residual_BDHW, factor_B, _, parameters = inputs
    columns = len(parameters[-1])
    out_BDHW = like_map(p_BCHW, columns, inputs.dtype_out)
    p_NC, gates_NS = rows_of(p_BCHW), rows_of(gates_BSHW)
    residual_ND = rows_of(out_BDHW if residual_BDHW is None else residual_BDHW)
    chain, block = _Chain(inputs, backward=False), block_rows(len(p_NC))
    factors, pixels = factors_of(factor_B, p_BCHW)
    memory = openmp.scratch(scratch_bytes(block, chain.widest))
    arguments = GatingTiles(
        p=p_NC.data_ptr(),
        p_step=row_bytes(p_NC),
        gates=gates_NS.data_ptr(),
        gates_step=row_bytes(gates_NS),
        residual=residual_ND.data_ptr(),
        residual_step=row_bytes(residual_ND),
        factors=factors.data_ptr(),
        pixels=pixels,
        weight=chain.out_weight.data_ptr(),
        bias=chain.out_bias.data_ptr(),
        out=out_BDHW.data_ptr(),
        orders=len(chain.widths),
        widest=chain.widest,
        rows=len(p_NC),
        columns=columns,
        block=block,
        scratch=memory.ctypes.data,
        scratch_bytes=scratch_bytes(block, chain.widest),
    )
    flags = GatingTilesFlags(
        p=is_half(p_NC),
        gates=is_half(gates_NS),
        residual=residual_BDHW is not None and is_half(residual_BDHW),
        out=is_half(out_BDHW),
        add=residual_BDHW is not None,
    )
    openmp.run(gating_loop(flags), (*arguments, *chain.orders))
    return out_BDHW


def backward(inputs: Gating, gradient_BDHW: Tensor) -> list[Tensor]:
    """See `gating.gating_gradient`."""
    from hornet_train.models.kernels.gating_loops import gating_gradient_loop, gradient_scratch_bytes

    p_BCHW, gates_BSHW, _, factor_B, gamma, parameters = inputs
    columns = len(parameters[-1])
    for_p_BCHW = like_map(p_BCHW, p_BCHW.shape[1], p_BCHW.dtype)
    for_gates_BSHW = like_map(gates_BSHW, gates_BSHW.shape[1], gates_BSHW.dtype)
    p_NC, gates_NS, gradient_ND = rows_of(p_BCHW), rows_of(gates_BSHW), rows_of(gradient_BDHW)
    for_p_NC, for_gates_NS, count = rows_of(for_p_BCHW), rows_of(for_gates_BSHW), len(p_NC)
    chain = _Chain(inputs, backward=True)
    factors, pixels = factors_of(factor_B, p_BCHW)
    held = Held(count, chain.total, chain.total + columns)
    chain_inputs, above = held.tensors
    totals = held.new_totals(chain.total + columns)
    zeros = torch.zeros(chain.widest, **FLOAT32)
    memory = openmp.scratch(gradient_scratch_bytes(held.block, chain.widest, chain.total))
    for_weights = [torch.zeros(one.flatten(1).shape, **FLOAT32) for one in parameters[::2]]
    for_biases = torch.zeros(chain.total + columns, **FLOAT32)
    flags = GatingGradientTilesFlags(is_half(p_NC), is_half(gates_NS), is_half(gradient_ND))
    ends = [*chain.skipped[1:], chain.total]  # where the gradient of each product begins in `above`
    for begin, end in held.pieces:
        rows = end - begin
        arguments = GatingGradientTiles(
            p=p_NC[begin:].data_ptr(),
            p_step=row_bytes(p_NC),
            gates=gates_NS[begin:].data_ptr(),
            gates_step=row_bytes(gates_NS),
            gradient=gradient_ND[begin:].data_ptr(),
            gradient_step=row_bytes(gradient_ND),
            factors=factors.data_ptr(),
            pixels=pixels,
            weight=chain.out_weight.data_ptr(),
            for_p=for_p_NC[begin:].data_ptr(),
            for_gates=for_gates_NS[begin:].data_ptr(),
            inputs=chain_inputs.data_ptr(),
            above=above.data_ptr(),
            held_block=held.stride,
            totals=totals.data_ptr(),
            orders=len(chain.widths),
            widest=chain.widest,
            total_width=chain.total,
            row=begin,
            rows=rows,
            columns=columns,
            block=held.block,
            zeros=zeros.data_ptr(),
            scratch=memory.ctypes.data,
            scratch_bytes=gradient_scratch_bytes(held.block, chain.widest, chain.total),
        )
        openmp.run(gating_gradient_loop(flags), (*arguments, *chain.orders))
        for total, skipped, begins in zip(for_weights, chain.skipped, ends, strict=True):
            add_weight_gradient(total, above[begins // LANES :], chain_inputs[skipped // LANES :], rows)
        for_biases += held.sum_of(totals, rows)
    biases = for_biases.split((*chain.widths, columns))[1:]
    for_gamma = unscale_(gamma, parameters[-2], parameters[-1], for_weights[-1], biases[-1])
    found = [one for both in zip(for_weights, biases, strict=True) for one in both]
    return [for_p_BCHW, for_gates_BSHW, for_gamma, *results(found, parameters)]
