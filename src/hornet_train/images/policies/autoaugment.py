"""AutoAugment on uint8 tensors, by timm's names: the policies found on ImageNet, and `3a`.

Cubuk et al., arXiv 1805.09501. A random sub-policy is applied to each image; each of its operations has
a probability and a level.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from torch import Tensor

from hornet_train.images.layout import Interpolation
from hornet_train.images.policies.grammar import read_parts
from hornet_train.images.policies.operations import Operations, noise_of
from hornet_train.images.policies.randaugment import MEAN_PIXEL

Step = tuple[str, float, float]  # operation, probability, level
SubPolicy = tuple[Step, ...]


@dataclass(frozen=True)
class AutoAugment:
    """Applies one of `sub_policies`, all equally likely: its steps in order.

    Attributes:
        sub_policies: at least one.
        operations: how operations are applied.
    """

    sub_policies: tuple[SubPolicy, ...]
    operations: Operations

    def __post_init__(self) -> None:
        if not self.sub_policies:
            raise ValueError("AutoAugment needs a sub-policy")

    @classmethod
    def parse(
        cls,
        text: str,
        fill: tuple[int, int, int] = MEAN_PIXEL,
        interpolation: Interpolation = "bicubic",
    ) -> AutoAugment:
        """Read timm's grammar: one of `POLICIES`, and `mstd` with the noise of levels, as in `v0-mstd0.5`.

        As in RandAugment, with `mstd` above 100 levels are uniform in 0..(level of the policy).

        Raises:
            ValueError: the head is not one of `POLICIES`, or a part is unknown or repeated; the message
                names it.
        """
        noise = read_parts(text, POLICIES, {"mstd": (0, inf)}, fractions=("mstd",)).get("mstd", 0.0)
        return cls(
            POLICIES[text.split("-")[0]],
            Operations(noise=noise_of(noise), fill=fill, interpolation=interpolation),
        )

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment one image.

        Args:
            image: uint8 (3, H, W).
            rng: the source of all random decisions; a step with probability 1 needs no draw.

        Returns:
            uint8 (3, H, W); `image` itself if no step was applied.
        """
        for name, prob, level in self.sub_policies[rng.integers(len(self.sub_policies))]:
            if prob == 1 or rng.random() < prob:
                image = self.operations(name, image, level, rng)
        return image


def _table(text: str, posterize: str) -> tuple[SubPolicy, ...]:
    """Parse a table with a sub-policy a line: operation, probability and level of each step.

    `posterize` is the variant that replaces `Posterize`.
    """
    sub_policies = []
    for line in text.strip().splitlines():
        words = line.replace("Posterize", posterize).split()
        steps = zip(words[::3], words[1::3], words[2::3], strict=True)
        sub_policies.append(tuple((name, float(prob), float(level)) for name, prob, level in steps))
    return tuple(sub_policies)


# table 9 of the paper
_ORIGINAL = """
    Posterize 0.4 8  Rotate 0.6 9
    Solarize 0.6 5  AutoContrast 0.6 5
    Equalize 0.8 8  Equalize 0.6 3
    Posterize 0.6 7  Posterize 0.6 6
    Equalize 0.4 7  Solarize 0.2 4
    Equalize 0.4 4  Rotate 0.8 8
    Solarize 0.6 3  Equalize 0.6 7
    Posterize 0.8 5  Equalize 1.0 2
    Rotate 0.2 3  Solarize 0.6 8
    Equalize 0.6 8  Posterize 0.4 6
    Rotate 0.8 8  Color 0.4 0
    Rotate 0.4 9  Equalize 0.6 2
    Equalize 0.0 7  Equalize 0.8 8
    Invert 0.6 4  Equalize 1.0 8
    Color 0.6 4  Contrast 1.0 8
    Rotate 0.8 8  Color 1.0 2
    Color 0.8 8  Solarize 0.8 7
    Sharpness 0.4 7  Invert 0.6 8
    ShearX 0.6 5  Equalize 1.0 9
    Color 0.4 0  Equalize 0.6 3
    Equalize 0.4 7  Solarize 0.2 4
    Solarize 0.6 5  AutoContrast 0.6 5
    Invert 0.6 4  Equalize 1.0 8
    Color 0.6 4  Contrast 1.0 8
    Equalize 0.8 8  Equalize 0.6 3
"""

# of EfficientNet's TPU implementation
_V0 = """
    Equalize 0.8 1  ShearY 0.8 4
    Color 0.4 9  Equalize 0.6 3
    Color 0.4 1  Rotate 0.6 8
    Solarize 0.8 3  Equalize 0.4 7
    Solarize 0.4 2  Solarize 0.6 2
    Color 0.2 0  Equalize 0.8 8
    Equalize 0.4 8  SolarizeAdd 0.8 3
    ShearX 0.2 9  Rotate 0.6 8
    Color 0.6 1  Equalize 1.0 2
    Invert 0.4 9  Rotate 0.6 0
    Equalize 1.0 9  ShearY 0.6 3
    Color 0.4 7  Equalize 0.6 0
    Posterize 0.4 6  AutoContrast 0.4 7
    Solarize 0.6 8  Color 0.6 9
    Solarize 0.2 4  Rotate 0.8 9
    Rotate 1.0 7  TranslateYRel 0.8 9
    ShearX 0.0 0  Solarize 0.8 4
    ShearY 0.8 0  Color 0.6 4
    Color 1.0 0  Rotate 0.6 2
    Equalize 0.8 4  Equalize 0.0 8
    Equalize 1.0 4  AutoContrast 0.6 2
    ShearY 0.4 7  SolarizeAdd 0.6 7
    Posterize 0.8 2  Solarize 0.6 10
    Solarize 0.6 8  Equalize 0.6 1
    Color 0.8 6  Rotate 0.4 5
"""

# 3-Augment in this form. Without noise it equals `three` of DeiT III; with noise, levels vary.
_3A = """
    Solarize 1.0 5
    Desaturate 1.0 10
    GaussianBlurRand 1.0 10
"""

POLICIES = {
    "original": _table(_ORIGINAL, "PosterizeOriginal"),  # 4..8 bits, more with the level
    "originalr": _table(_ORIGINAL, "PosterizeIncreasing"),  # 4..0 bits, fewer with the level
    "v0": _table(_V0, "Posterize"),  # 0..4 bits, more with the level
    "v0r": _table(_V0, "PosterizeIncreasing"),
    "3a": _table(_3A, "Posterize"),
}
