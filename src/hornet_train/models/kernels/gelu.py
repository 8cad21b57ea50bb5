"""GELU on a CPU in one pass, as operators of torch's.

    hornet::gelu(x)                      y = x Phi(x)
    hornet::gelu_gradient(x, gradient)   dy/dx * gradient

Torch's own are bound by their exponentials in bfloat16; here one serves value and slope, in float32. They are
differentiable twice.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hornet_train.models.kernels import LANES, openmp

AVAILABLE = openmp.available()


def serves(x: Tensor) -> bool:
    """Whether these operators are faster for a real tensor: in float32, memory bounds torch's too."""
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and x.numel() % LANES == 0 and AVAILABLE


def _run(x: Tensor, gradient: Tensor | None) -> Tensor:
    from hornet_train.models.kernels.loops import gelu_loop

    out = torch.empty_like(x)
    openmp.run(
        gelu_loop(x.dtype == torch.bfloat16, gradient is not None),
        (x.data_ptr(), 0 if gradient is None else gradient.data_ptr(), out.data_ptr(), x.numel() // LANES),
        0,
    )
    return out


def _dense(x: Tensor) -> Tensor:
    """x itself where its values lie one behind the other in memory, in whatever order."""
    return x if torch.empty_like(x).stride() == x.stride() else x.contiguous()


def _as(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient, laid out as x."""
    return gradient if gradient.stride() == x.stride() else torch.empty_like(x).copy_(gradient)


@torch.library.custom_op("hornet::gelu", mutates_args=(), device_types="cpu")
def gelu(x: Tensor) -> Tensor:
    """y, laid out as x where that is dense."""
    return _run(_dense(x), None)


@torch.library.custom_op("hornet::gelu_gradient", mutates_args=(), device_types="cpu")
def gelu_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """x's gradient from y's."""
    x = _dense(x)
    return _run(x, _as(gradient, x))


@gelu.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(_dense(x))


@gelu_gradient.register_fake
def _(x: Tensor, _gradient: Tensor) -> Tensor:
    return torch.empty_like(_dense(x))


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001 - torch's name
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> Tensor:
    out: Tensor = gelu_gradient(*ctx.saved_tensors, gradient)
    return out


def _backward_again(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Of y' g: y'' = phi(x) (2 - x^2) for x, y' for g."""
    x, first = ctx.saved_tensors
    density = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    return gradient * first * density * (2 - x.square()), gelu_gradient(x, gradient)


gelu.register_autograd(_backward, setup_context=_keep)
gelu_gradient.register_autograd(_backward_again, setup_context=_keep)
