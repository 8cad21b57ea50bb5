"""Layer norm and the 1x1 convolution behind it on a CPU, as operators of torch's.

    hornet::project(x, w, b, W, c, lower)               y = W LN(x) + c, with the norm's weight w and bias b
    hornet::project_gradient(x, w, b, W, c, lower, g)   the gradients of x, w, b, W and c

Only x is kept for the backward pass, which normalises again, piece by piece (`rows`). The second derivative
goes through torch's own operators.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.models.kernels import rowwise
from hornet_train.models.kernels.rows import (
    EPS,
    Buffers,
    Sums,
    dense,
    gradients_again,
    like_map,
    matrix,
    pieces,
    product_dtype,
    rows_of,
    without_autocast,
)


@torch.library.custom_op("hornet::project", mutates_args=(), device_types="cpu")
def project(
    x_BCHW: Tensor, norm_weight: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor, lower: torch.dtype
) -> Tensor:
    """Shape in: (B, C, H, W), float32 or bfloat16; out: (B, D, H, W), channels_last, of dtype `lower`.

    Args:
        weight: (D, C, 1, ...).
        lower: the dtype that products have outside of here.
    """
    out_BDHW = like_map(x_BCHW, weight.shape[0], lower)
    x_NC, out_ND = rows_of(x_BCHW).contiguous(), rows_of(out_BDHW)
    norm, buffers = (dense(norm_weight), dense(norm_bias)), Buffers(len(x_NC), product_dtype(lower))
    weight_DC, bias = matrix(weight, buffers.dtype), bias.to(buffers.dtype)
    normalised, product = buffers.empty(x_NC.shape[1]), buffers.empty(out_ND.shape[1])
    with without_autocast():
        for rows in pieces(len(x_NC)):
            raw_NC = x_NC[rows]
            part_NC = rowwise.normalise(raw_NC, *norm, normalised[: len(raw_NC)])
            place_ND = buffers.place(product, out_ND[rows])
            buffers.store(out_ND[rows], torch.addmm(bias, part_NC, weight_DC.t(), out=place_ND))
    return out_BDHW


@torch.library.custom_op("hornet::project_gradient", mutates_args=(), device_types="cpu")
def project_gradient(
    x_BCHW: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    lower: torch.dtype,
    gradient_BDHW: Tensor,
) -> list[Tensor]:
    """Of x, the norm's weight and bias, weight and bias."""
    for_x_BCHW = like_map(x_BCHW, x_BCHW.shape[1], x_BCHW.dtype)
    x_NC, for_x_NC, gradient_ND = rows_of(x_BCHW).contiguous(), rows_of(for_x_BCHW), rows_of(gradient_BDHW)
    norm, buffers = (dense(norm_weight), dense(norm_bias)), Buffers(len(x_NC), product_dtype(lower))
    weight_DC, sums = matrix(weight, buffers.dtype), Sums(norm_weight, norm_bias, weight, bias)
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


@project.register_fake
def _(
    x_BCHW: Tensor,
    _norm_weight: Tensor,
    _norm_bias: Tensor,
    weight: Tensor,
    _bias: Tensor,
    lower: torch.dtype,
) -> Tensor:
    return like_map(x_BCHW, weight.shape[0], lower)


@project_gradient.register_fake
def _(
    x_BCHW: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    _lower: torch.dtype,
    _gradient_BDHW: Tensor,
) -> list[Tensor]:
    parameters = (norm_weight, norm_bias, weight, bias)
    return [
        like_map(x_BCHW, x_BCHW.shape[1], x_BCHW.dtype),
        *(one.new_empty(one.shape) for one in parameters),
    ]


def _plain(
    x_BCHW: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    lower: torch.dtype,
) -> Tensor:
    x_BHWC = F.layer_norm(x_BCHW.permute(0, 2, 3, 1), norm_weight.shape, norm_weight, norm_bias, EPS)
    y_BHWD = F.linear(x_BHWC.to(lower), weight.flatten(1).to(lower), bias.to(lower))
    return y_BHWD.permute(0, 3, 1, 2)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001 - torch's name
    *tensors, ctx.lower = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient_BDHW: Tensor) -> tuple[Tensor | None, ...]:
    inputs: tuple[Any, ...] = ctx.saved_tensors
    if torch.is_grad_enabled():  # wanted twice
        needed = ctx.needs_input_grad[:5]
        return (
            *gradients_again(lambda: _plain(*inputs, lower=ctx.lower), inputs, needed, gradient_BDHW),
            None,
        )
    return (*project_gradient(*inputs, ctx.lower, gradient_BDHW), None)


project.register_autograd(_backward, setup_context=_keep)
