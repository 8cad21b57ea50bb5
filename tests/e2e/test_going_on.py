"""A run goes on by its folder alone: `hornet-train run_dir=...`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from helpers import TINY, events, resolve, run
from processes import final

import hornet_train
from hornet_train.errors import ConfigError
from hornet_train.run import training

Command = Callable[..., tuple[int, str, str]]
STOP = "checkpoint.max_minutes=0.0001"  # after the first step


@pytest.mark.long
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


def test_a_restart_that_is_stopped_before_it_begins_changes_nothing(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("hornet-train", *TINY, "epochs=1it", f"run_dir={tmp_path}/run").returncode == 0
    before = (tmp_path / "run/metrics.jsonl").read_bytes()

    def signalled(*_: object, **__: object) -> NoReturn:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal is handled at once")

    monkeypatch.setattr(training, "build_run", signalled)
    given = (*TINY, "seed=1", f"run_dir={tmp_path}/run")
    code, _, err = command("hornet-train", *given, "resume=restart")
    assert code == 75
    assert "nothing was trained yet; nothing has changed, and the same command begins again" in err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before


def test_another_batch_size_goes_on_at_the_same_image(tmp_path: Path) -> None:
    """16 of 40 images are seen; the next step of 12 has the 8 that are left of images 13 to 24."""
    assert run("hornet-train", *TINY, STOP, f"run_dir={tmp_path}").returncode == 75
    again = run("hornet-train", f"run_dir={tmp_path}", "checkpoint.max_minutes=null", "batch_size=12")
    assert again.returncode == 0, again.stderr
    said = " ".join(again.stdout.split())
    assert "after image 16 of 40 of epoch 1 (step 1) with batch_size=12 (before: 16)" in said
    trained = [(event["step"], event["epoch"]) for event in events(tmp_path, "train")]
    assert trained == [(1, 0.3333), (2, 0.5), (3, 0.75), (4, 1.0), (5, 1.25), (6, 1.5), (7, 1.75), (8, 2.0)]
    assert [event["epoch"] for event in events(tmp_path, "eval")] == [1, 1, 2, 2]
    assert events(tmp_path, "resumed")[0]["epoch"] == 0.3333
    bare = run("hornet-train", f"run_dir={tmp_path}", "epochs=3")
    assert bare.returncode == 0, bare.stderr
    assert events(tmp_path, "eval")[-1]["step"] == 12
    assert (tmp_path / "curves.png").exists()


def test_a_length_in_steps_stays_that_of_the_run(tmp_path: Path) -> None:
    assert run("hornet-train", *TINY, "epochs=6it", STOP, f"run_dir={tmp_path}").returncode == 75
    given = ("checkpoint.max_minutes=null", "batch_size=4", "data.drop_last=false")
    again = run("hornet-train", f"run_dir={tmp_path}", *given)
    assert again.returncode == 0, again.stderr
    assert [event["step"] for event in events(tmp_path, "train")] == [1, 2, 3, 4, 5, 6]
    assert events(tmp_path, "eval")[-1]["step"] == 6


@pytest.mark.long
def test_a_longer_run_says_that_the_rate_jumps_and_how_to_avoid_it(tmp_path: Path) -> None:
    assert run("hornet-train", *TINY, f"run_dir={tmp_path}").returncode == 0
    lowest = events(tmp_path, "train")[-1]["lr"]
    longer = run("hornet-train", f"run_dir={tmp_path}", "epochs=4")
    said = " ".join(longer.stdout.split())
    jump = re.search(r"the learning rate jumps from (\S+) to (\S+), where a run of epochs=4ep", said)
    assert jump is not None, said
    assert float(jump[1]) == pytest.approx(lowest, rel=0.01)
    first_again = next(event["lr"] for event in events(tmp_path, "train") if event["step"] == 7)
    assert float(jump[2]) == pytest.approx(first_again, rel=0.01)
    advice = re.search(r"optim\.lr=\S+(?=,)", said)
    assert advice is not None
    followed = run("hornet-train", f"run_dir={tmp_path}", "epochs=6", advice[0], "schedule.min_lr=0")
    assert followed.returncode == 0, followed.stderr
    rates = [event["lr"] for event in events(tmp_path, "train") if event["step"] > 12]
    assert max(rates) <= lowest * 1.01


def test_the_best_on_other_held_out_images_is_forgotten(tmp_path: Path) -> None:
    assert run("hornet-train", *TINY, f"run_dir={tmp_path}").returncode == 0
    other = run("hornet-train", f"run_dir={tmp_path}", "data.val_count=22", "resume=force", "epochs=3")
    assert other.returncode == 0, other.stderr
    assert re.search(
        r"the best so far \(top1 \S+ at step \d\) is of other held-out images, and", other.stdout
    )
