"""Processes of a run that are killed, stopped or stuck, and nodes that are lost."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers import TINY, comparable, events, run, torchrun
from processes import final, has_logged, ranks_of, started, undisturbed, wait_until
from shards import write_streams

pytestmark = pytest.mark.faults

LONG = [*TINY, "epochs=12", "augment=paper", "checkpoint.every=5it", "eval.every=12ep", "dist.threads=1"]


PLAIN = [argument for argument in LONG if argument != "augment=paper"] + ["augment=none"]  # no draws by rank


def restarting(processes: int, *more: str) -> list[str]:
    """torchrun that starts the processes again."""
    return ["torchrun", "--standalone", f"--nproc_per_node={processes}", "--max-restarts=3", *more]


def test_a_killed_rank_is_replaced(tmp_path: Path) -> None:
    asked = [*LONG, "log.every=4it", "log.gates=true"]
    whole, folder = undisturbed(tmp_path / "whole", *asked, processes=2), tmp_path / "run"
    process = started(*restarting(2), "-m", "hornet_train", *asked, f"run_dir={folder}")
    wait_until(process, has_logged(folder, 3))
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "rank 0 has lost the other processes of this run" in err
    assert events(folder, "resumed")[0]["step"] >= 5
    torch.testing.assert_close(final(folder), final(whole), rtol=0, atol=0)
    assert comparable(folder) == comparable(whole)


def test_a_stopped_rank_is_named_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = ["-m", "hornet_train", *LONG, f"run_dir={folder}", "dist.timeout_minutes=0.3"]
    process = started(*restarting(2), *command)
    wait_until(process, has_logged(folder, 10))
    stopped, begin = ranks_of(process)[1], time.monotonic()
    os.kill(stopped, signal.SIGSTOP)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert f"rank 1 (process {stopped} on" in err
    assert "has not answered for" in err
    assert time.monotonic() - begin < 240
    assert [event["count"] for event in events(folder, "eval")] == [21, 21]


def test_a_rank_that_is_stuck_is_named(tmp_path: Path) -> None:
    code = (
        "import os, sys, time, hornet_train.engine.log_window as log_window\n"
        "timed = log_window.LogWindow.timed_batches\n"
        "def slow(batches, step):\n"
        "    for batch in batches:\n"
        "        time.sleep(1000 if step == 4 and os.environ['RANK'] == '1' else 0)\n"
        "        yield batch\n"
        "def stuck(self, batches, step):\n"
        "    return timed(self, slow(batches, step), step)\n"
        "log_window.LogWindow.timed_batches = stuck\n"
        "from hornet_train.cli.train import main\n"
        "main(sys.argv[1:])\n"
    )
    (tmp_path / "stuck.py").write_text(code)
    done = torchrun(
        2, f"{tmp_path}/stuck.py", *LONG, f"run_dir={tmp_path / 'run'}", "dist.timeout_minutes=0.15"
    )
    assert done.returncode != 0
    assert "all answer, but rank 1 (process" in done.stderr
    assert "is after step 4, waiting for data" in done.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run of one process."""
    return undisturbed(tmp_path_factory.mktemp("alone") / "run", *PLAIN)


@pytest.mark.draw(1)
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_on_fewer_or_more_ranks_it_is_the_same_run(
    before: int, after: int, tmp_path: Path, alone: Path
) -> None:
    folder = tmp_path / "run"
    for processes, more in ((before, ["checkpoint.max_minutes=0.03"]), (after, [])):
        command = ["-m", "hornet_train", *PLAIN, f"run_dir={folder}", *more]
        done = torchrun(processes, *command)
        assert ("saved" in done.stderr) if more else done.returncode == 0, done.stderr
    ours, whole = ([(e["step"], e["loss"]) for e in events(f, "train")] for f in (folder, alone))
    assert [step for step, _ in ours] == [step for step, _ in whole]
    assert [loss for _, loss in ours] == pytest.approx([loss for _, loss in whole], rel=1e-3)


def test_a_rank_without_anything_to_evaluate_waits_for_the_others(tmp_path: Path) -> None:
    """hornet-eval of one streamed shard, for longer than a collective may take: here 8 seconds."""
    write_streams(tmp_path / "set", train=1, val=1, size=16)
    sized = [f"data.name={tmp_path}/set", "data.image_size=32", "data.workers=0", "data.streaming=true"]
    few = ["batch_size=8", "epochs=1it", "schedule.warmup=0it", "optim.lr=1e-3", f"run_dir={tmp_path}/run"]
    trained = run("hornet-train", "model=hornet_pico_7x7", "data=hub", *sized, *few)
    assert trained.returncode == 0, trained.stderr
    (tmp_path / "slow.py").write_text(
        "import sys, time\n"
        "from datetime import timedelta\n"
        "from torch.distributed.distributed_c10d import _set_pg_timeout\n"
        "import hornet_train.run.evaluate_checkpoint as evaluation\n"
        "from hornet_train.engine.tally import SumTally\n"
        "update, run = SumTally.update, evaluation.run_evaluation\n"
        "def slow(*arguments):\n"
        "    time.sleep(1.5)\n"
        "    return update(*arguments)\n"
        "def impatient(*arguments, **more):\n"
        "    _set_pg_timeout(timedelta(seconds=8))\n"
        "    return run(*arguments, **more)\n"
        "SumTally.update, evaluation.run_evaluation = slow, impatient\n"
        "from hornet_train.cli.evaluate import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = [f"checkpoint={tmp_path}/run", "batch_size=2", "data.workers=1", f"out={tmp_path}/eval.json"]
    done = torchrun(2, f"{tmp_path}/slow.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "eval.json").read_text())["count"] == 16


def test_a_share_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    done = torchrun(3, "-m", "hornet_train", *LONG, f"run_dir={tmp_path}")
    assert done.returncode != 0
    assert "batch_size=16 cannot be shared by 3 processes; the nearest that can: batch_size=15" in done.stderr


def test_a_run_that_may_start_again_needs_a_folder() -> None:
    start = ["torchrun", "--standalone", "--nproc_per_node=1", "--max-restarts=1"]
    done = run(*start, "-m", "hornet_train", *TINY)
    assert "run_dir is missing: with torchrun --max-restarts" in done.stderr
