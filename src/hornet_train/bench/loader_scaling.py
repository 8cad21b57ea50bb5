"""How loading grows with its worker processes, and what each of them takes."""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from hornet_train.bench.data_pipeline import FirstFiles, Ratio, Repeated, our_batches, ratio_of
from hornet_train.bench.timing import one_thread
from hornet_train.data.sending import SHARED_MEMORY
from hornet_train.tasks.classification.sources import FolderSource

_SECONDS = 4.0  # of each measurement
_WARM = 3  # batches of each worker before the clock starts


@dataclass(frozen=True)
class Rate(Ratio):
    """What so many workers load: `ours`, against the fewest of the measurement.

    Attributes:
        workers: processes.
        worker_mb: memory that one worker alone has, without what it shares with the others and with the
            process that began it; None where the system does not say.
        shared_mb: shared memory that all workers took together; None where the system does not say.
    """

    workers: int
    worker_mb: float | None
    shared_mb: float | None


def worker_counts(cores: int) -> list[int]:
    """1, 2, 4, ... and all cores."""
    return [*(1 << power for power in range(cores.bit_length()) if 1 << power < cores), cores]


def measure_scaling(
    root: Path, counts: Sequence[int], *, rounds: int, say: Callable[[str], None]
) -> list[Rate]:
    """Load for some seconds with each number of workers, in turns.

    Args:
        root: a folder with `train/<class>/`; at most 1,600 of its images are read, over and over.
        counts: numbers of workers, at least one.
        rounds: how often each is measured.
        say: called with a line of progress.
    """
    source = Repeated(FirstFiles(FolderSource(root, "train")))
    found = []
    for training in (True, False):
        say(f"{'training' if training else 'evaluation'} with {', '.join(map(str, counts))} workers")
        with one_thread():
            taken = [[_load(source, count, training=training) for count in counts] for _ in range(rounds)]
        what = "training" if training else "evaluation"
        for at, count in enumerate(counts):
            compared = ratio_of(
                f"{what} loader, workers: {count} : {counts[0]}",
                "images/s",
                *([one[place][0] for one in taken] for place in (at, 0)),
            )
            own, shared = (_most(one[at][place] for one in taken) for place in (1, 2))
            found.append(Rate(**asdict(compared), workers=count, worker_mb=own, shared_mb=shared))
    return found


def _most(values: Any) -> float | None:
    return max((one for one in values if one is not None), default=None)


def _load(source: Repeated, workers: int, *, training: bool) -> tuple[float, float | None, float | None]:
    """Images/s, and MB of a worker and of all workers' shared memory."""
    before, free = set(multiprocessing.active_children()), _free_shared()
    batches = our_batches(source, workers, training)
    for _ in islice(batches, _WARM * workers):
        pass
    begin, images = time.perf_counter(), 0
    for batch in batches:
        images += len(batch)
        seconds = time.perf_counter() - begin
        if seconds >= _SECONDS:
            break
    each = [_own_mb(child.pid) for child in multiprocessing.active_children() if child not in before]
    left = _free_shared()
    shared = None if free is None or left is None else max(0.0, free - left)
    del batches  # ends the workers
    return images / seconds, _most(each), shared


def _own_mb(process: int | None) -> float | None:
    """The memory that no other process has too, where the system says it (Linux)."""
    with suppress(OSError):
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        return sum(int(kb) for kb in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE)) / 1024
    return None


def _free_shared() -> float | None:
    with suppress(OSError):
        place = os.statvfs(SHARED_MEMORY)
        return place.f_bavail * place.f_frsize / 2**20
    return None
