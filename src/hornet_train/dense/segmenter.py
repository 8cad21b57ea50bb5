"""A segmentation model: a backbone, UperNet's head on its levels, and an auxiliary head for training."""

from __future__ import annotations

from torch import Tensor, nn

from hornet_train.dense.backbone import features_of
from hornet_train.dense.upernet import FcnHead, UperNetHead, enlarged


class Segmenter(nn.Module):
    """Classes of pixels. Names are those of the published checkpoints.

    Args:
        backbone: see `build_backbone`.
        decode_head: on all of its levels.
        auxiliary_head: on one of them, read in training alone; None for none.
        auxiliary_level: which.
    """

    def __init__(
        self,
        backbone: nn.Module,
        decode_head: UperNetHead,
        auxiliary_head: FcnHead | None = None,
        *,
        auxiliary_level: int = 2,
    ) -> None:
        super().__init__()
        self.backbone, self.decode_head, self.auxiliary_level = backbone, decode_head, auxiliary_level
        if auxiliary_head is not None:
            self.auxiliary_head = auxiliary_head

    def forward(self, images: Tensor, *, of_heads: bool = False) -> Tensor | list[Tensor]:
        """Images (B, in_chans, H, W) to logits (B, K, H, W).

        Args:
            of_heads: give what a loss is made of instead: the logits of each head, (B, K, h, w) of the size
                of its level; the decode head's come first. By way of this method, so that DDP sees it.
        """
        if of_heads:
            return self._of_heads(images)
        logits_BKhw: Tensor = self.decode_head(features_of(self.backbone, images))
        return enlarged(logits_BKhw, images.shape[2:])

    def _of_heads(self, images: Tensor) -> list[Tensor]:
        levels = features_of(self.backbone, images)
        found: list[Tensor] = [self.decode_head(levels)]
        if hasattr(self, "auxiliary_head"):
            found.append(self.auxiliary_head(levels[self.auxiliary_level]))
        return found
