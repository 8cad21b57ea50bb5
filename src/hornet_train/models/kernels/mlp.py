"""The MLP branch of a block on a CPU, as torch operators.

    hornet::mlp(x, factor, gamma, w, b, W1, b1, W2, b2, lower, keep)
        y = x + factor * gamma * (W2 GELU(W1 LN(x) + b1) + b2), and the hidden values, before GELU
    hornet::mlp_gradient(x, factor, ..., lower, hidden, g)
        the gradients of x, gamma, w, b, W1, b1, W2 and b2

The hidden values are four times as many as x's: piece by piece (`rows`), GELU's stay in the caches. Kept for
the backward pass are x and the hidden values, not the outputs of norm and GELU, which are computed again.
Layer scale is a factor on W2 and b2. The second derivative goes through torch's own operators.

Shape suffixes: C channels, M hidden channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.models.kernels import EPS, LANES, rowwise
from hornet_train.models.kernels.rows import (
    Buffers,
    Sums,
    add_branch,
    dense,
    factor_of_rows,
    gradients_again,
    like_map,
    matrix,
    pieces,
    product_dtype,
    rows_of,
    schema_of,
    unscale_,
    vector,
    without_autocast,
)


class Prepared(NamedTuple):
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

    def prepare(self, lower: torch.dtype) -> Prepared:
        """For products whose results are to be in `lower`."""
        x_NC = rows_of(self.x_BCHW).contiguous()
        buffers = Buffers(len(x_NC), product_dtype(lower))
        return Prepared(
            x_NC,
            factor_of_rows(self.factor_B, self.x_BCHW),
            (dense(self.norm_weight), dense(self.norm_bias)),
            matrix(self.w1_MC, buffers.dtype),
            matrix(self.w2_CM, buffers.dtype, self.gamma),
            buffers,
        )

    def new_output(self) -> Tensor:
        """An empty y, channels_last, in the dtype of the weights where that is wider than x's.

        A sum in bfloat16 would lose branches that layer scale has made small.
        """
        dtype = torch.promote_types(self.x_BCHW.dtype, self.w2_CM.dtype)
        return like_map(self.x_BCHW, self.x_BCHW.shape[1], dtype)


def serves(hidden: int) -> bool:
    """Whether the loops are made for so many hidden channels."""
    return hidden % LANES == 0


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
    x_NC, factor_N1, norm, first_MC, second_CM, buffers = inputs.prepare(lower)
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
            place_NM = before[:count] if kept_NM is None else buffers.place(before, kept_NM)
            part_NM = torch.mm(part_NC, first_MC.t(), out=place_NM)
            gelu_NM = rowwise.gelu(part_NM, b1, kept_NM, after[:count])
            branch_NC = torch.addmm(b2, gelu_NM, second_CM.t(), out=branch[:count])
            add_branch(out_NC[rows], raw_NC, branch_NC, None if factor_N1 is None else factor_N1[rows])
    return out_BCHW, hidden_NM


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
    x_NC, factor_N1, norm, first_MC, second_CM, buffers = inputs.prepare(lower)
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
