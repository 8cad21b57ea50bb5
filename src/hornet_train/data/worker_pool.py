"""Worker processes that may die, mostly because memory ran out: new ones go on from the same batch."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

from hornet_train.data.worker import signals_held
from hornet_train.errors import DataError

MOST_DEATHS = 5  # in a row, fewer than `FEW_BATCHES` apart
FEW_BATCHES = 1000
_log = logging.getLogger("hornet_train")


class RestartingLoader(Iterator[Any]):
    """The batches of a DataLoader. When one of its workers dies, a new DataLoader goes on where it ended.

    Args:
        begin: makes a DataLoader of everything from a batch on, counted from 0.
        resumable: whether `begin` can be asked for any batch but 0.
    """

    def __init__(self, begin: Callable[[int], DataLoader[Any]], *, resumable: bool) -> None:
        self._begin = begin
        self._resumable = resumable
        self._given = 0
        self._deaths = 0
        self._newest_death = 0  # the batch before which it happened
        self._workers: list[BaseProcess] = []
        self._batches = self._started()

    def __next__(self) -> Any:
        """The next batch.

        Raises:
            DataError: a worker died, and it is not worth another try.
        """
        while True:
            try:
                batch = next(self._batches)
            except (RuntimeError, OSError, EOFError):  # what torch raises depends on when the worker died
                dead = self._dead()
                if not dead:
                    raise
            else:
                self._given += 1
                return batch
            self._count(dead)
            del self._batches  # ends the other workers
            self._batches = self._started()

    def close(self) -> None:
        """End the workers, of whom an error's traceback would keep hold."""
        self._batches = iter(())

    def _started(self) -> Iterator[Any]:
        """A DataLoader that begins with the next batch, its workers started."""
        main = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGCHLD)
        with signals_held():
            batches = iter(self._begin(self._given))
        if main:
            # torch's handler raises when a worker dies, in the middle of whatever runs: an update of the
            # weights, say. Without it the error comes with the next batch.
            signal.signal(signal.SIGCHLD, handler)
        # asked of the loader: `multiprocessing.active_children()` leaves out who has died already
        self._workers = getattr(batches, "_workers", [])
        return batches

    def _dead(self) -> list[BaseProcess]:
        """The workers that ended otherwise than they should."""
        ended = wait([worker.sentinel for worker in self._workers], timeout=1.0)
        for worker in self._workers:
            if worker.sentinel in ended:
                worker.join(timeout=1.0)  # its pipes close an instant before it has ended
        return [worker for worker in self._workers if worker.exitcode]

    def _count(self, dead: list[BaseProcess]) -> None:
        """Warn, or raise DataError where it does not help to go on."""
        if self._given - self._newest_death >= FEW_BATCHES:
            self._deaths = 0
        self._deaths += 1
        self._newest_death = self._given
        death = f"a reading process ({dead[0].pid}) {_ending(dead[0].exitcode)}"
        if self._resumable and self._deaths <= MOST_DEATHS:
            _log.warning("%s; others read on from the same batch", death)
            return
        often = f"{self._deaths} times in a row" if self._resumable else "and shards are read in one go"
        fault = DataError(f"{death}, {often}: fewer data.workers or a smaller data.prefetch need less memory")
        fault.of_one_rank = True
        raise fault


def _ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None or code >= 0:
        return f"ended with code {code}"
    known = {
        signal.SIGKILL: "SIGKILL, as the system does when memory runs out",
        signal.SIGBUS: "SIGBUS, as happens when /dev/shm is full",
    }
    return "was killed by " + next(
        (text for number, text in known.items() if number == -code), f"signal {-code}"
    )
