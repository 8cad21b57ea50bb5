"""UperNet's heads for semantic segmentation, whose last fusion may be gnConv (HorFPN).

Layout suffixes: `x_BCHW` is batch, channels, height, width; K is the number of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornet_train.dense.batch_norm import ConvNorm
from hornet_train.dense.horfpn import Fusing, GatedNorm, check_fusing
from hornet_train.models.options import probability, whole_number

BINS = (1, 2, 3, 6)  # sides of the pooled maps


def enlarged(x_BCHW: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, with pixels as areas (align_corners false). Shape out: (B, C, *size)."""
    return F.interpolate(x_BCHW, size=tuple(size), mode="bilinear", align_corners=False)


def start_classifier(layer: nn.Conv2d) -> None:
    """Weights from a normal of std 0.01, biases zero, as published."""
    nn.init.normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class UperNetHead(nn.Module):
    """UperNet's decode head on any backbone: pyramid pooling, a top-down path, and the fusion of all levels.

    Args:
        in_channels: of the backbone's levels, the finest first.
        channels: of all maps in the head.
        num_classes: K.
        fusion: what makes one map of all levels: "conv", the usual 3x3 convolution, or gnConv, "7x7" or "gf",
            as in HorFPN.
        dropout: of whole channels before the classifier.
        device, dtype: of the parameters.

    Raises:
        ValueError: an unknown fusion, no level, or a width that gnConv cannot halve.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 512,
        num_classes: int = 150,
        fusion: Fusing = "conv",
        *,
        dropout: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_fusing("fusion", fusion)
        widths = [whole_number("each of in_channels", one) for one in in_channels]
        if not widths:
            raise ValueError("in_channels has no level of features")
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_channels = tuple(widths)
        *finer, coarsest = widths
        self.conv_seg = nn.Conv2d(channels, whole_number("num_classes", num_classes), 1, **where)
        self.dropout = nn.Dropout2d(probability("dropout", dropout))
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), ConvNorm(coarsest, channels, 1, **where))
            for side in BINS
        )
        self.bottleneck = ConvNorm(coarsest + len(BINS) * channels, channels, 3, **where)
        self.lateral_convs = nn.ModuleList(ConvNorm(width, channels, 1, **where) for width in finer)
        self.fpn_convs = nn.ModuleList(ConvNorm(channels, channels, 3, **where) for _ in finer)
        together = len(widths) * channels
        self.fpn_bottleneck = (
            ConvNorm(together, channels, 3, **where)
            if fusion == "conv"
            else GatedNorm(together, channels, fusion, **where)
        )
        start_classifier(self.conv_seg)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Levels (B, c, H, W), finest first, to logits (B, K, H, W) of the finest level's size.

        Raises:
            ValueError: another number of levels than `in_channels` has.
        """
        return self.classify(self.fused(features))

    def classify(self, fused_BCHW: Tensor) -> Tensor:
        """Logits (B, K, H, W) of the fused map (B, channels, H, W)."""
        logits_BKHW: Tensor = self.conv_seg(self.dropout(fused_BCHW))
        return logits_BKHW

    def fused(self, features: Sequence[Tensor]) -> Tensor:
        """All levels as one map (B, channels, H, W) of the finest level's size."""
        if len(features) != len(self.in_channels):
            raise ValueError(f"{len(features)} levels of features for {len(self.in_channels)} in_channels")
        levels = [lateral(one) for lateral, one in zip(self.lateral_convs, features[:-1], strict=True)]
        levels.append(self.pooled(features[-1]))
        for coarse in range(len(levels) - 1, 0, -1):
            finer = levels[coarse - 1]
            levels[coarse - 1] = finer + enlarged(levels[coarse], finer.shape[2:])
        outs = [convolve(one) for convolve, one in zip(self.fpn_convs, levels[:-1], strict=True)]
        outs.append(levels[-1])
        size = outs[0].shape[2:]
        fused_BCHW: Tensor = self.fpn_bottleneck(
            torch.cat([outs[0], *(enlarged(one, size) for one in outs[1:])], 1)
        )
        return fused_BCHW

    def pooled(self, x_BCHW: Tensor) -> Tensor:
        """Pyramid pooling of the coarsest level. Shape in: (B, c, H, W); out: (B, channels, H, W)."""
        means = [enlarged(module(x_BCHW), x_BCHW.shape[2:]) for module in self.psp_modules]
        out_BCHW: Tensor = self.bottleneck(torch.cat([x_BCHW, *means], 1))
        return out_BCHW


class FcnHead(nn.Module):
    """The auxiliary head of a training: a 3x3 convolution and a classifier on one level.

    Args:
        in_channels: of that level.
        channels: of the map in the head.
        num_classes: K.
        dropout: of whole channels before the classifier.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        num_classes: int = 150,
        *,
        dropout: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.conv_seg = nn.Conv2d(channels, whole_number("num_classes", num_classes), 1, **where)
        self.dropout = nn.Dropout2d(probability("dropout", dropout))
        self.convs = nn.Sequential(ConvNorm(whole_number("in_channels", in_channels), channels, 3, **where))
        start_classifier(self.conv_seg)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in: (B, c, H, W); out: logits (B, K, H, W)."""
        logits_BKHW: Tensor = self.conv_seg(self.dropout(self.convs(x_BCHW)))
        return logits_BKHW
