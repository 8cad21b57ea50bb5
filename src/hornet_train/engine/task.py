"""What the loop asks of a task. It knows nothing else about classification, segmentation or detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from torch import Tensor, nn

from hornet_train.data.batch import Batch


@dataclass(frozen=True)
class Goal:
    """The metric that decides which checkpoint is the best."""

    metric: str
    direction: Literal["max", "min"] = "max"

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` beats `than`; anything beats None, and a value that is not a number nothing."""
        if value != value:
            return False
        return than is None or (value > than if self.direction == "max" else value < than)


class Monitor(Protocol):
    """Watches the training passes for greatest values, on the device, for the `train` events.

    Attributes:
        names: keys of the event, one a value.
    """

    @property
    def names(self) -> Sequence[str]: ...

    def take(self) -> Tensor:
        """This rank's greatest values since the last call, 1-d, on the device; starts anew."""
        ...


class Task(Protocol):
    """How to build the model, the loss of a batch, the metrics of an epoch.

    A batch is a dict of tensors whose first dimension is the sample, on the training device, as the task's
    data gives it: what can be done by batch on the device (normalising, mixing) is done here.
    """

    @property
    def goal(self) -> Goal: ...

    def build_model(self) -> nn.Module:
        """The model with its initial weights, on the current default device; torch's seed is set."""
        ...

    def loss(self, model: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """The mean loss over the samples of a micro-batch, 0-d, with a graph.

        `model` is the trained network as the loop wraps it (DDP, compiled); it is called exactly once.
        Host-side draws come from `rng`; draws on the device from torch's default generators, which the loop
        has seeded for this step, rank and micro-batch.
        """
        ...

    def evaluate(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor | int | float]:
        """Sums over the samples of a batch, among them `count`, the number of samples; left on the device."""
        ...

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The metrics of an evaluation from the sums over all batches and ranks; `goal.metric` is one."""
        ...
