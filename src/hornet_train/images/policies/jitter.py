"""Colour jitter, random greyscale and random blur, applied after a policy or instead of one.

The definitions are torchvision's `ColorJitter`, `RandomGrayscale` and `GaussianBlur(23)`, with the
probabilities that timm's `create_transform` gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hornet_train.images import color, pillow_ops

SIGMAS = (0.1, 2.0)  # lowest and highest standard deviation of the blur, in pixels


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast, saturation and hue by random amounts, in random order.

    Attributes:
        brightness, contrast, saturation: the strength s; the factor is uniform in max(0, 1 - s)..1 + s.
            0: none.
        hue: the strength s, at most 0.5; the shift is uniform in -s..s turns of the colour wheel.
            0: none.
        prob: the probability that the jitter is applied at all.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    prob: float = 1.0

    def __post_init__(self) -> None:
        if min(self.brightness, self.contrast, self.saturation, self.hue) < 0 or self.hue > 0.5:
            raise ValueError(f"strengths must be 0 or more, that of hue at most 0.5, not {self}")
        _check_prob(self.prob)

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment one image.

        Args:
            image: uint8 (3, H, W).
            rng: the source of all random decisions: whether to apply it (if `prob` is below 1), the
                order, the amounts.

        Returns:
            uint8 (3, H, W).
        """
        if self.prob < 1 and rng.random() >= self.prob:
            return image
        order = rng.permutation(4)
        factors = [
            rng.uniform(max(0.0, 1 - strength), 1 + strength) if strength else 1.0
            for strength in (self.brightness, self.contrast, self.saturation)
        ]
        turn = rng.uniform(-self.hue, self.hue) if self.hue else 0.0
        for which in order:
            if which == 3:
                image = color.hue(image, turn) if self.hue else image
            elif factors[which] != 1:
                image = _BY_FACTOR[which](image, factors[which])
        return image


@dataclass(frozen=True)
class RandomGreyscale:
    """Makes an image grey with probability `prob`, with equal channels."""

    prob: float

    def __post_init__(self) -> None:
        _check_prob(self.prob)

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """uint8 (3, H, W) in and out; one draw from `rng`."""
        return color.greyscale(image) if rng.random() < self.prob else image


@dataclass(frozen=True)
class RandomBlur:
    """A Gaussian blur of random width, with probability `prob`."""

    prob: float

    def __post_init__(self) -> None:
        _check_prob(self.prob)

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """uint8 (3, H, W) in and out; one draw whether to blur, and one for the width."""
        if rng.random() >= self.prob:
            return image
        return color.gaussian_blur(image, rng.uniform(*SIGMAS))


def _check_prob(prob: float) -> None:
    if not 0 <= prob <= 1:
        raise ValueError(f"a probability must be within 0..1, not {prob}")


_BY_FACTOR = (pillow_ops.brightness, pillow_ops.contrast, pillow_ops.color)
