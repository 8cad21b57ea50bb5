"""Photometric distortion, as published trainings of dense tasks have it (SSD, Liu et al., ECCV 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hornet_train.images.layout import Floats, image_of, pixels_of
from hornet_train.images.loops.levels import look_up
from hornet_train.images.loops.tones import saturate_and_turn


@dataclass(frozen=True)
class PhotometricDistortion:
    """Brightness, contrast, saturation and hue by random amounts, each in half of the images.

    Contrast comes right after brightness or at the end, by a coin. The hue is continuous here; the published
    code has 180 steps a turn.

    Attributes:
        brightness: at most so many levels are added or taken away.
        contrast, saturation: the smallest and the largest factor.
        hue: at most so many degrees of the colour wheel.
    """

    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 36.0

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Distort one image. The draws are always as many.

        Args:
            image: uint8 (3, H, W).
            rng: where every decision comes from.

        Returns:
            uint8 (3, H, W).
        """
        added = rng.uniform(-self.brightness, self.brightness) * rng.integers(2)
        contrast = rng.uniform(*self.contrast) if rng.integers(2) else 1.0
        saturation = rng.uniform(*self.saturation) if rng.integers(2) else 1.0
        turn = rng.uniform(-self.hue, self.hue) / 60 * rng.integers(2)
        contrast_first = bool(rng.integers(2))
        levels = np.clip(np.arange(256, dtype=np.float32) + np.float32(added), 0, 255)
        pixels_HWC = _toned(pixels_of(image), levels * contrast if contrast_first else levels)
        if saturation != 1 or turn:
            pixels_HWC = saturate_and_turn(pixels_HWC, saturation, turn)
        if not contrast_first and contrast != 1:
            pixels_HWC = _toned(pixels_HWC, np.arange(256, dtype=np.float32) * np.float32(contrast))
        return image_of(pixels_HWC)


def _toned(pixels_HWC: np.ndarray, levels: Floats) -> np.ndarray:
    """Each value replaced by that of `levels`, (256,), cut at 255 and rounded down, as published."""
    table = np.minimum(levels, 255).astype(np.uint8)
    return look_up(pixels_HWC, np.repeat(table[None], 3, axis=0))
