"""A real Slurm with two nodes on this machine, for the time of a test; it writes to one folder only."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
PACKAGES = ("slurm-wlm", "munge")
NODES = ("127.0.0.1", "127.0.0.2")  # names that torchrun resolves on every machine
SECONDS = 120  # in which a daemon must answer and a job must start

# Two partitions of the same nodes: a job in `urgent` preempts those in `main`, which have a minute to save
# and are queued again. A requeued job waits for cred_expire, by default two minutes.
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
MpiDefault=none
PlugStackConfig={folder}/plugstack.conf
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
NodeName=127.0.0.1 Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=127.0.0.2 Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


class Unavailable(Exception):  # noqa: N818 - not an error, but a reason to skip
    """Slurm cannot run here; the message says why."""


def install() -> None:
    """Install Debian's packages of Slurm if they are missing.

    Raises:
        Unavailable: they cannot be installed here.
    """
    if os.geteuid() != 0:
        raise Unavailable("its daemons must be started as root, and this is another user")
    if all(map(shutil.which, PROGRAMS)):
        return
    if shutil.which("apt-get") is None:
        raise Unavailable(f"{', '.join(PACKAGES)} are not installed, and there is no apt-get")
    with (Path(tempfile.gettempdir()) / "slurm-install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test process may be installing them
        if not all(map(shutil.which, PROGRAMS)):
            _install_packages()


def _install_packages() -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", "--quiet", *command],
            capture_output=True, text=True, timeout=600, check=False, env=environment,
        )  # fmt: skip
        if done.returncode:
            raise Unavailable(f"apt-get {command[0]} failed: {(done.stderr or done.stdout).strip()[-400:]}")
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        raise Unavailable(f"{', '.join(PACKAGES)} bring no {', '.join(missing)}")


class Slurm:
    """A running Slurm; the commands find it by SLURM_CONF."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}

    def call(self, *command: str) -> str:
        """Run a Slurm command; returns its output."""
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env=self.environment
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job: JobState, Restarts, ExitCode, ..."""
        pairs = (word.partition("=") for word in self.call("scontrol", "show", "job", number, "-o").split())
        return {key: value for key, _, value in pairs}

    def wait(self, number: str, happened: Callable[[], bool], *, seconds: float = 180) -> None:
        """Wait until `happened` returns True; the job must not end before."""
        end = time.monotonic() + seconds
        while not happened():
            state = self.job(number)
            assert time.monotonic() < end, f"it did not happen within {seconds:g} s: {state}"
            assert state["JobState"] not in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"), state
            time.sleep(0.1)

    def ended(self, number: str, *, seconds: float = 240) -> dict[str, str]:
        """Wait for the end of a job; returns what Slurm knows of it then."""
        end = time.monotonic() + seconds
        while (state := self.job(number))["JobState"] in ("PENDING", "RUNNING", "COMPLETING", "PREEMPTED"):
            assert time.monotonic() < end, f"the job did not end within {seconds:g} s: {state}"
            time.sleep(0.2)
        return state


@contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """Run munged, slurmctld and slurmd for the time of a with block; they leave nothing behind but `folder`.

    Args:
        folder: empty; every user may enter it, and its path is short, as that of a socket is limited.
    """
    for name in ("state", *(f"spool.{node}" for node in NODES)):
        (folder / name).mkdir()
    (folder / "plugstack.conf").touch()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(folder=folder, host=host, ports=_free_ports(3)))
    slurm = Slurm(folder)
    munge = {
        f"--{name}": folder / f"munge.{name.split('-')[0]}" for name in ("socket", "pid-file", "seed-file")
    }
    commands = (
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--log-file={folder}/munge.log"]
        + [f"{flag}={path}" for flag, path in munge.items()],
        ["slurmctld", "-D", "-f", str(config)],
        *(["slurmd", "-D", "-N", node, "-f", str(config)] for node in NODES),
    )
    daemons: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        for command in commands:
            daemons.append(stack.enter_context(_daemon(command, folder, slurm.environment)))
            if command[0] == "munged":
                _wait_for((folder / "munge.socket").exists, daemons, folder)
        _wait_for(lambda: _idle(slurm), daemons, folder)
        try:
            yield slurm
        finally:
            for number in slurm.call("squeue", "--noheader", "--format=%A").split():
                slurm.call("scancel", "--signal=KILL", "--full", number)
                slurm.call("scancel", number)
            _wait_for(lambda: not slurm.call("squeue", "--noheader"), daemons, folder)


def _idle(slurm: Slurm) -> bool:
    command = ("sinfo", "--noheader", "--format=%t")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=slurm.environment)
    return set(done.stdout.split()) == {"idle"}


@contextmanager
def _daemon(
    command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for the time of a with block."""
    with (folder / f"{command[0]}.out").open("a") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(happened: Callable[[], bool], daemons: list[subprocess.Popen[bytes]], folder: Path) -> None:
    end = time.monotonic() + SECONDS
    while not happened():
        if time.monotonic() > end or any(daemon.poll() is not None for daemon in daemons):
            output = "\n".join(path.read_text()[-2000:] for path in sorted(folder.glob("*.out")))
            raise AssertionError(f"Slurm did not start, or did not end its jobs:\n{output}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
