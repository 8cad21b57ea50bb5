"""Class folders of scikit-image's pictures; hornet-data processes, found by a mark in their environment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from skimage import data

PICTURES = {"astronaut": "jpg", "coffee": "png", "chelsea": "webp"}
MARK = "HORNET_TEST_MARK"


def photographs(root: Path, splits: tuple[str, ...] = ("train", "val"), each: int = 5) -> Path:
    """Write three classes per split, of `each` crops of 120 x 90 pixels, in JPEG, PNG and WebP."""
    for split, name in ((split, name) for split in splits for name in PICTURES):
        image = Image.fromarray(getattr(data, name)())
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(each):
            left, top = 7 * i + 40 * splits.index(split), 5 * i
            crop = image.crop((left, top, left + 120, top + 90))
            crop.save(folder / f"{i:02d}.{PICTURES[name]}")
    return root


def hornet_data(*arguments: str, mark: str = "", **more: Any) -> subprocess.Popen[str]:
    """Start `hornet-data` as a process; `mark` is set in its environment (see `marked`)."""
    return subprocess.Popen(
        [sys.executable, "-m", "hornet_train.cli.data", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, MARK: mark},
        **more,
    )


def marked(mark: str) -> list[int]:
    """Ids of the running processes that were started with this mark, and of their children."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return found


def reads(pid: int, path: Path) -> bool:
    """Whether a process has a file open."""
    try:
        return any(os.readlink(fd) == os.fspath(path) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    """Wait until `what` returns something true; the test fails if that takes longer than `seconds`."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"still not true after {seconds:g} s"
        time.sleep(0.02)


def open_when_read(fifo: Path) -> int:
    """Open the writing end of a named pipe once a process reads it, and so blocks on it."""
    handles: list[int] = []

    def opened() -> bool:
        try:
            handles.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # no reader yet
            return False
        return True

    wait_for(opened)
    return handles[0]
