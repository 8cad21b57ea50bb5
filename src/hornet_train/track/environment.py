"""What a run ran on: versions, code, machine. Only a fixed list of environment variables is stored, as others
may be secrets."""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from hornet_train.file_names import shell_join
from hornet_train.redaction import redacted
from hornet_train.track.checkout import git_state, uncommitted_changes

VARIABLES = (  # that affect which kernels run, or in what order they add up
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_LAUNCH_BLOCKING",
    "KMP_AFFINITY",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_NUM_THREADS",
    "NCCL_ALGO",
    "NCCL_NVLS_ENABLE",
    "NCCL_PROTO",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCHINDUCTOR_DETERMINISTIC",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def environment(world_size: int = 1, device: str = "cpu", folder: Path | None = None) -> dict[str, Any]:
    """The content of a run folder's environment.json.

    Args:
        world_size: processes of the run.
        device: the device type that it trains on, "cuda" or "cpu".
        folder: where to store the diff of uncommitted changes; None does not store it.
    """
    import torch

    git = git_state(Path(__file__))
    if git is not None and git["dirty"]:
        git |= uncommitted_changes(Path(__file__), folder)
    cuda = torch.cuda.is_available()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shell_join(map(redacted, sys.argv)),
        "directory": os.getcwd(),  # to which the relative paths of the config are
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": packages(),
        "git": git,
        "world_size": world_size,
        "device": device,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],  # of this host
        "driver": driver(Path("/proc/driver/nvidia/version")),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
        "cpu": cpu_model(Path("/proc/cpuinfo")),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "math": {
            "capability": torch.backends.cpu.get_cpu_capability(),
            **libraries(torch.__config__.show()),
            "interop_threads": torch.get_num_interop_threads(),
        },
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def packages() -> Mapping[str, str]:
    """Name -> version of all installed packages, sorted; names are normalised as in the package index."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # None for the remains of an interrupted installation
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return dict(sorted(found.items()))


def libraries(build: str) -> dict[str, str | None]:
    """The versions of torch's CPU libraries, from its build description."""
    patterns = {
        "mkl": r"Math Kernel Library Version (\S+)",
        "onednn": r"MKL-DNN v(\S+)",
        "openmp": r"OpenMP (\d+)",
        "blas": r"BLAS_INFO=(\w+)",
    }
    return {
        name: found[1] if (found := re.search(pattern, build)) else None for name, pattern in patterns.items()
    }


def driver(version: Path) -> str | None:
    """The version of the NVIDIA driver, from its version file; None if there is none."""
    try:
        found = re.search(r"Module.*?\s(\d+\.[\d.]+)\s", version.read_text(encoding="utf-8"))
    except OSError:
        return None
    return found[1] if found else None


def cpu_model(info: Path) -> str:
    """The model name of this processor."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:  # not Linux
        found = None
    return found[1] if found else platform.processor() or platform.machine()
