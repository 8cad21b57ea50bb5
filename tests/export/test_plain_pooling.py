"""Adaptive pooling by products is torch's, of maps of any size, also where the bins overlap."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hornet_train.export.plain_pooling import PooledByProducts, pool_by_products

SIDES = st.integers(1, 20)


@given(SIDES, SIDES, SIDES)
def test_it_is_torchs(side: int, height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    torch.testing.assert_close(PooledByProducts(side)(x), nn.AdaptiveAvgPool2d(side)(x))


def test_it_takes_its_place_wherever_it_is() -> None:
    model = nn.Sequential(nn.Sequential(nn.AdaptiveAvgPool2d(3)), nn.AdaptiveAvgPool2d(1))
    pool_by_products(model)
    assert [type(module) for module in model.modules()] == [
        *(nn.Sequential, nn.Sequential, PooledByProducts, nn.AdaptiveAvgPool2d),
    ]
