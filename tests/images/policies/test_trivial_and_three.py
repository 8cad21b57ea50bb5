"""TrivialAugment is compared with torchvision's on the same draws, 3-Augment with Pillow's operations."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from pictures import FILL, PHOTO, apart, tensor
from PIL import ImageFilter, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import TrivialAugmentWide, _apply_op

from hornet_train.images.color import box_blur
from hornet_train.images.policies.three import ThreeAugment
from hornet_train.images.policies.trivial import BINS, OPERATIONS, TrivialAugment

TRIVIAL = TrivialAugment(FILL, "bilinear")
GEOMETRIC = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}


def test_operations_are_torchvisions() -> None:
    assert list(OPERATIONS) == list(TrivialAugmentWide()._augmentation_space(BINS))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_strength_is_torchvisions(name: str) -> None:
    magnitudes, signed = TrivialAugmentWide()._augmentation_space(BINS)[name]
    for strength, magnitude in enumerate(magnitudes.reshape(-1).tolist()):
        for sign in (1, -1) if signed else (1,):
            ours = TRIVIAL.perform(name, tensor(PHOTO), strength, sign)
            theirs = _apply_op(PHOTO, name, sign * magnitude, InterpolationMode.BILINEAR, list(FILL))
            difference = apart(ours, theirs)
            if name in GEOMETRIC:
                assert difference.mean() < 0.05, (strength, sign)
                assert difference.quantile(0.995) <= 1, (strength, sign)
            else:
                assert difference.max() <= 1, (strength, sign)


def test_the_draws_are_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR, fill=list(FILL))
    for seed in range(150):
        ours, rng = np.random.default_rng(seed), np.random.default_rng(seed)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randint", lambda n, _size, rng=rng, **_: torch.tensor(rng.integers(n)))
            expected = theirs(PHOTO)
        assert apart(TRIVIAL(tensor(PHOTO), ours), expected).mean() < 0.05, seed
        assert ours.random() == rng.random()


def test_three_augment_applies_exactly_one_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    radii: list[float] = []

    def record(image: Tensor, radius: float) -> Tensor:
        radii.append(radius)
        return box_blur(image, radius)

    monkeypatch.setattr("hornet_train.images.color.box_blur", record)
    image, seen = tensor(PHOTO), Counter[str]()
    grey, solarized = PHOTO.convert("L").convert("RGB"), ImageOps.solarize(PHOTO, 128)
    for seed in range(900):
        result = ThreeAugment()(image, np.random.default_rng(seed))
        if torch.equal(result, tensor(grey)):
            seen["grey"] += 1
        elif torch.equal(result, tensor(solarized)):
            seen["solarized"] += 1
        else:
            seen["blurred"] += 1
            assert torch.equal(result, tensor(PHOTO.filter(ImageFilter.GaussianBlur(radii[-1]))))
    assert min(seen.values()) > 250
    assert len(radii) == seen["blurred"]
    assert 0.1 <= min(radii) < 0.15
    assert 1.95 < max(radii) <= 2.0
    assert np.mean(radii) == pytest.approx(1.05, abs=0.1)
