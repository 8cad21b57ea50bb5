"""The protocol of an augmentation policy."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor


class Policy(Protocol):
    """Augments one image, as a pure function of the image and the draws from `rng`."""

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment one image.

        Args:
            image: uint8 (3, H, W); it is not changed.
            rng: the source of all random decisions.

        Returns:
            uint8 (3, H, W); may be `image` itself.
        """
        ...
