"""What follows the mixer in gnConv on a CPU, eqs. (3.3), (3.4) and the residual sum, as torch operators.

    hornet::gating(p, gates, residual, factor, gamma, W, lower)
        x = p * gates_0;  x = (W_k x + b_k) * gates_k;  y = residual + factor * gamma * (W_out x + b_out)
    hornet::gating_gradient(p, gates, factor, gamma, W, lower, g)
        the gradients of p, gates, gamma and all of W

W is W_1, b_1, .. W_{n-1}, b_{n-1}, W_out, b_out. Products in float32 are ours (`gating_tiles`), those in
bfloat16 torch's (`gating_pieces`). Kept for the backward pass are p and the gates alone; the chain of
products, a fiftieth of a step, is computed again. Layer scale is a factor on W_out and b_out. The second
derivative goes through torch's own operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.models.kernels import LANES, gating_pieces, gating_tiles
from hornet_train.models.kernels.expected import expect, expect_dtypes
from hornet_train.models.kernels.rows import DTYPES, gradients_again, like_map, product_dtype, schema_of


class Gating(NamedTuple):
    """What it is computed from.

    Attributes:
        p_BCHW, gates_BSHW: of eq. (3.2), the gates scaled; float32 or bfloat16.
        residual_BDHW: what the branch is added to; None for nothing.
        factor_B: of each image's branch; None for 1.
        gamma: layer scale, (D,); None for 1.
        parameters: W.
    """

    p_BCHW: Tensor
    gates_BSHW: Tensor
    residual_BDHW: Tensor | None
    factor_B: Tensor | None
    gamma: Tensor | None
    parameters: Sequence[Tensor]

    @property
    def dtype_out(self) -> torch.dtype:
        """That of y: the gates', or with a residual its own or W_out's, the wider of these.

        A sum in bfloat16 would lose branches that layer scale has made small.
        """
        if self.residual_BDHW is None:
            return self.gates_BSHW.dtype
        return torch.promote_types(self.residual_BDHW.dtype, self.parameters[-1].dtype)

    def check(self, lower: torch.dtype, added_to_BDHW: Tensor | None) -> None:
        """Raises ValueError before a loop reads or writes past the end of something.

        `added_to_BDHW`: the residual, or the gradient.
        """
        *widening, weight, bias = self.parameters
        (images, depth, *sides), outputs = self.p_BCHW.shape, len(bias)
        width = depth + sum(len(one) for one in widening[1::2])
        expect_dtypes("gating", p=self.p_BCHW.dtype, gates=self.gates_BSHW.dtype, lower=lower)
        for k, (wider, more) in enumerate(zip(widening[::2], widening[1::2], strict=True), 1):
            expect("gating", **{f"W_{k}": (wider, (len(more), depth))})
            depth = len(more)
        expect(
            "gating",
            gates=(self.gates_BSHW, (images, width, *sides)),
            added_to=(added_to_BDHW, (images, outputs, *sides)),
            factor=(self.factor_B, (images,)),
            gamma=(self.gamma, (outputs,)),
            W_out=(weight, (outputs, depth)),
        )


def serves(first: int) -> bool:
    """Whether the loops are made for a gnConv whose smallest branch, c_0, is so wide."""
    return first % LANES == 0


def fits(p_BCHW: Tensor, gates_BSHW: Tensor, width: int) -> bool:
    """Whether gates, which any module may have made, are a map of `width` channels as large as p's."""
    expected = (p_BCHW.shape[0], width, *p_BCHW.shape[2:])
    return gates_BSHW.shape == expected and gates_BSHW.dtype in DTYPES and p_BCHW.dtype in DTYPES


@torch.library.custom_op(
    "hornet::gating",
    mutates_args=(),
    device_types="cpu",
    schema=f"({schema_of(Gating)}, ScalarType lower) -> Tensor",
)
def gating(*arguments: Any) -> Tensor:
    """y (B, D, H, W), channels_last.

    Args:
        arguments: those of Gating, then `lower`, the dtype that products have outside of here.
    """
    inputs, lower = Gating(*arguments[:-1]), arguments[-1]
    inputs.check(lower, inputs.residual_BDHW)
    if product_dtype(lower) == torch.float32:
        return gating_tiles.forward(inputs)
    return gating_pieces.forward(inputs, lower)


