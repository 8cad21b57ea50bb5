"""Says which batch did not fit into the memory, and tries the largest one before it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from hornet_train.data.batch import Batch, to_device
from hornet_train.engine.distributed import World
from hornet_train.engine.out_of_memory import DoesNotFit, out_of_memory
from hornet_train.engine.precision import PrecisionName
from hornet_train.engine.state import TrainState
from hornet_train.engine.step import try_batch
from hornet_train.engine.task import Monitor, Task


@dataclass(frozen=True)
class MemoryWatch:
    """Watches the steps of a run.

    Attributes:
        name: what a training sample is called, by its index.
        largest: makes a micro-batch as large as any that may come; None where all are of one size.
    """

    name: Callable[[int], str] = "sample {}".format
    largest: Callable[[], Batch | None] = lambda: None

    @contextmanager
    def watched(self, task: Task, when: str) -> Iterator[None]:
        """Raises OutOfMemory, which says what the batch held, where one does not fit."""
        try:
            yield
        except DoesNotFit as error:
            raise out_of_memory(task, error.batch, when, self.name) from error

    def try_largest(
        self,
        state: TrainState,
        network: nn.Module,
        task: Task,
        precision: PrecisionName,
        world: World,
        monitor: Monitor | None = None,
    ) -> None:
        """To be called behind the first step of a run, when the optimizer has its memory. Changes nothing,
        nor what a monitor has seen.

        Raises:
            OutOfMemory: the run would end with it some day.
        """
        batch = self.largest()
        if batch is None:
            return
        seen = dict(zip(monitor.names, monitor.read().tolist(), strict=True)) if monitor is not None else {}
        with self.watched(task, "with the largest batch that may come"):
            try_batch(state, network, task, to_device(batch, world.device), precision, world)
        if monitor is not None:
            monitor.restart(seen)
