"""The whole GF layer on a CPU, its norms included, as torch operators.

    hornet::global_local(x, w, b, k, F, w', b', lower)           y = LN(interleave(dw3x3(u), filter(v))) of
                                                                 (u | v) = LN(x)
    hornet::global_local_gradient(x, w, b, k, F, w', b', g)      the gradients of all but lower

A map goes through in blocks of 16 channels: a block of one image, with its spectrum, lies in the first cache.
The transforms are real matrices, one dimension at a time (`fourier_loops`), always in float32. Kept for the
backward pass is x alone. The second derivative goes through torch's own operators.

Layout suffixes: S channels, C = S / 2; h and w are the grid of the filter, that of the map's real FFT; `K`
holds (real, imaginary).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.models.kernels import EPS, openmp
from hornet_train.models.kernels.expected import expect, expect_dtypes
from hornet_train.models.kernels.fourier_arguments import BlockedGradient, InterleaveFlags
from hornet_train.models.kernels.global_local_pass import (
    BlockedMap,
    GlobalLocal,
    Pass,
    filter_gradient,
    kernel_gradient,
)
from hornet_train.models.kernels.rows import (
    FLOAT32,
    gradients_again,
    is_half,
    like_map,
    row_bytes,
    rows_of,
    schema_of,
)
from hornet_train.models.kernels.tiles import results


@torch.library.custom_op(
    "hornet::global_local",
    mutates_args=(),
    device_types="cpu",
    schema=f"({schema_of(GlobalLocal)}, ScalarType lower) -> Tensor",
)
def global_local(*arguments: Any) -> Tensor:
    """y (B, S, H, W), channels_last, of dtype `lower`.

    Args:
        arguments: those of GlobalLocal, then `lower`.

    Raises:
        ValueError: a filter of another grid, or channels that the loops are not made for.
    """
    from hornet_train.models.kernels.fourier_loops import interleave_loop

    inputs, lower = GlobalLocal(*arguments[:-1]), arguments[-1]
    expect_dtypes("global_local", lower=lower)
    work, out_BSHW = Pass(inputs), like_map(inputs.x_BSHW, inputs.x_BSHW.shape[1], lower)
    out_NS = rows_of(out_BSHW)
    for begin, end in work.pieces():
        work.run(begin, end)
        part_NS = out_NS[work.rows(begin, end)]
        openmp.run(interleave_loop(InterleaveFlags(is_half(part_NS))), work.outer_norm(part_NS, part_NS))
    return out_BSHW


@torch.library.custom_op(
    "hornet::global_local_gradient",
    mutates_args=(),
    device_types="cpu",
    schema=f"({schema_of(GlobalLocal)}, Tensor gradient_BSHW) -> Tensor[]",
)
def global_local_gradient(*arguments: Any) -> list[Tensor]:
    """The gradients of all inputs, in their order.

    Args:
        arguments: those of GlobalLocal, then the gradient of y.
    """
    from hornet_train.models.kernels.fourier_loops import (
        blocked_norm_gradient_loop,
        interleave_gradient_loop,
    )

    inputs, gradient_BSHW = GlobalLocal(*arguments[:-1]), arguments[-1]
    expect("global_local", gradient=(gradient_BSHW, tuple(inputs.x_BSHW.shape)))
    expect_dtypes("global_local", gradient=gradient_BSHW.dtype)
    work, for_x_BSHW = Pass(inputs), torch.empty_like(inputs.x_BSHW, memory_format=torch.channels_last)
    gradient_NS, for_x_NS = rows_of(gradient_BSHW), rows_of(for_x_BSHW)
    channels, back = work.channels, BlockedMap(work.channels, work.at_once * work.pixels)
    kernel_KKC = work.p.kernel_KKC.flip(0, 1).contiguous()
    for_kernel, for_filters = torch.zeros(9, channels // 2, **FLOAT32), torch.zeros_like(work.p.filters)
    for_pre, for_post = torch.zeros(2 * channels, **FLOAT32), torch.zeros(2 * channels, **FLOAT32)
    for begin, end in work.pieces():
        rows, images = work.rows(begin, end), end - begin
        work.run(begin, end)
        x_NS, part_NS = work.p.x_NS[rows], gradient_NS[rows]
        totals = torch.empty(-(-len(x_NS) // work.block), 2 * channels, **FLOAT32)
        openmp.run(
            interleave_gradient_loop(InterleaveFlags(is_half(part_NS))), work.outer_norm(part_NS, totals)
        )
        for_post += totals.sum(0)
        work.convolve(kernel_KKC, work.mixed, back, images)  # the input gradient: with the turned kernel
        for_kernel += kernel_gradient(work, images)
        for_filters += filter_gradient(work, back, images)
        norm = BlockedGradient(
            x=x_NS.data_ptr(),
            x_step=row_bytes(x_NS),
            above=back.half(0),
            above_block=back.block,
            weight=work.p.norm[0].data_ptr(),
            out=for_x_NS[rows].data_ptr(),
            out_step=row_bytes(for_x_NS),
            totals=totals.data_ptr(),
            rows=len(x_NS),
            channels=channels,
            block=work.block,
        )
        openmp.run(blocked_norm_gradient_loop(is_half(x_NS)), norm)
        for_pre += totals.sum(0)
    found = (
        *for_pre.split(channels),
        for_kernel.t(),
        for_filters.permute(0, 4, 3, 1, 2).reshape(inputs.filter_ChwK.shape),
        *(half.view(2, -1).t().flatten() for half in for_post.split(channels)),
    )
    gradients = [one.contiguous() for one in found]
    return [for_x_BSHW, *results(gradients, inputs.parameters)]


@global_local.register_fake
def _(*arguments: Any) -> Tensor:
    x_BSHW, lower = arguments[0], arguments[-1]
    return like_map(x_BSHW, x_BSHW.shape[1], lower)


@global_local_gradient.register_fake
def _(*arguments: Any) -> list[Tensor]:
    inputs = GlobalLocal(*arguments[:-1])
    for_x = torch.empty_like(inputs.x_BSHW, memory_format=torch.channels_last)
    return [for_x, *(one.new_empty(one.shape) for one in inputs.parameters)]


def _plain(inputs: GlobalLocal, lower: torch.dtype) -> Tensor:
    """y by torch's operators, in float32 (or float64)."""
    x_BSHW, pre_weight, pre_bias, kernel, filter_ChwK, post_weight, post_bias = (
        one.to(torch.promote_types(one.dtype, torch.float32)) for one in inputs
    )
    size = x_BSHW.shape[2:]

    def norm(map_BSHW: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.layer_norm(map_BSHW.permute(0, 2, 3, 1), weight.shape, weight, bias, EPS).permute(0, 3, 1, 2)

    u_BCHW, v_BCHW = norm(x_BSHW, pre_weight, pre_bias).chunk(2, 1)
    local_BCHW = F.conv2d(u_BCHW, kernel, padding=1, groups=len(kernel))
    filter_Chw = torch.complex(filter_ChwK[..., 0], filter_ChwK[..., 1])
    spectrum = torch.fft.rfft2(v_BCHW.contiguous(), norm="ortho") * filter_Chw
    columns = torch.fft.ifft(spectrum, dim=2, norm="ortho")
    global_BCHW = torch.fft.irfft(columns, n=size[1], dim=3, norm="ortho")
    return norm(torch.stack((local_BCHW, global_BCHW), 2).flatten(1, 2), post_weight, post_bias).to(lower)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001 - torch's name
    *tensors, ctx.lower = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient_BSHW: Tensor) -> tuple[Tensor | None, ...]:
    inputs = GlobalLocal(*ctx.saved_tensors)
    if torch.is_grad_enabled():  # a second derivative is wanted
        needed = ctx.needs_input_grad[:-1]
        found = gradients_again(lambda: _plain(inputs, ctx.lower), inputs, needed, gradient_BSHW)
        return (*found, None)
    return (*global_local_gradient(*inputs, gradient_BSHW), None)


global_local.register_autograd(_backward, setup_context=_save_for_backward)
