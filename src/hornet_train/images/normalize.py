"""Normalise a batch of uint8 images to floats, on the device of the batch.

Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_BHWC` has the channels last, and in
`x_HV` a row holds the W * C values of its pixels.
"""

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
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Choose the statistics.

        Args:
            mean, std: of each channel, of values in 0..1.
            dtype: of the result.

        Raises:
            ValueError: a std is not above 0.
        """
        if min(std) <= 0:
            raise ValueError(f"std must be above 0, not {std}")
        self.mean = mean
        self.std = std
        self.dtype = dtype
        # scale and shift by device: copying them there in every call would wait for the device
        self._constants: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """uint8 (B, C, H, W) to `dtype` (B, C, H, W), a new tensor on the device of `images_BCHW`."""
        if images_BCHW.device not in self._constants:
            mean, std = (
                torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (self.mean, self.std)
            )
            pair = (1 / (255 * std), -mean / std)
            scale, shift = (constant.to(images_BCHW.device, torch.float32) for constant in pair)
            self._constants[images_BCHW.device] = (scale, shift)
        scale, shift = self._constants[images_BCHW.device]
        pixels_BHWC = images_BCHW.permute(0, 2, 3, 1)
        if images_BCHW.device.type == "cpu" and pixels_BHWC.is_contiguous():
            return _normalize_on_cpu(pixels_BHWC, scale, shift).permute(0, 3, 1, 2).to(self.dtype)
        values_BCHW = images_BCHW.float()
        torch.addcmul(shift, values_BCHW, scale, out=values_BCHW)
        return values_BCHW.to(self.dtype)


def _normalize_on_cpu(pixels_BHWC: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """uint8 (B, H, W, C) * `scale` + `shift`, in float32, in the way that is fastest on a CPU.

    The constants are repeated along a row, since torch is slow when broadcasting over three values; the batch
    is done image by image, since one image fits into the cache. Numpy allocates the result, because its
    memory is reused from a freed batch; glibc before 2.38 hardly reuses memory of the alignment that torch
    asks for (its bug 14581), and first writes to new pages take longer than the arithmetic.
    """
    values_BHWC = torch.from_numpy(np.empty(pixels_BHWC.shape, dtype=np.float32))
    width = pixels_BHWC.shape[2]
    scale, shift = (constant.flatten().repeat(width) for constant in (scale, shift))
    for image_HWC, result_HV in zip(pixels_BHWC, values_BHWC.flatten(2), strict=True):
        result_HV.copy_(image_HWC.flatten(1))
        torch.addcmul(shift, result_HV, scale, out=result_HV)
    return values_BHWC
