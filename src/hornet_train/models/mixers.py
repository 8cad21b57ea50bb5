"""The mixer f of gnConv: any operator that mixes each channel over space and keeps its shape."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import SupportsIndex

import torch
from torch import Tensor, nn

from hornet_train.models.global_filter import GlobalLocalFilter
from hornet_train.models.layers import DepthwiseConv2d

Mixer = str | int | Callable[[int], nn.Module]
"""f: "7x7" or any other odd "KxK" or K, "gf", "pool", or a function from a number of channels to a module."""

KNOWN = '"7x7" (any odd size), "gf", "pool", or a function from a number of channels to a module'


def build_mixer(
    mixer: Mixer,
    channels: int,
    *,
    grid: tuple[int, int] = (14, 8),
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The module of f for `channels` channels; it must keep channels, height and width.

    Args:
        grid: (h, w) of the global filter, read for "gf" only.
        device, dtype: of the parameters.

    Raises:
        ValueError: an unknown name, an even kernel, a grid below 1 x 1, or a function that gives no module.
    """
    if isinstance(mixer, nn.Module | bool):
        raise ValueError(f"a mixer is {KNOWN}, not {mixer!r}: each gnConv needs one of its own width")
    if callable(mixer):
        made = mixer(channels)
        if not isinstance(made, nn.Module):
            raise ValueError(f"the mixer function gave {made!r} for {channels} channels, which is no module")
        return made.to(device=device, dtype=dtype)
    kernel = kernel_size(mixer)
    if kernel is not None:
        return DepthwiseConv2d(channels, kernel, device=device, dtype=dtype)
    if mixer == "gf":
        return GlobalLocalFilter(channels, grid=grid, device=device, dtype=dtype)
    if mixer == "pool":
        return Pool()
    raise ValueError(f"unknown mixer {mixer!r}: it is {KNOWN}")


def kernel_size(mixer: Mixer) -> int | None:
    """K of a depthwise mixer, "7x7" or 7; None for any other."""
    if isinstance(mixer, SupportsIndex):  # of numpy's kinds too
        return operator.index(mixer)
    found = re.fullmatch(r"(\d+)x(\d+)", mixer) if isinstance(mixer, str) else None
    return int(found[1]) if found is not None and found[1] == found[2] else None


class Pool(nn.Module):
    """The mean over the 3x3 neighbourhood inside the map: spatial mixing without a parameter."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in and out: (B, C, H, W)."""
        return nn.functional.avg_pool2d(x_BCHW, 3, stride=1, padding=1, count_include_pad=False)
