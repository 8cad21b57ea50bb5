"""The exponential moving average of a model's weights."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from hornet_train.optim.shards import local


class AveragedModel:
    """A copy of a model with averaged weights: avg <- d * avg + (1 - d) * weight after each step.

    Updated by multi-tensor kernels, without a synchronisation. Floating-point buffers (batch-norm statistics)
    are averaged too, other buffers are copied.

    Args:
        model: the trained model; the average starts from its weights.
        decay: d; 0.9999 in the published recipes, for 4,096 images a step.
        warmup: use min(decay, (1 + step) / (10 + step)) instead, so that the average of a short run soon
            forgets the random initial weights.
        twin: a copy of the model to hold the average; None makes one, which fails for a sharded model.
    """

    def __init__(
        self, model: nn.Module, *, decay: float, warmup: bool = False, twin: nn.Module | None = None
    ) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"the decay of an average must be in [0, 1), not {decay}")
        self.decay = decay
        self.warmup = warmup
        self.module = (deepcopy(model) if twin is None else twin).eval().requires_grad_(False)
        pairs = [
            *zip(self.module.parameters(), model.parameters(), strict=True),
            *zip(self.module.buffers(), model.buffers(), strict=True),
        ]
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    def decay_at(self, step: int) -> float:
        """The decay of the update that ends step `step` (counted from 0)."""
        return decay_at(step, self.decay, warmup=self.warmup)

    @torch.no_grad()
    def update(self, step: int, *, unless: Tensor | None = None) -> None:
        """Move the average towards the weights after step `step`.

        Args:
            unless: 0-d, float: 1 if the step was skipped, and nothing is to change; else 0.
        """
        averages, weights = ([local(pair[i]) for pair in self._averaged] for i in (0, 1))
        share = 1.0 - self.decay_at(step)
        # on a CPU branch on the flag; on a GPU mask with it, so that the host does not synchronise
        if unless is None or unless.device.type == "cpu":
            if unless is not None and unless:
                return
            torch._foreach_lerp_(averages, weights, share)
        else:
            changes = torch._foreach_sub(weights, averages)
            torch._foreach_mul_(changes, share * (1.0 - unless))
            torch._foreach_add_(averages, changes)
        for copy, value in self._copied:  # counters and tables, which a skipped step has not changed
            copy.copy_(value)


def decay_at(step: int, decay: float, *, warmup: bool) -> float:
    """The decay of the update that ends step `step` (counted from 0)."""
    return min(decay, (1 + step) / (10 + step)) if warmup else decay


def initial_share(steps: int, decay: float, *, warmup: bool) -> float:
    """How much of an average is still the weights with which it began, after a number of steps: 0..1."""
    share, step = 1.0, 0
    while warmup and step < steps and (one := decay_at(step, decay, warmup=True)) < decay:
        share, step = share * one, step + 1
    return share * decay ** (steps - step)
