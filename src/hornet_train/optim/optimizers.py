"""Optimizers on parameter groups that carry an `lr_scale`."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.optim import AdamW, Optimizer

Implementation = Literal["auto", "fused", "foreach", "loop"]


def adamw(
    groups: list[dict[str, Any]],
    *,
    betas: tuple[float, float],
    eps: float,
    implementation: Implementation = "auto",
) -> Optimizer:
    """AdamW (Loshchilov and Hutter, ICLR 2019). `auto` is torch's fused kernel, on CUDA and on the CPU.

    The learning rate is 0 until `set_learning_rate` sets it, before each step.
    """
    fused = implementation in ("auto", "fused")
    return AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=fused, foreach=implementation == "foreach")


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every group to `learning_rate` times its `lr_scale`."""
    for group in optimizer.param_groups:
        value = learning_rate * group["lr_scale"]
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value
