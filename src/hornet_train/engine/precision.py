"""Precisions: fp32, and bf16 or fp16 by autocast; fp16 with loss scaling."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch.amp import GradScaler

PrecisionName = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: PrecisionName, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass. Weights, moments and averages stay in fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


def native_precision(device: torch.device) -> PrecisionName:
    """bf16 if the device has instructions for it, else fp32: emulated bf16 is a hundred times slower."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def loss_scaler(precision: PrecisionName, device: torch.device) -> GradScaler:
    """Scales the loss for fp16, whose small gradients would become 0 otherwise; does nothing for others."""
    return GradScaler(device.type, enabled=precision == "fp16")
