"""The exponential moving average of a model's weights."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from hornet_train.optim.shards import local


class AveragedModel:
    """A copy of a model whose weights follow the trained ones: avg <- d * avg + (1 - d) * weight.

    Updated once a step by multi-tensor kernels, without a synchronisation. Buffers (batch-norm statistics)
    are averaged too where they are floating-point, else copied.

    Args:
        model: the trained model; the average begins at its weights.
        decay: d; 0.9999 in the published recipes, for 4,096 images a step.
        warmup: use min(decay, (1 + step) / (10 + step)) instead, so that a short run is not held back by
            its random beginning.
        twin: a copy of the model to begin with; None makes one, which a sharded model does not allow.
    """

    def __init__(
        self, model: nn.Module, *, decay: float, warmup: bool = False, twin: nn.Module | None = None
    ) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"an average's decay lies in [0, 1), not {decay}")
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
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, step: int, *, unless: Tensor | None = None) -> None:
        """Follow the weights of the end of step `step`; a CPU waits for nothing, and a GPU does not.

        Args:
            unless: 0-d, float; where it is 1, nothing is changed.
        """
        averages, weights = ([local(pair[i]) for pair in self._averaged] for i in (0, 1))
        share = 1.0 - self.decay_at(step)
        if unless is None or unless.device.type == "cpu":
            if unless is not None and unless:
                return
            torch._foreach_lerp_(averages, weights, share)
        else:
            changes = torch._foreach_sub(weights, averages)
            torch._foreach_mul_(changes, share * (1.0 - unless))
            torch._foreach_add_(averages, changes)
        for copy, value in self._copied:  # a model's counters and tables, which a skipped step leaves alone
            copy.copy_(value)
