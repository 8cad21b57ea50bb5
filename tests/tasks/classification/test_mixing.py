"""Mixing against timm's functions with the same share and box, and laws that hold for every draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data import mixup as timm_mixup

from hornet_train.images.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize
from hornet_train.tasks.classification.mixing import Mix, Mixer, erase, smooth_one_hot

B, K, H, W = 6, 5, 12, 16
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(B, 3, H, W, generator=torch.Generator().manual_seed(0))


def test_normalize() -> None:
    raw = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    normalize = Normalize()
    torch.testing.assert_close(normalize(raw), (raw / 255 - mean) / std)
    assert Normalize(dtype=torch.bfloat16)(raw).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="std"):
        Normalize(std=(0, 1, 1))


def test_erase_fills_the_boxes_with_normal_noise_and_nothing_else() -> None:
    images = torch.full((4, 3, 64, 48), 9.0)
    boxes = torch.tensor([[0, 0, 0, 0], [3, 5, 40, 20], [0, 0, 64, 48], [60, 40, 4, 8]])
    erased = erase(images.clone(), boxes, torch.Generator().manual_seed(1))
    filled = []
    for image, (top, left, height, width) in zip(erased, boxes.tolist(), strict=True):
        inside = torch.zeros(64, 48, dtype=torch.bool)
        inside[top : top + height, left : left + width] = True
        assert (image[:, ~inside] == 9).all()
        filled.append(image[:, inside].flatten())
    noise = torch.cat(filled)
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03
    assert torch.equal(erased, erase(images.clone(), boxes, torch.Generator().manual_seed(1)))
    torch.manual_seed(1)
    assert torch.equal(erased, erase(images.clone(), boxes))  # the global generator, seeded by the caller


def test_smoothing_is_timms() -> None:
    for smoothing in (0.0, 0.1, 1.0):
        theirs = timm_mixup.mixup_target(LABELS, K, lam=1.0, smoothing=smoothing)
        torch.testing.assert_close(smooth_one_hot(LABELS, K, smoothing), theirs)


def test_without_mixing_only_labels_are_smoothed(images: torch.Tensor) -> None:
    mixed, targets = Mixer(K, mixup=0, cutmix=0)(images, LABELS, np.random.default_rng(0))
    assert mixed is images
    assert torch.equal(targets, smooth_one_hot(LABELS, K, 0.1))


@pytest.mark.parametrize(
    "mix", [Mix(0.3), Mix(1 - 5 * 7 / (H * W), (2, 9, 5, 7)), Mix(0.0, (0, 0, H, W)), Mix(1.0, (3, 3, 0, 4))]
)
def test_pixels_and_targets_are_timms(
    mix: Mix, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = timm_mixup.Mixup(0.8, 1.0, label_smoothing=0.1, num_classes=K)
    drawn = (0.5 if mix.box else mix.share, mix.box is not None)
    monkeypatch.setattr(theirs, "_params_per_batch", lambda: drawn)
    if mix.box is not None:
        top, left, height, width = mix.box
        box = (top, top + height, left, left + width)
        monkeypatch.setattr(timm_mixup, "rand_bbox", lambda *_, **__: box)
    before = images.clone()
    ours = Mixer(K).apply(images, LABELS, mix)
    assert torch.equal(images, before)
    for a, b in zip(ours, theirs(images.clone(), LABELS), strict=True):
        torch.testing.assert_close(a, b)


def test_draws_follow_timms_distributions() -> None:
    mixer = Mixer(K, mixup=0.8, cutmix=1.0, prob=0.8, switch_prob=0.3)
    draws = [mixer.draw(224, 224, np.random.default_rng((0, step))) for step in range(3000)]
    assert draws == [mixer.draw(224, 224, np.random.default_rng((0, step))) for step in range(3000)]
    assert len(set(draws)) > 2300
    cut = [mix.share for mix in draws if mix.box is not None]
    blend = [mix.share for mix in draws if mix.box is None and mix.share != 1]
    assert abs(1 - (len(cut) + len(blend)) / 3000 - 0.2) < 0.025
    assert abs(len(cut) / (len(cut) + len(blend)) - 0.3) < 0.03
    assert abs(np.mean(blend) - 0.5) < 0.02
    assert abs(np.var(blend) - 1 / (4 * (2 * 0.8 + 1))) < 0.01  # of Beta(a, a)
    np.random.seed(0)  # timm's generator
    theirs = [timm_mixup.cutmix_bbox_and_lam((3, 224, 224), np.random.beta(1, 1))[1] for _ in range(3000)]
    assert abs(np.mean(cut) - np.mean(theirs)) < 0.04
    assert Mixer(K, mixup=0, switch_prob=0).draw(8, 8, np.random.default_rng(0)).box is not None
    assert Mixer(K, cutmix=0, switch_prob=1).draw(8, 8, np.random.default_rng(0)).box is None


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    batch=st.integers(1, 5),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    smoothing=st.floats(0, 1),
    cutmix=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_laws(seed: int, batch: int, height: int, width: int, smoothing: float, cutmix: float) -> None:
    mixer = Mixer(K, mixup=0.8, cutmix=cutmix, smoothing=smoothing)
    mix = mixer.draw(height, width, np.random.default_rng(seed))
    # image i holds the value i everywhere, so that a pixel tells where it came from
    values = torch.arange(batch, dtype=torch.float32)
    images = values[:, None, None, None].expand(batch, 3, height, width).contiguous()
    labels = torch.arange(batch) % K
    mixed, targets = mixer(images, labels, np.random.default_rng(seed))
    torch.testing.assert_close(targets.sum(1), torch.ones(batch))
    assert targets.min() >= 0
    expected = values * mix.share + values.flip(0) * (1 - mix.share)
    torch.testing.assert_close(mixed.mean((1, 2, 3)), expected, atol=1e-4, rtol=1e-4)
    if mix.box is not None and batch > 1:
        own = (mixed[0] == 0).float().mean().item()
        assert own == pytest.approx(mix.share, abs=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_host_never_waits_for_the_device() -> None:
    normalize = Normalize()
    raw = torch.randint(0, 256, (B, 3, H, W), dtype=torch.uint8)
    boxes = torch.tensor([[1, 2, 3, 4]] * B)
    on_device = [value.cuda() for value in (raw, boxes, LABELS)]
    expected = normalize(raw)
    normalize(on_device[0])  # the constants go over once
    torch.cuda.set_sync_debug_mode("error")
    try:
        images = normalize(on_device[0])
        erased = erase(images.clone(), on_device[1])
        results = [Mixer(K).apply(images, on_device[2], mix) for mix in (Mix(0.3), Mix(0.5, (0, 0, 6, W)))]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(images.cpu(), expected)
    assert ((erased != images).sum((1, 2, 3)) == 3 * 3 * 4).all()
    for (mixed, targets), mix in zip(results, (Mix(0.3), Mix(0.5, (0, 0, 6, W))), strict=True):
        on_host = Mixer(K).apply(expected, LABELS, mix)
        torch.testing.assert_close((mixed.cpu(), targets.cpu()), on_host)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes"):
        Mixer(0)
    with pytest.raises(ValueError, match="prob"):
        Mixer(2, prob=1.5)
