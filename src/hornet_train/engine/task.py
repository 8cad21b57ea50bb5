"""What the loop asks of a task. It knows nothing else about classification, segmentation or detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hornet_train.data.batch import Batch
from hornet_train.engine.distributed import World


@dataclass(frozen=True)
class Goal:
    """The metric that decides which checkpoint is the best."""

    metric: str
    direction: Literal["max", "min"] = "max"

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` beats `than`; anything beats None, and NaN beats nothing."""
        if value != value:
            return False
        return than is None or (value > than if self.direction == "max" else value < than)


@dataclass(frozen=True)
class Loss:
    """The loss of one micro-batch.

    Attributes:
        mean: what is minimised, 0-d, with a graph: a mean over samples, valid pixels, RoIs, ...
        weight: what it is a mean over, 0-d, on the device, without a graph. The step's loss is the mean of
            all its micro-batches' means, on all ranks, by this weight; so accumulating k micro-batches equals
            one batch of k times the size, and two ranks equal one. Any unit will do that is the same in every
            micro-batch; one in which a sample weighs about 1 (its share of valid pixels, say) keeps fp16's
            gradients in range. May be 0 (then `mean` must be finite and attached to the graph: 0 * sum).
            None: the samples of the micro-batch, which needs no arithmetic.
        parts: what `mean` is made of, for the log: name -> 0-d means by the same weight. The names are the
            same in every call; `train` events show them as they are.
    """

    mean: Tensor
    weight: Tensor | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Tally(Protocol):
    """Takes in the batches of an evaluation and gives its metrics.

    Each rank fills one from its share of the samples, without a word to the others; then all ranks merge, and
    each has the result. Sums suit accuracy (`SumTally`), a matrix of counts mean IoU, lists mean average
    precision.
    """

    @property
    def count(self) -> int:
        """Samples taken in: by this rank, and after `merge` by all."""
        ...

    def update(self, model: nn.Module, batch: Batch) -> None:
        """Run the model, in evaluation mode, on a batch and take in what it says; nothing waits for a GPU."""
        ...

    def merge(self, world: World) -> None:
        """Become the tally of all ranks: `world.all_reduce` of tensors, `world.gather` of anything else.

        Called once, on every rank, also on those that had no samples.
        """
        ...

    def result(self) -> dict[str, float]:
        """The metrics, `goal.metric` among them; called after `merge`, where there is at least one sample."""
        ...


class Monitor(Protocol):
    """Watches the training passes for greatest values, on the device, for the `train` events.

    Attributes:
        names: keys of the event, one a value.
    """

    @property
    def names(self) -> Sequence[str]: ...

    def read(self) -> Tensor:
        """A copy of this rank's greatest values since `restart`, (names,), on the device."""
        ...

    def restart(self, greatest: Mapping[str, float]) -> None:
        """Forget what was seen. Values in `greatest`, by name, count as seen; others are 0."""
        ...


class Task(Protocol):
    """How to build the model, the loss of a batch, the metrics of an evaluation.

    A batch is a dict of tensors whose first dimension is the sample, or of lists with a tensor for each
    sample, on the training device, as the task's data gives it: what can be done by batch on the device
    (normalising, mixing, padding) is done here.
    """

    @property
    def goal(self) -> Goal: ...

    def build_model(self) -> nn.Module:
        """The model with its initial weights, on the current default device; torch's seed is set."""
        ...

    def loss(self, model: nn.Module, batch: Batch, rng: np.random.Generator) -> Loss:
        """The loss of a micro-batch.

        `model` is the trained network as the loop wraps it (DDP, compiled); it is called exactly once.
        Draws on the host come from `rng`; draws on the device from torch's default generators, which the loop
        has seeded for this step, rank and micro-batch.
        """
        ...

    def tally(self, device: torch.device) -> Tally:
        """An empty tally for one evaluation of one model on this rank."""
        ...
