"""Micro-batches of a single image and batch norm: refused before anything is trained, with the remedy."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import hornet_train.models  # noqa: F401 - registers
from hornet_train.data.order import EpochPlan, Plan
from hornet_train.data.stream_plan import StreamPlan
from hornet_train.errors import ConfigError
from hornet_train.models.complexity import trains_on_one_image
from hornet_train.tasks.model_check import check_micro_batches

PIXELS = 32  # resnet10t's last map is 1x1 then


def plans(samples: int, batch: int, micro: int, world: int) -> list[EpochPlan]:
    return [EpochPlan(samples, batch, micro, rank, world, seed=0, drop_last=False) for rank in range(world)]


def check(plan: Plan, world: int = 1, *, name: str = "resnet10t", total_steps: int = 100) -> None:
    model = timm.create_model(name, num_classes=4)
    check_micro_batches(model, name, plan, image_size=PIXELS, total_steps=total_steps, processes=world)


@pytest.mark.parametrize(
    ("samples", "batch", "micro", "world", "message"),
    [
        (
            93,
            23,
            23,
            1,
            "the last step of an epoch has 1 image, .* data.drop_last=true .* another batch_size",
        ),
        (15, 4, 2, 1, "the last step of an epoch has 3 images, "),
        (19, 16, 8, 2, "the last step of an epoch has 3 images for 2 processes, "),
        (10, 8, 4, 2, "the last step of an epoch has 2 images for 2 processes, "),
        (12, 4, 1, 1, "^micro_batch_size=1: give a larger one "),
        (12, 2, 1, 2, "^batch_size=2 is one image a process: batch_size=4, say "),
    ],
)
def test_a_single_image_is_refused_on_every_rank(
    samples: int, batch: int, micro: int, world: int, message: str
) -> None:
    for plan in plans(samples, batch, micro, world):
        with pytest.raises(ConfigError, match=message) as caught:
            check(plan, world)
        assert "resnet10t cannot be trained on one image of 32x32 pixels" in str(caught.value)


def test_a_stream_of_single_images_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^micro_batch_size=1: give a larger one "):
        check(StreamPlan((10, 10), 4, 1, 0, 1, 1, seed=0))
    check(StreamPlan((10, 10), 4, 2, 0, 1, 1, seed=0))


def test_what_can_be_trained_is_not_refused() -> None:
    check(plans(93, 12, 4, 1)[0])  # the last step has 9 images: 3, 3, 3
    check(plans(10, 8, 4, 2)[0], 2, name="hornet_pico_7x7")  # no batch norm
    check(plans(93, 23, 23, 1)[0], total_steps=4)  # ends before the last step of an epoch


def test_which_models_train_on_one_image_and_that_they_do() -> None:
    """Against torch itself; nothing of the model changes."""
    for name, pixels in (("resnet10t", 32), ("resnet10t", 64), ("hornet_pico_7x7", 32)):
        model = timm.create_model(name, num_classes=4).eval()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        answer = trains_on_one_image(model, pixels)
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
        assert not any(module.training for module in model.modules())
        try:
            model.train()(torch.zeros(1, 3, pixels, pixels))
            trains = True
        except ValueError:
            trains = False
        assert answer is trains is (pixels != 32 or name != "resnet10t")


def test_a_model_that_takes_no_images_of_that_size_has_another_reason() -> None:
    assert trains_on_one_image(nn.Linear(3, 3), 32)
