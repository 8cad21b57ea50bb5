"""TrivialAugment, wide, on uint8 tensors: one random operation at a random strength.

Müller and Hutter, arXiv 2103.10158, with the operations and the 31 strengths of torchvision's
`TrivialAugmentWide`. By default, that one fills with black and takes the nearest pixel; here, as in the other
policies, the fill is the data set's mean pixel and the interpolation that of training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hornet_train.images import pillow_ops
from hornet_train.images.layout import Interpolation
from hornet_train.images.policies.randaugment import MEAN_PIXEL, apply
from hornet_train.images.warp import warp

BINS = 31

OPERATIONS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)
_MAX_STRENGTH = {  # of the strongest bin, in both directions
    "ShearX": 0.99,
    "ShearY": 0.99,
    "TranslateX": 32,  # pixels
    "TranslateY": 32,
    "Rotate": 135,  # degrees
    "Brightness": 0.99,  # from a factor of 1
    "Color": 0.99,
    "Contrast": 0.99,
    "Sharpness": 0.99,
}
_UNSIGNED = ("Posterize", "Solarize")

# torchvision's bins, in float32 like there: truncated to pixels, the 16th translation is 15, not 16
_STRENGTHS = {name: torch.linspace(0, most, BINS).tolist() for name, most in _MAX_STRENGTH.items()}


@dataclass(frozen=True)
class TrivialAugment:
    """Applies one of 14 operations at one of 31 strengths.

    Attributes:
        fill: RGB, 0..255, of pixels that geometric operations take from outside the image.
        interpolation: of geometric operations.
    """

    fill: tuple[int, int, int] = MEAN_PIXEL
    interpolation: Interpolation = "bicubic"

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment one image.

        Args:
            image: uint8 (3, H, W).
            rng: the source of all random decisions: the operation, and its strength and sign if it has them.

        Returns:
            uint8 (3, H, W); `image` itself if the operation is `Identity`.
        """
        name = OPERATIONS[rng.integers(len(OPERATIONS))]
        signed = name in _MAX_STRENGTH
        strength = int(rng.integers(BINS)) if signed or name in _UNSIGNED else 0
        sign = -1 if signed and rng.integers(2) else 1
        return self.perform(name, image, strength, sign)

    def perform(self, name: str, image: Tensor, strength: int, sign: int) -> Tensor:
        """Apply operation `name` with bin `strength`, 0..30, in the direction `sign`, 1 or -1."""
        value = sign * _STRENGTHS[name][strength] if name in _STRENGTHS else 0.0
        match name:
            case "Identity":
                return image
            case "TranslateX":
                return self._translate(image, int(value), 0)
            case "TranslateY":
                return self._translate(image, 0, int(value))
            case "Brightness" | "Color" | "Contrast" | "Sharpness":
                return apply(name, image, 1 + value)
            case "Posterize":
                return pillow_ops.posterize(image, 8 - round(strength / 5))
            case "Solarize":
                # bins are 8.5 levels apart; a threshold between two levels is rounded up
                return pillow_ops.solarize(image, 255 - (17 * strength) // 2)
            case _:
                return apply(name, image, value, self.fill, self.interpolation)

    def _translate(self, image: Tensor, right: int, down: int) -> Tensor:
        return warp(image, (1, 0, -right, 0, 1, -down), self.fill, self.interpolation)
