"""deterministic=true: two runs with as many threads as there are, and with two ranks, in the same bits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY, events, run, torchrun
from processes import final

pytestmark = pytest.mark.faults

# all that is random on
RANDOM = [*TINY, "augment=paper", "model.drop_path=0.2", "deterministic=true"]
# compiling takes minutes: a model of few kernels, and no shorter last step
SMALL = ["model.args={depths: [1,1,1,1], orders: 1}", "model.drop_path=0", "data.train_count=32"]
THREADS = {**os.environ, "OMP_NUM_THREADS": "2"}


def done(process: subprocess.CompletedProcess[str]) -> None:
    assert process.returncode == 0, process.stderr


def measured(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run, but for what tells the time."""
    kept = [*events(folder, "train"), *events(folder, "eval")]
    return [{k: v for k, v in one.items() if k not in ("images_per_second", "data_wait")} for one in kept]


def same(one: Path, two: Path) -> None:
    torch.testing.assert_close(final(one), final(two), rtol=0, atol=0)
    assert measured(one) == measured(two)


@pytest.mark.draw(2)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", ["hornet_pico_gf", "hornet_pico_7x7"])
def test_a_run_and_its_repetition_are_equal(model: str, precision: str, tmp_path: Path) -> None:
    """With other numbers of reading processes too."""
    one, two = tmp_path / "one", tmp_path / "two"
    chosen = (f"model={model}", f"precision={precision}")
    done(run("hornet-train", *RANDOM, *chosen, f"run_dir={one}", env=THREADS))
    again = run("hornet-train", f"from={one}", "data.workers=2", f"run_dir={two}", env=THREADS)
    done(again)
    assert "2 threads each" in again.stdout
    assert "warning" not in again.stderr
    same(one, two)


def test_two_ranks_are_equal(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        done(torchrun(2, "-m", "hornet_train", *RANDOM, "precision=bf16", f"run_dir={folder}"))
    same(one, two)
