"""Tallies of evaluations: for metrics that are sums over samples, and for those that need every sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from hornet_train.data.batch import Batch
from hornet_train.engine.distributed import World
from hornet_train.track.running_sums import Sums


class SumTally:
    """Adds up sums of each batch; on the device, in float64. See `Tally`.

    Args:
        names: of the sums, beside `count`.
        measure: (model, batch) -> the sums over the batch's samples by name, and `count`, their number.
        metrics: the sums over all samples by name -> the metrics by name.
        device: where the sums are stored.
    """

    def __init__(
        self,
        *names: str,
        measure: Callable[[nn.Module, Batch], Mapping[str, Tensor | int | float]],
        metrics: Callable[[Mapping[str, float]], dict[str, float]],
        device: torch.device,
    ) -> None:
        self._measure = measure
        self._metrics = metrics
        self._sums = Sums("count", *names, device=device)
        self._totals: dict[str, float] = {}
        self.count = 0

    def update(self, model: nn.Module, batch: Batch) -> None:
        """See `Tally`."""
        values = self._measure(model, batch)
        self.count += int(values["count"])
        self._sums.add(**values)

    def merge(self, world: World) -> None:
        """See `Tally`."""
        self._sums.reduce(world.all_reduce)
        self._totals = self._sums.read()
        self.count = round(self._totals["count"])

    def result(self) -> dict[str, float]:
        """See `Tally`."""
        return self._metrics(self._totals)


class ListTally:
    """Keeps what is measured of each sample, for metrics that are no sums: average precision, say.

    Args:
        measure: (model, batch) -> tensors by name, whose first dimension is the sample.
        metrics: the tensors of all samples by name, on the CPU, in the order of the ranks -> the metrics.
    """

    def __init__(
        self,
        measure: Callable[[nn.Module, Batch], Mapping[str, Tensor]],
        metrics: Callable[[Mapping[str, Tensor]], dict[str, float]],
    ) -> None:
        self._measure = measure
        self._metrics = metrics
        self._batches: list[dict[str, Tensor]] = []
        self.count = 0

    def update(self, model: nn.Module, batch: Batch) -> None:
        """See `Tally`."""
        found = dict(self._measure(model, batch))
        self.count += len(next(iter(found.values())))
        self._batches.append(found)

    def merge(self, world: World) -> None:
        """See `Tally`."""
        ours = [{name: value.cpu() for name, value in found.items()} for found in self._batches]
        self._batches = [found for of_rank in world.gather(ours) for found in of_rank]
        self.count = sum(len(next(iter(found.values()))) for found in self._batches)

    def result(self) -> dict[str, float]:
        """See `Tally`."""
        names = self._batches[0]
        return self._metrics({name: torch.cat([found[name] for found in self._batches]) for name in names})
