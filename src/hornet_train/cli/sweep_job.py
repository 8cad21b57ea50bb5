"""One job of a sweep: a training in a process of its own; under submitit, one of several ranks.

A separate process leaves no state behind for the next training, and keeps its signals apart from submitit's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import FrameType

from hornet_train.cli.command import PREEMPTED
from hornet_train.cli.job_report import reported
from hornet_train.config.sweep import JobResult

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


def train_in_a_process(overrides: list[str]) -> JobResult:
    """Train, and return what came of it.

    If the training was asked to stop and has saved, this process ends too. Slurm then queues the job again;
    submitit writes no result for this attempt, only for the one that finishes.

    Raises:
        SystemExit: the training was asked to stop.
    """
    by_submitit = os.environ.get("SUBMITIT_EXECUTOR")
    if by_submitit:
        from submitit.helpers import TorchDistributedEnvironment

        # all GPUs stay visible: a rank uses the one of its LOCAL_RANK
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0" and "resume=restart" in overrides:
        overrides = [*overrides, "resume=auto"]  # start from scratch only once
    with reported() as report:
        code = _call([sys.executable, "-m", "hornet_train", *overrides], report.variables)
        facts = report.read()
    stopped = code == PREEMPTED or -code in _PASSED_ON  # a signal before its handlers were installed
    if not stopped:
        folder = next(text.partition("=")[2] for text in reversed(overrides) if text.startswith("run_dir="))
        reason = {} if not code or "reason" in facts else {"reason": _how_it_ended(code)}
        return JobResult(code, **{"run_dir": folder, **facts, **reason})
    if by_submitit != "slurm":
        sys.exit(PREEMPTED)
    if os.environ["RANK"] == "0":
        _queue_again(os.environ["SLURM_JOB_ID"])
        sys.exit(PREEMPTED)
    sys.exit(0)  # with KillOnBadExit another code would kill rank 0 before it has queued the job


def _how_it_ended(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _call(command: list[str], variables: Mapping[str, str]) -> int:
    """Run a command, forwarding stop signals; returns its exit code, or minus the signal that ended it.

    `variables`: more environment variables for it.
    """
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if process is not None:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        process = subprocess.Popen(command, env={**os.environ, **variables})
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _queue_again(job: str) -> None:
    """Have Slurm queue this job again, unless it was cancelled or is queued again already.

    Without this, Slurm takes a job that exits by itself, before its time limit or in the grace time of a
    preemption, for finished.
    """
    state = subprocess.run(
        ["squeue", "--noheader", f"--jobs={job}", "--format=%T"], capture_output=True, text=True, check=True
    )
    if state.stdout.strip() == "RUNNING":
        subprocess.run(["scontrol", "requeue", job], check=True)
