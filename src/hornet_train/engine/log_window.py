"""The log window: what is measured between two `train` events."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch

from hornet_train.data.batch import Batch
from hornet_train.data.loader import Loaded
from hornet_train.data.worker import BadSample
from hornet_train.engine.distributed import World
from hornet_train.engine.step import StepResult
from hornet_train.engine.task import Monitor
from hornet_train.engine.unlogged import Unlogged
from hornet_train.engine.watchdog import WAITING_FOR_DATA
from hornet_train.redaction import redacted
from hornet_train.track.running_sums import Speedometer, Sums


class Emit(Protocol):
    """Writes an event of the present step."""

    def __call__(self, event: str, **values: Any) -> None: ...


class LogWindow:
    """Sums and speed of the steps since the last `train` event.

    Args:
        retain: gives the part of a batch that is retained until its step was examined.
        monitor: is restarted here; None for none.
        resumed: the steps of this window before the checkpoint that the run resumes from; None for none.
    """

    def __init__(
        self,
        world: World,
        retain: Callable[[Batch], Batch],
        monitor: Monitor | None = None,
        resumed: Unlogged | None = None,
    ) -> None:
        self.world = world
        self.watchdog = world.watchdog
        self.monitor = monitor
        self._retain = retain
        self.retained: list[Batch] = []  # of the present step
        self.sums = Sums("loss", "weight", device=world.device)
        self.parts = Sums(device=world.device)  # of the loss
        self.speed = Speedometer()
        self.grad_norm = torch.zeros((), device=world.device)  # of the newest step that was not skipped
        self.bad_samples: list[BadSample] = []  # read by this rank
        if monitor is not None:
            monitor.restart(resumed.greatest if resumed is not None else {})
        if resumed is not None:
            # tensors on the device, as in an uninterrupted run: later steps are added in the same order
            sums = {"loss": resumed.loss, "weight": resumed.weight}
            self.sums.set(**{n: torch.tensor(v, dtype=torch.float64) for n, v in sums.items()})
            self.parts.set(**{n: torch.tensor(v, dtype=torch.float64) for n, v in resumed.parts.items()})
            self.grad_norm.fill_(resumed.grad_norm)
            self.bad_samples = [*resumed.bad]

    def timed_batches(self, batches: Iterator[Loaded], step: int) -> Iterator[Batch]:
        """The micro-batches of a step. Measures the wait for them; collects bad samples and `retained`."""
        self.retained = []
        while True:
            self.watchdog.report(step, WAITING_FOR_DATA)
            begin = time.perf_counter()
            loaded = next(batches, None)
            self.speed.add_wait(time.perf_counter() - begin)
            self.watchdog.report(step, "in a step")
            if loaded is None:
                return
            self.bad_samples += loaded.bad
            self.retained.append(self._retain(loaded.batch))
            yield loaded.batch

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """Leave the time spent inside out of the throughput. Steps that a GPU still computes count."""
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)
        with self.speed.paused():
            yield

    def add(self, result: StepResult, images: int) -> None:
        """Add a step of `images` images over all ranks. The loss of a skipped step does not count."""
        good = 1.0 - result.skipped
        self.sums.add(
            loss=torch.where(good > 0, result.loss, 0.0), weight=torch.where(good > 0, result.weight, 0.0)
        )
        self.parts.add(**{name: torch.where(good > 0, part, 0.0) for name, part in result.parts.items()})
        self.grad_norm = torch.where(good > 0, result.grad_norm, self.grad_norm)
        self.speed.add_images(images)

    def read(self) -> Unlogged:
        """The steps so far over all ranks, without bad samples. The host waits for the device. Every rank
        calls this."""
        self.sums.set(grad_norm=self.grad_norm)
        totals = self.sums.read()
        parts = self.parts.read() if self.parts.names else {}
        return Unlogged(totals["loss"], totals["weight"], parts, totals["grad_norm"], self._greatest())

    def values(self, lr: float) -> dict[str, Any]:
        """What a `train` event says of the steps so far, the newest of which had a learning rate of `lr`.

        The host waits for the device. Every rank calls this.
        """
        totals = self.read()
        speed = self.speed.read()
        return {
            "loss": totals.loss / totals.weight if totals.weight else float("nan"),
            **{name: part / totals.weight for name, part in totals.parts.items() if totals.weight},
            "lr": lr,
            "grad_norm": totals.grad_norm,
            "images_per_second": speed.images_per_second,
            "data_wait": speed.data_wait,
            **totals.greatest,
        }

    def snapshot(self, *, reported: Collection[int]) -> Unlogged:
        """`read` for a checkpoint: with the bad samples that are not in `reported`, and without secrets.
        Every rank calls this."""
        totals = self.read()
        found = self.gather_bad_samples()
        unreported = [
            replace(found[index], where=redacted(found[index].where), reason=redacted(found[index].reason))
            for index in sorted(found.keys() - set(reported))
        ]
        return replace(totals, bad=unreported)

    def _greatest(self) -> dict[str, float]:
        """The monitor's greatest values over all ranks, by name."""
        if self.monitor is None:
            return {}
        values = self.monitor.read()
        missing = values.isnan()  # reduced apart: whether a maximum keeps NaN depends on the order of ranks
        both = torch.stack([values.masked_fill(missing, 0.0), missing.to(values.dtype)])
        self.world.all_reduce(both, "max")
        greatest, missing = both[0], both[1] > 0
        return dict(zip(self.monitor.names, greatest.masked_fill(missing, torch.nan).tolist(), strict=True))

    def gather_bad_samples(self) -> dict[int, BadSample]:
        """The damaged samples that any rank read in this window, by their index. Every rank calls this."""
        return {bad.index: bad for rank in self.world.gather(self.bad_samples) for bad in rank}

    def take_bad_samples(self) -> dict[int, BadSample]:
        """The same, of which the window then knows no more."""
        found = self.gather_bad_samples()
        self.bad_samples = []
        return found
