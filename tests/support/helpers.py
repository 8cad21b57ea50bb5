"""Runs commands as a user types them; TINY is the smallest useful training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import warm_start

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

# 40 images, so that with a global batch of 16 the last step of an epoch has 8. A run takes a few seconds.
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
    """Run a command of this environment to its end.

    Args:
        fresh: start a new Python, as a user does; else it may be forked from a warm process (warm_start.py).
    """
    if not fresh and more.keys() <= {"cwd"} and (server := warm_start.server_for(command)):
        return server.run(resolve(command), cwd=more.get("cwd"), timeout=timeout)
    return subprocess.run(
        resolve(command), capture_output=True, text=True, timeout=timeout, check=False, **more
    )


def resolve(command: tuple[str, ...]) -> list[str]:
    """The command, with the path of its program (`hornet-train`, `torchrun`, ...) in this environment."""
    return [str(BIN / command[0]), *command[1:]]


def torchrun(processes: int, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run `command` on several processes with torchrun, on a free port."""
    return run("torchrun", "--standalone", f"--nproc_per_node={processes}", *command, **more)


# events about one start or one disk; an uninterrupted run does not have them
PASSING = {"resumed", "preempted", "checkpoint_failed", "checkpoint_recovered", "best_lost"}


def comparable(folder: Path) -> list[dict[str, Any]]:
    """The events of a run folder that do not depend on interruptions, without speeds: to compare runs."""
    return [
        {key: value for key, value in event.items() if key not in ("images_per_second", "data_wait")}
        for event in events(folder)
        if event["event"] not in PASSING
    ]


def events(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The events in a run folder's metrics.jsonl, of one kind or all."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if kind is None or e["event"] == kind]
