"""Operations on one uint8 (3, H, W) RGB image, each the counterpart of one of Pillow's.

Inside they are numpy's, on (H, W, 3) arrays: where the images are small, its integer arithmetic and its casts
are several times faster than torch's. That is the layout that `decode` and `resize` give; another one is
copied into it first. No operation changes the image it is given.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

Interpolation = Literal["bilinear", "bicubic"]
Box = tuple[int, int, int, int]  # top, left, height, width, in pixels
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def pixels_of(image: Tensor) -> Pixels:
    """uint8 (3, H, W) as a contiguous (H, W, 3) array: a view where memory has that order, else a copy."""
    return image.permute(1, 2, 0).contiguous().numpy()


def image_of(pixels: Pixels) -> Tensor:
    """uint8 (H, W, 3) as a (3, H, W) tensor on the same, writable memory."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def resize(image: Tensor, size: tuple[int, int], interpolation: Interpolation = "bicubic") -> Tensor:
    """Resize with antialiasing, on uint8 throughout.

    Args:
        image: uint8 (3, H, W).
        size: (height, width) of the result, in pixels.
        interpolation: the filter, as Pillow defines it. Rows are done first. Where Pillow does so too, all
            but a few pixels in a million are within one level; Pillow 13 does columns first where that is
            less work, and where bicubic overshoots, the order then shows in one or two pixels in a thousand.

    Returns:
        uint8 (3, height, width), channels-last in memory; `image` itself where the size is right already.
    """
    if tuple(image.shape[1:]) == tuple(size):
        return image
    # without gaps, and channels-last also in the stride of the one image of the batch: otherwise torch's
    # kernel rearranges the pixels itself, slowly
    batch = torch.from_numpy(pixels_of(image))[None].permute(0, 3, 1, 2)
    return functional.interpolate(batch, list(size), mode=interpolation, antialias=True)[0]


def look_up(image: Tensor, table: np.ndarray[Any, Any]) -> Tensor:
    """Replace every value v by `table[v]`, or value v of channel c by `table[c, v]`.

    Args:
        image: uint8 (3, H, W).
        table: (256,) or (3, 256), values 0..255 of any type; they are truncated to uint8.
    """
    pixels, table = pixels_of(image), table.astype(np.uint8)
    if table.ndim == 1:  # bytes.translate is numpy's indexing at twice the speed
        mapped = np.frombuffer(bytearray(pixels).translate(table.tobytes()), np.uint8)
    else:
        rows = pixels.reshape(len(pixels), -1)  # numpy is slow at dimensions of three
        places = rows + np.tile(np.array([0, 256, 512], dtype=np.uint16), pixels.shape[1])
        mapped = table.reshape(-1).take(places)
    return image_of(mapped.reshape(pixels.shape))


_LEVELS = np.arange(256, dtype=np.float64)


def auto_contrast(image: Tensor) -> Tensor:
    """Stretch each channel to 0..255; a channel of one value stays."""
    pixels = pixels_of(image)
    low, high = _of_channels(np.min, pixels), _of_channels(np.max, pixels)
    varied = high > low
    scale = 255.0 / np.where(varied, high - low, 1.0)
    tables = np.clip(_LEVELS * scale[:, None] - (low * scale)[:, None], 0, 255)
    return look_up(image, np.where(varied[:, None], tables, _LEVELS))


def _of_channels(reduce: Any, pixels: Pixels) -> np.ndarray[Any, np.dtype[np.float64]]:
    """float64 (3,); whole rows are reduced first, since numpy is slow at steps of three."""
    columns = reduce(pixels.reshape(len(pixels), -1), axis=0)
    found: np.ndarray[Any, np.dtype[np.float64]] = reduce(columns.reshape(-1, 3), axis=0).astype(np.float64)
    return found


