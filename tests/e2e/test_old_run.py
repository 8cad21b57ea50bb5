"""A run folder of an earlier version (tests/old_run) is evaluated and resumed as by that version."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from helpers import ROOT, events, run

OLD = ROOT / "tests" / "old_run"
EXPECTED = json.loads((OLD / "expected.json").read_text())
TIMED = {"images_per_second", "data_wait"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / "run", tmp_path / "run"))


@pytest.mark.parametrize("weights", ["model", "ema"])
def test_is_evaluated_to_the_same_numbers(folder: Path, weights: str) -> None:
    done = run("hornet-eval", f"checkpoint={folder}", f"weights={weights}", "dist.threads=1", "out=e.json",
               cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "e.json").read_text())
    then = next(e for e in EXPECTED["events"] if e["event"] == "eval" and e["weights"] == weights
                and e["step"] == 20)  # fmt: skip
    assert (result["count"], result["step"], result["weights"]) == (360, 20, weights)
    assert (result["top1"], result["top5"]) == (then["top1"], then["top5"])
    assert result["loss"] == pytest.approx(then["loss"], rel=1e-6)


@pytest.mark.quick
def test_goes_on_bit_for_bit(folder: Path) -> None:
    done = run("hornet-train", *EXPECTED["arguments"], cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    final = folder / "checkpoints" / "step_00000045"
    tensors = {group: safetensors.torch.load_file(final / f"{group}.safetensors")
               for group in EXPECTED["sha256"]}  # fmt: skip
    for group, norms in EXPECTED["norms"].items():
        assert norms == pytest.approx(
            {name: float(tensors[group][name].double().norm()) for name in norms}, rel=2e-3, abs=1e-4
        )
    now, then = _untimed(events(folder)), _untimed(EXPECTED["events"])
    now = [event for event in now if event["event"] != "resumed"]
    assert [(e["event"], e["step"]) for e in now] == [(e["event"], e["step"]) for e in then]
    if _processor() == EXPECTED["cpu"] and torch.__version__ == EXPECTED["torch"]:  # others round otherwise
        assert {group: _digest(named) for group, named in tensors.items()} == EXPECTED["sha256"]
        assert now == then


def _untimed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in TIMED} for line in lines]


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _processor() -> list[str]:
    """What decides how sums are rounded: the kind of processor, and what torch uses of it."""
    found: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    capability = torch.backends.cpu.get_cpu_capability()
    return [*(found.get(name, "") for name in ("vendor_id", "cpu family", "model")), capability]
