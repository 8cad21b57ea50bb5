"""The gating chain with products in bfloat16, which are torch's, some thousand rows at a time.

Shape suffixes: N rows (pixels), C channels of the first order, S of all orders, D out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hornet_train.models.kernels import rowwise
from hornet_train.models.kernels.pieces import (
    Buffers,
    Sums,
    add_branch,
    factor_of_rows,
    pieces,
    without_autocast,
)
from hornet_train.models.kernels.rows import dense, like_map, matrix, rows_of, unscale_, vector

if TYPE_CHECKING:
    from hornet_train.models.kernels.gating import Gating


class _Chain:
    """The products of one piece.

    Args:
        first: c_0.
        parameters: W.
        gamma: layer scale.
        buffers: memory of a piece.

    Attributes:
        inputs: x of each order.
        products: W_k x, from the second order on.
    """

    def __init__(
        self, first: int, parameters: Sequence[Tensor], gamma: Tensor | None, buffers: Buffers
    ) -> None:
        *widening, out_weight, out_bias = parameters
        self.weights = [matrix(one, buffers.dtype) for one in widening[::2]]
        self.weights.append(matrix(out_weight, buffers.dtype, gamma))
        self.biases = [None, *(dense(one) for one in widening[1::2])]
        self.out_bias = vector(out_bias, buffers.dtype, gamma)
        self.widths = [first, *(len(weight) for weight in self.weights[:-1])]
        self.inputs = [buffers.empty(width) for width in self.widths]
        self.products = [buffers.empty(width) for width in self.widths[1:]]

    def run(self, p_NC: Tensor, gates: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What each order's gate multiplies, its bias left out, and what it gives."""
        count, factors = len(p_NC), [p_NC]
        inputs: list[Tensor] = []
        for k, (bias, gate) in enumerate(zip(self.biases, gates, strict=True)):
            if k:
                place = self.products[k - 1][:count]
                factors.append(torch.mm(inputs[-1], self.weights[k - 1].t(), out=place))
            inputs.append(rowwise.gate(factors[-1], bias, gate, self.inputs[k][:count]))
        return factors, inputs


def forward(inputs: Gating, lower: torch.dtype) -> Tensor:
    """See `gating.gating`."""
    p_BCHW, gates_BSHW, residual_BDHW, factor_B, gamma, parameters = inputs
    out_BDHW = like_map(p_BCHW, len(parameters[-1]), inputs.dtype_out)
    p_NC, gates_NS, out_ND = rows_of(p_BCHW), rows_of(gates_BSHW), rows_of(out_BDHW)
    residual_ND = None if residual_BDHW is None else rows_of(residual_BDHW)
    factor_N1, buffers = factor_of_rows(factor_B, p_BCHW), Buffers(len(p_NC), lower)
    chain, branch = _Chain(p_NC.shape[1], parameters, gamma, buffers), buffers.empty(out_ND.shape[1])
    with without_autocast():
        for rows in pieces(len(p_NC)):
            last_NC = chain.run(p_NC[rows], gates_NS[rows].split(chain.widths, dim=1))[1][-1]
            place_ND = branch[: len(last_NC)]
            branch_ND = torch.addmm(chain.out_bias, last_NC, chain.weights[-1].t(), out=place_ND)
            add_branch(
                out_ND[rows],
                None if residual_ND is None else residual_ND[rows],
                branch_ND,
                None if factor_N1 is None else factor_N1[rows],
            )
    return out_BDHW


def backward(inputs: Gating, lower: torch.dtype, gradient_BDHW: Tensor) -> list[Tensor]:
    """See `gating.gating_gradient`."""
    p_BCHW, gates_BSHW, _, factor_B, gamma, parameters = inputs
    for_p_BCHW = like_map(p_BCHW, p_BCHW.shape[1], p_BCHW.dtype)
    for_gates_BSHW = like_map(gates_BSHW, gates_BSHW.shape[1], gates_BSHW.dtype)
    p_NC, gates_NS, gradient_ND = rows_of(p_BCHW), rows_of(gates_BSHW), rows_of(gradient_BDHW)
    for_p_NC, for_gates_NS = rows_of(for_p_BCHW), rows_of(for_gates_BSHW)
    factor_N1, buffers = factor_of_rows(factor_B, p_BCHW), Buffers(len(p_NC), lower)
    chain, sums = _Chain(p_NC.shape[1], parameters, gamma, buffers), Sums(*parameters)
    branch, back = buffers.empty(gradient_ND.shape[1]), [buffers.empty(width) for width in chain.widths]
    with without_autocast():
        for rows in pieces(len(p_NC)):
            gates, for_gates = (one[rows].split(chain.widths, dim=1) for one in (gates_NS, for_gates_NS))
            factors, products = chain.run(p_NC[rows], gates)
            above = buffers.load_scaled(branch, gradient_ND[rows], factor_N1, rows)
            sums.add(len(parameters) - 1, above.sum(0, dtype=torch.float32))
            for k in reversed(range(len(gates))):
                sums.add_product(2 * k, above, products[k])
                for_x = torch.mm(above, chain.weights[k], out=back[k][: len(above)])
                above = for_x if k else for_p_NC[rows]
                gated = factors[k], chain.biases[k], gates[k]
                for_bias = rowwise.gate_gradient(*gated, for_x, for_gates[k], above)
                if k:
                    sums.add(2 * k - 1, for_bias)
    for_gamma = unscale_(gamma, *parameters[-2:], *sums.totals[-2:])
    return [for_p_BCHW, for_gates_BSHW, for_gamma, *sums.results()]
