"""Maps as rows of pixels, some thousands at a time, for operators that are mostly matrix products on a CPU.

What lies between two products of a piece, its norm, activation or gating, then stays in the caches, and a
piece can be multiplied in another precision than it is stored in.

Shape suffixes: N pixels (of all images), C channels.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor

from hornet_train.models.kernels import LANES, rowwise

ROWS = 4096  # pixels of a piece, at most
SMALLEST = 1 << 17  # values of a map: with fewer, calls of operators take longer than what they save
DTYPES = (torch.float32, torch.bfloat16)


def serves(x_BCHW: Tensor, weight: Tensor, lower: torch.dtype) -> bool:
    """Whether a real map, a weight and the dtype of products are such that these operators are made for."""
    return (
        x_BCHW.device.type == "cpu"
        and x_BCHW.dtype in DTYPES
        and weight.dtype in DTYPES
        and lower in DTYPES
        and x_BCHW.shape[1] % LANES == 0
        and (x_BCHW.numel() >= SMALLEST or product_dtype(lower) != lower)
        and rowwise.AVAILABLE
    )


def _fast_bfloat16() -> bool:
    """Whether the processor multiplies faster in bfloat16 than in float32.

    It does with tiles (AMX) or AMD's dot products (from Zen 4 on); Intel's without tiles have half the rate
    of float32, processors without either a hundredth.
    """
    if platform.machine() not in ("x86_64", "AMD64") or torch.cpu._is_amx_tile_supported():
        return True
    known = Path("/proc/cpuinfo")
    return (
        torch.cpu._is_avx512_bf16_supported()
        and known.exists()
        and "AuthenticAMD" in known.read_text(encoding="utf-8")
    )


FAST_BFLOAT16 = _fast_bfloat16()  # a rule, not a measurement: the same on each start


def product_dtype(lower: torch.dtype) -> torch.dtype:
    """The dtype that matrices stored in `lower` are multiplied in; products are summed in float32."""
    return torch.float32 if lower == torch.bfloat16 and not FAST_BFLOAT16 else lower


def rows_of(x_BCHW: Tensor) -> Tensor:
    """(N, C), a view of the map where its channels lie side by side, else a copy."""
    rows_NC = x_BCHW.permute(0, 2, 3, 1).reshape(-1, x_BCHW.shape[1])
    return rows_NC if rows_NC.stride(1) == 1 else rows_NC.contiguous()


def like_map(x_BCHW: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """An empty channels_last map of the same extent."""
    shape = (x_BCHW.shape[0], channels, *x_BCHW.shape[2:])
    return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last, device=x_BCHW.device)


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

    def place(self, buffer: Tensor, target_NC: Tensor) -> Tensor:
        """Where to compute what `store` then puts into the target: there, or in the buffer."""
        return target_NC if target_NC.dtype == self.dtype else buffer[: len(target_NC)]

    def store(self, target_NC: Tensor, computed_NC: Tensor) -> None:
        if target_NC.dtype != self.dtype:
            target_NC.copy_(computed_NC)


class Sums:
    """The gradients of parameters, summed over the pieces in float32."""

    def __init__(self, *parameters: Tensor) -> None:
        self.dtypes = [one.dtype for one in parameters]
        self.totals = [torch.zeros(one.shape, dtype=torch.float32) for one in parameters]

    def add_product(self, index: int, a_NR: Tensor, b_NC: Tensor) -> None:
        """a^T b to a total of shape (R, C, 1, ...); in lower precision it is rounded, the sum is not."""
        total = self.totals[index].flatten(1)
        if a_NR.dtype == total.dtype:
            total.addmm_(a_NR.t(), b_NC)
        else:
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


def matrix(weight: Tensor, dtype: torch.dtype, gamma: Tensor | None = None) -> Tensor:
    """gamma_i W_ij, of a weight (D, C, 1, ...): layer scale for no pass over a map."""
    matrix_DC = weight.flatten(1)
    return (matrix_DC if gamma is None else matrix_DC * gamma[:, None]).to(dtype)


def vector(bias: Tensor, dtype: torch.dtype, gamma: Tensor | None = None) -> Tensor:
    """gamma_i b_i."""
    return (bias if gamma is None else bias * gamma).to(dtype)


def dense(vector: Tensor) -> Tensor:
    """In float32, its values side by side: what the loops over rows read."""
    return vector.float().contiguous()


def unscale_(
    gamma: Tensor | None, weight: Tensor, bias: Tensor, for_weight: Tensor, for_bias: Tensor
) -> Tensor:
    """Gradients of gamma W and gamma b into those of W and b, in place; gives gamma's.

    Of y = gamma (W a + b): d gamma_i = sum over pixels of g_i (W a + b)_i = sum_j W_ij (g a^T)_ij + b_i g_i.
    """
    if gamma is None:
        return for_bias.new_empty(0)
    matrix = for_weight.flatten(1)
    for_gamma = ((matrix * weight.flatten(1)).sum(1) + for_bias * bias).to(gamma.dtype)
    matrix.mul_(gamma[:, None])
    for_bias.mul_(gamma)
    return for_gamma


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


def gradients_again(
    plain: Callable[[], Tensor], inputs: Sequence[Tensor | None], needed: Sequence[bool], gradient: Tensor
) -> Iterator[Tensor | None]:
    """The gradients of `plain()` for the inputs that need one, differentiable themselves."""
    wanted = [one for one, is_needed in zip(inputs, needed, strict=True) if is_needed and one is not None]
    found = iter(torch.autograd.grad(plain(), wanted, gradient, create_graph=True, allow_unused=True))
    return (
        next(found) if is_needed and one is not None else None
        for one, is_needed in zip(inputs, needed, strict=True)
    )


def without_autocast() -> Any:
    """Operators are called with the dtypes that they compute in; autocast would change them."""
    return torch.autocast("cpu", enabled=False)


def schema_of(inputs: type) -> str:
    """The tensors of a NamedTuple as arguments of an operator's schema: "Tensor x, Tensor? gamma"."""
    kinds = {Tensor: "Tensor", Tensor | None: "Tensor?", Sequence[Tensor]: "Tensor[]"}
    return ", ".join(f"{kinds[hint]} {name}" for name, hint in get_type_hints(inputs).items())
