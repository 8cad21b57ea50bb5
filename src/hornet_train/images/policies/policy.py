"""What an augmentation policy is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor


class Policy(Protocol):
    """Augments one image; a pure function of the image and of what `rng` gives."""

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment one image.

        Args:
            image: uint8 (3, H, W), left as it is.
            rng: where every decision comes from.

        Returns:
            uint8 (3, H, W); may be `image` itself.
        """
        ...
