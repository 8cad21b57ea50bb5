"""GELU on a CPU in one pass, as operators of torch's.

    hornet::gelu(x)              y = x Phi(x)
    hornet::gelu_and_slope(x)    y and dy/dx, which is all that the backward pass needs

The forward pass of a training computes both from one exponential and keeps the slope in x's place, so that
the backward pass is a product. A second derivative it does not have, and says so; torch's own has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hornet_train.models.kernels import openmp

BLOCK = 16  # values that are worked on together, see vectors.py
AVAILABLE = openmp.available()


def serves(x: Tensor) -> bool:
    """Whether a real tensor is one that these operators are made for."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() % BLOCK == 0
        and AVAILABLE
    )


def gelu(x: Tensor) -> Tensor:
    """y of any shape, laid out as x; differentiable once."""
    if torch.is_grad_enabled() and x.requires_grad:
        out: Tensor = _Gelu.apply(x)
        return out
    y: Tensor = _gelu(x)
    return y


def _run(x: Tensor, y: Tensor, slope: Tensor | None) -> None:
    from hornet_train.models.kernels.loops import gelu_loop

    openmp.run(
        gelu_loop(x.dtype == torch.bfloat16, slope is not None),
        (x.data_ptr(), y.data_ptr(), 0 if slope is None else slope.data_ptr(), x.numel() // BLOCK),
        0,
    )


def _dense(x: Tensor) -> Tensor:
    """x itself where its values lie one behind the other in memory, in whatever order."""
    return x if torch.empty_like(x).stride() == x.stride() else x.contiguous()


@torch.library.custom_op("hornet::gelu", mutates_args=(), device_types="cpu")
def _gelu(x: Tensor) -> Tensor:
    x = _dense(x)
    y = torch.empty_like(x)
    _run(x, y, None)
    return y


@torch.library.custom_op("hornet::gelu_and_slope", mutates_args=(), device_types="cpu")
def _gelu_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    x = _dense(x)
    y, slope = torch.empty_like(x), torch.empty_like(x)
    _run(x, y, slope)
    return y, slope


@_gelu.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(_dense(x))


@_gelu_and_slope.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    x = _dense(x)
    return torch.empty_like(x), torch.empty_like(x)


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y, slope = _gelu_and_slope(x)
        ctx.save_for_backward(slope)
        out: Tensor = y
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        product: Tensor = gradient * slope
        return product
