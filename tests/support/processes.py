"""Trainings as separate processes, for tests to stop, kill and starve, and the tensors they end with."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch
from helpers import TINY, resolve, run

from hornet_train.engine.checkpoint import read_checkpoint, read_pointer

LONG = [*TINY, "augment=paper", "model.drop_path=0.2", "checkpoint.every=1000it"]  # no scheduled checkpoint


def undisturbed(folder: Path, *arguments: str, processes: int = 1) -> Path:
    """Train without interruption; returns the run folder."""
    start = ["hornet-train"]
    if processes > 1:
        start = ["torchrun", "--standalone", f"--nproc_per_node={processes}", "-m", "hornet_train"]
    done = run(*start, *arguments, f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def final(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """All tensors in the last checkpoint of a run folder."""
    name = read_pointer(folder / "checkpoints", "last")
    assert name is not None
    return read_checkpoint(folder / "checkpoints" / name).tensors


def started(*command: str) -> subprocess.Popen[str]:
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        resolve(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_until(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    """Wait until `happened` returns True; the process must still be running then."""
    end = time.monotonic() + 180
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not happen within 180 s"
        time.sleep(0.005)


def has_logged(folder: Path, count: int) -> Callable[[], bool]:
    """A condition for `wait_until`: the run has logged at least `count` `train` events."""
    metrics = folder / "metrics.jsonl"
    return lambda: metrics.exists() and metrics.read_bytes().count(b'"train"') >= count


def ranks_of(process: subprocess.Popen[str]) -> dict[int, int]:
    """Rank -> process id of the processes that a torchrun has started."""
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    ranks = {}
    for child in map(int, children.stdout.split()):
        for name in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            if name.startswith(b"RANK="):
                ranks[int(name[5:])] = child
    return ranks
