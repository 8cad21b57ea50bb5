"""A task of one's own whose batch norm cannot be trained on one image is refused before it trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numbered import Numbered
from torch import Tensor, nn

from hornet_train.data.order import EpochPlan
from hornet_train.engine.task import Loss
from hornet_train.errors import ConfigError
from hornet_train.run.single_images import check_single_images


class Means:
    """Fits the number of an image."""

    def build_model(self, pooled: bool) -> nn.Module:
        norm: list[nn.Module] = [nn.AdaptiveAvgPool2d(1)] if pooled else []
        return nn.Sequential(
            nn.Conv2d(3, 4, 1),
            *norm,
            nn.BatchNorm2d(4),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 1),
        )

    def loss(self, model: nn.Module, batch: Any, rng: np.random.Generator) -> Loss:  # noqa: ARG002
        label: Tensor = batch["label"]
        return Loss((model(batch["image"].float())[:, 0] - label).square().mean())


@pytest.mark.parametrize(
    ("samples", "batch_size", "micro", "world", "steps", "said"),
    [
        (9, 4, 4, 1, 9, "the last step of an epoch has 1 image, which leaves one alone"),
        (9, 4, 4, 1, 2, None),  # which ends before it
        (8, 4, 1, 1, 2, "micro_batch_size=1: give a larger one"),
        (8, 2, 1, 2, 2, "batch_size=2 is one image a process: batch_size=4"),
        (8, 4, 4, 1, 2, None),
    ],
)
def test_one_image_is_tried(
    samples: int, batch_size: int, micro: int, world: int, steps: int, said: str | None
) -> None:
    task, source = Means(), Numbered(samples)
    plan = EpochPlan(samples, batch_size, micro, 0, world, seed=0, drop_last=False)
    for pooled in (True, False):
        torch.manual_seed(0)
        model = task.build_model(pooled)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        state = torch.get_rng_state()

        def check(model: nn.Module = model) -> None:
            check_single_images(
                *(task, model, source, source, plan),  # type: ignore[arg-type]
                total_steps=steps,
                processes=world,
            )

        if said is not None and pooled:
            with pytest.raises(ConfigError, match=said):
                check()
        else:  # a larger map has values enough
            check()
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
