"""What a run ran on: versions, commit, machine. No environment variables: they hold secrets."""

from __future__ import annotations

import os
import platform
import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from hornet_train.redaction import redacted

PACKAGES = ("hornet-train", "torch", "torchvision", "timm", "numpy")


def environment(world_size: int = 1, device: str = "cpu") -> dict[str, Any]:
    """The content of a run folder's environment.json.

    Args:
        world_size: processes of the run.
        device: the device type that it trains on, "cuda" or "cpu".
    """
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(map(redacted, sys.argv)),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": git_state(Path(__file__)),
        "world_size": world_size,
        "device": device,
        "gpus": gpus,  # of this host
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def git_state(file: Path) -> dict[str, Any] | None:
    """`{"commit", "dirty"}` of the checkout that tracks `file`; None without one, or without git.

    An installed copy under a virtual environment may lie in somebody else's checkout, which does not track
    it: its commit would say nothing about this code.
    """
    if _git(file.parent, "ls-files", "--error-unmatch", "--", file.name) is None:
        return None
    commit = _git(file.parent, "rev-parse", "HEAD")
    changes = _git(file.parent, "status", "--porcelain")
    return None if commit is None or changes is None else {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it fails or is not there."""
    try:
        answer = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
