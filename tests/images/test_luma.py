"""Grey as Pillow has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gpu import DEVICES
from PIL import Image

from hornet_train.images.luma import luma, luma_by_operators


@pytest.mark.parametrize("device", DEVICES)
def test_it_is_pillows_convert_l(device: str) -> None:
    """Of a million colours over the whole cube and on its edges, in any memory format."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 512, 512, 3)).astype(np.uint8)
    pixels[0] = rng.choice(np.array([0, 1, 127, 128, 254, 255], dtype=np.uint8), (512, 512, 3))
    theirs = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in pixels])[:, None]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)
    for of in (luma, luma_by_operators):
        for memory in (images, images.contiguous()):
            assert np.array_equal(of(memory).cpu().numpy(), theirs)
        assert np.array_equal(of(images[1:, :, 1:-2, 3:]).cpu().numpy(), theirs[1:, :, 1:-2, 3:])


def test_equal_channels_stay_what_they_are() -> None:
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(luma(grey.expand(1, 3, 16, 16)), grey)
