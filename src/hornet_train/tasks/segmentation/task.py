"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from hornet_train.data.batch import Batch, ragged, stacked
from hornet_train.dense.segmenter import Segmenter
from hornet_train.dense.upernet import enlarged
from hornet_train.engine.task import Loss
from hornet_train.images.normalize import Normalize
from hornet_train.images.size import Size, height_width
from hornet_train.tasks.segmentation.inference import Inference
from hornet_train.tasks.segmentation.losses import PixelLoss
from hornet_train.tasks.segmentation.metrics import IGNORED
from hornet_train.tasks.segmentation.tally import Keeper, SegmentationTally

_MULTIPLE = 32  # sides of batches that are padded to their largest picture


@dataclass(frozen=True)
class Segmentation:
    """The losses of the decode head and the auxiliary head; in evaluations the metrics of `METRICS`.

    A training batch has lists of one tensor a sample, `image` uint8 (3, h, w) and `mask` uint8 (h, w), none
    larger than `size`, and `area` int64 (B,), the pixels of each. An evaluation batch has `image0`, `image1`,
    ... of its scales, and `mask`, of the size of the stored picture.

    Attributes:
        build: makes the model, with its initial weights.
        classes: K.
        normalize: of the images.
        loss_of_pixels: of the decode head and the auxiliary head alike.
        auxiliary: weight of the auxiliary head's loss.
        size: to which training images are padded, in pixels.
        black: whether padding is black, and not the mean colour, which is 0 to the model.
        pad: "crop" always pads to `size`, as published; "batch" to the largest picture of the micro-batch.
        inference: how an evaluation answers for a picture.
        channels_last: memory format of the images.
        keeper: sees every picture of an evaluation.
    """

    build: Callable[[], Segmenter]
    classes: int
    normalize: Normalize
    loss_of_pixels: PixelLoss
    auxiliary: float
    size: Size
    inference: Inference
    pad: Literal["crop", "batch"] = "crop"
    black: bool = False
    channels_last: bool = True
    keeper: Keeper | None = None

    def build_model(self) -> nn.Module:
        return self.build()

    def loss(self, model: nn.Module, batch: Batch, rng: np.random.Generator) -> Loss:
        """Parts: `loss_decode`, `loss_auxiliary`, `pixel_accuracy` (0..1, of labelled pixels) and `padding`
        (0..1, of the pixels that the model sees)."""
        del rng
        images, labels = self.padded(batch)
        areas = stacked(batch, "area")
        heads: list[Tensor] = model(images, of_heads=True)
        # the padding to a fixed size is ignored pixels like others; that to other pictures is not there
        whole = torch.full_like(areas, labels[0].numel()) if self.pad == "crop" else areas
        counted = self.loss_of_pixels.counted(labels, whole)
        maps = [enlarged(logits, labels.shape[1:]) for logits in heads]
        decode, *others = (self.loss_of_pixels(one, labels, counted) for one in maps)
        mean = decode + self.auxiliary * others[0] if others else decode
        weight = counted.sum() / float(np.prod(height_width(self.size)))
        parts = {"loss_decode": decode, **({"loss_auxiliary": others[0]} if others else {})}
        return Loss(mean, weight, {**parts, **self._shares(maps[0], labels, areas)})

    def _shares(self, logits: Tensor, labels: Tensor, areas: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            valid = labels != IGNORED
            right = (logits.detach().argmax(1) == labels) & valid
            return {
                "pixel_accuracy": right.sum() / valid.sum().clamp(min=1),
                "padding": 1 - areas.sum() / labels.numel(),
            }

    def padded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the model sees of a training batch, normalised, and the labels.

        Returns:
            Images, float (B, C, H, W), of the colour of the padding where they are padded; uint8 (B, H, W),
            255 there.
        """
        images, masks = ragged(batch, "image"), ragged(batch, "mask")
        height, width = height_width(self.size)
        if self.pad == "batch":
            height, width = (
                min(most, -(-max(one.shape[axis] for one in masks) // _MULTIPLE) * _MULTIPLE)
                for axis, most in ((0, height), (1, width))
            )
        device, number = images[0].device, len(images)
        memory = torch.channels_last if self.channels_last else torch.contiguous_format
        pixels = torch.empty((number, 3, height, width), device=device, memory_format=memory)
        colour = [-mean / std if self.black else 0.0 for mean, std in zip(*self._statistics, strict=True)]
        for channel, value in enumerate(colour):
            pixels[:, channel] = value
        labels = torch.full((number, height, width), IGNORED, dtype=torch.uint8, device=device)
        for place, (image, mask) in enumerate(zip(images, masks, strict=True)):
            tall, wide = mask.shape
            pixels[place, :, :tall, :wide] = self.normalize(image[None])[0]
            labels[place, :tall, :wide] = mask
        return pixels, labels

    @property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.normalize.mean, self.normalize.std

    def tally(self, device: torch.device) -> SegmentationTally:
        """Of `loss` (mean over labelled pixels) and `METRICS`."""
        return SegmentationTally(self.classes, self.inference, self.scales, device, self.keeper)

    def scales(self, batch: Batch, place: int) -> Sequence[Tensor]:
        """One picture of an evaluation batch as the model takes it, (1, C, h, w), at each scale."""
        memory = torch.channels_last if self.channels_last else torch.contiguous_format
        found, number = [], 0
        while f"image{number}" in batch:
            image = self.normalize(ragged(batch, f"image{number}")[place][None])
            found.append(image.contiguous(memory_format=memory))
            number += 1
        return found
