"""Losses and gradients that are no numbers, put into real runs: skipped everywhere alike, and got over."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, TINY, comparable, events, run
from processes import final

pytestmark = pytest.mark.faults

FAULTY = str(ROOT / "tests" / "support" / "faulty.py")
RUN = [*TINY, "epochs=4", "checkpoint.every=4it", "eval.every=4ep", "augment=paper", "model.drop_path=0.2"]
Faults = list[dict[str, Any]]


def faulty(
    faults: Faults, folder: Path, *arguments: str, processes: int = 1
) -> subprocess.CompletedProcess[str]:
    """hornet-train with faults put into its steps."""
    start = ["torchrun", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else ["python"]
    return run(*start, FAULTY, json.dumps(faults), *arguments, f"run_dir={folder}")


@pytest.mark.draw(1)
@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_on_whichever_rank_it_happens_all_skip_it(kind: str, tmp_path: Path) -> None:
    """The step is lost alike, and what follows is the same to the bit; a rank of its own mind would show."""
    for rank in (0, 1):
        faults = [{"kind": kind, "steps": [5], "rank": rank}]
        done = faulty(faults, tmp_path / str(rank), *RUN, "data.workers=0", processes=2)
        assert done.returncode == 0, done.stderr
        (event,) = events(tmp_path / str(rank), "skipped_step")
        assert event["step"] == 6
        assert event["reason"] == f"the {kind} is not finite"
        assert event["ranks"] == ([rank] if kind == "loss" else [])
        assert len(event["samples"]) == (4 if kind == "loss" else 8)  # the last step of an epoch has 8 images
        assert event["norms"]["downsample_layers.0"] is None  # no number
    torch.testing.assert_close(final(tmp_path / "0"), final(tmp_path / "1"), rtol=0, atol=0)


def test_a_sample_that_makes_it_is_named(tmp_path: Path) -> None:
    done = faulty([{"kind": "sample", "index": 7}], tmp_path, *RUN, "guard.max_skips=4")
    assert done.returncode == 0, done.stderr
    skipped = events(tmp_path, "skipped_step")
    assert len(skipped) == 4  # once an epoch
    assert all(7 in event["samples"] for event in skipped)
    assert all(tensor.isfinite().all() for named in final(tmp_path).values() for tensor in named.values())
    assert "warning: skipped_step" in done.stderr


def test_two_ranks_go_back_together(tmp_path: Path) -> None:
    faults = [{"kind": "loss", "steps": [6, 7, 8], "rank": 1}]
    done = faulty(faults, tmp_path, *RUN, processes=2)
    assert done.returncode == 0, done.stderr
    (event,) = events(tmp_path, "rollback")
    assert (event["step"], event["failed_at"], event["left_out"]) == (4, 9, [5, 9])
    assert [e["step"] for e in events(tmp_path, "eval")] == [12, 12]


@pytest.mark.parametrize("processes", [1, 2])
def test_after_a_stop_it_goes_back_to_where_it_would_have_gone_without(
    processes: int, tmp_path: Path
) -> None:
    """The checkpoint of step 8 is scheduled, the stop is after step 9 or 10, the fault in step 11."""
    fault = {"kind": "loss", "steps": [10], "rank": processes - 1}
    stop = {"kind": "stop", "steps": [8], "rank": processes - 1}
    asked = [*RUN, "guard.max_skips=1", "log.every=5it", "log.gates=true", "dist.threads=1"]
    whole = faulty([fault], tmp_path / "whole", *asked, processes=processes)
    assert whole.returncode == 0, whole.stderr
    (event,) = events(tmp_path / "whole", "rollback")
    assert event["step"] == 8
    stopped = faulty([fault, stop], tmp_path / "run", *asked, processes=processes)
    assert "saved; the same command" in stopped.stderr
    (event,) = events(tmp_path / "run", "preempted")
    assert event["step"] in (9, 10)
    done = faulty([fault], tmp_path / "run", *asked, processes=processes)
    assert done.returncode == 0, done.stderr
    assert comparable(tmp_path / "run") == comparable(tmp_path / "whole")
    torch.testing.assert_close(final(tmp_path / "run"), final(tmp_path / "whole"), rtol=0, atol=0)


def test_a_run_that_keeps_failing_ends_with_a_diagnosis(tmp_path: Path) -> None:
    faults = [{"kind": "loss", "steps": list(range(6, 99))}]
    done = faulty(faults, tmp_path, *RUN, "epochs=8", "guard.max_rollbacks=1")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "the training diverges: the loss is not finite in steps" in done.stderr
    assert "gradient norm by stage" in done.stderr


def test_the_accuracy_is_reached_all_the_same(tmp_path: Path) -> None:
    """Digits: a sample that is NaN in every epoch, three bad steps in a row, and a spike."""
    short = ["epochs=8", "checkpoint.every=1ep", "eval.every=8ep", "log.every=1ep"]
    undisturbed = run("hornet-train", *short, f"run_dir={tmp_path / 'whole'}")
    assert undisturbed.returncode == 0, undisturbed.stderr
    faults: Faults = [
        {"kind": "sample", "index": 100},
        {"kind": "gradient", "steps": [50, 51, 52]},
        {"kind": "spike", "steps": [90]},
    ]
    done = faulty(faults, tmp_path / "run", *short, "guard.spike=5", "guard.window=10it")
    assert done.returncode == 0, done.stderr
    reasons = [event["reason"] for event in events(tmp_path / "run", "rollback")]
    assert len(reasons) == 2
    assert reasons[0] == "the gradient is not finite"
    assert "times its mean" in reasons[1]
    best = [max(e["top1"] for e in events(tmp_path / f, "eval")) for f in ("whole", "run")]
    assert best[1] > best[0] - 2


def test_a_kept_step_is_made_again(tmp_path: Path) -> None:
    faults: Faults = [{"kind": "sample", "index": 7}]
    short = [*RUN, "epochs=1", "micro_batch_size=4", "augment.mixup=0", "augment.cutmix=0"]
    done = faulty(faults, tmp_path / "run", *short, "guard.dump=true")
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "run" / "dumps").iterdir()
    assert f"is dumped to {file}" in done.stderr
    (event,) = events(tmp_path / "run", "skipped_step")
    assert len(event["samples"]) == 4
    again = run("python", FAULTY, json.dumps(faults), f"replay={file}")
    assert again.returncode == 0, again.stderr
    (row,) = (line for line in again.stdout.splitlines() if "downsample_layers.0.0" in line)
    assert row.split()[1:5] == ["4", "nan", "downsample_layers.0.0", "7"]
    healthy = run("hornet-train", f"replay={file}", "precision=bf16")
    assert healthy.returncode == 0, healthy.stderr
    assert "(all finite)" in healthy.stdout
    assert "bf16 (was fp32)" in healthy.stdout
    assert "stages.3" in healthy.stdout
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(file.read_bytes()[:-100])
    for wrong in (damaged, tmp_path / "run" / "config.yaml", tmp_path / "none"):
        refused = run("hornet-train", f"replay={wrong}")
        assert refused.returncode == 2
        assert str(wrong) in refused.stderr
