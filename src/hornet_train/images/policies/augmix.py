"""AugMix on uint8 tensors, to timm's definition: its grammar, operations and levels.

Hendrycks et al., arXiv 1912.02781, without the paper's consistency loss: chains of operations are mixed with
each other by weights of a Dirichlet distribution, and with the image by one of a Beta distribution. As in
timm's loader, translations reach 0.3 of the side here.

Layout suffixes: `x_HWC` is height, width, channels; `image` is always (3, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from torch import Tensor

from hornet_train.images.layout import Interpolation, image_of, pixels_of
from hornet_train.images.loops import levels
from hornet_train.images.policies.grammar import read_parts
from hornet_train.images.policies.operations import UNIFORM, Operations, noise_of
from hornet_train.images.policies.randaugment import MEAN_PIXEL

SHIFT = 0.3  # of the side at level 10

OPERATIONS = (  # the paper has not the four of colour, contrast, brightness and sharpness
    "AutoContrast",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "Equalize",
    "Rotate",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
_MAX_RANDOM_DEPTH = 3  # operations in a chain of random depth
_GRAMMAR = {"m": (0, inf), "w": (1, inf), "d": (0, inf), "a": (0, inf), "b": (0, 1), "mstd": (0, inf)}


@dataclass(frozen=True)
class AugMix:
    """Mixes `width` chains of operations.

    Attributes:
        operations: how operations are applied.
        magnitude: m of the grammar, 0..10, the level of each operation before the noise.
        width: w of the grammar, the number of chains.
        depth: d of the grammar, the number of operations in a chain; 0: random, 1..3.
        alpha: a of the grammar, the parameter of the Dirichlet and the Beta distribution.
        blended: b of the grammar: blend the chains into the image one by one, rounding each time, instead of
            summing them.
    """

    operations: Operations
    magnitude: float = 3.0
    width: int = 3
    depth: int = 0
    alpha: float = 1.0
    blended: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 0 or self.magnitude < 0 or not self.alpha > 0:
            raise ValueError(
                f"AugMix needs a width of 1 or more, an alpha above 0 and nothing below 0, not {self}"
            )

    @classmethod
    def parse(
        cls,
        text: str,
        fill: tuple[int, int, int] = MEAN_PIXEL,
        interpolation: Interpolation = "bicubic",
    ) -> AugMix:
        """Read timm's grammar: `augmix`, then m w d a b mstd with a number, in any order, joined by
        dashes.

        Without `mstd`, or with one above 100, levels are uniform in 0..m.

        Raises:
            ValueError: a part is unknown or repeated, or its number is out of range; the message names it.
        """
        values = read_parts(text, ("augmix",), _GRAMMAR, fractions=("a", "mstd"))
        noise = noise_of(values.get("mstd", UNIFORM))
        return cls(
            Operations(noise, SHIFT, fill, interpolation),
            magnitude=values.get("m", 3.0),
            width=int(values.get("w", 3)),
            depth=int(values.get("d", 0)),
            alpha=values.get("a", 1.0),
            blended=bool(values.get("b", 0)),
        )

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment one image.

        Args:
            image: uint8 (3, H, W).
            rng: the source of all random decisions.

        Returns:
            uint8 (3, H, W), in channels-last memory.
        """
        weights = rng.dirichlet([self.alpha] * self.width)
        share = rng.beta(self.alpha, self.alpha)  # of all chains together in the result
        if self.blended:
            return self._blend_chains(image, weights * share, rng)
        original_HWC = pixels_of(image)
        mixed_HWC = np.zeros(original_HWC.shape, dtype=np.float32)
        for weight in weights:
            mixed_HWC += np.float32(weight) * pixels_of(self._apply_chain(image, rng))
        np.clip(mixed_HWC, 0, 255, out=mixed_HWC)
        return image_of(levels.blend(original_HWC, mixed_HWC.astype(np.uint8), share))

    def _blend_chains(self, image: Tensor, weights: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Blend the chains into the image one by one; chain k has the share `weights[k]` in the result."""
        later = np.cumsum(weights[::-1])[::-1] - weights  # the total share of the chains after k
        remaining = 1 - later
        shares = np.divide(weights, remaining, out=np.zeros_like(weights), where=remaining > 0)
        mixed_HWC = pixels_of(image)
        for share in shares.clip(0, 1):
            mixed_HWC = levels.blend(mixed_HWC, pixels_of(self._apply_chain(image, rng)), share)
        return image_of(mixed_HWC)

    def _apply_chain(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        depth = self.depth or int(rng.integers(1, _MAX_RANDOM_DEPTH + 1))
        for choice in rng.integers(len(OPERATIONS), size=depth):
            image = self.operations(OPERATIONS[choice], image, self.magnitude, rng)
        return image
