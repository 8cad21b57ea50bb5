"""Depthwise convolutions by compiled loops on a CPU, as a torch operator.

    hornet::depthwise(x, weight, bias)               y = x * weight + bias, "same" padding, stride 1
    hornet::depthwise_gradient(x, gradient, K)       the weight's and the bias's gradients

The backward pass of each uses the other, so they can be differentiated any number of times: the gradient for
x is the convolution of the gradient with the flipped kernel. They work under autocast, torch.compile, DDP and
activation checkpointing. Forward-mode derivatives and torch.func are not supported; there layers use torch's
convolution (`dispatch`).

Sums are in float32, whatever the dtype of x. x is channels_last, or any view whose channels lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornet_train.models.kernels import LANES, openmp
from hornet_train.models.kernels.arguments import Filter, FilterGradient
from hornet_train.models.kernels.rows import FLOAT32

TAPS = (5, 7, 9, 11)  # torch has good 3x3 passes
AVAILABLE = openmp.available()
_GROUPS = 16  # partial sums of the weight's gradient, at most one an image


def serves(x_BCHW: Tensor, weight_C1KK: Tensor) -> bool:
    """Whether these operators can take x and the weight, and are faster than torch's."""
    return (
        x_BCHW.device.type == "cpu"
        and x_BCHW.dtype in (torch.float32, torch.bfloat16)
        and weight_C1KK.dtype in (torch.float32, torch.bfloat16)
        and x_BCHW.dim() == 4
        and weight_C1KK.shape[0] >= LANES
        and weight_C1KK.shape[2] in TAPS
        and AVAILABLE
    )


def _side_by_side(x_BCHW: Tensor) -> Tensor:
    """x itself where its channels lie side by side in memory, else a channels_last copy."""
    return x_BCHW if x_BCHW.stride(1) == 1 else x_BCHW.contiguous(memory_format=torch.channels_last)


def _distances(x_BCHW: Tensor) -> tuple[int, int, int]:
    """Bytes from one image, row and pixel to the next."""
    size = x_BCHW.element_size()
    by_image, _, by_row, by_pixel = x_BCHW.stride()
    return by_image * size, by_row * size, by_pixel * size


@torch.library.custom_op("hornet::depthwise", mutates_args=(), device_types="cpu")
def depthwise(x_BCHW: Tensor, weight_C1KK: Tensor, bias_C: Tensor | None) -> Tensor:
    """Shape in and out: (B, C, H, W), float32 or bfloat16; out is channels_last."""
    from hornet_train.models.kernels.depthwise_loops import filter_loop, scratch_bytes

    images, channels, height, width = x_BCHW.shape
    taps = weight_C1KK.shape[2]
    x_BCHW = _side_by_side(x_BCHW)
    out_BCHW = torch.empty_like(x_BCHW, memory_format=torch.channels_last)
    kernel_KKC = weight_C1KK.detach()[:, 0].permute(1, 2, 0).to(torch.float32).contiguous()
    bias_C = (
        torch.zeros(channels, **FLOAT32) if bias_C is None else bias_C.detach().to(torch.float32).contiguous()
    )
    memory = openmp.scratch(scratch_bytes(taps, width))
    x_image, x_row, x_pixel = _distances(x_BCHW)
    out_image, out_row, out_pixel = _distances(out_BCHW)
    arguments = Filter(
        x=x_BCHW.data_ptr(),
        x_image=x_image,
        x_row=x_row,
        x_pixel=x_pixel,
        x_skip=0,
        out=out_BCHW.data_ptr(),
        out_image=out_image,
        out_row=out_row,
        out_pixel=out_pixel,
        out_skip=0,
        kernel=kernel_KKC.data_ptr(),
        bias=bias_C.data_ptr(),
        images=images,
        height=height,
        width=width,
        channels=channels,
        scratch_bytes=scratch_bytes(taps, width),
        scratch=memory.ctypes.data,
    )
    openmp.run(filter_loop(taps, x_BCHW.dtype == torch.bfloat16), arguments)
    return out_BCHW


