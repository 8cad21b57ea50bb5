"""A run of two ranks under a hundred SIGKILLs, or thirty others of each commit in the short form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import ROOT, comparable, events, run
from processes import final

pytestmark = pytest.mark.faults
IMAGES, STEPS_AN_EPOCH = 72, 5


def seen(folder: Path) -> dict[tuple[int, int], list[list[int]]]:
    """(step, rank) -> what it saw in each attempt at it."""
    found: dict[tuple[int, int], list[list[int]]] = {}
    for rank in (0, 1):
        for line in (folder / "seen" / str(rank)).read_text().splitlines():
            step, batches = json.loads(line)
            found.setdefault((step, rank), []).append([index for batch in batches for index in batch])
    return found


def test_nothing_is_lost_but_time(tmp_path: Path, test_seed: int, amount: Callable[[int, int], int]) -> None:
    kills, epochs = amount(100, 30), amount(60, 24)
    killer = str(ROOT / "tests" / "support" / "killer.py")
    done = run("python", killer, str(tmp_path), str(kills), str(epochs), str(test_seed), timeout=1500)
    logs = "".join(path.read_text()[-3000:] for path in tmp_path.glob("*/log.*"))
    assert done.returncode == 0, done.stderr + logs
    hit = json.loads(done.stdout.splitlines()[-1])
    assert hit == {kind: kills // 5 * (2 if kind == "write" else 1) for kind in hit}
    assert len(hit) == 4

    whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    torch.testing.assert_close(final(killed), final(whole), rtol=0, atol=0)
    assert comparable(killed) == comparable(whole)
    assert len(events(killed, "resumed")) >= kills // 4

    attempts = seen(tmp_path / "killed")
    assert all(one == attempt[0] for attempt in attempts.values() for one in attempt)
    for epoch in range(epochs):
        steps = range(epoch * STEPS_AN_EPOCH, (epoch + 1) * STEPS_AN_EPOCH)
        images = [index for step in steps for rank in (0, 1) for index in attempts[step, rank][0]]
        assert sorted(images) == list(range(IMAGES))

    left = {path.name for path in (killed / "checkpoints").iterdir()}
    assert not [name for name in left if name.startswith(".")]
