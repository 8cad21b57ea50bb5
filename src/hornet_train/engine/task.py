"""What the training loop asks of a task: its model, its loss, its evaluation. The loop knows nothing else of
classification, segmentation or detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hornet_train.data.batch import Batch
from hornet_train.engine.distributed import World

TRAIN_KEYS = frozenset(
    {"event", "step", "epoch", "loss", "lr", "grad_norm", "images_per_second", "data_wait"}
)


@dataclass(frozen=True)
class Loss:
    """The loss of one micro-batch.

    Attributes:
        mean: the loss to minimise, 0-d, with a graph: a mean over samples, valid pixels, RoIs, ...
        weight: the number of items that it is a mean over, 0-d, on the device, without a graph. The loss of
            a step is the mean over all its micro-batches on all ranks, weighted by this. So accumulating k
            micro-batches equals one batch of k times the size, and two ranks equal one. Any unit will do
            that is the same in every micro-batch; one in which a sample weighs about 1 (its share of valid
            pixels, say) keeps fp16's gradients in range. May be 0 (then `mean` must be finite and attached
            to the graph: 0 * sum). None: the number of samples in the micro-batch.
        parts: named parts of `mean`, for the log: name -> 0-d means by the same weight. The names are the
            same in every call, and are keys of `train` events.

    Raises:
        ValueError: a part has the name of another key of `train` events, such as "loss".
    """

    mean: Tensor
    weight: Tensor | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if taken := TRAIN_KEYS.intersection(self.parts):
            raise ValueError(f"a part of a loss cannot be named {sorted(taken)[0]!r}, a key of every event")


class Tally(Protocol):
    """Accumulates an evaluation batch by batch, and computes its metrics.

    Each rank fills one from its share of the samples, without communication. Then all ranks merge theirs, and
    each has the result. Accuracy needs sums (`SumTally`), mean IoU a confusion matrix, mean average precision
    lists of detections.
    """

    @property
    def count(self) -> int:
        """Number of samples so far: of this rank, and after `merge` of all ranks."""
        ...

    def update(self, model: nn.Module, batch: Batch) -> None:
        """Run the model, in evaluation mode, on a batch and add its outputs. Must not wait for a GPU."""
        ...

    def merge(self, world: World) -> None:
        """Become the tally of all ranks: `world.all_reduce` of tensors, `world.gather` of anything else.

        Called once, on every rank, also on ranks without samples.
        """
        ...

    def result(self) -> dict[str, float]:
        """The metrics, among them the headline of the kit's MetricTable. Called after `merge`, if there is at
        least one sample."""
        ...


class Monitor(Protocol):
    """Records the greatest values of chosen activations in training, on the device, for `train` events.

    Attributes:
        names: a key of the event for each value.
    """

    @property
    def names(self) -> Sequence[str]: ...

    def read(self) -> Tensor:
        """A copy of this rank's greatest values since `restart`, shape (names,), on the device."""
        ...

    def restart(self, greatest: Mapping[str, float]) -> None:
        """Start again from the values in `greatest`, by name; from 0 for names that it lacks."""
        ...


class Task(Protocol):
    """Builds the model, and computes the loss of a batch and the metrics of an evaluation.

    A batch is a dict of tensors whose first dimension is the sample, or of lists with a tensor for each
    sample, on the training device, as the task's data gives it. Work on complete batches on the device
    (normalising, mixing, padding) belongs into `loss` and into the tally.
    """

    def build_model(self) -> nn.Module:
        """The model with its initial weights, on the current default device. The caller sets torch's seed."""
        ...

    def loss(self, model: nn.Module, batch: Batch, rng: np.random.Generator) -> Loss:
        """The loss of a micro-batch.

        `model` is the trained network as the loop wraps it (DDP, compiled); it must be called exactly once.
        Random draws on the host must come from `rng`, those on the device from torch's default generators,
        which the loop has seeded for this step, rank and micro-batch.
        """
        ...

    def tally(self, device: torch.device) -> Tally:
        """An empty tally for one evaluation of one model on this rank."""
        ...
