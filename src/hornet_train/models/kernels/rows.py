"""Maps as rows of pixels, for operators that are mostly matrix products on a CPU.

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

SMALLEST = 1 << 17  # values of a map: with fewer, calls of operators take longer than what they save
DTYPES = (torch.float32, torch.bfloat16)
# of memory that the loops read and write, whatever torch.set_default_dtype and set_default_device say
FLOAT32: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


def serves(x_BCHW: Tensor, weight: Tensor, lower: torch.dtype) -> bool:
    """Whether a real map, a weight and the dtype of products are such that these operators are made for."""
    return (
        x_BCHW.device.type == "cpu"
        and x_BCHW.dtype in DTYPES
        and weight.dtype in DTYPES
        and lower in DTYPES
        and x_BCHW.shape[1] % LANES == 0
        and weight.shape[0] % LANES == 0
        and x_BCHW.numel() >= (max(1, SMALLEST) if product_dtype(lower) == lower else 1)
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


def schema_of(inputs: type) -> str:
    """The tensors of a NamedTuple as arguments of an operator's schema: "Tensor x, Tensor? gamma"."""
    kinds = {Tensor: "Tensor", Tensor | None: "Tensor?", Sequence[Tensor]: "Tensor[]"}
    return ", ".join(f"{kinds[hint]} {name}" for name, hint in get_type_hints(inputs).items())


def is_half(rows: Tensor) -> bool:
    """Whether a loop reads them as bfloat16, else as float32."""
    return rows.dtype == torch.bfloat16


def row_bytes(rows_NC: Tensor) -> int:
    """From one row to the next."""
    return rows_NC.stride(0) * rows_NC.element_size()


def add_scaled(
    x_BCHW: Tensor, branch_BCHW: Tensor, gamma_C: Tensor | None, factor_B: Tensor | None
) -> Tensor:
    """x + factor * gamma * branch, in one pass over the map; None for 1.

    A factor in float32 leaves the dtype of the sum as it is without one.
    """
    scale = None if gamma_C is None else gamma_C.view(1, -1, 1, 1)
    if factor_B is not None:
        of_images = factor_B.view(-1, 1, 1, 1)
        scale = of_images.to(branch_BCHW.dtype) if scale is None else (scale * of_images).to(scale.dtype)
    return x_BCHW + branch_BCHW if scale is None else torch.addcmul(x_BCHW, branch_BCHW, scale)
