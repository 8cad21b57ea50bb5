"""From a decoded image to the uint8 pixels that a model sees, for training and for evaluation.

Training draws everything from the generator it is given, in a fixed order: crop, flip, erase box,
policies. The result is a function of image and generator alone. Pixels stay uint8 here; normalisation and
the filling of the erase box happen on the device (`mixing`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hornet_train.images.layout import Interpolation, image_of, pixels_of
from hornet_train.images.policies import Policy
from hornet_train.images.random_boxes import random_erase_box, random_resized_crop_box
from hornet_train.images.resize import load_loops, resize, resize_and_crop
from hornet_train.images.size import WARP_FROM, Size, height_width, size_of

_LONGEST = 32  # times as long as wide
_WARM_UP = 100  # images after which each of a policy's operations has most likely come up


@dataclass(frozen=True)
class Growth:
    """Progressive resizing: the image size as a function of the epoch.

    Attributes:
        start: size in the first epoch, in pixels.
        end: size from `epochs` on.
        epochs: in which each side grows, in equal parts.
        multiple: sides between are rounded down to a multiple of this.
    """

    start: Size
    end: Size
    epochs: float
    multiple: int = 32

    def __post_init__(self) -> None:
        sides = zip(height_width(self.start), height_width(self.end), strict=True)
        rise = all(1 <= start <= end for start, end in sides)
        if not rise or self.multiple < 1 or not self.epochs > 0:
            raise ValueError(f"sizes rise from 1 pixel or more within more than 0 epochs, not {self}")

    def __call__(self, epoch: int) -> Size:
        """The size in an epoch, 0 being the first; never below `start`."""
        if epoch >= self.epochs:
            return self.end
        (height, width), (last_height, last_width) = height_width(self.start), height_width(self.end)
        return size_of(self._side(height, last_height, epoch), self._side(width, last_width, epoch))

    def _side(self, start: int, end: int, epoch: int) -> int:
        side = start + (end - start) * epoch / self.epochs
        return max(start, int(side) // self.multiple * self.multiple)


@dataclass(frozen=True)
class TrainTransform:
    """Random resized crop, flip, augmentation policies, and the box of random erasing.

    Attributes:
        image_size: of the result, in pixels.
        scale, ratio: of the random box, which is stretched to the result; see `random_resized_crop_box`.
        hflip: probability of a horizontal flip.
        interpolation: of the resize.
        policies: applied one after the other; each draws after the erase box.
        erase_prob: probability of an erase box.
        growth: in place of `image_size`, the size of each epoch; None for one size.
    """

    image_size: Size
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    interpolation: Interpolation = "bicubic"
    policies: tuple[Policy, ...] = ()
    erase_prob: float = 0.0
    growth: Growth | None = None

    def __post_init__(self) -> None:
        if min(height_width(self.image_size)) < 1:
            raise ValueError(f"image_size must be >= 1, not {self.image_size}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(
                f"scale must rise within 0..1 and ratio above 0, not {self.scale} and {self.ratio}"
            )
        if not 0 <= self.hflip <= 1 or not 0 <= self.erase_prob <= 1:
            raise ValueError(f"hflip and erase_prob are within 0..1, not {self.hflip} and {self.erase_prob}")

    def __call__(self, image: Tensor, rng: np.random.Generator, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Transform one image.

        Args:
            image: uint8 (3, H, W), any size.
            rng: where every decision comes from.
            epoch: on which the size depends where images grow, and nothing else.

        Returns:
            The image, uint8 (3, height, width), channels-last in memory; and the erase box, int64 (4,): top,
            left, height, width, zeros for none.
        """
        crop = random_resized_crop_box(image.shape[1], image.shape[2], rng, self.scale, self.ratio)
        size = height_width(self.image_size if self.growth is None else self.growth(epoch))
        image = resize(image, size, self.interpolation, crop)
        if rng.random() < self.hflip:
            image = image.flip(2)
        box = (0, 0, 0, 0)
        if rng.random() < self.erase_prob:
            box = random_erase_box(*size, rng)
        for policy in self.policies:
            image = policy(image, rng)
        return image_of(pixels_of(image)), torch.from_numpy(np.array(box, dtype=np.int64))

    def warm_up(self) -> None:
        """Compile and load what a transform needs now: processes forked later share it."""
        load_loops()
        image, rng = torch.zeros(3, 8, 8, dtype=torch.uint8), np.random.default_rng(0)
        for policy in self.policies:
            for _ in range(_WARM_UP):
                policy(image, rng)


@dataclass(frozen=True)
class EvalTransform:
    """The paper's evaluation: below 384 pixels resize and crop the centre, from 384 on warp the whole image.

    So with squares. Below: the short side becomes int(image_size / crop_pct), aspect ratio kept, then the
    central square. At 224 with 0.875 that is 256, then 224. From 384 on the image is warped to the square and
    nothing is cut away.

    Other shapes, also from 384 on, by timm's rule: the image becomes, aspect ratio kept, the smallest that
    covers int(height / crop_pct) x int(width / crop_pct); then the centre.

    Attributes:
        image_size: of the result, in pixels.
        crop_pct: the result's share of the resized, above 0 and at most 1. Unused for squares from 384 on.
        interpolation: of the resize.
    """

    image_size: Size
    crop_pct: float = 0.875
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if min(height_width(self.image_size)) < 1 or not 0 < self.crop_pct <= 1:
            raise ValueError(
                f"image_size must be >= 1 and crop_pct in (0, 1], not {self.image_size}, {self.crop_pct}"
            )

    def __call__(self, image: Tensor) -> Tensor:
        """uint8 (3, H, W) of any size to uint8 (3, height, width), channels-last in memory."""
        tall, wide = height_width(self.image_size)
        if tall == wide >= WARP_FROM:
            return image_of(pixels_of(resize(image, (tall, wide), self.interpolation)))
        image, (height, width) = self._covering(image)
        top, left = round((height - tall) / 2), round((width - wide) / 2)
        return resize_and_crop(image, (height, width), (top, left, tall, wide), self.interpolation)

    def five(self, image: Tensor) -> list[Tensor]:
        """The middle and the corners, each as `__call__` gives one, of squares from 384 pixels on too."""
        image, (height, width) = self._covering(image)
        tall, wide = height_width(self.image_size)
        below, right = height - tall, width - wide
        corners = [(0, 0), (0, right), (below, 0), (below, right)]
        places = [(round(below / 2), round(right / 2)), *corners]
        return [
            resize_and_crop(image, (height, width), (top, left, tall, wide), self.interpolation)
            for top, left in places
        ]

    def _covering(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """What is looked at of an image, and the (height, width) it is resized to before it is cropped."""
        tall, wide = height_width(self.image_size)
        image = _central(image, max(tall, wide) / min(tall, wide))
        height, width = image.shape[1:]
        if tall == wide:
            short = int(tall / self.crop_pct)
            if height <= width:
                height, width = short, int(short * width / height)
            else:
                height, width = int(short * height / width), short
        else:
            shrink = min(height / int(tall / self.crop_pct), width / int(wide / self.crop_pct))
            height, width = round(height / shrink), round(width / shrink)
        return image, (height, width)


def _central(image: Tensor, elongation: float) -> Tensor:
    """The middle of a strip, of which no more is seen; scaled as a whole, one of a few kB fills a memory.

    `elongation`: of what is to be seen, its long side over its short one.
    """
    height, width = image.shape[1:]
    most = int(_LONGEST * elongation) * min(height, width)
    top, left = max(0, height - most) // 2, max(0, width - most) // 2
    return image[:, top : top + most, left : left + most]
