"""The whole GF layer on a CPU, its norms included, as torch operators.

    hornet::global_local(x, w, b, k, F, w', b', lower)           y = LN(interleave(dw3x3(u), filter(v))) of
                                                                 (u | v) = LN(x)
    hornet::global_local_gradient(x, w, b, k, F, w', b', g)      the gradients of all but lower

A map goes through in blocks of 16 channels: a block of one image, with its spectrum, lies in the first cache. The
transforms are real matrices, one dimension at a time (`fourier_loops`), always in float32. Kept for the backward
pass is x alone. The second derivative goes through torch's own operators.

Layout suffixes: S channels, C = S / 2; h and w are the grid of the filter, that of the map's real FFT; `K` holds
(real, imaginary).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.models.kernels import EPS, LANES, openmp
from hornet_train.models.kernels.arguments import Filter, FilterGradient
from hornet_train.models.kernels.fourier_arguments import (
    Blocked,
    BlockedGradient,
    Fourier,
    FourierGradient,
    Interleave,
    InterleaveFlags,
)
from hornet_train.models.kernels.rows import (
    dense,
    gradients_again,
    is_half,
    like_map,
    row_bytes,
    rows_of,
    schema_of,
)
from hornet_train.models.kernels.tiles import HELD, block_rows, results

_GROUPS = 8  # of images, at most, whose gradients of kernel and filter are summed apart
_SPAN = 4 * LANES  # bytes from one pixel of a block to the next


class GlobalLocal(NamedTuple):
    """What it is computed from.

    Attributes:
        x_BSHW: float32 or bfloat16.
        pre_weight, pre_bias, post_weight, post_bias: of the norms, (S,).
        kernel: of the local half, (C, 1, 3, 3).
        filter_ChwK: of the global half, on the grid (H, W // 2 + 1).
    """

    x_BSHW: Tensor
    pre_weight: Tensor
    pre_bias: Tensor
    kernel: Tensor
    filter_ChwK: Tensor
    post_weight: Tensor
    post_bias: Tensor

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """In the order of their gradients."""
        return self[1:]


class _Prepared(NamedTuple):
    """The inputs as the loops take them."""

    x_NS: Tensor
    norm: tuple[Tensor, Tensor]
    kernel_KKC: Tensor
    filters: Tensor  # (C / LANES, w, re | im, h, LANES)
    post: tuple[Tensor, Tensor]  # the even channels first
    matrices: dict[str, Tensor]


@lru_cache(maxsize=32)
def _matrices(height: int, width: int) -> dict[str, Tensor]:
    """The "ortho" transforms of an H x W map as real matrices, float32, f < W // 2 + 1 and j < H frequencies.

    across: w to (f, re | im); down: (re | im, h) to (re | im, j); up and back are their inverses, back to real
    values. The imaginary parts of the first and last f count nothing, as in torch.fft.irfft. `.._t`: transposed.
    """
    with torch.inference_mode(False), torch.no_grad():
        columns = width // 2 + 1
        w = torch.arange(width, dtype=torch.float64)
        f = torch.arange(columns, dtype=torch.float64)
        h = torch.arange(height, dtype=torch.float64)
        turn = torch.outer(f, w).remainder(width) * (2 * math.pi / width)
        across = torch.stack((turn.cos(), -turn.sin()), 1).reshape(2 * columns, width)
        both = torch.where((f == 0) | (2 * f == width), 1.0, 2.0)[:, None, None]  # the other half's share
        back = (torch.stack((turn.cos(), -turn.sin()), 1) * both).reshape(2 * columns, width).t()
        turn = torch.outer(h, h).remainder(height) * (2 * math.pi / height)
        cos, sin = turn.cos(), turn.sin()
        down = torch.cat((torch.cat((cos, sin), 1), torch.cat((-sin, cos), 1)))
        up = torch.cat((torch.cat((cos, -sin), 1), torch.cat((sin, cos), 1)))
        found = {
            "across": across / math.sqrt(width),
            "down": down / math.sqrt(height),
            "up": up / math.sqrt(height),
            "back": back / math.sqrt(width),
        }
        found |= {f"{name}_t": matrix.t() for name, matrix in found.items()}
        return {name: matrix.float().contiguous() for name, matrix in found.items()}


def serves(half: int) -> bool:
    """Whether the loops are made for so many channels in each half."""
    return half % LANES == 0


def _prepare(inputs: GlobalLocal) -> _Prepared:
    channels, height, columns, _ = inputs.filter_ChwK.shape
    x_BSHW = inputs.x_BSHW
    if x_BSHW.shape[1] != 2 * channels or not serves(channels):
        raise ValueError(
            f"{channels} filters for {x_BSHW.shape[1]} channels: half, and a multiple of {LANES}"
        )
    if (height, columns) != (x_BSHW.shape[2], x_BSHW.shape[3] // 2 + 1):
        raise ValueError(f"a filter of ({height}, {columns}) for a map of {tuple(x_BSHW.shape[2:])} pixels")
    blocks = inputs.filter_ChwK.float().view(channels // LANES, LANES, height, columns, 2)
    return _Prepared(
        rows_of(x_BSHW),
        (dense(inputs.pre_weight), dense(inputs.pre_bias)),
        inputs.kernel[:, 0].permute(1, 2, 0).float().contiguous(),
        blocks.permute(0, 3, 4, 2, 1).contiguous(),
        (_halves(dense(inputs.post_weight)), _halves(dense(inputs.post_bias))),
        _matrices(height, x_BSHW.shape[3]),
    )


def _halves(vector_S: Tensor) -> Tensor:
    """The even channels first, then the odd ones."""
    return vector_S.view(-1, 2).t().contiguous().flatten()


class _Map:
    """Some images in blocks of LANES channels, (S / LANES, pixels, LANES), whose memory is used for each piece."""

    def __init__(self, channels: int, pixels: int) -> None:
        self.memory = torch.empty(channels // LANES, pixels + 1, LANES)  # + 1: see `tiles.Held`

    @property
    def block(self) -> int:
        """Bytes from LANES channels to the next."""
        return 4 * self.memory.stride(0)

    def half(self, number: int) -> int:
        """The address of the first or second half of the channels."""
        return self.memory.data_ptr() + number * self.block * (len(self.memory) // 2)


class _Pass:
    """What both passes do with a piece of the images: the norm, and both halves.

    Attributes:
        normed, mixed: maps of the piece; mixed holds local and global half.
    """

    def __init__(self, inputs: GlobalLocal) -> None:
        self.p = _prepare(inputs)
        self.images, self.channels, self.height, self.width = inputs.x_BSHW.shape
        self.pixels = self.height * self.width
        self.at_once = min(self.images, max(1, HELD // (2 * self.channels * self.pixels)))
        self.block = block_rows(self.images * self.pixels)
        self.normed, self.mixed = (_Map(self.channels, self.at_once * self.pixels) for _ in range(2))
        self.zeros = torch.zeros(self.channels // 2)

    def pieces(self) -> Iterator[tuple[int, int]]:
        """(begin, end) of the images."""
        for begin in range(0, self.images, self.at_once):
            yield begin, min(self.images, begin + self.at_once)

    def rows(self, begin: int, end: int) -> slice:
        return slice(begin * self.pixels, end * self.pixels)

    def run(self, begin: int, end: int) -> None:
        """Compute `normed` and `mixed` of these images."""
        from hornet_train.models.kernels.fourier_loops import blocked_norm_loop, fourier_loop

        x_NS, images = self.p.x_NS[self.rows(begin, end)], end - begin
        norm = Blocked(
            x=x_NS.data_ptr(),
            x_step=row_bytes(x_NS),
            weight=self.p.norm[0].data_ptr(),
            bias=self.p.norm[1].data_ptr(),
            out=self.normed.half(0),
            out_block=self.normed.block,
            rows=len(x_NS),
            channels=self.channels,
            block=self.block,
        )
        openmp.run(blocked_norm_loop(is_half(x_NS)), norm)
        self.convolve(self.p.kernel_KKC, self.normed, self.mixed, images)
        memory = self.scratch(2)
        fourier = Fourier(
            x=self.normed.half(1),
            x_block=self.normed.block,
            out=self.mixed.half(1),
            out_block=self.mixed.block,
            across=self.p.matrices["across"].data_ptr(),
            down=self.p.matrices["down"].data_ptr(),
            up=self.p.matrices["up"].data_ptr(),
            back=self.p.matrices["back"].data_ptr(),
            filters=self.p.filters.data_ptr(),
            images=images,
            blocks=len(self.p.filters),
            height=self.height,
            width=self.width,
            scratch=memory.ctypes.data,
            scratch_bytes=self.spectra_bytes(2),
        )
        openmp.run(fourier_loop(), fourier)

    def convolve(self, kernel_KKC: Tensor, source: _Map, target: _Map, images: int) -> None:
        """The local half of source, convolved, into that of target."""
        from hornet_train.models.kernels.depthwise_loops import filter_loop, scratch_bytes

        memory = openmp.scratch(scratch_bytes(3, self.width))
        arguments = Filter(
            x=source.half(0),
            x_image=self.pixels * _SPAN,
            x_row=self.width * _SPAN,
            x_pixel=_SPAN,
            x_skip=source.block - _SPAN,
            out=target.half(0),
            out_image=self.pixels * _SPAN,
            out_row=self.width * _SPAN,
            out_pixel=_SPAN,
            out_skip=target.block - _SPAN,
            kernel=kernel_KKC.data_ptr(),
            bias=self.zeros.data_ptr(),
            images=images,
            height=self.height,
            width=self.width,
            channels=self.channels // 2,
            scratch_bytes=scratch_bytes(3, self.width),
            scratch=memory.ctypes.data,
        )
        openmp.run(filter_loop(3, False), arguments)

    def spectra_bytes(self, count: int) -> int:
        """Of so many spectra, for each thread."""
        from hornet_train.models.kernels.fourier_loops import spectrum_bytes

        return count * spectrum_bytes(self.height, self.width)

    def scratch(self, spectra: int) -> Any:
        return openmp.scratch(self.spectra_bytes(spectra))

    def outer_norm(self, rows_NS: Tensor, totals: Tensor) -> Interleave:
        """The norm behind both halves: of `mixed` into these rows, or of their gradient into `mixed`."""
        return Interleave(
            mixed=self.mixed.half(0),
            mixed_block=self.mixed.block,
            weight=self.p.post[0].data_ptr(),
            bias=self.p.post[1].data_ptr(),
            out=rows_NS.data_ptr(),
            out_step=row_bytes(rows_NS),
            totals=totals.data_ptr(),
            rows=len(rows_NS),
            channels=self.channels,
            block=self.block,
        )


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
    work, out_BSHW = _Pass(inputs), like_map(inputs.x_BSHW, inputs.x_BSHW.shape[1], lower)
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
    work, for_x_BSHW = _Pass(inputs), torch.empty_like(inputs.x_BSHW, memory_format=torch.channels_last)
    gradient_NS, for_x_NS = rows_of(gradient_BSHW), rows_of(for_x_BSHW)
    channels, back = work.channels, _Map(work.channels, work.at_once * work.pixels)
    kernel_KKC = work.p.kernel_KKC.flip(0, 1).contiguous()
    for_kernel, for_filters = torch.zeros(9, channels // 2), torch.zeros_like(work.p.filters)
    for_pre, for_post = torch.zeros(2 * channels), torch.zeros(2 * channels)
    for begin, end in work.pieces():
        rows, images = work.rows(begin, end), end - begin
        work.run(begin, end)
        x_NS, part_NS = work.p.x_NS[rows], gradient_NS[rows]
        totals = torch.empty(-(-len(x_NS) // work.block), 2 * channels)
        openmp.run(
            interleave_gradient_loop(InterleaveFlags(is_half(part_NS))), work.outer_norm(part_NS, totals)
        )
        for_post += totals.sum(0)
        work.convolve(kernel_KKC, work.mixed, back, images)  # the input gradient: with the turned kernel
        for_kernel += _kernel_gradient(work, images)
        for_filters += _filter_gradient(work, back, images)
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


def _kernel_gradient(work: _Pass, images: int) -> Tensor:
    """Of the 3x3 kernel, (9, C), from `normed` and the gradient in `mixed`."""
    from hornet_train.models.kernels.depthwise_loops import gradient_loop, scratch_bytes

    groups, half = min(images, _GROUPS), work.channels // 2
    totals = torch.empty(groups, 10, half)
    memory = openmp.scratch(scratch_bytes(3, work.width))
    arguments = FilterGradient(
        x=work.normed.half(0),
        x_image=work.pixels * _SPAN,
        x_row=work.width * _SPAN,
        x_pixel=_SPAN,
        x_skip=work.normed.block - _SPAN,
        gradient=work.mixed.half(0),
        gradient_image=work.pixels * _SPAN,
        gradient_row=work.width * _SPAN,
        gradient_pixel=_SPAN,
        gradient_skip=work.mixed.block - _SPAN,
        totals=totals.data_ptr(),
        groups=groups,
        images=images,
        height=work.height,
        width=work.width,
        channels=half,
        scratch_bytes=scratch_bytes(3, work.width),
        scratch=memory.ctypes.data,
    )
    openmp.run(gradient_loop(3, False), arguments)
    return totals.sum(0)[:9]


def _filter_gradient(work: _Pass, back: _Map, images: int) -> Tensor:
    """Of the filters, and the global half's into `back`, from `normed` and the gradient in `mixed`."""
    from hornet_train.models.kernels.fourier_loops import fourier_gradient_loop

    groups, matrices, memory = min(images, _GROUPS), work.p.matrices, work.scratch(3)
    totals = torch.empty(groups, *work.p.filters.shape)
    arguments = FourierGradient(
        x=work.normed.half(1),
        x_block=work.normed.block,
        gradient=work.mixed.half(1),
        gradient_block=work.mixed.block,
        out=back.half(1),
        out_block=back.block,
        across=matrices["across"].data_ptr(),
        down=matrices["down"].data_ptr(),
        across_t=matrices["across_t"].data_ptr(),
        down_t=matrices["down_t"].data_ptr(),
        up_t=matrices["up_t"].data_ptr(),
        back_t=matrices["back_t"].data_ptr(),
        filters=work.p.filters.data_ptr(),
        totals=totals.data_ptr(),
        groups=groups,
        images=images,
        blocks=len(work.p.filters),
        height=work.height,
        width=work.width,
        scratch=memory.ctypes.data,
        scratch_bytes=work.spectra_bytes(3),
    )
    openmp.run(fourier_gradient_loop(), arguments)
    return totals.sum(0)


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
