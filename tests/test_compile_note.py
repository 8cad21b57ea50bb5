"""The note that loops are being compiled comes when they are, and only then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import logging, sys
import numpy as np
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from hornet_train.images.loops.levels import look_up
pixels = np.zeros((4, 4, 3), np.uint8)
look_up(pixels, np.zeros((3, 256), np.uint8))
"""


def test_it_is_said_once_on_a_machine(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    said = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, capture_output=True, text=True, check=True,
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert said == ["compiling image operations and kernels, once on this machine (about 15 s)\n", ""]
