"""The default run as it is: `make test-accuracy`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers import run


@pytest.mark.accuracy
@pytest.mark.draw(1)
@pytest.mark.parametrize("seed", range(5))
def test_the_default_run_reaches_its_accuracy(tmp_path: Path, seed: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    folder = tmp_path / "run"
    done = run("hornet-train", f"seed={seed}", f"run_dir={folder}", env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    evaluated = run("hornet-eval", f"checkpoint={folder}", env=environment)
    assert evaluated.returncode == 0, evaluated.stderr
    result = json.loads((folder / "eval.json").read_text())
    assert result["count"] == 360
    assert result["top1"] >= 98.5
