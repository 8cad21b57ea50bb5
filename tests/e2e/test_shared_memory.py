"""Containers with little shared memory, or none that can be written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers import TINY, events, resolve
from PIL import Image
from skimage import data


def within(options: str, *command: str) -> subprocess.CompletedProcess[str]:
    """A command with another /dev/shm, in a mount namespace of its own."""
    script = f'mount -t tmpfs -o {options} tmpfs /dev/shm && exec "$@"'
    alone = ("unshare", "--mount", "bash", "-c", script, "bash")
    return subprocess.run(
        [*alone, *resolve(command)], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(autouse=True)
def _may_mount() -> None:
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")


@pytest.mark.long
def test_a_training_with_workers_needs_no_shared_memory(tmp_path: Path) -> None:
    given = [*TINY, "epochs=1", "data.workers=1", "data.image_size=96", "data.train_count=32"]
    results = []
    for name, options, said in (
        ("usual", "size=1g", ""),
        ("small", "size=2m", "they come through pipes"),
        ("locks", "size=64k", "read in this process itself"),  # those of the evaluation's workers do not fit
        ("none", "size=2m,ro", "read in this process itself, which takes longer: /dev/shm cannot be"),
    ):
        done = within(options, "hornet-train", *given, f"run_dir={tmp_path}/{name}")
        assert done.returncode == 0, done.stderr
        assert said in done.stderr
        results.append([event["loss"] for event in events(tmp_path / name, "train")])
    assert results == results[:1] * 4


def test_a_check_needs_none_either(tmp_path: Path) -> None:
    picture = Image.fromarray(data.astronaut()).resize((64, 64))
    for name in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / name).mkdir(parents=True)
        picture.save(tmp_path / name / "1.png")
    done = within("size=2m,ro", "hornet-data", "check", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("usable\n")
