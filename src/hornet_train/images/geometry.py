"""Boxes drawn at random, by the published rules: which part of an image is cut out or filled."""

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

    Area uniform in `scale` (shares of the image), aspect ratio width/height log-uniform in `ratio`; of 10
    tries the first that fits, else the largest central box whose aspect ratio is within `ratio`.

    Where `scale` is (1, 1) and `ratio` is one number, nothing is meant to be random, and the box is central
    for every image. By torchvision's rule its place would be random in images of n x (n + 1) pixels: there a
    square of the whole area, rounded, fits in two places.

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
            if scale[0] == 1 and ratio[0] == ratio[1]:  # after the draws, so that later ones stay the same
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

    Area uniform in `area` (shares of the image), height/width log-uniform in `aspect`; of 10 tries the first
    that is smaller than the image both ways, else none.

    Returns:
        (top, left, height, width) in pixels; zeros where there is no box.
    """
    for _ in range(_ATTEMPTS):
        pixels = rng.uniform(*area) * height * width
        tall = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        box_h, box_w = round(math.sqrt(pixels * tall)), round(math.sqrt(pixels / tall))
        if box_h < height and box_w < width:
            top = int(rng.integers(height - box_h + 1))
            left = int(rng.integers(width - box_w + 1))
            return top, left, box_h, box_w
    return 0, 0, 0, 0
