"""Jobs of a real Slurm that are stopped and queued again: one run each, that ends as if undisturbed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
import torch
from helpers import BIN, ROOT, events, run
from processes import final, has_logged, undisturbed, wait_until
from slurm import Slurm, Unavailable, install, running

from hornet_train.track.durable_files import read_json

LONG = [*processes.LONG, "epochs=80", "eval.every=40ep"]
STEPS = 240
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    try:
        install()
    except Unavailable as reason:
        pytest.skip(f"no Slurm on this machine: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    try:
        with running(folder) as slurm:
            yield slurm
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run on two processes."""
    return undisturbed(tmp_path_factory.mktemp("whole") / "run", *LONG, processes=2)


def submitted(slurm: Slurm, folder: Path, *command: str, **environment: str) -> str:
    """Submit a job from a folder: its number."""
    done = subprocess.run(
        ["sbatch", "--parsable", *command],
        cwd=folder,
        env={**slurm.environment, "HORNET_PYTHON": str(BIN / "python"), **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SCRIPT = str(ROOT / "scripts/slurm/train.sbatch")


def test_a_job_on_two_nodes_goes_on_after_its_time_and_after_a_preemption(
    slurm: Slurm, tmp_path: Path, whole: Path
) -> None:
    more = {"WANDB_MODE": "offline", "HOME": str(tmp_path)}
    arguments = [*LONG, "data.workers=1", "log=wandb"]
    job = submitted(slurm, tmp_path, "--nodes=2", "--job-name=tiny", SCRIPT, *arguments, **more)
    folder = tmp_path / "runs" / f"tiny_{job}"

    slurm.wait(job, has_logged(folder, 8))
    slurm.call(
        "scancel", "--batch", "--signal=USR1", job
    )  # as Slurm does, by --signal, ahead of the time limit
    slurm.wait(job, lambda: slurm.job(job)["Restarts"] == "1")
    slurm.wait(job, has_logged(folder, events(folder, "preempted")[0]["step"] + 4))
    urgent = submitted(slurm, tmp_path, "--partition=urgent", "--nodes=2", "--exclusive", "--wrap=true")
    slurm.wait(job, lambda: slurm.job(job)["Restarts"] == "2")
    ended = slurm.ended(job)
    log = (tmp_path / f"tiny_{job}.log").read_text()
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "2"), log
    assert slurm.ended(urgent)["JobState"] == "COMPLETED"

    assert [event["reason"] for event in events(folder, "preempted")] == ["SIGUSR1", "SIGTERM"]
    assert len(events(folder, "resumed")) == 2
    assert [event["step"] for event in events(folder, "train")] == list(range(1, STEPS + 1))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]
    torch.testing.assert_close(final(folder), final(whole), rtol=0, atol=0)
    one, other = ([e["loss"] for e in events(f, "train")] for f in (folder, whole))
    assert one == other

    starts = [line for line in log.splitlines() if line.startswith(f"train.sbatch: job {job}, start")]
    assert [line.split("start ")[1][0] for line in starts] == ["1", "2", "3"]
    assert log.count("saved; the same command") == 2
    assert "Exception ignored" not in log
    identity = read_json(folder / "wandb_run.json")["id"]
    parts = list((folder / "wandb").glob("offline-run-*"))
    assert len(parts) == 3
    assert all(path.name.endswith(identity) for path in parts)


def test_a_job_that_fails_or_is_cancelled_stays_away(slurm: Slurm, tmp_path: Path) -> None:
    """The failed one had left in time before: that its metrics still say so does not count."""
    folder = tmp_path / "run"
    arguments = [*LONG, f"run_dir={folder}"]
    left = run("hornet-train", *arguments, "checkpoint.max_minutes=0.001")
    assert left.returncode == 75, left.stderr
    failing = submitted(slurm, tmp_path, SCRIPT, *arguments, "optim.lr=2e-3")
    cancelled = submitted(slurm, tmp_path, SCRIPT, *LONG, "epochs=4000")
    slurm.wait(cancelled, has_logged(tmp_path / "runs" / f"hornet_{cancelled}", 1))
    slurm.call("scancel", cancelled)
    for job, state in ((failing, "FAILED"), (cancelled, "CANCELLED")):
        ended = slurm.ended(job)
        assert (ended["JobState"], ended["Restarts"]) == (state, "0")
    assert "holds a run with another config" in (tmp_path / f"hornet_{failing}.log").read_text()
    (event,) = events(tmp_path / "runs" / f"hornet_{cancelled}", "preempted")
    assert event["reason"] == "SIGTERM"


def test_one_process_of_a_node_gets_the_signal(slurm: Slurm, tmp_path: Path) -> None:
    """As under proctrack/cgroup: the shell of the node alone. resume=restart holds for the first start."""
    folder = tmp_path / "run"
    job = submitted(slurm, tmp_path, SCRIPT, *LONG, "resume=restart", f"run_dir={folder}")
    slurm.wait(job, has_logged(folder, 5))
    trains = int((folder / ".lock").read_text().split()[1])
    os.kill(parent(parent(trains)), signal.SIGUSR1)
    assert slurm.ended(job)["JobState"] == "COMPLETED"
    assert slurm.job(job)["Restarts"] == "1"
    assert [event["reason"] for event in events(folder, "preempted")] == ["SIGUSR1"]
    assert [event["step"] for event in events(folder, "train")] == list(range(1, STEPS + 1))


def test_a_sweep_as_jobs_of_slurm_goes_on_after_its_time(slurm: Slurm, tmp_path: Path, whole: Path) -> None:
    """By submitit's launcher, two processes a job; the one that is stopped ends as if undisturbed."""
    pytest.importorskip(
        "hydra_plugins.hydra_submitit_launcher", reason="hornet-train[slurm] is not installed"
    )
    sweep = tmp_path / "sweep"
    launcher = [
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.tasks_per_node=2",
        f"hydra.sweep.dir={sweep}",
    ]
    client = subprocess.Popen(
        [str(BIN / "hornet-train"), "--multirun", *launcher, *LONG, "data.workers=1", "epochs=80,2"],
        cwd=tmp_path, env=slurm.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    first = sweep / "epochs=80"
    wait_until(client, has_logged(first, 5))
    (job,) = (folder.name for folder in (sweep / ".submitit").glob("*_0"))
    slurm.call(
        "scancel", "--signal=USR2", job
    )  # as Slurm does, by submitit's --signal, ahead of the time limit
    out, _ = client.communicate(timeout=240)
    assert client.returncode == 0, out
    assert slurm.job(job)["Restarts"] == "1"
    assert [event["reason"] for event in events(first, "preempted")] == ["SIGUSR2"]
    for folder, steps in ((first, STEPS), (sweep / "epochs=2", 6)):
        assert [event["step"] for event in events(folder, "train")] == list(range(1, steps + 1))
    assert not events(sweep / "epochs=2", "preempted")
    torch.testing.assert_close(final(first), final(whole), rtol=0, atol=0)


def parent(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[1])


def test_the_script_is_clean() -> None:
    done = subprocess.run([str(BIN / "shellcheck"), SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert os.access(SCRIPT, os.X_OK)
