"""Several views of a picture: crops, scales, mirror images."""

from __future__ import annotations

import pytest
import torch
from configs import compose_train
from torch import nn

from hornet_train.data.order import Address
from hornet_train.tasks.classification.build.components import build_task
from hornet_train.tasks.classification.samples import PictureSamples
from hornet_train.tasks.classification.transforms import EvalTransform

PICTURE = torch.randint(0, 256, (3, 36, 54), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("size", "top", "left"), [(32, 2, 11), ((32, 48), 2, 3)])
def test_five_crops_are_the_middle_and_the_corners(size: int | tuple[int, int], top: int, left: int) -> None:
    """Of a picture that is not resized for 32 pixels of 36."""
    samples = PictureSamples((EvalTransform(size, crop_pct=32 / 36),), corners=True)
    views = samples.make(Address(0, 0), PICTURE)
    tall, wide = (size, size) if isinstance(size, int) else size
    below, right = 36 - tall, 54 - wide
    places = [(top, left), (0, 0), (0, right), (below, 0), (below, right)]
    assert list(views) == ["image", "image1", "image2", "image3", "image4"]
    for view, (row, column) in zip(views.values(), places, strict=True):
        assert torch.equal(view, PICTURE[:, row : row + tall, column : column + wide])
    assert torch.equal(views["image"], EvalTransform(size, crop_pct=32 / 36)(PICTURE))


def test_corners_of_an_image_that_is_warped_otherwise() -> None:
    picture = torch.randint(0, 256, (3, 432, 500), dtype=torch.uint8)
    views = EvalTransform(384, crop_pct=384 / 432).five(picture)
    assert torch.equal(views[4], picture[:, -384:, -384:])


def test_probabilities_are_the_mean_of_all_views() -> None:
    task = build_task(compose_train(["model=hornet_pico_7x7", "data=synthetic"]).config, 5)
    torch.manual_seed(0)
    model = nn.Sequential(nn.AdaptiveAvgPool2d((1, 4)), nn.Flatten(), nn.Linear(12, 5))
    first, second = torch.randint(0, 256, (2, 2, 3, 8, 8), dtype=torch.uint8)
    alone = [
        task.probabilities(model, {"image": one}) for one in (first, first.flip(3), second, second.flip(3))
    ]
    both = task.probabilities(model, {"image": first, "image1": second}, flip=True)
    torch.testing.assert_close(both, torch.stack(alone).mean(0))
    torch.testing.assert_close(
        task.probabilities(model, {"image": first, "image1": second}), (alone[0] + alone[2]) / 2
    )
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)
