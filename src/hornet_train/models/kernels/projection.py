"""Layer norm and the 1x1 convolution behind it on a CPU, as torch operators.

    hornet::project(x, w, b, W, c, lower)               y = W LN(x) + c, with the norm's weight w and bias b
    hornet::project_gradient(x, w, b, W, c, lower, g)   the gradients of x, w, b, W and c

Only x is kept for the backward pass, which normalises again, piece by piece (`rows`). The second derivative
goes through torch's own operators.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.models.kernels import EPS, rowwise
from hornet_train.models.kernels.rows import (
    Buffers,
    Sums,
    dense,
    gradients_again,
    like_map,
    matrix,
    pieces,
    product_dtype,
    rows_of,
    schema_of,
    without_autocast,
)


class Projection(NamedTuple):
    """What it is computed from.

    Attributes:
        x_BCHW: float32 or bfloat16.
        norm_weight, norm_bias: w and b, (C,).
        weight, bias: W (D, C, 1, ...) and c (D,).
    """

    x_BCHW: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    weight: Tensor
    bias: Tensor

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Those of the layers, in the order of their gradients."""
        return self[1:]


@torch.library.custom_op(
    "hornet::project",
    mutates_args=(),
    device_types="cpu",
    schema=f"({schema_of(Projection)}, ScalarType lower) -> Tensor",
)
def project(*arguments: Any) -> Tensor:
    """Shape in: (B, C, H, W); out: (B, D, H, W), channels_last, of dtype `lower`.

    Args:
        arguments: those of Projection, then `lower`, the dtype that products have outside of here.
    """
    inputs, lower = Projection(*arguments[:-1]), arguments[-1]
    out_BDHW = like_map(inputs.x_BCHW, inputs.weight.shape[0], lower)
    x_NC, out_ND = rows_of(inputs.x_BCHW).contiguous(), rows_of(out_BDHW)
    norm, buffers = (
        (dense(inputs.norm_weight), dense(inputs.norm_bias)),
        Buffers(len(x_NC), product_dtype(lower)),
    )
    weight_DC, bias = matrix(inputs.weight, buffers.dtype), inputs.bias.to(buffers.dtype)
    normalised, product = buffers.empty(x_NC.shape[1]), buffers.empty(out_ND.shape[1])
    with without_autocast():
        for rows in pieces(len(x_NC)):
            raw_NC = x_NC[rows]
            part_NC = rowwise.normalise(raw_NC, *norm, normalised[: len(raw_NC)])
            place_ND = buffers.place(product, out_ND[rows])
            buffers.store(out_ND[rows], torch.addmm(bias, part_NC, weight_DC.t(), out=place_ND))
    return out_BDHW


@torch.library.custom_op(
    "hornet::project_gradient",
    mutates_args=(),
    device_types="cpu",
    schema=f"({schema_of(Projection)}, ScalarType lower, Tensor gradient_BDHW) -> Tensor[]",
)
def project_gradient(*arguments: Any) -> list[Tensor]:
    """The gradients of x, the norm's weight and bias, weight and bias.

    Args:
        arguments: those of Projection, then `lower` and the gradient of y.
    """
    inputs, (lower, gradient_BDHW) = Projection(*arguments[:-2]), arguments[-2:]
    for_x_BCHW = like_map(inputs.x_BCHW, inputs.x_BCHW.shape[1], inputs.x_BCHW.dtype)
    x_NC, for_x_NC = rows_of(inputs.x_BCHW).contiguous(), rows_of(for_x_BCHW)
    gradient_ND = rows_of(gradient_BDHW)
    norm, buffers = (
        (dense(inputs.norm_weight), dense(inputs.norm_bias)),
        Buffers(len(x_NC), product_dtype(lower)),
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


@project.register_fake
def _(*arguments: Any) -> Tensor:
    inputs, lower = Projection(*arguments[:-1]), arguments[-1]
    return like_map(inputs.x_BCHW, inputs.weight.shape[0], lower)


@project_gradient.register_fake
def _(*arguments: Any) -> list[Tensor]:
    inputs = Projection(*arguments[:-2])
    x_BCHW = inputs.x_BCHW
    return [
        like_map(x_BCHW, x_BCHW.shape[1], x_BCHW.dtype),
        *(one.new_empty(one.shape) for one in inputs.parameters),
    ]


def _plain(inputs: Projection, lower: torch.dtype) -> Tensor:
    """y by torch's operators."""
    norm = inputs.norm_weight.shape, inputs.norm_weight, inputs.norm_bias, EPS
    x_BHWC = F.layer_norm(inputs.x_BCHW.permute(0, 2, 3, 1), *norm)
    y_BHWD = F.linear(x_BHWC.to(lower), inputs.weight.flatten(1).to(lower), inputs.bias.to(lower))
    return y_BHWD.permute(0, 3, 1, 2)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001 - torch's name
    *tensors, ctx.lower = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient_BDHW: Tensor) -> tuple[Tensor | None, ...]:
    inputs = Projection(*ctx.saved_tensors)
    if torch.is_grad_enabled():  # a second derivative is wanted
        needed = ctx.needs_input_grad[:-1]
        found = gradients_again(lambda: _plain(inputs, ctx.lower), inputs, needed, gradient_BDHW)
        return (*found, None)
    return (*project_gradient(*inputs, ctx.lower, gradient_BDHW), None)


project.register_autograd(_backward, setup_context=_save_for_backward)
