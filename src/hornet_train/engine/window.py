"""What happens between two `train` events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from hornet_train.data.batch import Batch
from hornet_train.data.loader import Loaded
from hornet_train.data.worker import BadSample
from hornet_train.engine.distributed import World
from hornet_train.engine.step import StepResult
from hornet_train.engine.watch import DATA
from hornet_train.track.metrics import Speedometer, Sums


class Window:
    """What the next `train` event tells: sums and speed since the one before."""

    def __init__(self, world: World, keep: Callable[[Batch], Batch]) -> None:
        """`keep`: what is to be kept of a batch until its step was looked at."""
        self.watch = world.watch
        self._keep = keep
        self.seen: list[Batch] = []  # what is kept of the present step's
        self.sums = Sums(device=world.device)
        self.speed = Speedometer()
        self.grad_norm = torch.zeros((), device=world.device)  # of the newest step that was not skipped
        self.bad: list[BadSample] = []  # that this rank has met

    def timed(self, batches: Iterator[Loaded], step: int) -> Iterator[Batch]:
        """A step's batches; the wait for them, and what is damaged or to be kept of them, taken down."""
        self.seen = []
        while True:
            self.watch.at(step, DATA)
            begin = time.perf_counter()
            loaded = next(batches, None)
            self.speed.add_wait(time.perf_counter() - begin)
            self.watch.at(step, "in a step")
            if loaded is None:
                return
            self.bad += loaded.bad
            self.seen.append(self._keep(loaded.batch))
            yield loaded.batch

    def add(self, result: StepResult, images: int) -> None:
        """Count a step of so many images over all ranks; the loss of one that is skipped does not count."""
        kept = 1.0 - result.skipped
        self.sums.add(loss=torch.where(kept > 0, result.loss, 0.0), images=kept * images)
        self.grad_norm = torch.where(kept > 0, result.grad_norm, self.grad_norm)
        self.speed.add_images(images)
