"""What forward and backward pass of the GF layer do with some images at a time: see `global_local`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hornet_train.models.kernels import LANES, openmp
from hornet_train.models.kernels.arguments import Filter, FilterGradient
from hornet_train.models.kernels.expected import expect, expect_dtypes
from hornet_train.models.kernels.fourier import block_matrices
from hornet_train.models.kernels.fourier_arguments import Blocked, Fourier, FourierGradient, Interleave
from hornet_train.models.kernels.rows import FLOAT32, dense, is_half, row_bytes, rows_of
from hornet_train.models.kernels.tiles import HELD, block_rows

_GROUPS = 8  # of images, at most, whose gradients of kernel and filter are summed apart
_VECTORS = ("pre_weight", "pre_bias", "post_weight", "post_bias")
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
    expect_dtypes("global_local", x=x_BSHW.dtype)
    vectors = {name: (getattr(inputs, name), (2 * channels,)) for name in _VECTORS}
    filters = (inputs.filter_ChwK, (channels, height, columns, 2))
    expect("global_local", **vectors, kernel=(inputs.kernel, (channels, 1, 3, 3)), filters=filters)
    blocks = inputs.filter_ChwK.float().view(channels // LANES, LANES, height, columns, 2)
    return _Prepared(
        rows_of(x_BSHW),
        (dense(inputs.pre_weight), dense(inputs.pre_bias)),
        inputs.kernel[:, 0].permute(1, 2, 0).float().contiguous(),
        blocks.permute(0, 3, 4, 2, 1).contiguous(),
        (_halves(dense(inputs.post_weight)), _halves(dense(inputs.post_bias))),
        block_matrices(height, x_BSHW.shape[3]),
    )


def _halves(vector_S: Tensor) -> Tensor:
    """The even channels first, then the odd ones."""
    return vector_S.view(-1, 2).t().contiguous().flatten()


class BlockedMap:
    """Memory for some images in blocks of LANES channels, (S / LANES, pixels, LANES)."""

    def __init__(self, channels: int, pixels: int) -> None:
        self.memory = torch.empty(channels // LANES, pixels + 1, LANES, **FLOAT32)  # + 1: see `tiles.Held`

    @property
    def block(self) -> int:
        """Bytes from LANES channels to the next."""
        return 4 * self.memory.stride(0)

    def half(self, number: int) -> int:
        """The address of the first or second half of the channels."""
        return self.memory.data_ptr() + number * self.block * (len(self.memory) // 2)


class Pass:
    """What both passes do with a piece of the images: the norm, and both halves.

    Attributes:
        normed, mixed: maps of the piece; mixed holds local and global half.
    """

    def __init__(self, inputs: GlobalLocal) -> None:
        self.p = _prepare(inputs)
        self.images, self.channels, self.height, self.width = inputs.x_BSHW.shape
        self.pixels = self.height * self.width
        self.at_once = max(1, min(self.images, HELD // (2 * self.channels * max(1, self.pixels))))
        self.block = block_rows(self.images * self.pixels)
        self.normed, self.mixed = (BlockedMap(self.channels, self.at_once * self.pixels) for _ in range(2))
        self.zeros = torch.zeros(self.channels // 2, **FLOAT32)

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

    def convolve(self, kernel_KKC: Tensor, source: BlockedMap, target: BlockedMap, images: int) -> None:
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


def kernel_gradient(work: Pass, images: int) -> Tensor:
    """Of the 3x3 kernel, (9, C), from `normed` and the gradient in `mixed`."""
    from hornet_train.models.kernels.depthwise_loops import gradient_loop, scratch_bytes

    groups, half = min(images, _GROUPS), work.channels // 2
    totals = torch.empty(groups, 10, half, **FLOAT32)
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


def filter_gradient(work: Pass, back: BlockedMap, images: int) -> Tensor:
    """Of the filters, and the global half's into `back`, from `normed` and the gradient in `mixed`."""
    from hornet_train.models.kernels.fourier_loops import fourier_gradient_loop

    groups, matrices, memory = min(images, _GROUPS), work.p.matrices, work.scratch(3)
    totals = torch.empty(groups, *work.p.filters.shape, **FLOAT32)
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
