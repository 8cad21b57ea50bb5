"""Resizing of one uint8 (3, H, W) RGB image, or of what a crop leaves of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hornet_train.images.layout import Box, Interpolation, Pixels, image_of, pixels_of

_MOST_BETWEEN = 1 << 26  # pixels, between the two passes of a resize


def resize(
    image: Tensor, size: tuple[int, int], interpolation: Interpolation = "bicubic", box: Box | None = None
) -> Tensor:
    """Resize with antialiasing, on uint8 throughout.

    Args:
        image: uint8 (3, H, W).
        size: (height, width) of the result, in pixels.
        interpolation: the filter, as Pillow defines it. Rows are done first. Where Pillow does so too, all
            but a few pixels in a million are within one level; Pillow 13 does columns first where that is
            less work, and where bicubic overshoots, the order then shows in one or two pixels in a thousand.
        box: what of the image is resized, all of it if not given; nothing outside shines in.

    Returns:
        uint8 (3, height, width), channels-last in memory; `image` itself where the size is right already.
    """
    if box is None:
        if tuple(image.shape[1:]) == tuple(size):
            return image
        pixels = pixels_of(image)
        if len(pixels) * size[1] > _MOST_BETWEEN and len(pixels) > size[0]:
            # a very long column: its rows all widened first would not fit into memory
            pixels = pixels_of(_resample(pixels, (size[0], pixels.shape[1]), interpolation))
        return _resample(pixels, size, interpolation)
    top, left, height, width = box
    part = image.permute(1, 2, 0).numpy()[top : top + height, left : left + width]
    return _resample(np.ascontiguousarray(part), size, interpolation)


def resize_and_crop(
    image: Tensor, size: tuple[int, int], box: Box, interpolation: Interpolation = "bicubic"
) -> Tensor:
    """`resize`, then the pixels of a box; what is below and to the right of it is mostly not computed.

    Args:
        image: uint8 (3, H, W).
        size: (height, width) of the whole image resized, in pixels.
        box: inside of it.

    Returns:
        uint8 (3, box height, box width), channels-last in memory: bit for bit that part of the whole.
    """
    top, left, height, width = box
    pixels = pixels_of(image)
    rows = _Corner.of(len(pixels), size[0], top + height, interpolation)
    columns = _Corner.of(pixels.shape[1], size[1], left + width, interpolation)
    corner = _resample(
        pixels[: rows.read], (rows.made, columns.made), interpolation, (rows.factor, columns.factor)
    )
    kept = corner.permute(1, 2, 0).numpy()[top : top + height, left : left + width]
    return image_of(np.ascontiguousarray(kept))


@dataclass(frozen=True)
class _Corner:
    """One side of the upper left corner of a resized image, computed without the rest.

    Attributes:
        read: how many pixels of the image are read.
        made: how many of the result are made.
        factor: of the resize; None where the two numbers give it.
    """

    read: int
    made: int
    factor: float | None = None

    @classmethod
    def of(cls, length: int, size: int, needed: int, interpolation: Interpolation) -> _Corner:
        """The first `needed` of `size` pixels of a side of `length`, and more where torch would not give
        the same.

        A pixel's weights are a function of its number and of the scale, which must be length / size to the
        last bit. Torch rounds weights to a precision that the greatest of them decides: half of the pixels
        have it, as the other half's weights are theirs mirrored. Where the numbers read and made are equal,
        torch would only copy.
        """
        factor = size / length
        if length == size or 2 * needed < size or 1 / factor != length / size:
            return cls(length, size)
        radius = (2 if interpolation == "bicubic" else 1) * max(length / size, 1)
        read = min(length, int(length / size * (needed - 0.5) + radius + 0.5))
        return cls(length, size) if needed in (read, length) else cls(read, needed, factor)


_RESAMPLERS = {
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.default,
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.default,
}


def _resample(
    pixels: Pixels,
    size: tuple[int, int],
    interpolation: Interpolation,
    factors: tuple[float | None, float | None] = (None, None),
) -> Tensor:
    """(H, W, 3) to (3, h, w) by the function below `functional.interpolate`, which takes sizes or factors."""
    # channels-last also in the stride of the one image of the batch: otherwise torch's kernel rearranges the
    # pixels itself, slowly
    batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    result: Tensor = _RESAMPLERS[interpolation](batch, size, False, *factors)
    return result[0]
