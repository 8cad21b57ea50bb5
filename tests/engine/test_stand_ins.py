"""A stand-in takes part in the passes of a step and changes no weights, moments, averages or statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from dense_task import CPU, begun
from torch import Tensor, nn

from hornet_train.engine.step import train_step
from hornet_train.engine.task import Loss
from hornet_train.optim.ema import AveragedModel


class Classes:
    """Cross-entropy of plain logits."""

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], rng: Any) -> Loss:  # noqa: ARG002
        return Loss(F.cross_entropy(model(batch["image"]), batch["label"]))


def batch(size: int, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {"image": torch.randn(size, 3, 4, 4), "label": torch.randint(2, (size,))}


def after_a_step(sizes: list[int]) -> dict[str, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    state = begun(model, AveragedModel(model, decay=0.9))
    batches = [batch(size, seed=size) if size else batch(2, seed=99) for size in sizes]
    train_step(
        *(state, model, Classes(), batches, sizes),  # type: ignore[arg-type]
        step_size=sum(sizes),
        learning_rate=0.1,
        seed=0,
        precision="fp32",
        clip_grad=1.0,
        world=CPU,
    )
    assert model[1].num_batches_tracked.item() == sum(size > 0 for size in sizes)
    return {group: {name: t.clone() for name, t in named.items()} for group, named in state.tensors().items()}


@pytest.mark.parametrize("sizes", [[4, 0], [0, 4], [4, 3, 0]])
def test_a_stand_in_changes_nothing(sizes: list[int]) -> None:
    alone = after_a_step([size for size in sizes if size])
    torch.testing.assert_close(after_a_step(sizes), alone, rtol=0, atol=0)
