"""RandAugment on uint8 tensors, to timm's definition: its grammar, operations, levels and noise.

Cubuk et al., arXiv 1909.13719; the numbers are those of timm's `auto_augment.py` (the recipes of the HorNet
paper use `rand-m9-mstd0.5-inc1`). One difference: posterize to 0 bits gives black, where timm raises
under Pillow 13. Since magnitudes are clipped to 10, `m12` and `m15` of the recipes with noise 0.5 are in
effect `m10`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
from torch import Tensor

from hornet_train.images import pillow_ops
from hornet_train.images.layout import Interpolation, Matrix
from hornet_train.images.policies.grammar import read_parts
from hornet_train.images.warp import rotate, warp

MAX_LEVEL = 10.0  # magnitudes are tenths of an operation's range
MEAN_PIXEL = (124, 116, 104)  # ImageNet's mean, times 255

UNIFORM_ABOVE = 100.0  # mstd above this: magnitudes uniform in 0..m


@dataclass(frozen=True)
class RandAugment:
    """`layers` operations drawn with replacement, each applied with probability `prob` at a noisy magnitude.

    Attributes:
        magnitude: m of the grammar, in tenths of an operation's range.
        layers: n of the grammar, how many operations an image gets.
        prob: p of the grammar, the probability of each.
        noise: mstd of the grammar, the standard deviation of the magnitude; above 100, magnitudes are uniform
            in 0..magnitude.
        max_magnitude: mmax of the grammar, the upper bound to which noisy magnitudes are clipped.
        increasing: inc of the grammar: use the variants in which a higher magnitude always changes more.
        fill: RGB, 0..255, of pixels that geometric operations take from outside the image: the
            data set's mean pixel.
        interpolation: of geometric operations; "random" draws one of the two each time. timm takes the
            training interpolation here, so the paper's recipes (bicubic) have bicubic.
    """

    magnitude: float = MAX_LEVEL
    layers: int = 2
    prob: float = 0.5
    noise: float = 0.0
    max_magnitude: float = MAX_LEVEL
    increasing: bool = False
    fill: tuple[int, int, int] = MEAN_PIXEL
    interpolation: Interpolation | Literal["random"] = "bicubic"

    def __post_init__(self) -> None:
        if (
            self.layers < 0
            or not 0 <= self.prob <= 1
            or min(self.magnitude, self.noise, self.max_magnitude) < 0
        ):
            raise ValueError(f"RandAugment needs p in 0..1 and nothing below 0, not {self}")

    @classmethod
    def parse(
        cls,
        text: str,
        fill: tuple[int, int, int] = MEAN_PIXEL,
        interpolation: Interpolation | Literal["random"] = "bicubic",
    ) -> RandAugment:
        """Read timm's grammar: `rand`, then m n p mstd mmax inc with a number, in any order, joined
        by dashes.

        Raises:
            ValueError: a part is unknown or repeated, or its number is out of range; the message names it.
        """
        values = read_parts(text, ("rand",), _GRAMMAR, fractions=("p", "mstd"))
        return cls(
            magnitude=values.get("m", MAX_LEVEL),
            layers=int(values.get("n", 2)),
            prob=values.get("p", 0.5),
            noise=values.get("mstd", 0.0),
            max_magnitude=values.get("mmax", MAX_LEVEL),
            increasing=bool(values.get("inc", 0)),
            fill=fill,
            interpolation=interpolation,
        )

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of the 15 operations to draw from."""
        return INCREASING if self.increasing else PLAIN

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment one image.

        Args:
            image: uint8 (3, H, W).
            rng: the source of all random decisions.

        Returns:
            uint8 (3, H, W); `image` itself if no operation was applied.
        """
        operations = self.operations
        for choice in rng.integers(len(operations), size=self.layers):
            if rng.random() >= self.prob:
                continue
            name = operations[choice]
            value = level_to_value(
                name, noisy_level(self.magnitude, self.noise, self.max_magnitude or MAX_LEVEL, rng), rng
            )
            image = apply(name, image, value, self.fill, self._interpolation(name, rng))
        return image

    def _interpolation(self, name: str, rng: np.random.Generator) -> Interpolation:
        if self.interpolation != "random":
            return self.interpolation
        return "bilinear" if name in GEOMETRIC and rng.random() < 0.5 else "bicubic"


def noisy_level(level: float, noise: float, max_level: float, rng: np.random.Generator) -> float:
    """A level with normal noise, clipped to 0..`max_level`; with a noise above 100, uniform in 0..level."""
    if noise > UNIFORM_ABOVE:
        level = rng.uniform(0, level)
    elif noise > 0:
        level = rng.normal(level, noise)
    return max(0.0, min(level, max_level))


def level_to_value(name: str, level: float, rng: np.random.Generator) -> float:
    """The argument of operation `name` at `level`, 0..10: an angle, a factor, ... (timm's level functions).

    For operations with two directions, a sign is drawn from `rng`; for those without an argument it is 0.
    """
    share = level / MAX_LEVEL
    signed = (-share if rng.random() < 0.5 else share) if name in _SIGNED else share
    match name:
        case "Rotate":
            return signed * 30  # degrees
        case "ShearX" | "ShearY":
            return signed * 0.3
        case "TranslateXRel" | "TranslateYRel":
            return signed * 0.45  # of the side
        case "ColorIncreasing" | "ContrastIncreasing" | "BrightnessIncreasing" | "SharpnessIncreasing":
            return max(0.1, 1 + signed * 0.9)
        case "Color" | "Contrast" | "Brightness" | "Sharpness":
            return share * 1.8 + 0.1
        case "Posterize":
            return int(share * 4)  # bits
        case "PosterizeIncreasing":
            return max(0, 4 - int(share * 4))
        case "Solarize":
            return min(256, int(share * 256))
        case "SolarizeIncreasing":
            return 256 - min(256, int(share * 256))
        case "SolarizeAdd":
            return min(128, int(share * 110))
        case _:
            return 0


def apply(
    name: str,
    image: Tensor,
    value: float,
    fill: tuple[int, int, int] = MEAN_PIXEL,
    interpolation: Interpolation = "bicubic",
) -> Tensor:
    """Apply one operation, by its timm name, with the value from `level_to_value`.

    Only geometric operations use `fill` and `interpolation`.

    Args:
        image: uint8 (3, H, W).

    Returns:
        uint8 (3, H, W).
    """
    if name == "Rotate":
        return rotate(image, value, fill, interpolation)
    if name in _MATRICES:
        matrix = _MATRICES[name](value, image.shape[1], image.shape[2])
        return warp(image, matrix, fill, interpolation)
    return _POINTWISE[name.removesuffix("Increasing")](image, value)


_GRAMMAR = {"m": (0, inf), "n": (0, inf), "p": (0, 1), "mstd": (0, inf), "mmax": (0, inf), "inc": (0, 1)}

INCREASING = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
PLAIN = tuple(name.removesuffix("Increasing") for name in INCREASING)

_MATRICES: dict[str, Callable[[float, int, int], Matrix]] = {
    "ShearX": lambda value, _h, _w: (1, value, 0, 0, 1, 0),
    "ShearY": lambda value, _h, _w: (1, 0, 0, value, 1, 0),
    "TranslateXRel": lambda value, _h, width: (1, 0, value * width, 0, 1, 0),
    "TranslateYRel": lambda value, height, _w: (1, 0, 0, 0, 1, value * height),
}
GEOMETRIC = frozenset({"Rotate", *_MATRICES})
_POINTWISE: dict[str, Callable[[Tensor, float], Tensor]] = {
    "AutoContrast": lambda image, _: pillow_ops.auto_contrast(image),
    "Equalize": lambda image, _: pillow_ops.equalize(image),
    "Invert": lambda image, _: pillow_ops.invert(image),
    "Posterize": lambda image, bits: pillow_ops.posterize(image, int(bits)),
    "Solarize": lambda image, threshold: pillow_ops.solarize(image, int(threshold)),
    "SolarizeAdd": lambda image, add: pillow_ops.solarize_add(image, int(add)),
    "Color": pillow_ops.color,
    "Contrast": pillow_ops.contrast,
    "Brightness": pillow_ops.brightness,
    "Sharpness": pillow_ops.sharpness,
}
_SIGNED = GEOMETRIC | {
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
}
