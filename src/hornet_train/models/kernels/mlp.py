"""The MLP branch of a block on a CPU, as torch operators.

    hornet::mlp(x, factor, gamma, w, b, W1, b1, W2, b2, lower, keep)
        y = x + factor * gamma * (W2 GELU(W1 LN(x) + b1) + b2), and the hidden values, before GELU
    hornet::mlp_gradient(x, factor, ..., lower, hidden, g)
        the gradients of x, gamma, w, b, W1, b1, W2 and b2

Products in float32 are ours (`mlp_tiles`), those in bfloat16 torch's (`mlp_pieces`). Kept for the
backward pass are x and the hidden values, not the outputs of norm and GELU, which are computed again.
Layer scale is a factor on W2 and b2. The second derivative goes through torch's own operators.

Shape suffixes: C channels, M hidden channels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.models.kernels import EPS, mlp_pieces, mlp_tiles
from hornet_train.models.kernels.expected import expect, expect_dtypes
from hornet_train.models.kernels.rows import gradients_again, like_map, product_dtype, schema_of


class Mlp(NamedTuple):
    """What the branch is computed from.

    Attributes:
        factor_B: of each image's branch; None for 1.
        gamma: layer scale, (C,); None for 1.
        norm_weight, norm_bias: w and b.
    """

    x_BCHW: Tensor
    factor_B: Tensor | None
    gamma: Tensor | None
    norm_weight: Tensor
    norm_bias: Tensor
    w1_MC: Tensor
    b1: Tensor
    w2_CM: Tensor
    b2: Tensor

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Those of the layers, in the order of their gradients."""
        return self.norm_weight, self.norm_bias, self.w1_MC, self.b1, self.w2_CM, self.b2

    def check(
        self, lower: torch.dtype, hidden_NM: Tensor | None = None, gradient_BCHW: Tensor | None = None
    ) -> None:
        """Raises ValueError before a loop reads or writes past the end of something."""
        (images, channels, *sides), hidden = self.x_BCHW.shape, self.w1_MC.shape[0]
        expect_dtypes("mlp", x=self.x_BCHW.dtype, lower=lower)
        expect(
            "mlp",
            factor=(self.factor_B, (images,)),
            gamma=(self.gamma, (channels,)),
            norm_weight=(self.norm_weight, (channels,)),
            norm_bias=(self.norm_bias, (channels,)),
            w1=(self.w1_MC, (hidden, channels)),
            b1=(self.b1, (hidden,)),
            w2=(self.w2_CM, (channels, hidden)),
            b2=(self.b2, (channels,)),
            hidden=(hidden_NM, (images * math.prod(sides), hidden)),
            gradient=(gradient_BCHW, (images, channels, *sides)),
        )

    def new_output(self) -> Tensor:
        """An empty y, channels_last, in the dtype of the weights where that is wider than x's.

        A sum in bfloat16 would lose branches that layer scale has made small.
        """
        dtype = torch.promote_types(self.x_BCHW.dtype, self.w2_CM.dtype)
        return like_map(self.x_BCHW, self.x_BCHW.shape[1], dtype)


@torch.library.custom_op(
    "hornet::mlp",
    mutates_args=(),
    device_types="cpu",
    schema=f"({schema_of(Mlp)}, ScalarType lower, bool keep) -> (Tensor, Tensor)",
)
def mlp(*arguments: Any) -> tuple[Tensor, Tensor]:
    """y, channels_last, and the hidden values (N, M) in `lower`, none without `keep`.

    Args:
        arguments: those of Mlp, then `lower`, the dtype that products have outside of here, and `keep`.
    """
    inputs, (lower, keep) = Mlp(*arguments[:-2]), arguments[-2:]
    inputs.check(lower)
    if product_dtype(lower) == torch.float32:
        return mlp_tiles.forward(inputs, lower, keep=keep)
    return mlp_pieces.forward(inputs, lower, keep=keep)


@torch.library.custom_op(
    "hornet::mlp_gradient",
    mutates_args=(),
    device_types="cpu",
    schema=f"({schema_of(Mlp)}, ScalarType lower, Tensor hidden_NM, Tensor gradient_BCHW) -> Tensor[]",
)
def mlp_gradient(*arguments: Any) -> list[Tensor]:
    """The gradients of x, gamma (empty where it is None), the norm's weight and bias, W1, b1, W2 and b2.

    Args:
        arguments: those of Mlp, then `lower`, the hidden values that `mlp` kept, and the gradient of y.
    """
    inputs, (lower, hidden_NM, gradient_BCHW) = Mlp(*arguments[:-3]), arguments[-3:]
    inputs.check(lower, hidden_NM, gradient_BCHW)
    if product_dtype(lower) == torch.float32:
        return mlp_tiles.backward(inputs, hidden_NM, gradient_BCHW)
    return mlp_pieces.backward(inputs, lower, hidden_NM, gradient_BCHW)


@mlp.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    inputs, (lower, keep) = Mlp(*arguments[:-2]), arguments[-2:]
    pixels = inputs.x_BCHW.numel() // inputs.x_BCHW.shape[1] if keep else 0
    return inputs.new_output(), inputs.x_BCHW.new_empty(pixels, inputs.w1_MC.shape[0], dtype=lower)


@mlp_gradient.register_fake
def _(*arguments: Any) -> list[Tensor]:
    inputs = Mlp(*arguments[:-3])
    x_BCHW, gamma = inputs.x_BCHW, inputs.gamma
    like_gamma = inputs.b1.new_empty(0, dtype=torch.float32) if gamma is None else gamma
    return [
        like_map(x_BCHW, x_BCHW.shape[1], x_BCHW.dtype),
        *(one.new_empty(one.shape) for one in (like_gamma, *inputs.parameters)),
    ]


def _plain(inputs: Mlp, lower: torch.dtype) -> Tensor:
    """y by torch's operators."""
    norm = inputs.norm_weight.shape, inputs.norm_weight, inputs.norm_bias, EPS
    x_BHWC = F.layer_norm(inputs.x_BCHW.permute(0, 2, 3, 1), *norm)
    hidden_BHWM = F.gelu(F.linear(x_BHWC.to(lower), inputs.w1_MC.to(lower), inputs.b1.to(lower)))
    y_BCHW = F.linear(hidden_BHWM, inputs.w2_CM.to(lower), inputs.b2.to(lower)).permute(0, 3, 1, 2)
    if inputs.gamma is not None:
        y_BCHW = y_BCHW * inputs.gamma.view(1, -1, 1, 1)
    if inputs.factor_B is not None:
        y_BCHW = y_BCHW * inputs.factor_B.view(-1, 1, 1, 1)
    return (inputs.x_BCHW + y_BCHW).to(torch.promote_types(inputs.x_BCHW.dtype, inputs.w2_CM.dtype))


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.lower, _ = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, gradient_BCHW: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    *tensors, hidden_NM = ctx.saved_tensors
    inputs = Mlp(*tensors)
    if gradient_BCHW is None:
        return (None,) * len(ctx.needs_input_grad)
    if torch.is_grad_enabled():  # a second derivative is wanted
        needed = (ctx.needs_input_grad[0], False, *ctx.needs_input_grad[2:-2])  # not the factor
        found = gradients_again(lambda: _plain(inputs, ctx.lower), inputs, needed, gradient_BCHW)
        return (*found, None, None)
    for_x, for_gamma, *others = mlp_gradient(*inputs, ctx.lower, hidden_NM, gradient_BCHW)
    return (for_x, None, None if inputs.gamma is None else for_gamma, *others, None, None)


mlp.register_autograd(_backward, setup_context=_save_for_backward)
