"""Whether other programs use the cores on which the threads of a training run, and wait for each other."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

STAT = Path("/proc/stat")
_IDLE = (3, 4)  # columns of a core's line: idle, and waiting for a disk
_STEAL = 7  # what comes from here on is other machines' work, or counted in the columns before
LEAST_SECONDS = 0.5  # in which an honest figure can be had from ticks of 10 ms
LEAST_CORES = 0.5


class Usage(NamedTuple):
    """Of the cores that this process may use, since the machine started, in core seconds.

    Attributes:
        busy: by all programs.
        own: by this process and its ended children.
        clock: the time of the reading, in seconds.
        cores: how many they are.
    """

    busy: float
    own: float
    clock: float
    cores: int


def usage() -> Usage | None:
    """The present reading; None where the system does not tell."""
    try:
        lines = STAT.read_text(encoding="ascii").splitlines()
        cores, tick = os.sched_getaffinity(0), os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return None
    busy = 0.0
    for name, *ticks in map(str.split, lines):
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            busy += sum(int(one) for i, one in enumerate(ticks[:_STEAL]) if i not in _IDLE)
    return Usage(busy / tick, sum(os.times()[:4]), time.monotonic(), len(cores))


def too_many_threads(before: Usage | None, now: Usage | None, threads: int) -> str | None:
    """A hint where so many threads have not so many cores for themselves; else None.

    Args:
        before, now: readings around a piece of this process's work.
        threads: of each of torch's operators.
    """
    if before is None or now is None or now.clock - before.clock < LEAST_SECONDS:
        return None
    others = (now.busy - before.busy - (now.own - before.own)) / (now.clock - before.clock)
    cores = now.cores
    fewer = max(1, int(cores - others + LEAST_CORES))
    if others < LEAST_CORES or fewer >= threads:
        return None
    return (
        f"other programs use {min(others, cores):.1f} of the {cores} CPU cores, and threads wait for each "
        f"other: dist.threads={fewer} may be faster"
    )
