"""Operators over rows of pixels in float32, whose products are ours: what they share.

A loop takes rows in blocks through all of an operator (`mlp_loops`, `projection_loops`, `gating_loops`)
and writes what the gradients of the weights are made of, for some thousand rows at a time; these are then
products a^T b.

Shape suffixes: N rows (pixels), C channels in, D out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hornet_train.models.kernels import LANES, openmp
from hornet_train.models.kernels.product_arguments import Outer, Pack, PackFlags

_PIECE = 1536  # rows of which gradients are held at once, at most


def block_rows(count: int) -> int:
    """Rows of a block, out of so many: few where there would be too few blocks for all threads."""
    return 48 if count >= 4096 else 24


def pieces(count: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of pieces of nearly equal size, whole blocks each but for the last."""
    block = block_rows(count)
    blocks = -(-count // block)
    parts = -(-count // _PIECE)
    for part in range(parts):
        yield blocks * part // parts * block, min(count, blocks * (part + 1) // parts * block)


def packed(matrix_DC: Tensor, *, backward: bool = False) -> Tensor:
    """A weight in panels: for y = x W^T, of C deep and D columns, or `backward`, for x = y W, the reverse.

    Raises:
        ValueError: LANES does not divide both.
    """
    from hornet_train.models.kernels.product_loops import pack_loop

    if matrix_DC.shape[0] % LANES or matrix_DC.shape[1] % LANES:
        raise ValueError(f"a weight is {tuple(matrix_DC.shape)}: multiples of {LANES} channels are expected")
    matrix_DC = matrix_DC.contiguous()
    out, (d, c) = torch.empty(matrix_DC.numel(), dtype=torch.float32), matrix_DC.shape
    across, down = 4 * c, 4  # bytes from one column to the next, from one step of the depth to the next
    arguments = Pack(
        b=matrix_DC.data_ptr(),
        b_row=across if backward else down,
        b_column=down if backward else across,
        out=out.data_ptr(),
        depth=d if backward else c,
        columns=c if backward else d,
    )
    openmp.run(pack_loop(PackFlags(along=backward)), arguments)
    return out


def held(count: int, channels: int) -> Tensor:
    """Memory for `channels` of the rows of the largest piece of so many: (C / LANES, rows, LANES)."""
    block = block_rows(count)
    most = max(end - begin for begin, end in pieces(count))
    return torch.empty(channels // LANES, -(-most // block) * block + 1, LANES, dtype=torch.float32)


def block_bytes(blocked: Tensor) -> int:
    """From LANES channels to the next, of what `held` gave."""
    return 4 * blocked.stride(0)


def add_weight_gradient(total_DC: Tensor, gradient: Tensor, x: Tensor, count: int) -> None:
    """total += gradient^T x, of `count` rows of what `held` gave; the total's rows are dense."""
    from hornet_train.models.kernels.product_loops import outer_loop

    arguments = Outer(
        a=gradient.data_ptr(),
        a_block=block_bytes(gradient),
        b=x.data_ptr(),
        b_block=block_bytes(x),
        depth=count,
        out=total_DC.data_ptr(),
        out_step=4 * total_DC.shape[1],
        rows=total_DC.shape[0],
        columns=total_DC.shape[1],
    )
    openmp.run(outer_loop(), arguments)


def factors_of(factor_B: Tensor | None, x_BCHW: Tensor) -> tuple[Tensor, int]:
    """The factor of each image in float32, none where there are none, and the rows of an image."""
    pixels = x_BCHW.shape[2] * x_BCHW.shape[3]
    return torch.empty(0) if factor_B is None else factor_B.float().contiguous(), pixels


def results(gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Sums in float32 as gradients of their parameters, none of which shares memory with another."""
    return [
        one.view(parameter.shape).to(parameter.dtype, copy=one.dim() == 1)  # parts of one vector
        for one, parameter in zip(gradients, parameters, strict=True)
    ]
