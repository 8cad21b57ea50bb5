"""What is said where other programs use the cores."""

import os
import time

import pytest

from hornet_train.run import other_work
from hornet_train.run.other_work import Usage, too_many_threads, usage


def test_only_our_cores_count_and_idle_time_does_not(tmp_path, monkeypatch):
    stat = tmp_path / "stat"
    stat.write_text(
        "cpu  900 900 900 900 900 900 900 900 900 900\n"
        "cpu0 100 20 30 5000 700 1 2 3 40 50\n"  # 3: other machines; 40, 50: guests, in 100 and 20
        "cpu1 999 999 999 999 999 999 999 999 0 0\n"
        "cpu3 200 0 0 5000 0 0 0 0 0 0\n"
        "intr 5 6 7\n"
    )
    monkeypatch.setattr(other_work, "STAT", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 3})
    monkeypatch.setattr(os, "sysconf", lambda _name: 100)
    found = usage()
    assert found is not None
    assert found.busy == pytest.approx(1.53 + 2.0)
    assert found.cores == 2
    monkeypatch.setattr(other_work, "STAT", tmp_path / "none")
    assert usage() is None


@pytest.mark.skipif(usage() is None, reason="this system does not tell")
def test_own_work_is_not_that_of_others():
    before, begin = usage(), time.process_time()
    while time.process_time() < begin + 0.5:
        pass
    now = usage()
    assert now.own - before.own > 0.4
    assert now.busy - before.busy > now.own - before.own - 0.1  # whole ticks
    alone = Usage(before.busy + now.own - before.own, *now[1:])  # had nothing else run
    assert too_many_threads(before, alone._replace(clock=before.clock + 0.6), 64) is None
    other = alone._replace(busy=alone.busy + 0.6, clock=before.clock + 0.6)
    assert too_many_threads(before, other, 64) is not None


@pytest.mark.parametrize(
    ("busy", "own", "seconds", "threads", "cores", "fewer"),
    [
        (2.0, 1.0, 1.0, 2, 2, 1),  # one core by others
        (1.0, 1.0, 1.0, 2, 2, None),
        (1.2, 1.0, 1.0, 2, 2, None),
        (2.0, 1.0, 1.0, 1, 2, None),  # the other core is left for them
        (8.0, 0.0, 1.0, 2, 2, 1),
        (2.0, 1.0, 0.1, 2, 2, None),  # too short a time
        (31.0, 1.0, 1.0, 64, 64, 34),
        (31.0, 1.0, 1.0, 8, 64, None),
        (40.0, 20.0, 10.0, 8, 8, 6),
    ],
)
def test_fewer_threads_are_proposed(busy, own, seconds, threads, cores, fewer):
    hint = too_many_threads(
        Usage(5.0, 3.0, 7.0, cores), Usage(5.0 + busy, 3.0 + own, 7.0 + seconds, cores), threads
    )
    assert (hint is None) == (fewer is None)
    if hint is not None:
        assert f"dist.threads={fewer} " in hint
    assert too_many_threads(None, Usage(busy, own, seconds, cores), threads) is None
