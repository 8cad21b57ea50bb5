"""A run goes on by its folder alone: `hornet-train run_dir=...`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import TINY, events, resolve, run
from processes import final

import hornet_train
from hornet_train.errors import ConfigError

STOP = "checkpoint.max_minutes=0.0001"  # after the first step


def test_its_own_config_is_taken(tmp_path: Path) -> None:
    """Keys beside it change it, and what differs is said; a group of settings is another training."""
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert run("hornet-train", *TINY, f"run_dir={whole}").returncode == 0
    stopped = run("hornet-train", *TINY, STOP, f"run_dir={folder}")
    assert stopped.returncode == 75
    assert stopped.stderr.endswith(f"same command with the same run_dir resumes the run: run_dir={folder}\n")
    again = run("hornet-train", f"run_dir={folder}", "checkpoint.max_minutes=null")
    assert again.returncode == 0, again.stderr
    torch.testing.assert_close(final(folder), final(whole), rtol=0, atol=0)
    (event,) = events(folder, "resumed")
    assert event["step"] == 1

    longer = run("hornet-train", f"run_dir={folder}", "epochs=3", "dist=cpu")
    assert longer.returncode == 0, longer.stderr
    assert "going on with another config: epochs: 2ep -> 3ep" in " ".join(longer.stdout.split())
    assert events(folder, "eval")[-1]["epoch"] == 3
    bare = run("hornet-train", f"run_dir={folder}")
    assert "this run is complete at step 9" in " ".join(bare.stdout.split())
    with pytest.raises(ConfigError, match="holds a run with another config"):
        hornet_train.train(["data=digits", f"run_dir={folder}"])
    with pytest.raises(ConfigError, match=r"unknown key optim\.rl"):
        hornet_train.train(["optim.rl=1", f"run_dir={folder}"])


def test_after_a_restart_the_way_on_is_without_it(tmp_path: Path) -> None:
    started = subprocess.Popen(
        resolve(("hornet-train", *TINY, "epochs=500", "resume=restart", f"run_dir={tmp_path}/run")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        if (tmp_path / "run/metrics.jsonl").exists() and events(tmp_path / "run", "train"):
            break
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 75, (sys.executable, err)
    assert "the same command without resume=restart and with the same run_dir resumes the run" in err
    assert re.search(r"run_dir=\S+/run$", err.strip())
