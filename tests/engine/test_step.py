"""One update: the loss is the mean by its weight over the whole step, however the step is cut up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from dense_task import CPU, begun
from torch import nn

from hornet_train.engine.step import StepResult, train_step
from hornet_train.engine.tally import SumTally
from hornet_train.engine.task import Loss

IGNORED = -100


@dataclass(frozen=True)
class SomePixels:
    """Cross-entropy of the pixels that have a label; with `unit`, weights are given in another unit."""

    unit: float = 1.0

    def build_model(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 2, 1))

    def loss(self, model: nn.Module, batch: Any, rng: Any) -> Loss:  # noqa: ARG002
        logits = model(batch["image"])
        each = F.cross_entropy(logits, batch["label"], ignore_index=IGNORED, reduction="none")
        valid = (batch["label"] != IGNORED).sum()
        mean = each.sum() / valid.clamp(min=1)
        square = logits.square().mean(dim=1)[batch["label"] != IGNORED].sum() / valid.clamp(min=1)
        return Loss(mean + 0.1 * square, self.unit * valid, {"loss_class": mean, "loss_square": square})

    def tally(self, device: torch.device) -> SumTally:
        raise NotImplementedError


def images(count: int, labelled: list[int]) -> dict[str, torch.Tensor]:
    """`count` images of 36 pixels, of which so many have a label."""
    torch.manual_seed(1)
    label = torch.full((count, 36), IGNORED)
    for row, known in zip(label, labelled, strict=True):
        row[:known] = torch.randint(2, (known,))
    return {"image": torch.randn(count, 3, 6, 6), "label": label.view(count, 6, 6)}


def step(
    task: Any, batch: dict[str, torch.Tensor], sizes: list[int]
) -> tuple[StepResult, list[torch.Tensor]]:
    """What an update of `task` comes to whose micro-batches have `sizes` images; 0: a stand-in."""
    model = task.build_model()
    state = begun(model)
    ends = torch.tensor(sizes).cumsum(0).tolist()
    micro_batches = [
        {name: value[end - size : end] if size else value[:2] for name, value in batch.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]
    result = train_step(
        *(state, model, task, micro_batches, sizes),
        step_size=sum(sizes),
        learning_rate=1e-2,
        seed=0,
        precision="fp32",
        clip_grad=0.1,
        world=CPU,
    )
    return result, [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("sizes", [[2] * 4, [1] * 8, [3, 3, 2], [4, 0, 4, 0]])
def test_any_micro_batches_equal_one(sizes: list[int]) -> None:
    """Images with very unequal numbers of labelled pixels, three in a row without any."""
    batch = images(8, [36, 1, 7, 0, 0, 0, 20, 3])
    result, weights = step(SomePixels(), batch, sizes)
    whole, expected = step(SomePixels(), batch, [8])
    torch.testing.assert_close(weights, expected, rtol=2e-5, atol=2e-6)
    torch.testing.assert_close(result.grad_norm, whole.grad_norm, rtol=1e-5, atol=0)
    assert float(result.weight) == float(whole.weight) == 67
    assert result.parts.keys() == {"loss_class", "loss_square"}
    for name in ("loss_class", "loss_square"):
        torch.testing.assert_close(result.parts[name], whole.parts[name], rtol=1e-5, atol=0)
    total = result.parts["loss_class"] + 0.1 * result.parts["loss_square"]
    torch.testing.assert_close(result.loss, total, rtol=1e-5, atol=0)


def test_the_unit_of_the_weight_does_not_matter() -> None:
    batch = images(8, [36, 1, 7, 0, 9, 0, 20, 3])
    _, weights = step(SomePixels(unit=1 / 36), batch, [4, 4])
    _, expected = step(SomePixels(), batch, [4, 4])
    torch.testing.assert_close(weights, expected, rtol=2e-5, atol=2e-6)


def test_a_step_without_any_weight_has_no_gradient() -> None:
    result, weights = step(SomePixels(), images(4, [0] * 4), [2, 2])
    assert float(result.grad_norm) == 0
    assert float(result.skipped) == 0
    assert all(weight.isfinite().all() for weight in weights)


@pytest.mark.parametrize("name", ["loss", "lr", "step"])
def test_a_part_that_would_hide_another_number_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"cannot be named '{name}'"):
        Loss(torch.tensor(0.0), parts={name: torch.tensor(1.0)})


def test_parts_and_weights_are_always_the_same() -> None:
    class Fickle(SomePixels):
        def loss(self, model: nn.Module, batch: Any, rng: Any) -> Loss:
            loss = super().loss(model, batch, rng)
            return loss if len(batch["label"]) == 1 else Loss(loss.mean)

    with pytest.raises(ValueError, match="the same parts"):
        step(Fickle(), images(3, [1, 1, 1]), [2, 1])
