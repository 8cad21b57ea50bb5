"""Draw random boxes by the published rules: which part of an image is cropped or erased."""

from __future__ import annotations

import math

import numpy as np

from hornet_train.images.layout import Box

_ATTEMPTS = 10


def random_resized_crop_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """A box of random area and aspect ratio inside the image, by torchvision's and timm's rule.

    The area is uniform in `scale` (shares of the image), the aspect ratio width/height log-uniform in
    `ratio`. The first of 10 draws that fits into the image is taken; if none fits, the largest central box
    whose aspect ratio is within `ratio`.

    If `scale` is (1, 1) and both bounds of `ratio` are equal, the user wants no randomness, and the box is
    central in every image. Torchvision's rule would place it at random in an image of n x (n + 1) pixels,
    where a square of the full area, rounded, fits in two positions.

    Returns:
        (top, left, height, width) in pixels, at least one pixel each way.
    """
    for _ in range(_ATTEMPTS):
        area = rng.uniform(*scale) * height * width
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        box_w, box_h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_w <= width and 0 < box_h <= height:
            top = int(rng.integers(height - box_h + 1))
            left = int(rng.integers(width - box_w + 1))
            if scale[0] == 1 and ratio[0] == ratio[1]:  # after the draws, so that later draws are the same
                top, left = (height - box_h) // 2, (width - box_w) // 2
            return top, left, box_h, box_w
    box_h, box_w = height, width
    if width / height < ratio[0]:
        box_h = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        box_w = max(1, round(height * ratio[1]))
    return (height - box_h) // 2, (width - box_w) // 2, box_h, box_w


def random_erase_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    area: tuple[float, float] = (0.02, 1 / 3),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> Box:
    """The box that random erasing fills, by timm's rule (Zhong et al., arXiv 1708.04896).

    The area is uniform in `area` (shares of the image), height/width log-uniform in `aspect`. The first of 10
    draws that is smaller than the image in both directions is taken, else none.

    Returns:
        (top, left, height, width) in pixels; all zero if there is no box.
    """
    for _ in range(_ATTEMPTS):
        pixels = rng.uniform(*area) * height * width
        height_by_width = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        box_h, box_w = round(math.sqrt(pixels * height_by_width)), round(math.sqrt(pixels / height_by_width))
        if box_h < height and box_w < width:
            top = int(rng.integers(height - box_h + 1))
            left = int(rng.integers(width - box_w + 1))
            return top, left, box_h, box_w
    return 0, 0, 0, 0
