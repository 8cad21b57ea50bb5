"""Operations on one uint8 (3, H, W) RGB image, each the torch form of one of Pillow's.

Pointwise operations are look-up tables of 256 entries, computed as Pillow computes its own; geometric ones
are one affine grid. Those that depend on pixels alone agree with Pillow to within one level, which the tests
hold.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Interpolation = Literal["bilinear", "bicubic"]
Box = tuple[int, int, int, int]  # top, left, height, width, in pixels
Matrix = tuple[float, float, float, float, float, float]


def resize(image: Tensor, size: tuple[int, int], interpolation: Interpolation = "bicubic") -> Tensor:
    """Resize with antialiasing, on uint8 throughout.

    Args:
        image: uint8 (C, H, W). Channels-last memory, as `decode` gives, is twice as fast.
        size: (height, width) of the result, in pixels.
        interpolation: the filter, as Pillow defines it. Rows are done first. Where Pillow does so too, all
            but a few pixels in a million are within one level; Pillow 13 does columns first where that is
            less work, and where bicubic overshoots, the order then shows in one or two pixels in a thousand.

    Returns:
        uint8 (C, height, width); `image` itself where the size is right already.
    """
    if tuple(image.shape[1:]) == tuple(size):
        return image
    return functional.interpolate(image[None], list(size), mode=interpolation, antialias=True)[0]


def look_up(image: Tensor, table: Tensor) -> Tensor:
    """Replace every value v of channel c by `table[c, v]`, or by `table[v]` where the table has one row.

    Args:
        image: uint8 (C, H, W).
        table: (256,) or (C, 256), values 0..255 of any type; uint8 is what comes out.
    """
    index = image.contiguous().view(image.shape[0], -1).int()
    if table.dim() == 2:
        index += 256 * torch.arange(len(table), dtype=torch.int32)[:, None]
    return table.reshape(-1).to(torch.uint8).index_select(0, index.view(-1)).view(image.shape)


def _levels() -> Tensor:
    return torch.arange(256, dtype=torch.float64)


def auto_contrast(image: Tensor) -> Tensor:
    """Stretch each channel to 0..255; a channel of one value stays."""
    flat = image.reshape(image.shape[0], -1)
    low, high = (bound.double()[:, None] for bound in (flat.amin(1), flat.amax(1)))
    scale = 255.0 / (high - low)
    table = (_levels() * scale - low * scale).clamp(0, 255)
    return look_up(image, torch.where(high > low, table, _levels()))


def equalize(image: Tensor) -> Tensor:
    """Flatten each channel's histogram, by Pillow's integer rule."""
    tables = []
    for channel in image:
        counts = torch.bincount(channel.reshape(-1), minlength=256)
        step = int(counts.sum() - counts[counts.nonzero()[-1]]) // 255  # the brightest value does not count
        if step == 0:
            tables.append(torch.arange(256))
        else:
            before = counts.cumsum(0) - counts
            tables.append(((before + step // 2) // step).clamp(max=255))
    return look_up(image, torch.stack(tables))


def invert(image: Tensor) -> Tensor:
    """255 - value."""
    return image.bitwise_not()


def posterize(image: Tensor, bits: int) -> Tensor:
    """Keep the `bits` highest bits of each value, 0..8; 0 gives black (Pillow refuses 0)."""
    return image.bitwise_and(256 - (1 << (8 - max(0, min(8, bits)))))


def solarize(image: Tensor, threshold: int) -> Tensor:
    """Invert the values from `threshold` (0..256) up."""
    levels = _levels()
    return look_up(image, torch.where(levels < threshold, levels, 255 - levels))


def solarize_add(image: Tensor, add: int, threshold: int = 128) -> Tensor:
    """Add `add` (0..255) to the values below `threshold`."""
    levels = _levels()
    return look_up(image, torch.where(levels < threshold, (levels + add).clamp(max=255), levels))


def grey(image: Tensor) -> Tensor:
    """ITU-R 601 luma by Pillow's fixed-point weights: int32 (H, W), 0..255."""
    red, green, blue = image.int()
    luma: Tensor = red * 19595 + green * 38470 + blue * 7471 + 0x8000
    return luma >> 16


def _blend(base: Tensor, values: Tensor, factor: float) -> Tensor:
    """Pillow's `Image.blend`: base + factor * (values - base) in float32, truncated to 0..255."""
    blended: Tensor = (values - base) * factor + base
    return blended.clamp_(0, 255).to(torch.uint8)


def brightness(image: Tensor, factor: float) -> Tensor:
    """Blend from black (0) over the image (1) outward."""
    levels = _levels().float()
    return look_up(image, _blend(torch.zeros(()), levels, factor))


def contrast(image: Tensor, factor: float) -> Tensor:
    """Blend from the mean grey (0) over the image (1) outward."""
    mean = math.floor(grey(image).double().mean().item() + 0.5)
    return look_up(image, _blend(torch.tensor(float(mean)), _levels().float(), factor))


def color(image: Tensor, factor: float) -> Tensor:
    """Blend from the grey image (0) over the image (1) outward."""
    return _blend(grey(image).float(), image.float(), factor)


def sharpness(image: Tensor, factor: float) -> Tensor:
    """Blend from the smoothed image (0) over the image (1) outward; the outermost pixels stay.

    Smoothing is Pillow's `ImageFilter.SMOOTH`: 3x3 ones with a 5 in the middle, over 13, rounded.
    """
    if min(image.shape[1:]) < 3:
        return image
    values = image.float()
    rows = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    middle = values[:, 1:-1, 1:-1]
    smooth = total.add_(middle, alpha=4).div_(13).add_(0.5).floor_()
    out = image.clone()
    out[:, 1:-1, 1:-1] = _blend(smooth, middle, factor)
    return out


def warp(
    image: Tensor, matrix: Matrix, fill: tuple[int, int, int], interpolation: Interpolation = "bicubic"
) -> Tensor:
    """Affine transform, in the convention of Pillow's `Image.transform(AFFINE)`.

    Args:
        image: uint8 (3, H, W).
        matrix: (a, b, c, d, e, f): the result at (x, y) is the image at (ax + by + c, dx + ey + f), in pixels
            with the origin in the upper left corner and pixel centres at halves.
        fill: RGB, 0..255, where that is outside the image.
        interpolation: torch's bicubic (a = -0.75) is a little softer than that of Pillow's transform (a =
            -1).

    Returns:
        uint8 (3, H, W).
    """
    height, width = image.shape[1:]
    a, b, c, d, e, f = matrix
    x = torch.arange(width, dtype=torch.float32) + 0.5
    y = (torch.arange(height, dtype=torch.float32) + 0.5)[:, None]
    # grid_sample's -1..1 spans the image from edge to edge
    grid_x = (a * x + c) * (2 / width) - 1 + y * (b * 2 / width)
    grid_y = (d * x + f) * (2 / height) - 1 + y * (e * 2 / height)
    grid = torch.stack((grid_x, grid_y), dim=-1)[None]
    sampled = functional.grid_sample(
        image[None].float(), grid, mode=interpolation, padding_mode="border", align_corners=False
    )
    # Pillow truncates here; the small lift keeps float32's 4.99999 a 5, so that an unmoved image stays itself
    pixels = sampled[0].add_(2**-8).clamp_(0, 255)
    outside = (torch.maximum(grid_x.abs(), grid_y.abs())) > 1
    colour = torch.tensor(fill, dtype=torch.float32)[:, None, None]
    return torch.where(outside, colour, pixels).to(torch.uint8)


def rotation(degrees: float, height: int, width: int) -> Matrix:
    """The matrix that turns an image counter-clockwise about its centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y
