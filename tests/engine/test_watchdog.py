"""Which ranks are named when a group makes no progress."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from hornet_train.engine import watchdog
from hornet_train.engine.watchdog import PeerWatchdog


class Shared:
    """A store of this process; `cut` ranks' messages do not arrive."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.cut: set[str] = set()

    def set(self, key: str, value: str) -> None:
        if key not in self.cut:
            self.values[key] = value

    def multi_get(self, keys: list[str]) -> list[bytes]:
        end = time.monotonic() + 5
        while not all(key in self.values for key in keys):
            assert time.monotonic() < end
            time.sleep(0.01)
        return [self.values[key].encode() for key in keys]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(watchdog, "SILENCE_SECONDS", 1.0)


def group(
    size: int, limit: float = 2.5, other_progress: Callable[[], int] = lambda: 0
) -> tuple[Shared, list[PeerWatchdog], list[list[str | None]]]:
    store, said = Shared(), [[] for _ in range(size)]  # type: ignore[var-annotated]

    def saying(rank: int) -> Callable[[str | None], None]:
        return said[rank].append

    return store, [PeerWatchdog(store, r, size, limit, saying(r), other_progress) for r in range(size)], said


def wait_for(said: list[list[str | None]], ranks: tuple[int, ...]) -> None:
    end = time.monotonic() + 20
    while not all(said[rank] for rank in ranks):
        assert time.monotonic() < end, said
        time.sleep(0.05)


def test_a_silent_rank_is_named_by_the_lowest_rank_that_responds() -> None:
    store, watchdogs, said = group(3)
    for step in (0, 1):
        for one in watchdogs:
            one.report(step, "in a step")
        time.sleep(0.4)
    store.cut.add("watch/0")
    wait_for(said, (1, 2))
    assert said[1][0] is not None
    assert "rank 0 (process" in said[1][0]
    assert "has not answered for" in said[1][0]
    assert "after step 1, in a step" in said[1][0]
    assert said[2] == [None]
    for one in watchdogs:
        one.close()


def test_a_rank_that_is_behind_is_named() -> None:
    _, watchdogs, said = group(3)
    for step in (0, 1):
        for one in watchdogs:
            one.report(step, "in a step")
    watchdogs[2].report(1, "waiting for data")
    wait_for(said, (0,))
    assert said[0][0] is not None
    assert "all answer, but rank 2 (process" in said[0][0]
    assert "is after step 1, waiting for data" in said[0][0]
    for one in watchdogs:
        one.close()


def test_a_slow_disk_does_not_count_as_a_hang() -> None:
    """Reading or writing a large checkpoint is progress, though no step is finished."""
    pieces = [0]
    _, watchdogs, said = group(2, limit=1.5, other_progress=lambda: pieces[0])
    for one in watchdogs:
        one.report(7, "in a step")
        one.report(8, "saving")
    end = time.monotonic() + 3
    while time.monotonic() < end:
        pieces[0] += 1
        time.sleep(0.1)
    assert said == [[], []]
    wait_for(said, (0,))
    assert said[0][0] is not None
    assert "all after step 8, saving" in said[0][0]
    for one in watchdogs:
        one.close()


def test_neither_slow_ranks_nor_a_long_first_step_count_as_a_hang() -> None:
    _, watchdogs, said = group(2, limit=1.5)
    for one in watchdogs:
        one.report(7, "in a step")
    time.sleep(2.5)  # compiling
    watchdogs[1].report(8, "in a step")
    watchdogs[0].report(8, "in a step")
    end = time.monotonic() + 3
    while time.monotonic() < end:
        watchdogs[1].report(8, "evaluating")
        time.sleep(0.1)
    assert said == [[], []]
    for one in watchdogs:
        one.close()


AT_EXIT = """
import time
from datetime import timedelta
from torch.distributed import TCPStore
from hornet_train.engine import watchdog

store = TCPStore("127.0.0.1", 0, 1, True, timeout=timedelta(seconds=10))
class Slow:  # it answers a second after it was asked, and is inside of torch meanwhile
    def set(self, key, value):
        store.set(key, value)
    def multi_get(self, keys):
        end = time.monotonic() + 1
        while time.monotonic() < end:
            found = store.multi_get(keys)
        return found
one = watchdog.PeerWatchdog(Slow(), 0, 1, 60)
time.sleep(0.1)
one.close()
"""


def test_python_can_end_after_it_was_closed() -> None:
    """A thread inside of torch would end the process with SIGABRT, after a training without faults."""
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
