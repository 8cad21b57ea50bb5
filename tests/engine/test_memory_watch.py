"""Running out of memory: the message says what did not fit, and the trial of a batch changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from dense_task import CPU, begun
from torch import Tensor, nn

from hornet_train.data.loader import Loaded
from hornet_train.engine.evaluation_loop import evaluate
from hornet_train.engine.memory_watch import MemoryWatch
from hornet_train.engine.state import TrainState
from hornet_train.engine.step import train_step
from hornet_train.engine.task import Loss
from hornet_train.errors import OutOfMemory


class AtMostEight:
    """A task on a device that holds eight images."""

    def loss(self, model: nn.Module, batch: Any, rng: Any) -> Loss:  # noqa: ARG002
        if len(batch["image"]) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
        return Loss(F.cross_entropy(model(batch["image"]), batch["label"]))

    def contents(self, batch: Any) -> list[str]:
        return [f"label {label}" for label in batch["label"].tolist()]


def images(count: int) -> dict[str, Tensor]:
    torch.manual_seed(count)
    label = torch.arange(count) % 2
    return {"image": torch.randn(count, 3, 4, 4), "label": label, "index": 100 + torch.arange(count)}


def after_a_step() -> TrainState:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    state = begun(model)
    step(state, images(4))
    return state


def step(state: TrainState, batch: Any) -> None:
    task: Any = AtMostEight()
    rest: dict[str, Any] = {"seed": 0, "precision": "fp32", "clip_grad": None, "world": CPU}
    train_step(
        *(state, state.model, task, [batch], [len(batch["image"])]), step_size=4, learning_rate=0.1, **rest
    )


class Peaks:
    """A monitor whose value a forward pass has changed by the time that it is set again."""

    def __init__(self, model: nn.Module) -> None:
        self.names, self.peak = ("peak",), 0.5
        model.register_forward_hook(lambda *_: setattr(self, "peak", 99.0))

    def read(self) -> Tensor:
        return torch.tensor([self.peak])

    def restart(self, greatest: Mapping[str, float]) -> None:
        self.peak = greatest["peak"]


def test_the_trial_changes_nothing() -> None:
    tried, plain = after_a_step(), after_a_step()
    task: Any = AtMostEight()
    monitor = Peaks(tried.model)
    MemoryWatch(largest=lambda: images(8)).try_largest(tried, tried.model, task, "fp32", CPU, monitor)
    assert monitor.peak == 0.5
    assert all(parameter.grad is None for parameter in tried.model.parameters())
    for state in (tried, plain):
        step(state, images(4))
    torch.testing.assert_close(tried.tensors(), plain.tensors(), rtol=0, atol=0)


def test_the_largest_batch_does_not_fit() -> None:
    state, task = after_a_step(), AtMostEight()
    watch = MemoryWatch(largest=lambda: {k: v for k, v in images(9).items() if k != "index"})
    whole: Any = task
    with pytest.raises(
        OutOfMemory, match=r"with the largest batch that may come.*9 images: label 0; label 1"
    ):
        watch.try_largest(state, state.model, whole, "fp32", CPU)


class Nothing:
    """A tally of what does not fit."""

    def __init__(self, task: AtMostEight) -> None:
        self.task = task

    def update(self, model: nn.Module, batch: Any) -> None:
        self.task.loss(model, batch, None)


def test_an_evaluation_does_not_fit() -> None:
    model, task = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), AtMostEight()
    whole: Any = task
    whole.tally = lambda _device: Nothing(task)
    batches = iter([Loaded(images(8), []), Loaded(images(9), [])])
    with pytest.raises(OutOfMemory, match=r"in an evaluation, .* 9 images: 100\.jpg \(label 0\)") as got:
        evaluate(whole, {"model": model}, batches, world=CPU, precision="fp32", name="{}.jpg".format)
    assert "eval.batch_size" in str(got.value)


def test_a_step_does_not_fit() -> None:
    """Its samples are named; an error of another kind stays what it is."""
    state, task = after_a_step(), AtMostEight()
    whole: Any = task
    watch = MemoryWatch(name=lambda index: f"/data/{index}.jpg")
    words = r"in step 7.*9 images: /data/100.jpg \(label 0\); /data/101"
    with pytest.raises(OutOfMemory, match=words) as got, watch.watched(whole, "in step 7"):
        step(state, images(9))
    assert "micro_batch_size" in str(got.value)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), watch.watched(whole, "in step 7"):
        step(state, {**images(4), "image": torch.randn(4, 3, 9, 9)})
