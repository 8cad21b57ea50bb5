"""One job of a sweep: a training in a process of its own, as one rank of several where submitit started them.

A process of its own leaves nothing behind for the next training, and keeps its signals apart from submitit's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

from hornet_train.cli.command import PREEMPTED

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


def train_in_a_process(overrides: list[str]) -> int:
    """Train: the exit code.

    Where the training was asked to stop, and has saved, this process ends too. Slurm then has the job again;
    submitit writes no result, and who waits for one gets that of the start which comes to the end.

    Raises:
        SystemExit: asked to stop.
    """
    by_submitit = os.environ.get("SUBMITIT_EXECUTOR")
    if by_submitit:
        from submitit.helpers import TorchDistributedEnvironment

        # all GPUs stay visible: a rank takes that of its LOCAL_RANK
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0" and "resume=restart" in overrides:
        overrides = [*overrides, "resume=auto"]  # anew, but once
    code = _call([sys.executable, "-m", "hornet_train", *overrides])
    stopped = code == PREEMPTED or -code in _PASSED_ON  # by a signal: it was not yet listening
    if not stopped:
        return code
    if by_submitit != "slurm":
        sys.exit(PREEMPTED)
    if os.environ["RANK"] == "0":
        _queue_again(os.environ["SLURM_JOB_ID"])
        sys.exit(PREEMPTED)
    sys.exit(0)  # where KillOnBadExit is set, another code would end rank 0 before it is done


def _call(command: list[str]) -> int:
    """Run a command, and pass on to it what asks to stop; its exit code, or the negative signal."""
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if process is not None:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        process = subprocess.Popen(command)
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _queue_again(job: str) -> None:
    """Have Slurm start this job again, unless it was ended: cancelled, or queued again already.

    One that leaves by itself, ahead of its time limit or in the grace time of a preemption, would be at its
    end for Slurm.
    """
    state = subprocess.run(
        ["squeue", "--noheader", f"--jobs={job}", "--format=%T"], capture_output=True, text=True, check=True
    )
    if state.stdout.strip() == "RUNNING":
        subprocess.run(["scontrol", "requeue", job], check=True)
