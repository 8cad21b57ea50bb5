"""Two "hosts", as network namespaces of this machine with a cable between them, one torchrun on each."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import BIN, TINY, events
from processes import has_logged, undisturbed, wait_until

pytestmark = pytest.mark.faults

# the same images in each step for any number of ranks; without mixing, whose draws are by rank
LONG = [*TINY, "epochs=16", "augment=none", "checkpoint.every=5it", "eval.every=16ep", "dist.threads=1"]
PORT = 29571


@dataclass
class Hosts:
    """Two namespaces, `names`, with addresses 10.77.N.1 and .2 on the interface `eth`."""

    names: tuple[str, str]
    addresses: tuple[str, str]

    def start(self, host: int, *arguments: str) -> subprocess.Popen[str]:
        """hornet-train by torchrun on a host, in a process group of its own; the first has the rendezvous."""
        command = [
            *("ip", "netns", "exec", self.names[host], str(BIN / "torchrun"), "--nnodes=1:4"),
            *("--nproc_per_node=1", "--max-restarts=3", "--rdzv-backend=c10d", "--rdzv-id=run"),
            f"--rdzv-endpoint={self.addresses[0]}:{PORT}",
            f"--local-addr={self.addresses[host]}",
            f"--rdzv-conf=is_host={1 - host},last_call_timeout=10,keep_alive_interval=1,"
            "keep_alive_max_attempt=3",
            *("-m", "hornet_train", *arguments),
        ]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth"},
        )

    def cut(self) -> None:
        """Pull the cable."""
        _ip("-n", self.names[1], "link", "set", "eth", "down")

    def kill(self, host: int) -> None:
        """End everything on a host."""
        pids = subprocess.run(
            ["ip", "netns", "pids", self.names[host]], capture_output=True, text=True, check=True
        )
        for pid in map(int, pids.stdout.split()):
            os.kill(pid, signal.SIGKILL)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    number = os.getpid() % 200 + 20
    names = (f"hornet{number}a", f"hornet{number}b")
    try:
        for name in names:
            _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces need root and iproute2: {error}")
    addresses = (f"10.77.{number}.1", f"10.77.{number}.2")
    try:
        _ip("-n", names[0], "link", "add", "eth", "type", "veth", "peer", "name", "eth", "netns", names[1])
        for name, address in zip(names, addresses, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth")
            for device in ("lo", "eth"):
                _ip("-n", name, "link", "set", device, "up")
        yield Hosts(names, addresses)
    finally:
        for host, name in enumerate(names):
            Hosts(names, addresses).kill(host)
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(tmp_path_factory.mktemp("whole") / "run", *LONG)


@pytest.mark.draw(1)
@pytest.mark.parametrize("how", ["killed", "cut"])
def test_a_lost_host_leaves_the_other_to_finish(how: str, hosts: Hosts, tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    command = [*LONG, f"run_dir={folder}", "dist.timeout_minutes=0.3"]
    first, second = hosts.start(0, *command), hosts.start(1, *command)
    wait_until(first, has_logged(folder, 12))
    if how == "killed":
        hosts.kill(1)
    else:
        hosts.cut()
    out, err = first.communicate(timeout=400)
    assert first.returncode == 0, err[-4000:]
    assert "2 processes x" in out
    assert "1 process x" in out
    resumed = events(folder, "resumed")[0]["step"]
    assert 10 <= resumed < 48
    ours, alone = ([(e["step"], e["loss"]) for e in events(f, "train")] for f in (folder, whole))
    assert [step for step, _ in ours] == [step for step, _ in alone]
    assert [loss for _, loss in ours] == pytest.approx([loss for _, loss in alone], rel=1e-2)
    assert {event["count"] for event in events(folder, "eval")} == {21}
    if how == "cut":
        hosts.kill(1)  # its torchrun looks for the rendezvous, for some minutes
        _, err = second.communicate(timeout=60)
        assert "their key-value store does not answer either" in err
