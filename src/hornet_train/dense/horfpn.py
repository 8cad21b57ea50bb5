"""HorFPN: a feature pyramid whose convolutions after the top-down path are gnConv.

Layout suffixes: `x_BCHW` is batch, channels, height, width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornet_train.dense.batch_norm import ConvNorm, SyncBatchNorm2d
from hornet_train.models.gnconv import GnConv
from hornet_train.models.options import whole_number

Fusing = Literal["conv", "7x7", "gf"]
_GRID = (32, 17)  # of the published decoders' global filters; maps of other sizes resize them


def check_fusing(name: str, value: str) -> None:
    """Raises ValueError where an option is none of the three."""
    if value not in get_args(Fusing):
        raise ValueError(f"{name} is one of {', '.join(get_args(Fusing))}, not {value!r}")


class DecoderGnConv(GnConv):
    """The gnConv of the published decoders: order 2, without 1 / alpha, its filter for 32 x 32 maps.

    Args:
        in_channels, out_channels: the widths in and out.
        mixer: "7x7" or "gf".
        where: `device` and `dtype` of the parameters.
    """

    def __init__(
        self, in_channels: int, out_channels: int, mixer: Literal["7x7", "gf"], **where: Any
    ) -> None:
        super().__init__(out_channels, in_dim=in_channels, order=2, mixer=mixer, grid=_GRID, **where)


class GatedNorm(DecoderGnConv):
    """The same with batch norm and ReLU behind it."""

    def __init__(
        self, in_channels: int, out_channels: int, mixer: Literal["7x7", "gf"], **where: Any
    ) -> None:
        super().__init__(in_channels, out_channels, mixer, **where)
        self.bn = SyncBatchNorm2d(out_channels, **where)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in: (B, in_channels, H, W); out: (B, out_channels, H, W)."""
        y_BCHW: Tensor = self.bn(super().forward(x_BCHW))
        return F.relu(y_BCHW, inplace=True)


class HorFPN(nn.Module):
    """A feature pyramid on any backbone, with gnConv in place of the convolutions after the top-down path.

    Each level goes through a 1x1 convolution; from the coarsest on, each is added to the next finer one,
    enlarged (nearest). Then come the convolutions of each level. Further levels are every second pixel of the
    last one.

    Args:
        in_channels: of the backbone's levels, the finest first, each of half the size of the one before.
        out_channels: of all levels out.
        num_outs: levels out, at least as many as there are in.
        mixer: "conv" for the usual 3x3 convolutions, else gnConv's, "7x7" or "gf".
        device, dtype: of the parameters.

    Raises:
        ValueError: an unknown mixer, no level, fewer levels out than in, or a width that gnConv cannot halve.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_outs: int = 5,
        mixer: Fusing = "7x7",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_fusing("mixer", mixer)
        widths = [whole_number("each of in_channels", one) for one in in_channels]
        if not widths or whole_number("num_outs", num_outs) < len(widths):
            raise ValueError(f"num_outs={num_outs} for {len(widths)} levels of features: at least one each")
        self.in_channels, self.out_channels, self.num_outs = tuple(widths), out_channels, num_outs
        self.lateral_convs = nn.ModuleList(
            ConvNorm(width, out_channels, 1, norm=False, device=device, dtype=dtype) for width in widths
        )
        self.fpn_convs = nn.ModuleList(
            ConvNorm(out_channels, out_channels, 3, norm=False, device=device, dtype=dtype)
            if mixer == "conv"
            else DecoderGnConv(out_channels, out_channels, mixer, device=device, dtype=dtype)
            for _ in widths
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Convolutions by Xavier's uniform rule with zero biases, as published."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels (B, c, H, W), finest first, to `num_outs` levels (B, out_channels, H, W).

        Raises:
            ValueError: another number of levels than `in_channels` has.
        """
        if len(features) != len(self.in_channels):
            raise ValueError(f"{len(features)} levels of features for {len(self.in_channels)} in_channels")
        levels = [lateral(one) for lateral, one in zip(self.lateral_convs, features, strict=True)]
        for coarse in range(len(levels) - 1, 0, -1):
            finer = levels[coarse - 1]
            levels[coarse - 1] = finer + F.interpolate(levels[coarse], size=finer.shape[2:], mode="nearest")
        outs = [convolve(one) for convolve, one in zip(self.fpn_convs, levels, strict=True)]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)
