"""Pictures and their masks are changed together, by addressed draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hornet_train.data.address import sample_rng
from hornet_train.images.geometry import scaled_size
from hornet_train.images.policies.photometric import PhotometricDistortion
from hornet_train.tasks.segmentation.metrics import IGNORED
from hornet_train.tasks.segmentation.transforms import EvalTransform, TrainTransform


def pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    """A picture in blocks of 8 pixels, of which the red value is 20 times the label."""
    rng = np.random.default_rng(height * 1000 + width)
    blocks = rng.integers(0, 5, (-(-height // 8), -(-width // 8)))
    labels = np.kron(blocks, np.ones((8, 8), dtype=np.int64))[:height, :width].astype(np.uint8)
    return torch.from_numpy(np.stack([labels * 20, labels * 0, labels * 0])), torch.from_numpy(labels)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(9, 90),
    st.integers(9, 90),
    st.integers(8, 60),
    st.integers(0, 50),
    st.sampled_from([None, (40, 64)]),
)
def test_the_mask_stays_with_its_picture(height: int, width: int, crop: int, epoch: int, scale: Any) -> None:
    image, mask = pair(height, width)
    transform = TrainTransform(crop=crop, scale=scale)
    found, labels = transform(image, mask, sample_rng(1, epoch, 3))
    assert found.shape[1:] == labels.shape
    assert max(labels.shape) <= crop
    assert found.permute(1, 2, 0).is_contiguous()
    # inside of a block, where nothing is interpolated, the colour tells the label
    factor = 2 if scale is None else max(2, 2 * scale[0] / min(height, width))
    reach = math.ceil(factor) + 1  # of a stored pixel, in pixels of the result
    padded = F.pad(labels[None].float(), [reach] * 4, value=-1)
    most, least = (F.max_pool2d(sign * padded, 2 * reach + 1, 1)[0] * sign for sign in (1, -1))
    inside = most == least
    assert ((found[0].float() - 20.0 * labels).abs()[inside] <= 1).all()
    again = transform(image, mask, sample_rng(1, epoch, 3))
    assert torch.equal(found, again[0])
    assert torch.equal(labels, again[1])


def test_a_crop_of_one_class_is_drawn_again() -> None:
    mask = torch.zeros(200, 200, dtype=torch.uint8)
    mask[:, 150:] = 1
    mask[:40] = IGNORED
    image = torch.zeros(3, 200, 200, dtype=torch.uint8)

    def mixed(share: float) -> int:
        crops = TrainTransform(crop=40, ratio=(1.0, 1.0), cat_max_ratio=share)
        found = (crops(image, mask, sample_rng(0, 0, index))[1] for index in range(200))
        return sum(len(set(one.flatten().tolist()) - {IGNORED}) > 1 for one in found)

    assert mixed(1.0) < 80
    assert mixed(0.95) > 150


def test_ten_crops_are_looked_at_and_the_eleventh_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = list[int]()
    bincount = torch.bincount
    monkeypatch.setattr(torch, "bincount", lambda *a, **k: counted.append(1) or bincount(*a, **k))
    image, mask = torch.zeros(3, 99, 99, dtype=torch.uint8), torch.zeros(99, 99, dtype=torch.uint8)
    rng = sample_rng(0, 0, 0)
    TrainTransform(crop=40, ratio=(1.0, 1.0), hflip=0.0)(image, mask, rng)
    drawn = sample_rng(0, 0, 0)
    drawn.uniform()
    for _ in range(2 * 11):
        drawn.integers(99 - 40 + 1)
    drawn.random()
    assert len(counted) == 10
    assert rng.random() == drawn.random()


@pytest.mark.parametrize("size", [(683, 512), (512, 683), (400, 300), (1024, 2048)])
def test_sizes_are_the_published_ones(size: tuple[int, int]) -> None:
    short, long = min(size), max(size)
    factor = min(2048 / long, 512 / short)
    assert scaled_size(size, (512, 2048)) == tuple(int(side * factor + 0.5) for side in size)
    half = min(1024 / long, 256 / short)
    assert scaled_size(size, (512, 2048), 0.5) == tuple(int(side * half + 0.5) for side in size)


def test_evaluation_sizes_equal_the_published_table(reference: Any) -> None:
    stored = reference("dense/geometry")
    sizes = [tuple(row) for row in stored["sizes_hw"].tolist()]
    for name, scale, ratio in (
        ("ade_512", (512, 2048), 1.0),
        ("ade_640", (640, 2560), 1.0),
        *((f"ade_512_x{ratio}", (512, 2048), ratio) for ratio in (0.5, 0.75, 1.25, 1.5, 1.75)),
    ):
        found = [scaled_size(size, scale, ratio) for size in sizes]
        assert found == [tuple(row) for row in stored[f"resized_{name}_hw"].tolist()], name


def test_a_picture_too_small_for_the_model_is_told() -> None:
    transform = EvalTransform(ratios=(0.5, 1.0))
    assert "30x50 when resized" in str(transform.too_small((60, 100)))
    assert transform.too_small((64, 100)) is None


def test_photometric_distortion_keeps_grey_grey_and_changes_colours_within_bounds() -> None:
    grey = torch.arange(64, 192, dtype=torch.uint8).expand(3, 8, 128).contiguous()
    colour = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    distort, changed = PhotometricDistortion(), 0
    for index in range(64):
        rng = sample_rng(0, 0, index)
        found = distort(grey, rng)
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])
        assert float(found.float().mean()) < (128 + 32) * 1.5
        used = rng.random()
        other = sample_rng(0, 0, index)
        changed += int(not torch.equal(distort(colour, other), colour))
        assert other.random() == used  # as many draws, whatever the picture
    assert changed > 50


@pytest.mark.parametrize(("factor", "turn"), [(1.3, 0.9), (0.5, -0.6), (1.0, -6.0), (2.0, 5.9), (0.0, 0.0)])
def test_hue_and_saturation_are_those_of_hsv(factor: float, turn: float) -> None:
    import colorsys

    from hornet_train.images.loops.tones import saturate_and_turn

    pixels = np.random.default_rng(0).integers(0, 256, (29, 31, 3), dtype=np.uint8)  # more than one block
    pixels[:4] = pixels[:4] // 64 * 85  # ties between channels
    found = saturate_and_turn(pixels, factor, turn)
    for before, after in zip(pixels.reshape(-1, 3), found.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(before / 255))
        expected = colorsys.hsv_to_rgb((hue + turn / 6) % 1, min(factor * saturation, 1), value)
        assert np.abs(255 * np.array(expected) - after).max() <= 0.51
