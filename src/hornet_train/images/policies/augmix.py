"""AugMix on uint8 tensors, to timm's definition: its grammar, operations and levels.

Hendrycks et al., arXiv 1912.02781, without the paper's consistency loss: chains of operations, mixed with
each other by Dirichlet weights and with the image by a Beta one. As in timm's loader, translations reach 0.3
of the side here.
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

OPERATIONS = (  # the paper leaves out the four of colour, contrast, brightness and sharpness
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
_DEEPEST = 3  # of chains of random depth
_GRAMMAR = {"m": (0, inf), "w": (1, inf), "d": (0, inf), "a": (0, inf), "b": (0, 1), "mstd": (0, inf)}


@dataclass(frozen=True)
class AugMix:
    """`width` chains of operations, mixed.

    Attributes:
        operations: how an operation is carried out.
        magnitude: m of the grammar, 0..10, the level of each operation before the noise.
        width: w of the grammar, the number of chains.
        depth: d of the grammar, operations in a chain; 0: 1..3 by chance.
        alpha: a of the grammar, of the Dirichlet and the Beta distribution.
        blended: b of the grammar: blend each chain into the image, rounding each time, instead of the sum.
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
        """Read timm's grammar: `augmix`, then m w d a b mstd with a number, in any order, by dashes.

        Without `mstd`, or with one above 100, levels are uniform in 0..m.

        Raises:
            ValueError: a part that is unknown or repeated, or whose number does not fit; named.
        """
        head = text.split("-")[0]
        if head != "augmix":
            raise ValueError(
                f"{text!r} starts with {head!r}; AugMix starts with 'augmix', as in 'augmix-m3-w3'"
            )
        values = read_parts(text, _GRAMMAR, fractions=("a", "mstd"))
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
            rng: where every decision comes from.

        Returns:
            uint8 (3, H, W), in channels-last memory.
        """
        weights = rng.dirichlet([self.alpha] * self.width)
        share = rng.beta(self.alpha, self.alpha)  # of the chains in the result
        if self.blended:
            return self._blended(image, weights * share, rng)
        original = pixels_of(image)
        mixed = np.zeros(original.shape, dtype=np.float32)
        for weight in weights:
            mixed += np.float32(weight) * pixels_of(self._chain(image, rng))
        np.clip(mixed, 0, 255, out=mixed)
        return image_of(levels.blend(original, mixed.astype(np.uint8), share))

    def _blended(self, image: Tensor, weights: np.ndarray, rng: np.random.Generator) -> Tensor:
        """The image with chain k blended in so that in the end it has the share `weights[k]`."""
        after = np.cumsum(weights[::-1])[::-1] - weights  # what later chains will have taken
        left = 1 - after
        shares = np.divide(weights, left, out=np.zeros_like(weights), where=left > 0)
        mixed = pixels_of(image)
        for share in shares.clip(0, 1):
            mixed = levels.blend(mixed, pixels_of(self._chain(image, rng)), share)
        return image_of(mixed)

    def _chain(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        depth = self.depth or int(rng.integers(1, _DEEPEST + 1))
        for choice in rng.integers(len(OPERATIONS), size=depth):
            image = self.operations(OPERATIONS[choice], image, self.magnitude, rng)
        return image
