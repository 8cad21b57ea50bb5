"""Layer norm and the 1x1 convolution behind it on a CPU, as torch operators.

    hornet::project(x, w, b, W, c, lower)               y = W LN(x) + c, with the norm's weight w and bias b
    hornet::project_gradient(x, w, b, W, c, lower, g)   the gradients of x, w, b, W and c

Products in float32 are ours (`projection_tiles`), those in bfloat16 torch's (`projection_pieces`). Only x
is kept for the backward pass, which normalises again. The second derivative goes through torch's own
operators.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.models.kernels import EPS, projection_pieces, projection_tiles
from hornet_train.models.kernels.expected import expect, expect_dtypes
from hornet_train.models.kernels.rows import gradients_again, like_map, product_dtype, schema_of


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

    def check(self, lower: torch.dtype, gradient_BDHW: Tensor | None = None) -> None:
        """Raises ValueError before a loop reads or writes past the end of something."""
        (images, channels, *sides), outputs = self.x_BCHW.shape, self.weight.shape[0]
        expect_dtypes("project", x=self.x_BCHW.dtype, lower=lower)
        expect(
            "project",
            norm_weight=(self.norm_weight, (channels,)),
            norm_bias=(self.norm_bias, (channels,)),
            weight=(self.weight, (outputs, channels)),
            bias=(self.bias, (outputs,)),
            gradient=(gradient_BDHW, (images, outputs, *sides)),
        )


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
    inputs.check(lower)
    if product_dtype(lower) == torch.float32:
        return projection_tiles.forward(inputs, lower)
    return projection_pieces.forward(inputs, lower)


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
    inputs.check(lower, gradient_BDHW)
    if product_dtype(lower) == torch.float32:
        return projection_tiles.backward(inputs, gradient_BDHW)
    return projection_pieces.backward(inputs, lower, gradient_BDHW)


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
