"""The operations of AutoAugment and AugMix, with timm's names and level functions.

Most are those of RandAugment; this module adds the others, and the noise of levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hornet_train.images import color, pillow_ops
from hornet_train.images.layout import Interpolation
from hornet_train.images.policies import randaugment
from hornet_train.images.policies.randaugment import MAX_LEVEL, MEAN_PIXEL, UNIFORM_ABOVE

UNIFORM = math.inf  # as noise: levels uniform in 0..level

_BLUR_RADII = (0.1, 2.0)  # pixels
_SHIFT = 0.45  # of the side at level 10, in RandAugment's table


@dataclass(frozen=True)
class Operations:
    """Applies operations by name, at a noisy level.

    Attributes:
        noise: the standard deviation of a level; infinite: levels are uniform in 0..level.
        shift: the largest translation, as a share of the side.
        fill: RGB, 0..255, of pixels that geometric operations take from outside the image.
        interpolation: of geometric operations.
    """

    noise: float = 0.0
    shift: float = _SHIFT
    fill: tuple[int, int, int] = MEAN_PIXEL
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if not self.noise >= 0 or self.shift < 0:
            raise ValueError(f"noise and shift must be 0 or more, not {self}")

    def __call__(self, name: str, image: Tensor, level: float, rng: np.random.Generator) -> Tensor:
        """Apply operation `name` at `level` (0..10, before the noise).

        The noise is drawn first, then what the operation itself needs.

        Args:
            image: uint8 (3, H, W).

        Returns:
            uint8 (3, H, W).
        """
        level = randaugment.noisy_level(level, self.noise, MAX_LEVEL, rng)
        match name:
            case "PosterizeOriginal":
                return pillow_ops.posterize(image, int(level / MAX_LEVEL * 4) + 4)
            case "Desaturate":
                grey = 0.5 + 0.5 * level / MAX_LEVEL
                return color.greyscale(image) if grey == 1 else pillow_ops.color(image, 1 - grey)
            case "GaussianBlurRand":
                lowest, highest = _BLUR_RADII
                # not rng.uniform: at low levels, the first bound is the larger one
                radius = lowest + (highest * level / MAX_LEVEL - lowest) * rng.random()
                return color.box_blur(image, radius)
            case _:
                value = randaugment.level_to_value(name, level, rng)
                if name in ("TranslateXRel", "TranslateYRel"):
                    value *= self.shift / _SHIFT
                return randaugment.apply(name, image, value, self.fill, self.interpolation)


def noise_of(mstd: float) -> float:
    """The `noise` that `mstd` of the grammar stands for."""
    return UNIFORM if mstd > UNIFORM_ABOVE else mstd
