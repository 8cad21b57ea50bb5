"""Norm and projection with products in bfloat16, which are torch's, some thousand rows at a time.

Shape suffixes: N rows (pixels), C channels in, D out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hornet_train.models.kernels import rowwise
from hornet_train.models.kernels.pieces import Buffers, Sums, pieces, without_autocast
from hornet_train.models.kernels.rows import dense, like_map, matrix, rows_of

if TYPE_CHECKING:
    from hornet_train.models.kernels.projection import Projection


def forward(inputs: Projection, lower: torch.dtype) -> Tensor:
    """See `projection.project`."""
    out_BDHW = like_map(inputs.x_BCHW, inputs.weight.shape[0], lower)
    x_NC, out_ND = rows_of(inputs.x_BCHW).contiguous(), rows_of(out_BDHW)
    norm, buffers = (
        (dense(inputs.norm_weight), dense(inputs.norm_bias)),
        Buffers(len(x_NC), lower),
    )
    weight_DC, bias = matrix(inputs.weight, buffers.dtype), inputs.bias.to(buffers.dtype)
    normalised = buffers.empty(x_NC.shape[1])
    with without_autocast():
        for rows in pieces(len(x_NC)):
            raw_NC = x_NC[rows]
            part_NC = rowwise.normalise(raw_NC, *norm, normalised[: len(raw_NC)])
            torch.addmm(bias, part_NC, weight_DC.t(), out=out_ND[rows])
    return out_BDHW


def backward(inputs: Projection, lower: torch.dtype, gradient_BDHW: Tensor) -> list[Tensor]:
    """See `projection.project_gradient`."""
    for_x_BCHW = like_map(inputs.x_BCHW, inputs.x_BCHW.shape[1], inputs.x_BCHW.dtype)
    x_NC, for_x_NC = rows_of(inputs.x_BCHW).contiguous(), rows_of(for_x_BCHW)
    gradient_ND = rows_of(gradient_BDHW)
    norm, buffers = (
        (dense(inputs.norm_weight), dense(inputs.norm_bias)),
        Buffers(len(x_NC), lower),
    )
    weight_DC, sums = matrix(inputs.weight, buffers.dtype), Sums(*inputs.parameters)
    normalised, back = buffers.empty(x_NC.shape[1]), buffers.empty(x_NC.shape[1])
    gradient = buffers.empty(gradient_ND.shape[1])
    with without_autocast():
        for rows in pieces(len(x_NC)):
            raw_NC = x_NC[rows]
            part_NC = rowwise.normalise(raw_NC, *norm, normalised[: len(raw_NC)])
            part_ND = buffers.load(gradient, gradient_ND[rows])
            sums.add_linear(2, part_ND, part_NC)
            back_NC = torch.mm(part_ND, weight_DC, out=back[: len(raw_NC)])
            sums.add(0, *rowwise.normalise_gradient(raw_NC, back_NC, norm[0], None, for_x_NC[rows]))
    return [for_x_BCHW, *sums.results()]
