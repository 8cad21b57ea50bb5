"""Resize one uint8 (3, H, W) RGB image, or a box of it.

Layout suffixes: `x_CHW` is channels, height, width; `x_HWC` has the channels last.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hornet_train.images.layout import Box, Interpolation, image_of, pixels_of

_LONGEST = 1 << 19  # pixels, for which our resampler takes some 55 MB
_MAX_INTERMEDIATE = 1 << 26  # pixels of the image between the two passes of a resize by torch


def resize(
    image_CHW: Tensor,
    size: tuple[int, int],
    interpolation: Interpolation = "bicubic",
    box: Box | None = None,
    *,
    antialias: bool = True,
) -> Tensor:
    """Resize, in uint8 throughout.

    Args:
        image_CHW: uint8 (3, H, W).
        size: (height, width) of the result, in pixels.
        interpolation: the filter, as Pillow defines it. The horizontal pass comes first. If Pillow uses this
            order too, all but a few pixels in a million are within one level of its result. Pillow 13 starts
            with the vertical pass if that is less work; where bicubic overshoots, one or two pixels in a
            thousand then differ by more.
        box: the part of the image that is resized; default: all of it. Pixels outside have no influence.
        antialias: False makes each pixel of four neighbours alone, also where an image shrinks, as the
            published recipes of dense tasks do: within one level of OpenCV. Bilinear alone.

    Returns:
        uint8 (3, height, width), channels-last in memory; `image_CHW` itself if it has that size already.
    """
    if box is None:
        if tuple(image_CHW.shape[1:]) == tuple(size):
            return image_CHW
        box = (0, 0, *image_CHW.shape[1:])
    return _resample(image_CHW, box, size, (0, 0, *size), interpolation, antialias)


def resize_and_crop(
    image_CHW: Tensor,
    size: tuple[int, int],
    box: Box,
    interpolation: Interpolation = "bicubic",
    *,
    antialias: bool = True,
) -> Tensor:
    """`resize`, then crop to a box, without computing the rest (but for strips of extreme length).

    Args:
        image_CHW: uint8 (3, H, W).
        size: (height, width) of the complete resized image, in pixels.
        box: in the resized image.
        antialias: as of `resize`.

    Returns:
        uint8 (3, box height, box width), channels-last in memory: bit for bit that part of the
        complete resized image.
    """
    return _resample(image_CHW, (0, 0, *image_CHW.shape[1:]), size, box, interpolation, antialias)


def load_loops() -> None:
    """Compile and load what these functions need now: processes forked later share it."""
    resize(torch.zeros(3, 2, 2, dtype=torch.uint8), (3, 3))


def _resample(
    image_CHW: Tensor,
    box: Box,
    size: tuple[int, int],
    part: Box,
    interpolation: Interpolation,
    antialias: bool,
) -> Tensor:
    """This part of a box of the image that is resized to a size."""
    _check(image_CHW, box, size, part)
    if interpolation == "bicubic" and not antialias:
        raise ValueError("bicubic resizing is antialiased: antialias=False is for bilinear")
    top, left, height, width = box
    if max(width, height * size[1] // size[0]) > _LONGEST:
        resampler = _RESAMPLERS[interpolation if antialias else "plain"]
        whole_CHW = _strip(image_CHW[:, top : top + height, left : left + width], size, resampler)
        top, left, height, width = part
        cut_HWC = whole_CHW[:, top : top + height, left : left + width].permute(1, 2, 0)
        return cut_HWC.contiguous().permute(2, 0, 1)
    # here, as it imports numba, which takes a second
    from hornet_train.images.resample import resample

    cubic = interpolation == "bicubic"
    return image_of(resample(pixels_of(image_CHW), box, size, part, cubic=cubic, antialias=antialias))


def _check(image_CHW: Tensor, box: Box, size: tuple[int, int], part: Box) -> None:
    """Raises ValueError before the loops read or write past the end of something."""
    channels, *sides = image_CHW.shape
    if image_CHW.dtype != torch.uint8 or channels != 3:
        raise ValueError(f"an image to resize is uint8 (3, H, W), not {image_CHW.dtype} {(channels, *sides)}")
    for inner, outer, what in ((box, sides, "an image"), (part, size, "a resized image")):
        (top, left, height, width), (tall, wide) = inner, outer
        if min(top, left) < 0 or min(height, width) < 1 or top + height > tall or left + width > wide:
            raise ValueError(
                f"{what} of {tall} x {wide} pixels has no box (top, left, height, width) {inner}"
            )


_RESAMPLERS = {
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.default,
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.default,
    "plain": torch.ops.aten.upsample_bilinear2d.default,
}


def _strip(image_CHW: Tensor, size: tuple[int, int], resampler: Callable[..., Tensor]) -> Tensor:
    """(3, H, W) to (3, h, w) by torch's function, which takes less memory for what is very long.

    Its columns come first where what is between the passes would fill a memory.
    """
    (height, width), steps = image_CHW.shape[1:], [size]
    if height * size[1] > _MAX_INTERMEDIATE and height > size[0]:
        steps.insert(0, (size[0], width))
    for step in steps:
        # as a batch, so that also its batch stride is that of channels-last memory
        batch_BCHW = torch.from_numpy(pixels_of(image_CHW))[None].permute(0, 3, 1, 2)
        image_CHW = resampler(batch_BCHW, step, False)[0]
    return image_CHW
