"""Colour jitter, and greyscale and blur by chance: what follows a policy, or stands in place of one.

The definitions are torchvision's `ColorJitter`, `RandomGrayscale` and `GaussianBlur(23)`, with the
probabilities that timm's `create_transform` gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hornet_train.images import color, pillow_ops

SIGMAS = (0.1, 2.0)  # least and greatest standard deviation of the blur, pixels


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast, saturation and hue by random amounts, in random order.

    Attributes:
        brightness, contrast, saturation: the factor is uniform in max(0, 1 - s)..1 + s; 0 for none.
        hue: the turn is uniform in -s..s of a whole turn, s at most 0.5; 0 for none.
        prob: probability of any change at all.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    prob: float = 1.0

    def __post_init__(self) -> None:
        if min(self.brightness, self.contrast, self.saturation, self.hue) < 0 or self.hue > 0.5:
            raise ValueError(f"strengths are 0 or more, hue's at most 0.5, not {self}")
        _check_prob(self.prob)

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment one image.

        Args:
            image: uint8 (3, H, W).
            rng: where every decision comes from: whether at all where that is open, the order, the amounts.

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
    """Grey in all three channels, with probability `prob`."""

    prob: float

    def __post_init__(self) -> None:
        _check_prob(self.prob)

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """uint8 (3, H, W) in and out; one draw."""
        return color.greyscale(image) if rng.random() < self.prob else image


@dataclass(frozen=True)
class RandomBlur:
    """A Gaussian blur of random width, with probability `prob`."""

    prob: float

    def __post_init__(self) -> None:
        _check_prob(self.prob)

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """uint8 (3, H, W) in and out; a draw whether, and one how wide."""
        if rng.random() >= self.prob:
            return image
        return color.gaussian_blur(image, rng.uniform(*SIGMAS))


def _check_prob(prob: float) -> None:
    if not 0 <= prob <= 1:
        raise ValueError(f"a probability is within 0..1, not {prob}")


_BY_FACTOR = (pillow_ops.brightness, pillow_ops.contrast, pillow_ops.color)
