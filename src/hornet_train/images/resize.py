"""Resize one uint8 (3, H, W) RGB image, or a box of it.

Layout suffixes: `x_CHW` is channels, height, width; `x_HWC` has the channels last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hornet_train.images.layout import Box, Interpolation, Pixels, image_of, pixels_of

_MAX_INTERMEDIATE = 1 << 26  # pixels of the image between the two passes of a resize


def resize(
    image_CHW: Tensor, size: tuple[int, int], interpolation: Interpolation = "bicubic", box: Box | None = None
) -> Tensor:
    """Resize with antialiasing, in uint8 throughout.

    Args:
        image_CHW: uint8 (3, H, W).
        size: (height, width) of the result, in pixels.
        interpolation: the filter, as Pillow defines it. The horizontal pass comes first. If Pillow uses this
            order too, all but a few pixels in a million are within one level of its result. Pillow 13 starts
            with the vertical pass if that is less work; where bicubic overshoots, one or two pixels in a
            thousand then differ by more.
        box: the part of the image that is resized; default: all of it. Pixels outside have no influence.

    Returns:
        uint8 (3, height, width), channels-last in memory; `image_CHW` itself if it has that size already.
    """
    if box is None:
        if tuple(image_CHW.shape[1:]) == tuple(size):
            return image_CHW
        pixels_HWC = pixels_of(image_CHW)
        if len(pixels_HWC) * size[1] > _MAX_INTERMEDIATE and len(pixels_HWC) > size[0]:
            # a very tall image: its horizontal pass first would not fit into memory
            pixels_HWC = pixels_of(_resample(pixels_HWC, (size[0], pixels_HWC.shape[1]), interpolation))
        return _resample(pixels_HWC, size, interpolation)
    top, left, height, width = box
    part_HWC = image_CHW.permute(1, 2, 0).numpy()[top : top + height, left : left + width]
    return _resample(np.ascontiguousarray(part_HWC), size, interpolation)


def resize_and_crop(
    image_CHW: Tensor, size: tuple[int, int], box: Box, interpolation: Interpolation = "bicubic"
) -> Tensor:
    """`resize`, then crop to a box; most of what lies below and to the right of the box is not computed.

    Args:
        image_CHW: uint8 (3, H, W).
        size: (height, width) of the complete resized image, in pixels.
        box: in the resized image.

    Returns:
        uint8 (3, box height, box width), channels-last in memory: bit for bit that part of the
        complete resized image.
    """
    top, left, height, width = box
    pixels_HWC = pixels_of(image_CHW)
    rows = _Corner.of(len(pixels_HWC), size[0], top + height, interpolation)
    columns = _Corner.of(pixels_HWC.shape[1], size[1], left + width, interpolation)
    corner_CHW = _resample(
        pixels_HWC[: rows.pixels_in],
        (rows.pixels_out, columns.pixels_out),
        interpolation,
        (rows.factor, columns.factor),
    )
    cropped_HWC = corner_CHW.permute(1, 2, 0).numpy()[top : top + height, left : left + width]
    return image_of(np.ascontiguousarray(cropped_HWC))


def resize_plain(image_CHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear without antialiasing, within one level of OpenCV's: each pixel from four neighbours alone.

    As the published recipes of dense tasks resize. An image that shrinks differs from `resize` by levels.

    Args:
        image_CHW: uint8 (3, H, W).
        size: (height, width) of the result, in pixels.

    Returns:
        uint8 (3, height, width), channels-last in memory.
    """
    batch_BCHW = torch.from_numpy(pixels_of(image_CHW))[None].permute(0, 3, 1, 2)
    return torch.ops.aten.upsample_bilinear2d.default(batch_BCHW, size, False)[0]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Corner:
    """Along one axis, how to compute the upper left corner of a resized image without the rest.

    Attributes:
        pixels_in: number of pixels of the image that are read.
        pixels_out: number of pixels of the result that are computed.
        factor: of the resize; None if it is `pixels_out / pixels_in`.
    """

    pixels_in: int
    pixels_out: int
    factor: float | None = None

    @classmethod
    def of(cls, length: int, size: int, needed: int, interpolation: Interpolation) -> _Corner:
        """The corner with the first `needed` of `size` pixels of a side of `length`.

        All pixels are computed where torch would otherwise give other values. The weights of a pixel are a
        function of its position and of the scale, which must be length / size to the last bit. Torch rounds
        weights to a precision that depends on the greatest weight; that weight occurs in the first half of
        the pixels, since the weights of the other half are the same mirrored. If `pixels_in` and `pixels_out`
        were equal, torch would only copy.
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
    pixels_HWC: Pixels,
    size: tuple[int, int],
    interpolation: Interpolation,
    factors: tuple[float | None, float | None] = (None, None),
) -> Tensor:
    """(H, W, 3) to (3, h, w) by the function that `functional.interpolate` calls.

    That one takes a size and factors; `interpolate` takes either.
    """
    # permuted as a batch, so that also its batch stride is that of channels-last memory: otherwise torch's
    # kernel copies the pixels into that layout itself, slowly
    batch_BCHW = torch.from_numpy(pixels_HWC)[None].permute(0, 3, 1, 2)
    result_BCHW: Tensor = _RESAMPLERS[interpolation](batch_BCHW, size, False, *factors)
    return result_BCHW[0]
