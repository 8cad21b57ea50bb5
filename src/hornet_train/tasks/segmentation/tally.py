"""The tally of an evaluation: counts of pixels, the same whatever the batches and processes are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from hornet_train.data.batch import Batch, ragged, size, stacked
from hornet_train.engine.distributed import World
from hornet_train.tasks.segmentation.boundaries import boundary_counts, mean_boundary_iou
from hornet_train.tasks.segmentation.inference import Inference
from hornet_train.tasks.segmentation.metrics import IGNORED, confusion, means


class Keeper(Protocol):
    """Is given each picture of an evaluation with the answer to it: saves masks, draws the worst."""

    def __call__(self, index: int, labels_HW: Tensor, predicted_HW: Tensor, counts: Tensor) -> None:
        """Sample `index`, its labels and the classes predicted, uint8 (H, W), and the picture's confusion."""

    def merge(self, world: World, counts: Tensor, boundaries: Tensor) -> None:
        """Become that of all ranks, on every rank; `counts` and `boundaries` are of all pictures."""


class SegmentationTally:
    """Sums over pixels, on the device, in integers but for the loss. See `Tally`.

    Args:
        classes: K.
        inference: how a picture is answered for.
        images: (batch, place in it) -> the picture at each scale, as the model takes it, (1, C, h, w).
        device: where the sums are stored.
        keeper: sees every picture; None for nobody.
    """

    def __init__(
        self,
        classes: int,
        inference: Inference,
        images: Callable[[Batch, int], Sequence[Tensor]],
        device: torch.device,
        keeper: Keeper | None = None,
    ) -> None:
        self._inference, self._images, self._keeper = inference, images, keeper
        self.counts = torch.zeros(classes + 1, classes, dtype=torch.int64, device=device)
        self.boundaries = torch.zeros(3, classes, dtype=torch.int64, device=device)
        self._loss = torch.zeros(2, dtype=torch.float64, device=device)  # its sum over pixels, their number
        self.count = 0

    def update(self, model: nn.Module, batch: Batch) -> None:
        """See `Tally`. Each picture goes through the model on its own, so that it has one answer."""
        for place in range(size(batch)):
            labels_HW = ragged(batch, "mask")[place]
            size_of_picture = (int(labels_HW.shape[0]), int(labels_HW.shape[1]))
            answer = self._inference.answer(model, self._images(batch, place), size_of_picture)
            predicted_HW = self._predict(answer, labels_HW)
            counts = confusion(labels_HW, predicted_HW, self.counts.shape[1])
            self.counts += counts
            self.boundaries += boundary_counts(labels_HW, predicted_HW, self.counts.shape[1])
            if self._keeper is not None:
                index = int(stacked(batch, "index")[place])
                self._keeper(index, labels_HW.cpu(), predicted_HW.cpu(), counts.cpu())
            self.count += 1

    def _predict(self, answer: Tensor, labels_HW: Tensor) -> Tensor:
        """The classes of the pixels, uint8 (H, W); their loss is added up."""
        classes, found = self.counts.shape[1], []
        height, width = labels_HW.shape
        for top, shares_KRW in self._inference.strips(answer, (height, width)):
            labels = labels_HW[top : top + shares_KRW.shape[1]].long()
            known = (labels != IGNORED) & (labels < classes)
            losses = -shares_KRW.gather(0, (labels * known)[None])[0]
            self._loss[0] += torch.where(known, losses, 0.0).sum(dtype=torch.float64)
            self._loss[1] += known.sum()
            found.append(shares_KRW.argmax(0).to(torch.uint8))
        return torch.cat(found)

    def merge(self, world: World) -> None:
        """See `Tally`."""
        number = torch.tensor(self.count, device=self.counts.device)
        for one in (self.counts, self.boundaries, self._loss, number):
            world.all_reduce(one)
        self.count = int(number)
        if self._keeper is not None:
            self._keeper.merge(world, self.counts, self.boundaries)

    def result(self) -> dict[str, float]:
        """`loss` (mean over labelled pixels), and the metrics in per cent."""
        total, pixels = self._loss.tolist()
        loss = total / pixels if pixels else float("nan")
        return {"loss": loss, **means(self.counts), "boundary_iou": mean_boundary_iou(self.boundaries)}
