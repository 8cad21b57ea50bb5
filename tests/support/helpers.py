"""Real commands as a user types them, and the smallest run that shows something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import warm_start

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

# 40 images, so that a global batch of 16 leaves a last step of 8; a few seconds a run.
TINY = [
    "data=synthetic",
    "data.train_count=40",
    "data.val_count=21",
    "data.num_classes=4",
    "data.source_size=24",
    "data.image_size=32",
    "data.workers=0",
    "batch_size=16",
    "epochs=2",
    "schedule.warmup=1it",
    "optim.lr=1e-3",
    "log.every=1it",
    "ema.decay=0.9",
]


def run(
    *command: str, timeout: float = 240, fresh: bool = False, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run one of our commands (found beside this Python) to its end.

    Args:
        fresh: whether it imports everything itself, as for a user; else it may be forked (warm_start.py).
    """
    if not fresh and more.keys() <= {"cwd"} and (server := warm_start.server_for(command)):
        return server.run(resolve(command), cwd=more.get("cwd"), timeout=timeout)
    return subprocess.run(
        resolve(command), capture_output=True, text=True, timeout=timeout, check=False, **more
    )


def resolve(command: tuple[str, ...]) -> list[str]:
    """`hornet-train`, `hornet-eval`, `torchrun`, `python` of this environment."""
    return [str(BIN / command[0]), *command[1:]]


def torchrun(processes: int, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """`command` on several processes, on a port of its own."""
    return run("torchrun", "--standalone", f"--nproc_per_node={processes}", *command, **more)


# of this start and this disk, not of the run
PASSING = {"resumed", "preempted", "checkpoint_failed", "checkpoint_recovered"}


def comparable(folder: Path) -> list[dict[str, Any]]:
    """The events of a run folder that are the same however often the run was interrupted, without speeds."""
    return [
        {key: value for key, value in event.items() if key not in ("images_per_second", "data_wait")}
        for event in events(folder)
        if event["event"] not in PASSING
    ]


def events(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The events of a run folder."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if kind is None or e["event"] == kind]
