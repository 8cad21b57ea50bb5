"""The augment group as a transform: what is on, in which order, drawing what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from configs import compose_train
from pictures import PHOTO, tensor

from hornet_train.config.conf_files import options
from hornet_train.errors import ConfigError
from hornet_train.images.policies import ColorJitter, RandomBlur, RandomGreyscale
from hornet_train.images.policies.randaugment import RandAugment
from hornet_train.images.policies.three import ThreeAugment
from hornet_train.images.resize import resize
from hornet_train.tasks.classification.build.components import growth_of, stretch_notes, train_transform
from hornet_train.tasks.classification.transforms import TrainTransform

IMAGE = tensor(PHOTO)


def transform(*overrides: str) -> TrainTransform:
    config = compose_train(["recipe=none", "data=synthetic", "data.image_size=32", *overrides]).config
    return train_transform(config)


def test_in_timms_order() -> None:
    every = transform(
        "augment.blur=0.1",
        "augment.grayscale=0.2",
        "augment.color_jitter=0.4",
        "augment.color_jitter_prob=0.8",
    )
    assert [type(policy) for policy in every.policies] == [
        RandAugment,
        ColorJitter,
        RandomGreyscale,
        RandomBlur,
    ]
    assert every.policies[1:] == (
        ColorJitter(0.4, 0.4, 0.4, 0.0, prob=0.8),
        RandomGreyscale(0.2),
        RandomBlur(0.1),
    )
    assert transform("augment=three").policies == (ThreeAugment(), ColorJitter(0.3, 0.3, 0.3))
    assert transform("augment=none").policies == ()


def test_geometric_operations_show_the_data_sets_mean() -> None:
    (policy,) = transform("data.mean=[0.1,0.2,1.0]", "data.interpolation=bilinear").policies
    assert isinstance(policy, RandAugment)
    assert (policy.fill, policy.interpolation) == ((26, 51, 255), "bilinear")


@pytest.mark.parametrize("option", options("augment", task="classification"))
def test_policies_leave_the_draws_before_them_alone(option: str) -> None:
    """Crop, flip and erase box of a sample are the same whatever policies follow."""
    erase = "augment.erase=0.5"
    bare = transform(f"augment={option}", erase, "augment.policy=null", "augment.color_jitter=null")
    full = transform(f"augment={option}", erase, "augment.color_jitter=0.4", "augment.blur=0.5")
    changed = 0
    for seed in range(40):
        (image, box), (augmented, same_box) = (
            one(IMAGE, np.random.default_rng(seed)) for one in (bare, full)
        )
        assert torch.equal(box, same_box)
        changed += not torch.equal(image, augmented)
        assert augmented.permute(1, 2, 0).is_contiguous()
    assert changed > 30


@pytest.mark.parametrize("shape", [(40, 40), (40, 41), (41, 40), (40, 42), (40, 90), (7, 8), (1, 2)])
def test_none_shows_the_central_square_in_every_epoch(shape: tuple[int, int]) -> None:
    height, width = shape
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))
    image, side = image.permute(2, 0, 1), min(shape)
    top, left = (height - side) // 2, (width - side) // 2
    square = resize(image[:, top : top + side, left : left + side], (32, 32))
    for seed in range(8):
        shown, box = transform("augment=none")(image, np.random.default_rng(seed), epoch=seed)
        assert torch.equal(shown, square)
        assert not box.any()


def test_crops_without_the_shape_of_the_images_are_told() -> None:
    """They are stretched, as by torchvision; what is evaluated on is not."""

    def notes(*overrides: str) -> list[str]:
        return stretch_notes(compose_train(["recipe=none", "data=synthetic", *overrides]).config)

    assert notes("augment=none") == []
    assert notes("data.image_size=[192,256]") == []  # 4 / 3, the widest of the crops
    (note,) = notes("data.image_size=[192,352]")
    assert note.startswith("augment.ratio=[0.75,1.333], width / height of the crops to train on")
    assert note.endswith("augment.ratio=[1.375,2.444] keeps the proportions")
    assert notes("data.image_size=[192,352]", "augment.ratio=[1.375,2.444]") == []


def test_one_number_to_grow_from_is_the_short_side() -> None:
    def sizes(*overrides: str) -> list[object]:
        config = compose_train(
            ["recipe=none", "data=synthetic", "data.image_size=[64,128]", "augment.size_step=16", *overrides]
        ).config
        growth = growth_of(config, steps_per_epoch=5, total_steps=15)
        assert growth is not None
        return [growth(epoch) for epoch in range(4)]

    assert sizes("augment.start_size=32") == [(32, 64), (32, 80), (48, 96), (64, 128)]
    assert sizes("augment.start_size=[48,64]") == [(48, 64), (48, 80), (48, 96), (64, 128)]


def test_a_wrong_policy_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"augment\.policy=augmix-m3-q1: 'q1'.*unknown"):
        transform("augment.policy=augmix-m3-q1")
