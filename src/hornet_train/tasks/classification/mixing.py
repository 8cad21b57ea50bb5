"""Augmentations of a training batch, on the device: random erasing, Mixup and CutMix.

Decisions (a mixing share, a box) are drawn on the host from a generator that is passed in; pixels are
computed on the device, and nothing here waits for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hornet_train.images.layout import Box


def erase(images: Tensor, boxes: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Random erasing, mode "pixel" (arXiv 1708.04896): fill one box an image with normal noise.

    Args:
        images: float (B, C, H, W), normalised; changed in place.
        boxes: int64 (B, 4) on the same device: top, left, height, width in pixels; zeros for none.
        generator: of the noise, on the device of `images`. None: torch's global generator of that device,
            which the caller seeds by step. On a GPU as many numbers are drawn whatever the boxes are, so that
            nothing waits for it; on a CPU only what is needed.

    Returns:
        `images`.
    """
    if images.device.type == "cpu":
        for image, (y0, x0, tall, wide) in zip(images, boxes.tolist(), strict=True):
            if tall and wide:
                noise = torch.empty(tall, wide, len(image), dtype=images.dtype).normal_(generator=generator)
                image[:, y0 : y0 + tall, x0 : x0 + wide] = noise.permute(2, 0, 1)
        return images
    top, left, height, width = (column[:, None] for column in boxes.unbind(1))  # (B, 1) each
    y = torch.arange(images.shape[2], device=images.device)
    x = torch.arange(images.shape[3], device=images.device)
    rows = (y >= top) & (y < top + height)  # (B, H)
    columns = (x >= left) & (x < left + width)  # (B, W)
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    noise = torch.empty_like(images).normal_(generator=generator)
    return torch.where(inside, noise, images, out=images)


def smooth_one_hot(labels: Tensor, num_classes: int, smoothing: float = 0.1) -> Tensor:
    """Label smoothing: `smoothing / num_classes` everywhere, 1 - smoothing more at the label.

    Args:
        labels: int64 (B,), 0 <= label < num_classes.

    Returns:
        float32 (B, num_classes); each row sums to 1.
    """
    off = smoothing / num_classes
    targets = torch.full((len(labels), num_classes), off, device=labels.device)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + off)


@dataclass(frozen=True)
class Mix:
    """How one batch is mixed with itself in reverse order.

    Attributes:
        share: of each image that is its own, 0..1 (the lambda of both papers).
        box: the region that comes from the partner (CutMix); None blends all pixels (Mixup).
    """

    share: float = 1.0
    box: Box | None = None


@dataclass(frozen=True)
class Mixer:
    """Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) with label smoothing, as timm does "by batch".

    One share for the whole batch, drawn from Beta(alpha, alpha); image i is mixed with image B - 1 - i.
    CutMix cuts a box of area 1 - share at a uniform centre and corrects the share for what the border cuts
    off.

    Attributes:
        num_classes: K.
        mixup, cutmix: alpha of each; 0 turns it off. With both 0 the targets are only smoothed.
        prob: probability that a batch is mixed at all.
        switch_prob: probability of CutMix where both are on.
        smoothing: of the labels, 0..1.
    """

    num_classes: int
    mixup: float = 0.8
    cutmix: float = 1.0
    prob: float = 1.0
    switch_prob: float = 0.5
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        if self.num_classes < 1 or self.mixup < 0 or self.cutmix < 0:
            raise ValueError(f"num_classes must be >= 1, mixup and cutmix >= 0, in {self}")
        if not all(0 <= value <= 1 for value in (self.prob, self.switch_prob, self.smoothing)):
            raise ValueError(f"prob, switch_prob and smoothing are within 0..1, in {self}")

    def __call__(self, images: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw and apply.

        Args:
            images: float (B, C, H, W).
            labels: int64 (B,) on the same device.
            rng: where the decisions come from.

        Returns:
            images (B, C, H, W), as given where nothing is mixed; target probabilities, float32 (B, K).
        """
        return self.apply(images, labels, self.draw(images.shape[2], images.shape[3], rng))

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Mix:
        """The mix of one batch of images of `height` x `width` pixels."""
        if self.mixup == self.cutmix == 0 or rng.random() >= self.prob:
            return Mix()
        cut = self.cutmix > 0 and (self.mixup == 0 or rng.random() < self.switch_prob)
        alpha = self.cutmix if cut else self.mixup
        share = float(rng.beta(alpha, alpha))
        if not cut:
            return Mix(share)
        box = _cut_box(height, width, share, rng)
        return Mix(1 - box[2] * box[3] / (height * width), box)

    def apply(self, images: Tensor, labels: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
        """Mix a batch as drawn; the shapes are those of `__call__`. The input images are not changed."""
        targets = smooth_one_hot(labels, self.num_classes, self.smoothing)
        if mix.share == 1:
            return images, targets
        targets = targets * mix.share + targets.flip(0) * (1 - mix.share)
        if mix.box is None:
            return torch.lerp(images.flip(0), images, mix.share), targets
        top, left, height, width = mix.box
        rows, columns = slice(top, top + height), slice(left, left + width)
        mixed = images.clone()
        mixed[:, :, rows, columns] = images[:, :, rows, columns].flip(0)
        return mixed, targets


def _cut_box(height: int, width: int, share: float, rng: np.random.Generator) -> Box:
    """A box of the image's shape and area 1 - share about a uniform centre, cut off at the border."""
    ratio = math.sqrt(1 - share)
    box_h, box_w = int(height * ratio), int(width * ratio)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = max(0, y - box_h // 2), min(height, y + (box_h + 1) // 2)
    left, right = max(0, x - box_w // 2), min(width, x + (box_w + 1) // 2)
    return top, left, bottom - top, right - left
