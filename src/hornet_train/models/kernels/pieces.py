"""Rows of pixels some thousand at a time, for products in bfloat16 that are torch's.

What lies between two products of a piece, its norm, activation or gating, then stays in the caches.

Shape suffixes: N pixels (of all images), C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

ROWS = 4096  # pixels of a piece, at most


def pieces(count: int) -> Iterator[slice]:
    """So many rows in pieces of nearly equal size."""
    parts = -(-count // ROWS)
    for part in range(parts):
        yield slice(count * part // parts, count * (part + 1) // parts)


class Buffers:
    """Memory for one piece, used for each again.

    Args:
        count: rows of all pieces.
        dtype: that is computed in.
    """

    def __init__(self, count: int, dtype: torch.dtype) -> None:
        self.rows, self.dtype = -(-count // max(1, -(-count // ROWS))), dtype

    def empty(self, channels: int) -> Tensor:
        """(rows, channels)."""
        return torch.empty(self.rows, channels, dtype=self.dtype)

    def load(self, buffer: Tensor, source_NC: Tensor) -> Tensor:
        """The source in the dtype that is computed in: itself, or a copy in the buffer."""
        if source_NC.dtype == self.dtype:
            return source_NC
        return buffer[: len(source_NC)].copy_(source_NC)

    def load_scaled(self, buffer: Tensor, source_NC: Tensor, factor_N1: Tensor | None, rows: slice) -> Tensor:
        """The same, times a factor for each of these rows."""
        if factor_N1 is None:
            return self.load(buffer, source_NC)
        return torch.mul(source_NC, factor_N1[rows], out=buffer[: len(source_NC)])


class Sums:
    """The gradients of parameters, summed over the pieces in float32."""

    def __init__(self, *parameters: Tensor) -> None:
        self.dtypes = [one.dtype for one in parameters]
        self.totals = [torch.zeros(one.shape, dtype=torch.float32) for one in parameters]

    def add_product(self, index: int, a_NR: Tensor, b_NC: Tensor) -> None:
        """a^T b to a total of shape (R, C, 1, ...); the product is rounded, the sum is not."""
        total = self.totals[index].flatten(1)
        total += torch.mm(a_NR.t(), b_NC)

    def add_linear(self, index: int, gradient_ND: Tensor, x_NC: Tensor) -> None:
        """What a piece adds to the gradients of W and b, which is the next total, where y = W x + b."""
        self.add_product(index, gradient_ND, x_NC)
        self.add(index + 1, gradient_ND.sum(0, dtype=torch.float32))

    def add(self, index: int, *parts: Tensor) -> None:
        """What a piece adds to this total and those behind it."""
        for total, part in zip(self.totals[index:], parts, strict=False):
            total += part

    def results(self) -> list[Tensor]:
        return [total.to(dtype) for total, dtype in zip(self.totals, self.dtypes, strict=True)]


def add_branch(out_NC: Tensor, x_NC: Tensor | None, branch_NC: Tensor, factor_N1: Tensor | None) -> None:
    """out = x + factor * branch, either of them left out where it is None."""
    if factor_N1 is not None and x_NC is not None:
        torch.addcmul(x_NC.to(out_NC.dtype), branch_NC.to(out_NC.dtype), factor_N1, out=out_NC)
    elif factor_N1 is not None:
        out_NC.copy_(branch_NC * factor_N1)
    elif x_NC is not None:
        torch.add(x_NC.to(out_NC.dtype), branch_NC, out=out_NC)  # two bfloat16 would be added as bfloat16
    else:
        out_NC.copy_(branch_NC)


def factor_of_rows(factor_B: Tensor | None, x_BCHW: Tensor) -> Tensor | None:
    """A factor for each image as one for each row, (N, 1) in float32."""
    if factor_B is None:
        return None
    pixels = x_BCHW.shape[2] * x_BCHW.shape[3]
    return factor_B.float().view(-1, 1).repeat_interleave(pixels, 0)


def without_autocast() -> Any:
    """Operators are called with the dtypes that they compute in; autocast would change them."""
    return torch.autocast("cpu", enabled=False)
