"""From a decoded picture and its mask to what a model sees, for training and for evaluation.

Training draws everything from the generator it is given, in a fixed order: scale, box (up to ten times),
flip, policies. One draw holds for picture and mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hornet_train.images.geometry import Scale, scaled_size
from hornet_train.images.layout import Box, image_of, pixels_of
from hornet_train.images.policies import Policy
from hornet_train.images.resize import resize, resize_and_crop
from hornet_train.images.size import Size, height_width
from hornet_train.tasks.segmentation.metrics import IGNORED

_TRIES = 10  # boxes looked at until none of the classes has too large a share; one more is taken as it is


@dataclass(frozen=True)
class TrainTransform:
    """Random scale, crop and flip, and policies for the picture's colours.

    Attributes:
        crop: at most so many pixels of the result; a side of a smaller picture stays as it is.
        scale: of the picture at ratio 1.
        ratio: smallest and largest random factor of that.
        cat_max_ratio: a crop in which one class has a larger share of the labelled pixels, or in which there
            is but one class, is drawn again; 1 takes the first.
        hflip: probability of a mirror image.
        policies: change colours alone.
        antialias: of the picture when it shrinks; the published recipes do without.
    """

    crop: Size
    scale: Scale | None = None
    ratio: tuple[float, float] = (0.5, 2.0)
    cat_max_ratio: float = 0.75
    hflip: float = 0.5
    policies: tuple[Policy, ...] = ()
    antialias: bool = False

    def __call__(self, image_CHW: Tensor, mask_HW: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Transform a picture with its mask.

        Args:
            image_CHW: uint8 (3, H, W).
            mask_HW: uint8 (H, W), `IGNORED` where there is no label.
            rng: where every decision comes from.

        Returns:
            uint8 (3, h, w), channels-last in memory, and uint8 (h, w), each side at most that of `crop`.
        """
        height, width = mask_HW.shape
        size = scaled_size((height, width), self.scale, rng.uniform(*self.ratio))
        # nearest, as OpenCV has it: no class is mixed from two others
        rows = torch.arange(size[0]) * height // size[0]
        columns = torch.arange(size[1]) * width // size[1]
        cut_HW, box = self._cut(mask_HW, rows, columns, rng)
        cut_CHW = resize_and_crop(image_CHW, size, box, "bilinear", antialias=self.antialias)
        if rng.random() < self.hflip:
            cut_CHW, cut_HW = cut_CHW.flip(2), cut_HW.flip(1)
        for policy in self.policies:
            cut_CHW = policy(cut_CHW, rng)
        return image_of(pixels_of(cut_CHW)), cut_HW.contiguous()

    def _cut(
        self, mask_HW: Tensor, rows: Tensor, columns: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Box]:
        """A random box of the resized mask, and where it is: (top, left, height, width).

        Args:
            rows, columns: which of the mask's each of the resized one's is.
        """
        tall, wide = (
            min(a, b) for a, b in zip(height_width(self.crop), (len(rows), len(columns)), strict=True)
        )
        for attempt in range(_TRIES + 1):
            top = int(rng.integers(len(rows) - tall + 1))
            left = int(rng.integers(len(columns) - wide + 1))
            cut_HW = mask_HW[rows[top : top + tall, None], columns[left : left + wide]]
            if self.cat_max_ratio >= 1 or attempt == _TRIES:
                break
            counts = torch.bincount(cut_HW.flatten(), minlength=IGNORED + 1)[:IGNORED]
            if int((counts > 0).sum()) > 1 and int(counts.max()) < self.cat_max_ratio * int(counts.sum()):
                break
        return cut_HW, (top, left, tall, wide)


@dataclass(frozen=True)
class EvalTransform:
    """A picture at each of the scales that an evaluation asks for.

    Attributes:
        scale: of the picture at ratio 1; None for its own size.
        ratios: factors of that.
        smallest: pixels that a side has at least.
        antialias: see `TrainTransform`.
    """

    scale: Scale | None = None
    ratios: tuple[float, ...] = (1.0,)
    smallest: int = 32
    antialias: bool = False

    def too_small(self, size: tuple[int, int]) -> str | None:
        """What is wrong with a picture of (height, width) pixels that has too few at some scale."""
        for ratio in self.ratios:
            height, width = scaled_size(size, self.scale, ratio)
            if min(height, width) < self.smallest:
                resized = "" if (height, width) == size else f", {height}x{width} when resized"
                return f"{size[0]}x{size[1]} pixels{resized}: the model takes {self.smallest} a side at least"
        return None

    def __call__(self, image_CHW: Tensor) -> list[Tensor]:
        """uint8 (3, H, W) to a list of uint8 (3, h, w), channels-last in memory."""
        height, width = image_CHW.shape[1:]
        found = []
        for ratio in self.ratios:
            size = scaled_size((height, width), self.scale, ratio)
            resized_CHW = resize(image_CHW, size, "bilinear", antialias=self.antialias)
            found.append(image_of(pixels_of(resized_CHW)))
        return found