@torch.library.custom_op("hornet::depthwise_gradient", mutates_args=(), device_types="cpu")
def depthwise_gradient(x_BCHW: Tensor, gradient_BCHW: Tensor, taps: int) -> tuple[Tensor, Tensor]:
    """The gradients of weight (C, 1, K, K) and bias (C), in float32; both inputs of one dtype."""
    from hornet_train.models.kernels.depthwise_loops import gradient_loop, scratch_bytes

    images, channels, height, width = x_BCHW.shape
    x_BCHW, gradient_BCHW = _side_by_side(x_BCHW), _side_by_side(gradient_BCHW)
    groups = min(images, _GROUPS)
    partial = torch.empty(groups, taps * taps + 1, channels, dtype=torch.float32)
    memory = openmp.scratch(scratch_bytes(taps, width))
    x_image, x_row, x_pixel = _distances(x_BCHW)
    gradient_image, gradient_row, gradient_pixel = _distances(gradient_BCHW)
    arguments = FilterGradient(
        x=x_BCHW.data_ptr(),
        x_image=x_image,
        x_row=x_row,
        x_pixel=x_pixel,
        x_skip=0,
        gradient=gradient_BCHW.data_ptr(),
        gradient_image=gradient_image,
        gradient_row=gradient_row,
        gradient_pixel=gradient_pixel,
        gradient_skip=0,
        totals=partial.data_ptr(),
        groups=groups,
        images=images,
        height=height,
        width=width,
        channels=channels,
        scratch_bytes=scratch_bytes(taps, width),
        scratch=memory.ctypes.data,
    )
    openmp.run(gradient_loop(taps, x_BCHW.dtype == torch.bfloat16), arguments)
    total = partial.sum(0)
    weight_C1KK = total[:-1].t().reshape(channels, 1, taps, taps).contiguous()
    return weight_C1KK, total[-1].clone()


@depthwise.register_fake
def _(x_BCHW: Tensor, _weight_C1KK: Tensor, _bias_C: Tensor | None) -> Tensor:
    return torch.empty_like(x_BCHW, memory_format=torch.channels_last)


@depthwise_gradient.register_fake
def _(x_BCHW: Tensor, _gradient_BCHW: Tensor, taps: int) -> tuple[Tensor, Tensor]:
    channels = x_BCHW.shape[1]
    return (
        x_BCHW.new_empty(channels, 1, taps, taps, dtype=torch.float32),
        x_BCHW.new_empty(channels, dtype=torch.float32),
    )


def _save_for_backward(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:  # noqa: ARG001 - torch's name
    x_BCHW, weight_C1KK, bias_C = inputs
    ctx.save_for_backward(x_BCHW, weight_C1KK)
    ctx.bias_dtype = None if bias_C is None else bias_C.dtype


def _backward(ctx: Any, gradient_BCHW: Tensor) -> tuple[Tensor | None, ...]:
    x_BCHW, weight_C1KK = ctx.saved_tensors
    for_x, for_weight, for_bias = ctx.needs_input_grad
    x_gradient = weight_gradient = bias_gradient = None
    if for_x:
        x_gradient = depthwise(gradient_BCHW, weight_C1KK.flip(2, 3), None)
    if for_weight or for_bias:
        weight_gradient, bias_gradient = depthwise_gradient(x_BCHW, gradient_BCHW, weight_C1KK.shape[2])
        weight_gradient = weight_gradient.to(weight_C1KK.dtype)
        bias_gradient = bias_gradient.to(ctx.bias_dtype) if for_bias else None
    return x_gradient, weight_gradient, bias_gradient


def _save_both_for_backward(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Sequence[Tensor]) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:2])


def _backward_again(ctx: Any, for_weight: Tensor, for_bias: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of (weight, bias) are linear in x and in the gradient g: each is a convolution again."""
    x_BCHW, gradient_BCHW = ctx.saved_tensors
    for_x = depthwise(gradient_BCHW, for_weight.flip(2, 3), None) if ctx.needs_input_grad[0] else None
    for_gradient = depthwise(x_BCHW, for_weight, for_bias) if ctx.needs_input_grad[1] else None
    return for_x, for_gradient, None


depthwise.register_autograd(_backward, setup_context=_save_for_backward)
depthwise_gradient.register_autograd(_backward_again, setup_context=_save_both_for_backward)
