"""Adaptive pooling for maps of any size: torch's exporters keep the places of the example's size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PooledByProducts(nn.Module):
    """`nn.AdaptiveAvgPool2d` of maps of any size, as products with matrices that are made of the size.

    Args:
        side: rows and columns of the pooled maps.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in: (B, C, H, W); out: (B, C, side, side)."""
        height, width = x_BCHW.shape[2:]
        pooled: Tensor = self._means(height, x_BCHW) @ x_BCHW @ self._means(width, x_BCHW).mT
        return pooled

    def _means(self, length: int, like: Tensor) -> Tensor:
        """(side, length): row i is the mean from floor(i length / side) up to ceil((i + 1) length / side)."""
        bins = torch.arange(self.side, device=like.device)[:, None]
        places = torch.arange(length, device=like.device)
        first, end = bins * length // self.side, ((bins + 1) * length + self.side - 1) // self.side
        inside = ((places >= first) & (places < end)).to(like.dtype)
        return inside / inside.sum(1, keepdim=True)


def pool_by_products(model: nn.Module) -> None:
    """Put `PooledByProducts` in the place of all square adaptive means of more than one cell."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            side = child.output_size if isinstance(child, nn.AdaptiveAvgPool2d) else None
            if isinstance(side, int) and side > 1:
                setattr(module, name, PooledByProducts(side))
