"""What kind of tensor an operator is called with, and in which dtype torch would multiply it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.jit import is_tracing  # type: ignore[attr-defined]


def is_exporting() -> bool:
    """Whether torch.export traces.

    `torch.compiler.is_exporting()` says the same, but torch.compile of torch 2.11 takes it for true always.
    """
    flag: bool = torch.compiler._is_exporting_flag
    return flag


def is_real(x: Tensor) -> bool:
    """Whether x is a tensor that our operators may compute with; true under torch.compile too.

    It is not where x is a proxy of symbolic tracing, where torch.export or torch.jit.trace records, and under
    torch.func and forward-mode derivatives, which know torch's operators alone.
    """
    recorded = is_exporting() or is_tracing()
    transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return isinstance(x, Tensor) and not (recorded or transformed)


def is_real_on_cpu(x: Tensor) -> bool:
    """Whether x is a real (untraced) CPU tensor; see `is_real`."""
    return is_real(x) and x.device.type == "cpu"


def product_input_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which convolutions and linear layers read x on a CPU: autocast's, or x's own."""
    if x.dtype != torch.float64 and torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return x.dtype
