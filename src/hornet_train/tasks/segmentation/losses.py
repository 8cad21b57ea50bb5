"""Losses of pixels, each a mean that adds up over micro-batches and processes to that of the whole step.

Layout suffixes: `x_BKHW` is batch, classes, height, width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.tasks.segmentation.metrics import IGNORED

Average = Literal["all", "valid"]


@dataclass(frozen=True)
class PixelLoss:
    """Cross-entropy of pixels, as it is or focal, of all pixels or the hardest, with Dice beside it.

    Attributes:
        average: "all" divides by all pixels, ignored ones included, as the published trainings do; "valid" by
            those that have a label.
        class_weights: factor of the pixels of each class; empty for 1. "valid" divides by their sum.
        focal_gamma: of (1 - p)^gamma, which takes weight from pixels that are easy (Lin et al., ICCV 2017); 0
            is plain cross-entropy.
        hardest: the share of each picture's labelled pixels that count, those of the largest loss (OHEM); 1
            counts all.
        dice: weight of the Dice loss (Milletari et al., 3DV 2016) beside it; 0 for none. Its mean is over
            the classes that a picture has, and over pictures by their pixels.
    """

    average: Average = "all"
    class_weights: Sequence[float] = ()
    focal_gamma: float = 0.0
    hardest: float = 1.0
    dice: float = 0.0
    _weights: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def counted(self, labels_BHW: Tensor, areas_B: Tensor) -> Tensor:
        """How many pixels of each picture its mean is over, float32 (B,).

        Args:
            labels_BHW: see `__call__`.
            areas_B: pixels of each picture, without padding to those of other pictures.
        """
        if self.average == "all":
            return areas_B.float()
        valid_BHW = labels_BHW != IGNORED
        if self.class_weights:
            weights = self._weights_on(labels_BHW.device)
            return (weights[labels_BHW.long() * valid_BHW] * valid_BHW).sum((1, 2))
        return valid_BHW.sum((1, 2)).float()

    def __call__(self, logits_BKHW: Tensor, labels_BHW: Tensor, counted_B: Tensor) -> Tensor:
        """The mean over the counted pixels, 0-d; 0, and attached to the graph, where there are none.

        Args:
            logits_BKHW: of any float type.
            labels_BHW: uint8 (B, H, W): a class, or 255 for pixels that are ignored.
            counted_B: what `counted` gave.
        """
        logits_BKHW = logits_BKHW.float()
        losses_BHW = self._of_pixels(logits_BKHW, labels_BHW)
        total = losses_BHW.sum() if self.hardest == 1 else self._hardest(losses_BHW, labels_BHW).sum()
        if self.dice:
            shares_B = counted_B.to(total.dtype)
            total = total + self.dice * (self._dice(logits_BKHW, labels_BHW) * shares_B).sum()
        return total / counted_B.sum().clamp(min=1e-6)

    def _of_pixels(self, logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
        labels = labels_BHW.long()
        weights = self._weights_on(labels.device) if self.class_weights else None
        if not self.focal_gamma:
            return F.cross_entropy(logits_BKHW, labels, weights, ignore_index=IGNORED, reduction="none")
        plain_BHW = F.cross_entropy(logits_BKHW, labels, ignore_index=IGNORED, reduction="none")
        losses_BHW = (1 - torch.exp(-plain_BHW)).clamp(min=1e-6) ** self.focal_gamma * plain_BHW
        if weights is None:
            return losses_BHW
        return losses_BHW * weights[labels.clamp(max=len(weights) - 1)]  # those of ignored pixels are 0

    def _hardest(self, losses_BHW: Tensor, labels_BHW: Tensor) -> Tensor:
        """The losses of each picture's hardest pixels, scaled so that their mean stands for all."""
        valid_BN = (labels_BHW != IGNORED).flatten(1)
        losses_BN = losses_BHW.flatten(1)
        number_B1 = valid_BN.sum(1, keepdim=True)
        kept_B1 = (number_B1 * self.hardest).ceil().clamp(min=1)
        ranked_BN = (
            losses_BN.detach().masked_fill(~valid_BN, -1.0).argsort(dim=1, descending=True, stable=True)
        )
        place_BN = torch.empty_like(ranked_BN).scatter_(
            1, ranked_BN, torch.arange(ranked_BN.shape[1], device=ranked_BN.device).expand_as(ranked_BN)
        )
        return losses_BN * ((place_BN < kept_B1) & valid_BN) * (number_B1 / kept_B1)

    def _dice(self, logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
        """1 - (2 sum(p y) + 1) / (sum(p^2) + sum(y) + 1) of labelled pixels, mean over a picture's classes.

        y is 1 or 0; the ones keep small classes from large gradients. Shape of the result: (B,).
        """
        labels_B1N = labels_BHW.flatten(1)[:, None]
        classes_K1 = torch.arange(logits_BKHW.shape[1], device=labels_BHW.device)[:, None]
        truth_BKN = labels_B1N == classes_K1  # of ignored pixels no class is
        shares_BKN = logits_BKHW.softmax(1).flatten(2) * (labels_B1N != IGNORED)
        both_BK, pixels_BK = (shares_BKN * truth_BKN).sum(2), truth_BKN.sum(2)
        sizes_BK, there_BK = shares_BKN.square().sum(2) + pixels_BK, pixels_BK > 0
        losses_BK = (1 - (2 * both_BK + 1) / (sizes_BK + 1)) * there_BK
        found_B: Tensor = losses_BK.sum(1) / there_BK.sum(1).clamp(min=1)
        return found_B

    def _weights_on(self, device: torch.device) -> Tensor:
        if device not in self._weights:  # copying them in every call would wait for the device
            self._weights[device] = torch.tensor(self.class_weights, device=device, dtype=torch.float32)
        return self._weights[device]
