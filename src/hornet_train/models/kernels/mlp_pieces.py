"""The MLP branch with products in bfloat16, which are torch's, some thousand rows at a time.

The hidden values are four times as many as x's: piece by piece, GELU's stay in the caches.

Shape suffixes: N rows (pixels), C channels, M hidden channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
    from hornet_train.models.kernels.mlp import Mlp


class _Prepared(NamedTuple):
    """The branch's inputs as the products take them: rows of pixels, and weights times layer scale.

    Attributes:
        factor_N1: of each row; None for 1.
        norm: its weight and bias.
    """

    x_NC: Tensor
    factor_N1: Tensor | None
    norm: tuple[Tensor, Tensor]
    first_MC: Tensor
    second_CM: Tensor
    buffers: Buffers


def _prepare(inputs: Mlp, lower: torch.dtype) -> _Prepared:
    """For products whose results are to be in `lower`."""
    x_NC = rows_of(inputs.x_BCHW).contiguous()
    buffers = Buffers(len(x_NC), lower)
    return _Prepared(
        x_NC,
        factor_of_rows(inputs.factor_B, inputs.x_BCHW),
        (dense(inputs.norm_weight), dense(inputs.norm_bias)),
        matrix(inputs.w1_MC, buffers.dtype),
        matrix(inputs.w2_CM, buffers.dtype, inputs.gamma),
        buffers,
    )


def forward(inputs: Mlp, lower: torch.dtype, *, keep: bool) -> tuple[Tensor, Tensor]:
    """See `mlp.mlp`."""
    x_NC, factor_N1, norm, first_MC, second_CM, buffers = _prepare(inputs, lower)
    out_BCHW = inputs.new_output()
    out_NC = rows_of(out_BCHW)
    b1, b2 = dense(inputs.b1), vector(inputs.b2, buffers.dtype, inputs.gamma)
    hidden_NM = torch.empty(len(x_NC) if keep else 0, len(first_MC), dtype=lower)
    normalised, branch = buffers.empty(x_NC.shape[1]), buffers.empty(x_NC.shape[1])
    before, after = buffers.empty(len(first_MC)), buffers.empty(len(first_MC))
    with without_autocast():
        for rows in pieces(len(x_NC)):
            raw_NC = x_NC[rows]
            count, kept_NM = len(raw_NC), hidden_NM[rows] if keep else None
            part_NC = rowwise.normalise(raw_NC, *norm, normalised[:count])
            place_NM = before[:count] if kept_NM is None else kept_NM
            part_NM = torch.mm(part_NC, first_MC.t(), out=place_NM)
            gelu_NM = rowwise.gelu(part_NM, b1, kept_NM, after[:count])
            branch_NC = torch.addmm(b2, gelu_NM, second_CM.t(), out=branch[:count])
            add_branch(out_NC[rows], raw_NC, branch_NC, None if factor_N1 is None else factor_N1[rows])
    return out_BCHW, hidden_NM


def backward(inputs: Mlp, lower: torch.dtype, hidden_NM: Tensor, gradient_BCHW: Tensor) -> list[Tensor]:
    """See `mlp.mlp_gradient`."""
    x_NC, factor_N1, norm, first_MC, second_CM, buffers = _prepare(inputs, lower)
    for_x_BCHW = like_map(inputs.x_BCHW, inputs.x_BCHW.shape[1], inputs.x_BCHW.dtype)
    for_x_NC, gradient_NC = rows_of(for_x_BCHW), rows_of(gradient_BCHW).contiguous()
    sums = Sums(*inputs.parameters)
    normalised, branch, back = (buffers.empty(x_NC.shape[1]) for _ in range(3))
    after, inner = (buffers.empty(len(first_MC)) for _ in range(2))
    with without_autocast():
        for rows in pieces(len(x_NC)):
            raw_NC, above_NC = x_NC[rows], buffers.load_scaled(branch, gradient_NC[rows], factor_N1, rows)
            part_NC = rowwise.normalise(raw_NC, *norm, normalised[: len(raw_NC)])
            gelu_NM, inner_NM = after[: len(raw_NC)], inner[: len(raw_NC)]
            torch.mm(above_NC, second_CM, out=inner_NM)
            for_b1 = rowwise.gelu_gradient_(hidden_NM[rows], inner_NM, gelu_NM)
            sums.add_linear(4, above_NC, gelu_NM)
            sums.add_product(2, inner_NM, part_NC)
            sums.add(3, for_b1)
            back_NC = torch.mm(inner_NM, first_MC, out=back[: len(raw_NC)])
            place_NC, besides_NC = for_x_NC[rows], gradient_NC[rows]
            sums.add(0, *rowwise.normalise_gradient(raw_NC, back_NC, norm[0], besides_NC, place_NC))
    for_gamma = unscale_(inputs.gamma, inputs.w2_CM, inputs.b2, *sums.totals[4:])
    return [for_x_BCHW, for_gamma, *sums.results()]
