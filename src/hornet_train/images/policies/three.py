"""3-Augment of DeiT III on uint8 tensors (Touvron et al., arXiv 2204.07118).

The colour jitter that the paper adds is an option of its own, applied after any policy. timm's `3a` is the
same three operations in AutoAugment's form: equal to this without `mstd`, and with it at varying levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hornet_train.images import color, pillow_ops

THRESHOLD = 128  # solarize inverts the values from this one on


@dataclass(frozen=True)
class ThreeAugment:
    """Applies exactly one of greyscale, solarize and blur, all equally likely.

    Attributes:
        radii: lowest and highest radius of the blur, in pixels; it is uniform in between.
    """

    radii: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        if not 0 <= self.radii[0] <= self.radii[1]:
            raise ValueError(
                f"the radii of a blur must be 0 or more and in increasing order, not {self.radii}"
            )

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment one image.

        Args:
            image: uint8 (3, H, W).
            rng: the source of all random decisions: the operation, and the radius of a blur.

        Returns:
            uint8 (3, H, W).
        """
        match rng.integers(3):
            case 0:
                return color.greyscale(image)
            case 1:
                return pillow_ops.solarize(image, THRESHOLD)
            case _:
                return color.box_blur(image, rng.uniform(*self.radii))
