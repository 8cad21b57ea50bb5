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
from hornet_train.models.kernels.rows import FLOAT32

HELD = (
    4 << 20
)  # values that are held at once for the gradients of weights, about what fits into the last cache


def block_rows(count: int) -> int:
    """Rows of a block, out of so many: few where there would be too few blocks for all threads."""
    return 48 if count >= 4096 else 24


def pieces(count: int, channels: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of pieces of so many rows, whole blocks but for the last, of nearly equal size.

    Args:
        channels: of a row, that are held.
    """
    block = block_rows(count)
    blocks = -(-count // block)
    parts = -(-count * channels // HELD)
    parts = min(parts, blocks)
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


class Held:
    """What the gradients of weights are made of, in blocks of LANES channels, for one piece after the other.

    Args:
        count: rows of all pieces.
        widths: the channels of each tensor.

    Attributes:
        block: rows of a block.
        pieces: (begin, end) of each.
        tensors: (C / LANES, rows of the largest piece, LANES) of each width.
        stride: bytes from LANES channels to the next.
    """

    def __init__(self, count: int, *widths: int) -> None:
        self.block = block_rows(count)
        self.pieces = list(pieces(count, sum(widths)))
        most = max((end - begin for begin, end in self.pieces), default=0)
        self.blocks = -(-most // self.block)
        rows = self.blocks * self.block + 1  # a power of two would share few sets of a cache
        self.tensors = [torch.empty(width // LANES, rows, LANES, dtype=torch.float32) for width in widths]
        self.stride = 4 * LANES * rows

    def new_totals(self, width: int) -> Tensor:
        """Memory for the sums of each block of rows, (blocks, width)."""
        return torch.empty(self.blocks, width, dtype=torch.float32)

    def sum_of(self, totals: Tensor, rows: int) -> Tensor:
        """The sums of a piece of so many rows."""
        return totals[: -(-rows // self.block)].sum(0)


def add_weight_gradient(total_DC: Tensor, gradient: Tensor, x: Tensor, count: int) -> None:
    """total += gradient^T x, of `count` rows of tensors of `Held`; the total's rows are dense."""
    from hornet_train.models.kernels.product_loops import outer_loop

    arguments = Outer(
        a=gradient.data_ptr(),
        a_block=4 * gradient.stride(0),
        b=x.data_ptr(),
        b_block=4 * x.stride(0),
        depth=count,
        out=total_DC.data_ptr(),
        out_step=4 * total_DC.shape[1],
        rows=total_DC.shape[0],
        columns=total_DC.shape[1],
    )
    openmp.run(outer_loop(), arguments)


def factors_of(factor_B: Tensor | None, x_BCHW: Tensor) -> tuple[Tensor, int]:
    """The factor of each image in float32, 1 where there are none, and the rows of an image."""
    factors_B = torch.ones(len(x_BCHW), **FLOAT32) if factor_B is None else factor_B.float().contiguous()
    return factors_B, x_BCHW.shape[2] * x_BCHW.shape[3]


def results(gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Sums in float32 as gradients of their parameters, none of which shares memory with another."""
    return [
        one.view(parameter.shape).to(parameter.dtype, copy=one.dim() == 1)  # parts of one vector
        for one, parameter in zip(gradients, parameters, strict=True)
    ]
