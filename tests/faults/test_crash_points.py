"""Killed before each operation of a write, and at random: the next start finds a complete checkpoint."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY, comparable, run
from processes import final, has_logged, started, wait_until

from hornet_train.engine import checkpoint
from hornet_train.engine.checkpoint import CheckpointStore, read_checkpoint, read_pointer
from hornet_train.engine.find_checkpoint import find_checkpoint
from hornet_train.track import durable_files

Amount = Callable[[int, int], int]
OPERATIONS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}
pytestmark = pytest.mark.faults


def state(step: int, value: float) -> dict[str, dict[str, torch.Tensor]]:
    weights = torch.full((3, 4), float(value))
    return {"model": {"a": weights, "step": torch.tensor(step)}, "optimizer": {"a/exp_avg": weights + 1}}


def numbers(step: int, best: int | None) -> dict[str, Any]:
    content = None if best is None else {"step": best, "weights": "model", "metric": "top1", "value": 1.0}
    return {"step": step, "evaluated": 0, "best": content, "loss_scaler": {}}


def saves(folder: Path) -> list[Callable[[], object]]:
    """Of a run that keeps one checkpoint: the next one, and the same again after its evaluation."""
    store = CheckpointStore(folder / "checkpoints", keep=1)
    return [
        lambda: store.save(state(2, 2), numbers(2, best=1)),
        lambda: store.save(state(2, 2), numbers(2, best=2)),
        lambda: store.save(state(3, 3), numbers(3, best=2)),
    ]


def killed_at(operation: int, folder: Path) -> tuple[int, bool]:
    """Kill a process that writes before an operation; how many saves it ended, and whether it came so far."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def kill() -> None:
            nonlocal count
            count += 1
            if count > operation:
                os.kill(os.getpid(), signal.SIGKILL)

        def audit(event: str, _arguments: tuple[Any, ...]) -> None:
            if event in OPERATIONS:
                kill()

        def halfway(path: str | Path, data: bytes) -> None:
            with open(path, "wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
                kill()
                file.write(data[len(data) // 2 :])

        checkpoint.write_through = durable_files.write_through = halfway  # type: ignore[attr-defined]
        sys.addaudithook(audit)
        for save in saves(folder):
            save()
            os.write(writing, b".")
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        ended = len(pipe.read())
    return ended, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_killed_before_every_operation_of_a_write(tmp_path: Path, test_seed: int, amount: Amount) -> None:
    """In the short form before every third one."""
    stride = amount(1, 3)
    for operation in itertools.count(test_seed % stride, stride):
        folder = tmp_path / str(operation)
        CheckpointStore(folder / "checkpoints", keep=1).save(state(1, 1), numbers(1, best=1))
        ended, killed = killed_at(operation, folder)
        store = CheckpointStore(folder / "checkpoints", keep=1)
        place, passed_over = store.newest()
        assert place is not None, operation
        saved = read_checkpoint(place)
        step = saved.numbers["step"]
        assert passed_over == [], operation
        assert step >= [1, 2, 2, 3][ended], operation
        torch.testing.assert_close(saved.tensors, state(step, step), rtol=0, atol=0)
        evaluated, notes = find_checkpoint(folder)
        assert notes == [], operation
        assert evaluated.numbers["step"] == 2 or ended < 2, operation
        store.clean()
        assert not list(store.folder.glob(".*")), operation
        for pointer in ("last", "best"):
            assert (store.folder / str(read_pointer(store.folder, pointer))).is_dir(), operation
        for save in saves(folder):
            save()
        assert [path.name for path in store.step_folders()] == ["step_00000002", "step_00000003"], operation
        if not killed:
            break
    assert ended == 3
    assert operation > 60  # each file twice, folders, renames, pointers, pruning


def test_killed_at_random_again_and_again(tmp_path: Path, test_seed: int) -> None:
    often = [*TINY, "epochs=8", "checkpoint.every=1it", "checkpoint.keep=2", "log.every=3it"]
    whole, folder = tmp_path / "whole", tmp_path / "run"
    done = run("hornet-train", *often, f"run_dir={whole}")
    assert done.returncode == 0, done.stderr
    chance = random.Random(test_seed)
    for number in range(1, 4):
        process = started("hornet-train", *often, f"run_dir={folder}")
        wait_until(process, has_logged(folder, 2 * number))
        time.sleep(chance.random() / 20)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        place, passed_over = CheckpointStore(folder / "checkpoints", keep=2).newest()
        assert place is not None
        assert passed_over == []
    again = run("hornet-train", *often, f"run_dir={folder}")
    assert again.returncode == 0, again.stderr
    assert [path for path in folder.rglob(".*") if path.name != ".lock"] == []
    torch.testing.assert_close(final(folder), final(whole), rtol=0, atol=0)
    assert comparable(folder) == comparable(whole)
