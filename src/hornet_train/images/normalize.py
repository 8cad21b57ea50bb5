"""uint8 images to normalised floats, a whole batch at a time, on the device it is on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalize:
    """uint8 to float with mean 0 and standard deviation 1: (image / 255 - mean) / std."""

    def __init__(
        self,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Set up.

        Args:
            mean, std: by channel, of values in 0..1.
            dtype: of the result.

        Raises:
            ValueError: a std that is not above 0.
        """
        if min(std) <= 0:
            raise ValueError(f"std must be above 0, not {std}")
        self.mean = mean
        self.std = std
        self.dtype = dtype
        self._constants: dict[
            torch.device, tuple[Tensor, Tensor]
        ] = {}  # made once a device: a copy there waits

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) to `dtype` (B, 3, H, W), on the device of `images`, a new tensor."""
        if images.device not in self._constants:
            mean, std = (
                torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (self.mean, self.std)
            )
            pair = (1 / (255 * std), -mean / std)
            scale, shift = (constant.to(images.device, torch.float32) for constant in pair)
            self._constants[images.device] = (scale, shift)
        scale, shift = self._constants[images.device]
        pixels = images.permute(0, 2, 3, 1)
        if images.device.type == "cpu" and pixels.is_contiguous():
            return _scaled_rows(pixels, scale, shift).permute(0, 3, 1, 2).to(self.dtype)
        values = images.float()
        torch.addcmul(shift, values, scale, out=values)
        return values.to(self.dtype)


def _scaled_rows(pixels: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) * `scale` + `shift`, float, as a CPU does it best.

    Row by row of all channels, since over three values at a time torch is slow; image by image, which a
    cache holds. The memory is numpy's, which a new batch gets again where another was freed; glibc before
    2.38 hardly does so with the alignment that torch asks for (its bug 14581), and fresh pages take longer
    than the arithmetic.
    """
    values = torch.from_numpy(np.empty(pixels.shape, dtype=np.float32))
    width = pixels.shape[2]
    scale, shift = (constant.flatten().repeat(width) for constant in (scale, shift))
    for image, result in zip(pixels, values.flatten(2), strict=True):
        result.copy_(image.flatten(1))
        torch.addcmul(shift, result, scale, out=result)
    return values
