"""What every exported computation begins with: a model in plain operators, an example, free dimensions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.export.plain_pooling import pool_by_products
from hornet_train.export.real_filters import with_real_filters
from hornet_train.models.kernels.dispatch import use_kernels


def plain_graph(model: nn.Module, images: Tensor, *, any_size: bool = False) -> nn.Module:
    """A copy of a model for images of the size of `images`, (B, C, H, W): torch's operators alone, no complex
    numbers, contiguous, without gradients.

    `any_size`: whether it is for images of other sizes, too.

    Raises:
        ConfigError: see `with_real_filters`.
    """
    plain = with_real_filters(model, images[:1])
    use_kernels(plain, "plain")
    if any_size:
        pool_by_products(plain)
    return plain.to(memory_format=torch.contiguous_format).requires_grad_(False).eval()


def example_of(images: Tensor) -> Tensor:
    """Two of the first image: of a batch of one the exporters would make a constant."""
    return images[:1].expand(2, -1, -1, -1).contiguous()


def free_dimensions(*, any_size: bool) -> tuple[dict[int, Any]]:
    """`dynamic_shapes` of torch's exporters, for the one input: the batch, and perhaps height and width."""
    sides = dict.fromkeys((2, 3), torch.export.Dim.DYNAMIC) if any_size else {}
    return ({0: torch.export.Dim("batch"), **sides},)