@torch.library.custom_op(
    "hornet::gating_gradient",
    mutates_args=(),
    device_types="cpu",
    schema=f"({schema_of(Gating)}, ScalarType lower, Tensor gradient_BDHW) -> Tensor[]",
)
def gating_gradient(*arguments: Any) -> list[Tensor]:
    """The gradients of p, the gates, gamma (empty where it is None) and all of W.

    Args:
        arguments: those of Gating, whose residual is not read, then `lower` and the gradient of y.
    """
    inputs, (lower, gradient_BDHW) = Gating(*arguments[:-2]), arguments[-2:]
    inputs.check(lower, gradient_BDHW)
    if product_dtype(lower) == torch.float32:
        return gating_tiles.backward(inputs, gradient_BDHW)
    return gating_pieces.backward(inputs, lower, gradient_BDHW)


@gating.register_fake
def _(*arguments: Any) -> Tensor:
    inputs = Gating(*arguments[:-1])
    return like_map(inputs.p_BCHW, inputs.parameters[-1].shape[0], inputs.dtype_out)


@gating_gradient.register_fake
def _(*arguments: Any) -> list[Tensor]:
    p_BCHW, gates_BSHW, _, _, gamma, parameters = Gating(*arguments[:-2])
    maps = (like_map(one, one.shape[1], one.dtype) for one in (p_BCHW, gates_BSHW))
    for_gamma = p_BCHW.new_empty(0, dtype=torch.float32) if gamma is None else gamma.new_empty(gamma.shape)
    return [*maps, for_gamma, *(one.new_empty(one.shape) for one in parameters)]


def _plain(inputs: Gating, lower: torch.dtype) -> Tensor:
    """y by torch's operators."""
    p_BCHW, gates_BSHW, residual_BDHW, factor_B, gamma, parameters = inputs
    *widening, out_weight, out_bias = (one.to(lower) for one in parameters)
    widths = [p_BCHW.shape[1], *(len(bias) for bias in widening[1::2])]
    p_BHWC, gates_BHWS = (one.permute(0, 2, 3, 1).to(lower) for one in (p_BCHW, gates_BSHW))
    gates = gates_BHWS.split(widths, dim=3)
    x_BHWC = p_BHWC * gates[0]
    for weight, bias, gate in zip(widening[::2], widening[1::2], gates[1:], strict=True):
        x_BHWC = F.linear(x_BHWC, weight.flatten(1), bias) * gate
    y_BDHW = F.linear(x_BHWC, out_weight.flatten(1), out_bias).permute(0, 3, 1, 2)
    if gamma is not None:
        y_BDHW = y_BDHW * gamma.view(1, -1, 1, 1)
    if factor_B is not None:
        y_BDHW = y_BDHW * factor_B.view(-1, 1, 1, 1)
    return (y_BDHW if residual_BDHW is None else residual_BDHW + y_BDHW).to(inputs.dtype_out)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001 - torch's name
    p_BCHW, gates_BSHW, residual_BDHW, factor_B, gamma, parameters, ctx.lower = inputs
    ctx.save_for_backward(p_BCHW, gates_BSHW, factor_B, gamma, *parameters)
    ctx.residual_dtype = None if residual_BDHW is None else residual_BDHW.dtype


def _backward(ctx: Any, gradient_BDHW: Tensor) -> tuple[Any, ...]:
    p_BCHW, gates_BSHW, factor_B, gamma, *parameters = ctx.saved_tensors
    inputs = Gating(p_BCHW, gates_BSHW, None, factor_B, gamma, parameters)  # y is linear in the residual
    if torch.is_grad_enabled():  # a second derivative is wanted
        needs = ctx.needs_input_grad  # in the order of Gating
        for_p, for_gates, for_gamma, *others = gradients_again(
            lambda: _plain(inputs, ctx.lower),
            (p_BCHW, gates_BSHW, gamma, *parameters),
            (needs[0], needs[1], needs[4], *needs[5]),
            gradient_BDHW.to(gates_BSHW.dtype),
        )
    else:
        for_p, for_gates, for_gamma, *others = gating_gradient(*inputs, ctx.lower, gradient_BDHW)
    for_residual = None if ctx.residual_dtype is None else gradient_BDHW.to(ctx.residual_dtype)
    return for_p, for_gates, for_residual, None, None if gamma is None else for_gamma, others, None


gating.register_autograd(_backward, setup_context=_save_for_backward)
