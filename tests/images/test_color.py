"""Colour operations and blurs are compared with those of Pillow and torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import PHOTO, PICTURES, apart, tensor
from PIL import Image, ImageFilter
from torchvision.transforms import functional

from hornet_train.images import color
from hornet_train.images.loops import levels

names = pytest.mark.parametrize("name", PICTURES)


def test_greyscale_is_pillows_for_every_colour() -> None:
    """On a grid of colours over the RGB cube, with its corners and its greys."""
    steps = np.append(np.arange(0, 256, 7), 255).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, len(steps), 3)
    picture = Image.fromarray(cube)
    assert torch.equal(color.greyscale(tensor(picture)), tensor(picture.convert("L").convert("RGB")))


@names
@pytest.mark.parametrize("turn", [-0.5, -0.3, -0.001, 0.0, 0.1, 0.25, 0.5])
def test_hue_is_torchvisions(name: str, turn: float) -> None:
    picture = PICTURES[name]
    assert torch.equal(color.hue(tensor(picture), turn), tensor(functional.adjust_hue(picture, turn)))


@pytest.mark.parametrize("sigma", [0.1, 0.4, 1.0, 2.0])
def test_gaussian_blur_is_torchvisions(sigma: float) -> None:
    for picture in (PHOTO, PICTURES["dull"], PICTURES["flat"]):  # torchvision needs 12 pixels a side
        theirs = functional.gaussian_blur(picture, [23, 23], [sigma, sigma])
        assert apart(color.gaussian_blur(tensor(picture), sigma), theirs).max() <= 1
    assert color.gaussian_blur(tensor(PICTURES["tiny"]), sigma).shape == (3, 2, 5)


@names
def test_box_blur_is_pillows(name: str) -> None:
    picture = PICTURES[name]
    for radius in (0.0, 0.1, 0.7, 2.0):
        theirs = tensor(picture.filter(ImageFilter.GaussianBlur(radius)))
        assert torch.equal(color.box_blur(tensor(picture), radius), theirs)


def test_blend_is_pillows() -> None:
    other = PICTURES["dull"]
    for share in (0.0, 0.1, 1 / 3, 0.5, 0.99, 1.0):
        ours = levels.blend(np.array(PHOTO), np.array(other), share)
        assert np.abs(ours.astype(int) - np.array(Image.blend(PHOTO, other, share))).max() <= 1


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), contiguous=st.booleans(), seed=st.integers(0, 99))
def test_any_shape_and_memory_layout(height: int, width: int, contiguous: bool, seed: int) -> None:
    values = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    image = torch.from_numpy(values).permute(2, 0, 1)
    image = image.contiguous() if contiguous else image.flip(2).flip(2)
    before = image.clone()
    for result in (
        color.greyscale(image),
        color.hue(image, 0.2),
        color.gaussian_blur(image, 1.3),
        color.box_blur(image, 1.3),
    ):
        assert result.shape == image.shape
        assert result.dtype == torch.uint8
        assert torch.equal(before, image), "the image given was changed"
