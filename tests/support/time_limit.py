"""A pytest plugin: with `--time-limit SECONDS` a test that takes longer fails, and the next one runs."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

import pytest

# Seconds after the limit at which a process that does not react, as it waits in C code, is killed;
# pytest-xdist then starts another one.
GRACE = 20.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("hornet-train").addoption(
        "--time-limit", type=float, default=0.0, help="seconds that each test may take; 0: no limit (default)"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    seconds = item.config.option.time_limit
    if not seconds:
        return (yield)

    def too_long(_signal: int, _frame: FrameType | None) -> None:
        pytest.fail(f"took longer than --time-limit={seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    in_worker = "PYTEST_XDIST_WORKER" in os.environ
    if in_worker:
        faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=sys.__stderr__)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if in_worker:
            faulthandler.cancel_dump_traceback_later()
