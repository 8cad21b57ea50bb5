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
from hornet_train.engine.task import Monitor
from hornet_train.engine.unlogged import Unlogged
from hornet_train.engine.watch import DATA
from hornet_train.track.metrics import Speedometer, Sums


class Window:
    """What the next `train` event tells: sums and speed since the one before."""

    def __init__(
        self,
        world: World,
        keep: Callable[[Batch], Batch],
        monitor: Monitor | None = None,
        begun: Unlogged | None = None,
    ) -> None:
        """`keep`: what is to be kept of a batch until its step was looked at. `monitor`: starts anew here.
        `begun`: the steps of the window that were made before, as a checkpoint keeps them; None for none."""
        self.world = world
        self.watch = world.watch
        self.monitor = monitor
        self._keep = keep
        self.seen: list[Batch] = []  # what is kept of the present step's
        self.sums = Sums("loss", "weight", device=world.device)
        self.parts = Sums(device=world.device)  # of the loss
        self.speed = Speedometer()
        self.grad_norm = torch.zeros((), device=world.device)  # of the newest step that was not skipped
        self.bad: list[BadSample] = []  # that this rank has met
        if monitor is not None:
            monitor.restart(begun.greatest if begun is not None else {})
        if begun is not None:
            # on the device, where an undisturbed run has them: what follows is added in the same order
            values = {"loss": begun.loss, "weight": begun.weight}
            self.sums.put(
                **{name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
            )
            self.parts.put(**{n: torch.tensor(v, dtype=torch.float64) for n, v in begun.parts.items()})
            self.grad_norm.fill_(begun.grad_norm)
            self.bad = [*begun.bad]

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
        self.sums.add(loss=torch.where(kept > 0, result.loss, 0.0), weight=kept * result.weight)
        self.parts.add(**{name: torch.where(kept > 0, part, 0.0) for name, part in result.parts.items()})
        self.grad_norm = torch.where(kept > 0, result.grad_norm, self.grad_norm)
        self.speed.add_images(images)

    def read(self) -> Unlogged:
        """The steps so far over all ranks, without `bad`; the host waits for the device. Every rank asks."""
        self.sums.put(grad_norm=self.grad_norm)
        totals = self.sums.read()
        parts = self.parts.read() if self.parts.names else {}
        return Unlogged(totals["loss"], totals["weight"], parts, totals["grad_norm"], self._greatest())

    def _greatest(self) -> dict[str, float]:
        """The monitor's greatest values over all ranks, by name."""
        if self.monitor is None:
            return {}
        values = self.monitor.read()
        missing = values.isnan()  # which a reduction may lose: what it makes of NaN depends on the order
        both = torch.stack([values.masked_fill(missing, 0.0), missing.to(values.dtype)])
        self.world.all_reduce(both, "max")
        greatest, missing = both[0], both[1] > 0
        return dict(zip(self.monitor.names, greatest.masked_fill(missing, torch.nan).tolist(), strict=True))

    def gather_bad(self) -> dict[int, BadSample]:
        """The damaged samples that any rank has met in this window, by their index. Every rank asks."""
        return {bad.index: bad for rank in self.world.gather(self.bad) for bad in rank}
