"""What a model says of every pixel of an image: of the whole at once, or window by window.

Layout suffixes: `x_BCHW` is batch, channels, height, width; K is the number of classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hornet_train.images.layout import Box
from hornet_train.images.size import Size, height_width

Model = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> logits (B, K, H, W)

_TOGETHER = 4  # windows of an image that go through the model at once


def windows(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> list[Box]:
    """Windows that cover an image, row by row: (top, left, height, width) each.

    The last ones of a row and of a column are moved back so as to end with the image. A side that is shorter
    than a window has windows of its own length.

    Args:
        size: of the image, (height, width) in pixels.
        window, stride: of the windows, (height, width) in pixels.
    """
    tops, lefts = (
        [max(min(start + side, whole) - side, 0) for start in range(0, max(whole - side, 0) + step, step)]
        if whole > side
        else [0]
        for whole, side, step in zip(size, window, stride, strict=True)
    )
    height, width = min(size[0], window[0]), min(size[1], window[1])
    return [(top, left, height, width) for top in tops for left in lefts]


@dataclass(frozen=True)
class Windows:
    """How images go through a model.

    Attributes:
        size: of a window, in pixels; None for the whole image.
        stride: between windows, in pixels, rows and columns alike; None: two thirds of a window.
    """

    size: Size | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        if self.size is None:
            return
        sides = height_width(self.size)
        if min(sides) < 1 or not all(1 <= step <= side for step, side in zip(self.steps, sides, strict=True)):
            raise ValueError(f"a stride is from 1 up to the window's side, not {self}")

    @property
    def steps(self) -> tuple[int, int]:
        """The stride along rows and columns, in pixels."""
        assert self.size is not None
        height, width = (side * 2 // 3 for side in height_width(self.size))
        return (max(1, height), max(1, width)) if self.stride is None else (self.stride, self.stride)

    def logits(self, model: Model, image_1CHW: Tensor) -> Tensor:
        """Logits (1, K, H, W) of one image: where windows overlap, the mean of their logits.

        Windows go through the model a few at a time, always the same ones together, so that results do not
        depend on what else is evaluated.
        """
        if self.size is None:
            return model(image_1CHW)
        height, width = image_1CHW.shape[2:]
        boxes = windows((height, width), height_width(self.size), self.steps)
        if len(boxes) == 1:
            return model(image_1CHW)
        total: Tensor | None = None
        times = image_1CHW.new_zeros((1, 1, *image_1CHW.shape[2:]), dtype=torch.float32)
        for box, logits_KHW in _each(model, image_1CHW, boxes):
            top, left, height, width = box
            if total is None:
                total = logits_KHW.new_zeros((1, len(logits_KHW), *image_1CHW.shape[2:]), dtype=torch.float32)
            total[0, :, top : top + height, left : left + width] += logits_KHW
            times[:, :, top : top + height, left : left + width] += 1
        assert total is not None
        return total / times


def _each(model: Model, image_1CHW: Tensor, boxes: list[Box]) -> Iterator[tuple[Box, Tensor]]:
    """Each window with its logits (K, H, W)."""
    for first in range(0, len(boxes), _TOGETHER):
        some = boxes[first : first + _TOGETHER]
        parts = [image_1CHW[:, :, top : top + h, left : left + w] for top, left, h, w in some]
        memory = torch.channels_last if image_1CHW.is_contiguous(memory_format=torch.channels_last) else None
        batch = torch.cat(parts)
        if memory is not None:
            batch = batch.contiguous(memory_format=memory)
        yield from zip(some, model(batch).float(), strict=True)