def equalize(image: Tensor) -> Tensor:
    """Flatten each channel's histogram, by Pillow's integer rule."""
    pixels = pixels_of(image)
    tables = np.tile(np.arange(256), (3, 1))
    histograms = np.array(Image.fromarray(pixels).histogram()).reshape(3, 256)
    for counts, table in zip(histograms, tables, strict=True):
        step = int(counts.sum() - counts[counts.nonzero()[0][-1]]) // 255  # the brightest does not count
        if step:
            table[:] = np.minimum((counts.cumsum() - counts + step // 2) // step, 255)
    return look_up(image, tables)


def invert(image: Tensor) -> Tensor:
    """255 - value."""
    return image.bitwise_not()


def posterize(image: Tensor, bits: int) -> Tensor:
    """Keep the `bits` highest bits of each value, 0..8; 0 gives black (Pillow refuses 0)."""
    return image.bitwise_and(256 - (1 << (8 - max(0, min(8, bits)))))


def solarize(image: Tensor, threshold: int) -> Tensor:
    """Invert the values from `threshold` (0..256) up."""
    pixels = pixels_of(image)
    if threshold > 255:
        return image_of(pixels.copy())
    return image_of(pixels ^ (np.uint8(255) * (pixels >= np.uint8(threshold)).view(np.uint8)))


def solarize_add(image: Tensor, add: int, threshold: int = 128) -> Tensor:
    """Add `add` (0..127) to the values below `threshold` (0..128)."""
    pixels = pixels_of(image)
    return image_of(pixels + np.uint8(add) * (pixels < np.uint8(threshold)).view(np.uint8))


def luma(pixels: Pixels) -> Pixels:
    """ITU-R 601 luma of uint8 (H, W, 3), as Pillow rounds it: uint8 (H, W)."""
    return np.asarray(Image.fromarray(pixels).convert("L"))


def grey(image: Tensor) -> Tensor:
    """uint8 (3, H, W) to its luma, int32 (H, W), 0..255."""
    return torch.from_numpy(luma(pixels_of(image)).astype(np.int32))


def truncated(values: Floats) -> Pixels:
    """Pillow's way from floats to pixels: cut off at 0 and 255, the fraction dropped. Changes `values`."""
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def brightness(image: Tensor, factor: float) -> Tensor:
    """Blend from black (0) over the image (1) outward."""
    return look_up(image, truncated(np.float32(factor) * _LEVELS.astype(np.float32)))


def contrast(image: Tensor, factor: float) -> Tensor:
    """Blend from the mean grey (0) over the image (1) outward."""
    grey = luma(pixels_of(image))
    mean = np.float32(math.floor(int(grey.sum(dtype=np.int64)) / grey.size + 0.5))
    return look_up(image, truncated((_LEVELS.astype(np.float32) - mean) * np.float32(factor) + mean))


def color(image: Tensor, factor: float) -> Tensor:
    """Blend from the grey image (0) over the image (1) outward."""
    pixels = pixels_of(image)
    grey, base = luma(pixels), np.empty(pixels.shape, dtype=np.float32)
    for channel in range(3):
        base[:, :, channel] = grey
    return image_of(_blended(base, pixels.astype(np.float32), factor))


def sharpness(image: Tensor, factor: float) -> Tensor:
    """Blend from the smoothed image (0) over the image (1) outward; the outermost pixels stay.

    Smoothing is Pillow's `ImageFilter.SMOOTH`: 3x3 ones with a 5 in the middle, over 13, rounded.
    """
    pixels = pixels_of(image)
    if min(pixels.shape[:2]) < 3:
        return image
    values = pixels.astype(np.int16)
    rows = values[:-2] + values[1:-1]
    rows += values[2:]
    total = rows[:, :-2] + rows[:, 1:-1]
    total += rows[:, 2:]
    middle = values[1:-1, 1:-1]
    total += 4 * middle
    smooth = total.astype(np.float32)
    smooth *= 1 / 13
    smooth += 0.5
    np.floor(smooth, out=smooth)
    out = pixels.copy()
    out[1:-1, 1:-1] = _blended(smooth, middle.astype(np.float32), factor)
    return image_of(out)


def _blended(base: Floats, values: Floats, factor: float) -> Pixels:
    """Pillow's `Image.blend`: base + factor * (values - base) in float32, truncated. Changes `values`."""
    values -= base
    values *= np.float32(factor)
    values += base
    return truncated(values)
