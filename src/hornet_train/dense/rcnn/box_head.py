"""Heads that say what a region of interest holds, and how its box has to change.

Layout suffixes: `x_RCHW` is regions, channels, height, width; `x_R4` is R boxes.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from hornet_train.dense.batch_norm import ConvNorm

SIDE = 7  # bins of a region


class BoxOutputs(NamedTuple):
    """Of each region.

    Attributes:
        logits: (R, K + 1), the background last.
        changes: of its box, one for each class, (R, 4 K).
    """

    logits: Tensor
    changes: Tensor


class BoxHead(nn.Module):
    """Convolutions and fully connected layers, and on top of them the classes and the changes of boxes.

    Args:
        num_classes: K.
        form: "4conv1fc", with batch norm, as in the published cascades; "2fc", as in Mask R-CNN.
        channels: of the features.
        width: of the fully connected layers.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        num_classes: int,
        form: Literal["4conv1fc", "2fc"] = "2fc",
        *,
        channels: int = 256,
        width: int = 1024,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.fc_cls = nn.Linear(width, num_classes + 1, device=device, dtype=dtype)
        self.fc_reg = nn.Linear(width, 4 * num_classes, device=device, dtype=dtype)
        convs, layers = (4, 1) if form == "4conv1fc" else (0, 2)
        if convs:
            self.shared_convs = nn.Sequential(
                *(ConvNorm(channels, channels, 3, device=device, dtype=dtype) for _ in range(convs))
            )
        inputs = [channels * SIDE * SIDE] + [width] * (layers - 1)
        self.shared_fcs = nn.ModuleList(nn.Linear(one, width, device=device, dtype=dtype) for one in inputs)
        self.relu = nn.ReLU(inplace=True)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier's uniform rule for shared layers; normal for the last ones, std 0.01 and 0.001."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.normal_(self.fc_reg.weight, std=0.001)

    def forward(self, features_RCHW: Tensor) -> BoxOutputs:
        """Shape in: (R, C, 7, 7)."""
        if hasattr(self, "shared_convs"):
            features_RCHW = self.shared_convs(features_RCHW)
        hidden = features_RCHW.flatten(1)
        for layer in self.shared_fcs:
            hidden = self.relu(layer(hidden))
        return BoxOutputs(self.fc_cls(hidden).float(), self.fc_reg(hidden).float())
