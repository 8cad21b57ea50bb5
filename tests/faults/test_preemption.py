"""Runs that are asked to stop, as real processes: what they leave, and that they go on as if undisturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import processes
import pytest
import torch
from helpers import BIN, TINY, comparable, events, run, torchrun
from processes import final, has_logged, ranks_of, started, undisturbed, wait_until
from shards import write_streams

from hornet_train.engine.checkpoint import read_pointer

# 36 steps; an event tells of four of them
LONG = [*processes.LONG, "epochs=12", "eval.every=4ep", "log.every=4it", "log.gates=true"]
PREEMPTED = 75
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run."""
    return undisturbed(tmp_path_factory.mktemp("whole") / "run", *LONG)


@pytest.mark.draw(1)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_the_group_saves_and_the_next_start_goes_on(
    number: signal.Signals, tmp_path: Path, whole: Path
) -> None:
    folder = tmp_path / "run"
    process = started("hornet-train", *LONG, f"run_dir={folder}", "data.workers=2")
    wait_until(process, has_logged(folder, 3))
    os.killpg(process.pid, number)  # its readers get it too
    os.killpg(process.pid, number)  # passed on by a launcher, say
    _, err = process.communicate(timeout=60)
    assert process.returncode == PREEMPTED, err
    assert f"stopped by {number.name}: saved" in err
    assert "Traceback" not in err
    (event,) = events(folder, "preempted")
    assert event["reason"] == number.name
    assert 12 <= event["step"] < 36
    assert read_pointer(folder / "checkpoints", "last") == f"step_{event['step']:08d}"
    again = run("hornet-train", *LONG, f"run_dir={folder}")
    assert again.returncode == 0, again.stderr
    assert events(folder, "resumed")[0]["step"] == event["step"]
    torch.testing.assert_close(final(folder), final(whole), rtol=0, atol=0)
    assert comparable(folder) == comparable(whole)


def test_a_signal_to_one_rank_stops_all_after_the_same_step(tmp_path: Path) -> None:
    two = undisturbed(tmp_path / "two", *LONG, processes=2)
    folder = tmp_path / "run"
    command = ("torchrun", "--standalone", "--nproc_per_node=2", "-m", "hornet_train", *LONG)
    process = started(*command, f"run_dir={folder}")
    wait_until(process, has_logged(folder, 3))
    os.kill(ranks_of(process)[1], signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert err.count("saved; the same command") == 1  # rank 0 prints
    (event,) = events(folder, "preempted")
    again = torchrun(2, "-m", "hornet_train", *LONG, f"run_dir={folder}")
    assert again.returncode == 0, again.stderr
    assert events(folder, "resumed")[0]["step"] == event["step"]
    torch.testing.assert_close(final(folder), final(two), rtol=0, atol=0)
    assert comparable(folder) == comparable(two)


def test_a_time_limit_stops_by_itself(tmp_path: Path, whole: Path) -> None:
    folder, steps = tmp_path / "run", []
    for _ in range(60):
        done = run("hornet-train", *LONG, f"run_dir={folder}", "checkpoint.max_minutes=0.01")
        steps = [event["step"] for event in events(folder, "preempted")]
        if done.returncode == 0:
            break
        assert done.returncode == PREEMPTED, done.stderr
        assert "checkpoint.max_minutes=0.01: saved" in done.stderr
    assert done.returncode == 0
    assert steps == sorted(set(steps))
    assert len(steps) >= 1
    torch.testing.assert_close(final(folder), final(whole), rtol=0, atol=0)
    assert comparable(folder) == comparable(whole)


def test_an_evaluation_is_left_and_made_up_for(tmp_path: Path) -> None:
    """Of the evaluated step no checkpoint is due, so that this one is written for the stop."""
    folder = tmp_path / "run"
    slow = [*TINY, "eval.every=3it", "checkpoint.every=100it", "eval.batch_size=1", "data.val_count=1200"]
    process = started("hornet-train", *slow, f"run_dir={folder}")
    wait_until(process, has_logged(folder, 3))
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == PREEMPTED, err
    assert not events(folder, "eval")
    assert [event["step"] for event in events(folder, "preempted")] == [3]
    again = run("hornet-train", *slow, f"run_dir={folder}")
    assert again.returncode == 0, again.stderr
    assert {event["count"] for event in events(folder, "eval")} == {1200}


def test_ranks_leave_a_streamed_evaluation_together(tmp_path: Path) -> None:
    """All to evaluate on is in one shard, so that the second rank, which is asked to stop, has none of it."""
    write_streams(tmp_path / "set", train=2, val=1, size=200)
    streamed = ["model=hornet_pico_7x7", "data=hub", f"data.name={tmp_path}/set", "data.streaming=true"]
    streamed += ["data.image_size=32", "data.workers=1", "batch_size=4", "epochs=6it", "schedule.warmup=1it"]
    streamed += ["optim.lr=1e-3", "log.every=1it", "eval.every=3it", "eval.batch_size=1"]
    streamed += ["dist.timeout_minutes=0.5", f"run_dir={tmp_path}/run"]
    (tmp_path / "slow.py").write_text(
        "import sys, time\n"
        "from hornet_train.engine.tally import SumTally\n"
        "update = SumTally.update\n"
        "def slow(*arguments):\n"
        "    time.sleep(0.05)\n"
        "    return update(*arguments)\n"
        "SumTally.update = slow\n"
        "from hornet_train.cli.train import main\n"
        "main(sys.argv[1:])\n"
    )
    process = started("torchrun", "--standalone", "--nproc_per_node=2", f"{tmp_path}/slow.py", *streamed)
    wait_until(process, has_logged(tmp_path / "run", 3))
    time.sleep(1)
    os.kill(ranks_of(process)[1], signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert err.count("saved; the same command") == 1
    assert f"exitcode  : {PREEMPTED}" in err
    assert [event["step"] for event in events(tmp_path / "run", "preempted")] == [3]
    assert not events(tmp_path / "run", "eval")
    again = torchrun(2, "-m", "hornet_train", *streamed)
    assert again.returncode == 0, again.stderr
    evaluations = [(event["step"], event["count"]) for event in events(tmp_path / "run", "eval")]
    assert evaluations == [(step, 200) for step in (3, 6) for _ in ("model", "ema")]


def test_before_the_first_step_there_is_nothing_to_save(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, hornet_train.run.training as run\n"
        "run.build_run = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)\n"
        "from hornet_train.cli.train import main\n"
        "main(sys.argv[1:])\n"
    )
    folder = tmp_path / "run"
    done = subprocess.run(
        [str(BIN / "python"), "-c", code, *LONG, f"run_dir={folder}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == PREEMPTED, done.stderr
    assert "stopped by SIGTERM: nothing was trained yet" in done.stderr
    assert not folder.exists()


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, time, hornet_train.engine.preemption as preemption\n"
        "preemption.SAME_REQUEST_SECONDS = 0.2\n"
        "stop = preemption.Stop()\n"
        "with stop.listening(), stop.training():\n"
        "    for pause in (0.05, 0.4, 5):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        print(stop.due(), flush=True)\n"
        "        time.sleep(pause)\n"
    )
    done = subprocess.run([str(BIN / "python"), "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout.split() == ["SIGTERM", "SIGTERM"]
