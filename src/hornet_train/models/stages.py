"""The parts of HorNet in order: the stem, the downsamplers, and the stages of blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from hornet_train.models.ablations import build_operator
from hornet_train.models.block import Block, Stage
from hornet_train.models.layers import LayerNorm, PatchConv2d
from hornet_train.models.mixers import Mixer


def build_downsamplers(
    widths: Sequence[int],
    *,
    in_chans: int,
    stem_stride: int,
    isotropic: bool,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Iterator[nn.Module]:
    """What comes before each stage: a convolution and LN, before the later ones LN and a 2x2 convolution.

    Args:
        widths: of the stages.
        isotropic: no norm in the stem, and nothing before the others.
        device, dtype: of the parameters.
    """
    where: dict[str, Any] = {"device": device, "dtype": dtype}
    patch = PatchConv2d(in_chans, widths[0], stem_stride, **where)
    yield nn.Sequential(patch) if isotropic else nn.Sequential(patch, LayerNorm(widths[0], **where))
    for narrow, wide in pairwise(widths):
        if isotropic:
            yield nn.Identity()
        else:
            yield nn.Sequential(LayerNorm(narrow, **where), PatchConv2d(narrow, wide, 2, **where))


def build_stages(
    depths: Sequence[int],
    widths: Sequence[int],
    orders: Sequence[int],
    mixers: Sequence[Mixer],
    grids: Sequence[tuple[int, int]],
    *,
    gating: str,
    scale: float,
    drop_path_rate: float,
    layer_scale_init: float,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Iterator[Stage]:
    """The stages; drop path grows linearly over all blocks, from 0 to its rate.

    Args:
        depths, widths, orders, mixers, grids: one entry a stage.
        gating, scale: see `build_operator`.
        device, dtype: of the parameters.
    """
    where: dict[str, Any] = {"device": device, "dtype": dtype}
    before, last = 0, max(sum(depths) - 1, 1)
    for depth, width, order, mixer, grid in zip(depths, widths, orders, mixers, grids, strict=True):
        operator: dict[str, Any] = {"gating": gating, "order": order, "mixer": mixer, "grid": grid}
        blocks = (
            Block(
                width,
                build_operator(width, scale=scale, **operator, **where),
                drop_path=drop_path_rate * (before + index) / last,
                layer_scale_init=layer_scale_init,
                **where,
            )
            for index in range(depth)
        )
        yield Stage(*blocks)
        before += depth
