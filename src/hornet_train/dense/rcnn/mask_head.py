"""The head that says which pixels of a region of interest belong to its object (Mask R-CNN, ICCV 2017).

Layout suffixes: `x_RCHW` is regions, channels, height, width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornet_train.dense.rcnn.regions import of_class

SIDE = 14  # bins of a region; masks have twice as many


class _Conv(nn.Module):
    """A 3x3 convolution and ReLU, named as published."""

    def __init__(self, channels: int, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x_RCHW: Tensor) -> Tensor:
        y_RCHW: Tensor = self.relu(self.conv(x_RCHW))
        return y_RCHW


class MaskHead(nn.Module):
    """Four convolutions, a transposed one that doubles the side, and a map for each class.

    Args:
        num_classes: K.
        channels: of the features.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        channels: int = 256,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(_Conv(channels, device, dtype) for _ in range(4)))
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2, device=device, dtype=dtype)
        self.relu = nn.ReLU(inplace=True)
        self.conv_logits = nn.Conv2d(channels, num_classes, 1, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights by the fan out, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, features_RCHW: Tensor) -> Tensor:
        """Shape in: (R, C, 14, 14); out: logits (R, K, 28, 28)."""
        logits: Tensor = self.conv_logits(self.relu(self.upsample(self.convs(features_RCHW))))
        return logits


def mask_losses(logits_RKHW: Tensor, labels_R: Tensor, targets_RHW: Tensor) -> Tensor:
    """Of each region the mean cross-entropy of its pixels, in the map of its class, (R,)."""
    own_RHW = of_class(logits_RKHW, labels_R).float()
    losses_RHW = F.binary_cross_entropy_with_logits(own_RHW, targets_RHW.float(), reduction="none")
    return losses_RHW.mean((1, 2))
