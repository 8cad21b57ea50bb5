"""Colour jitter, greyscale and blur are compared with torchvision's, on the same random draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pictures import PHOTO, PICTURES, apart, tensor
from torchvision import transforms

from hornet_train.images.policies import ColorJitter, RandomBlur, RandomGreyscale

Range = tuple[float, float] | None


@pytest.mark.parametrize(
    "strengths",
    [(0.4, 0.4, 0.4, 0.0), (0.0, 0.0, 0.3, 0.2), (0.0, 0.0, 0.0, 0.5), (1.5, 1.5, 1.5, 0.1), (0, 0, 0, 0)],
)
def test_color_jitter_is_torchvisions(
    strengths: tuple[float, float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same factors, in the same order, with the same result."""
    theirs, ours = transforms.ColorJitter(*strengths), ColorJitter(*strengths)
    image, changed = tensor(PHOTO), 0
    for seed in range(60):

        def params(*ranges: Range, seed: int = seed) -> tuple[np.ndarray, *tuple[float | None, ...]]:
            rng = np.random.default_rng(seed)
            order = rng.permutation(4)
            return order, *(rng.uniform(*limits) if limits else None for limits in ranges)

        monkeypatch.setattr(theirs, "get_params", params)
        result = ours(image, np.random.default_rng(seed))
        # one operation differs by at most a level, and later ones amplify that: saturation at most 2.5 times
        assert apart(result, theirs(PHOTO)).max() <= 4
        assert apart(result, theirs(PHOTO)).mean() < 0.1
        changed += not torch.equal(result, image)
    assert changed == (60 if any(strengths) else 0)
    assert torch.equal(image, tensor(PHOTO)), "the input image was changed"


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("which", range(4))
def test_each_operation_alone_is_within_a_level(which: int, name: str) -> None:
    strengths = [0.0] * 4
    strengths[which] = 0.5
    for seed in range(12):
        rng = np.random.default_rng(seed)
        result = ColorJitter(*strengths)(tensor(PICTURES[name]), np.random.default_rng(seed))
        rng.permutation(4)
        adjust = (
            transforms.functional.adjust_brightness,
            transforms.functional.adjust_contrast,
            transforms.functional.adjust_saturation,
            transforms.functional.adjust_hue,
        )[which]
        factor = rng.uniform(-0.5, 0.5) if which == 3 else rng.uniform(0.5, 1.5)
        assert apart(result, adjust(PICTURES[name], factor)).max() <= 1


def test_each_is_applied_with_its_probability() -> None:
    image = tensor(PICTURES["tiny"])
    for policy, prob in (
        (ColorJitter(0.9, prob=0.3), 0.3),
        (RandomGreyscale(0.2), 0.2),
        (RandomGreyscale(1.0), 1.0),
    ):
        results = [policy(image, np.random.default_rng(seed)) for seed in range(600)]
        changed = np.mean([not torch.equal(result, image) for result in results])
        assert changed == pytest.approx(prob, abs=0.07), policy
    blurred = [RandomBlur(0.5)(tensor(PHOTO), np.random.default_rng(seed)) for seed in range(400)]
    changed = np.mean([not torch.equal(result, tensor(PHOTO)) for result in blurred])
    assert changed == pytest.approx(0.45, abs=0.07)  # a sigma below a fifth of a pixel changes nothing


def test_blur_is_timms() -> None:
    """torchvision's GaussianBlur(23), with a sigma of 0.1..2 pixels."""
    theirs = transforms.GaussianBlur(23)
    assert theirs.sigma == (0.1, 2.0)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        rng.random()
        sigma = rng.uniform(*theirs.sigma)
        expected = transforms.functional.gaussian_blur(PHOTO, [23, 23], [sigma, sigma])
        assert apart(RandomBlur(1.0)(tensor(PHOTO), np.random.default_rng(seed)), expected).max() <= 1


def test_impossible_settings_are_refused() -> None:
    for kwargs in ({"hue": 0.6}, {"brightness": -0.1}, {"prob": 1.5}):
        with pytest.raises(ValueError, match=str(next(iter(kwargs.values())))):
            ColorJitter(**kwargs)
    with pytest.raises(ValueError, match=r"not 1\.5"):
        RandomBlur(1.5)
