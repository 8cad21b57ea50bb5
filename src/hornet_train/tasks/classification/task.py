"""Image classification: one label an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornet_train.data.batch import Batch, stacked
from hornet_train.engine.tally import SumTally
from hornet_train.engine.task import Loss
from hornet_train.images.luma import luma
from hornet_train.images.normalize import Normalize
from hornet_train.models.spec import ModelSpec
from hornet_train.tasks.asked import view_names
from hornet_train.tasks.classification.metrics import topk_correct
from hornet_train.tasks.classification.mixing import Mixer, erase


class _Headed(Protocol):
    """How timm's models are called by halves."""

    def forward_features(self, x: Tensor) -> Tensor: ...
    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor: ...


@dataclass(frozen=True)
class Classification:
    """Cross-entropy against smoothed and mixed targets; top-1, top-5 and the plain loss in evaluation.

    A training batch has `image` uint8 (B, 3, H, W), `label` int64 (B,) and `erase` int64 (B, 4); an
    evaluation batch the first two. A model of one channel sees their luma. In an evaluation `label` may be
    int64 (B, K), padded with -1: any of them is right.

    Attributes:
        rows: int64 (classes,): which output of the model each label of an evaluation means. Prediction and
            loss are then among these outputs alone, as if the model had no others. None: all, in their order.
    """

    model: ModelSpec
    normalize: Normalize
    mixer: Mixer
    erasing: bool
    rows: Tensor | None = None

    def build_model(self) -> nn.Module:
        return self.model.build()

    def loss(self, model: nn.Module, batch: Batch, rng: np.random.Generator) -> Loss:
        images, targets = self.prepared(batch, rng)
        return Loss(F.cross_entropy(model(images).float(), targets))

    def prepared(self, batch: Batch, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """What the model sees of a training batch, normalised, erased and mixed, and what it should answer.

        Returns:
            Images, float (B, C, H, W), C being the model's; target probabilities, float32 (B, classes).
        """
        images = self.images(batch)
        if self.erasing:
            images = erase(images, stacked(batch, "erase"))
        return self.mixer(images, stacked(batch, "label"), rng)

    def tally(self, device: torch.device) -> SumTally:
        """Of `loss` (mean), `top1` and `top5` (per cent)."""
        return SumTally("loss", "top1", "top5", measure=self._sums, metrics=_means, device=device)

    def _sums(self, model: nn.Module, batch: Batch) -> dict[str, Tensor | int]:
        """Sums over a batch: `count`, `loss`, and how many have a right label first or among the first five.

        The loss of an image is -log of the probability of its label, or of its labels together.
        """
        logits, labels = model(self.images(batch)).float(), stacked(batch, "label")
        if self.rows is not None:
            logits = logits.index_select(1, self.rows.to(logits.device))
        if labels.ndim == 1:
            loss = F.cross_entropy(logits, labels, reduction="sum")
        else:
            logs = logits.log_softmax(dim=1).gather(1, labels.clamp(min=0))
            loss = -logs.masked_fill(labels < 0, -torch.inf).logsumexp(dim=1).sum()
        return {"count": len(labels), "loss": loss, **topk_correct(logits, labels, (1, 5))}

    def probabilities(self, model: nn.Module, batch: Batch, *, flip: bool = False) -> Tensor:
        """Of each class for each image, float32 (B, classes); of several views the mean.

        `flip`: whether the mirror images are views, too.
        """
        found = [torch.softmax(model(one).float(), dim=1) for one in self._views(batch, flip=flip)]
        return torch.stack(found).mean(dim=0)

    def with_features(self, model: nn.Module, batch: Batch, *, flip: bool = False) -> tuple[Tensor, Tensor]:
        """The probabilities, and of each image what the model's last layer sees, float32 (B, C); of several
        views the means.

        `model`: HorNet, or one of timm's.
        """
        whole = cast("_Headed", model)
        probabilities, features = [], []
        for images in self._views(batch, flip=flip):
            maps = whole.forward_features(images)
            features.append(whole.forward_head(maps, pre_logits=True).float())
            probabilities.append(torch.softmax(whole.forward_head(maps).float(), dim=1))
        return torch.stack(probabilities).mean(dim=0), torch.stack(features).mean(dim=0)

    def _views(self, batch: Batch, *, flip: bool) -> Iterator[Tensor]:
        for name in view_names(batch):
            images = self.images(batch, name)
            yield images
            if flip:
                yield images.flip(3)

    def images(self, batch: Batch, name: str = "image") -> Tensor:
        """What the model sees of a batch, or of one of its views: normalised, float (B, C, H, W)."""
        pixels = stacked(batch, name)
        images = self.normalize(luma(pixels) if self.model.in_chans == 1 else pixels)
        wanted = torch.channels_last if self.model.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=wanted)  # they come channels-last


def _means(sums: Mapping[str, float]) -> dict[str, float]:
    """`loss` (mean), `top1` and `top5` (per cent)."""
    return {
        "loss": sums["loss"] / sums["count"],
        "top1": 100.0 * sums["top1"] / sums["count"],
        "top5": 100.0 * sums["top5"] / sums["count"],
    }
