"""dist=fsdp: the same training as DDP's, and checkpoints that either reads."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers import ROOT, TINY, comparable, events, run, torchrun
from processes import final, has_logged, ranks_of, started, undisturbed, wait_until

from hornet_train.engine.checkpoint import read_checkpoint, read_pointer

pytestmark = pytest.mark.faults

RUN = [*TINY, "epochs=4", "augment=paper", "model.drop_path=0.2", "checkpoint.every=6it", "eval.every=4ep"]
RUN += ["dist.threads=1", "micro_batch_size=4"]
STOP = "checkpoint.max_minutes=0.0001"  # after the first step


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(tmp_path_factory.mktemp("ddp") / "run", *RUN, "dist=ddp", processes=2)


def close(one: Path, other: Path, precision: str) -> None:
    """The same losses, evaluations and weights within rounding, which AdamW magnifies for tiny gradients."""
    rel = 1e-4 if precision == "fp32" else 2e-2
    for kind, keys in (("train", ("loss", "grad_norm")), ("eval", ("loss",))):
        ours, theirs = events(one, kind), events(other, kind)
        assert len(ours) == len(theirs) > 0
        for key in keys:
            assert [e[key] for e in ours] == pytest.approx([e[key] for e in theirs], rel=rel)
    a, b = final(one), final(other)
    assert a.keys() == b.keys() == {"model", "ema", "optimizer"}
    for group, named in a.items():
        assert named.keys() == b[group].keys()
        for name, value in named.items():
            assert value.shape == b[group][name].shape
    if precision == "fp32":
        for group in ("model", "ema"):
            torch.testing.assert_close(a[group], b[group], rtol=1e-2, atol=1e-4)


def test_it_is_the_training_of_ddp(ddp: Path, tmp_path: Path) -> None:
    fsdp = undisturbed(tmp_path / "run", *RUN, "dist=fsdp", processes=2)
    close(fsdp, ddp, "fp32")
    for folder in (ddp, fsdp):
        done = run("hornet-eval", f"checkpoint={folder}", "data.workers=0")
        assert done.returncode == 0, done.stderr


def test_it_is_in_bf16_too(tmp_path: Path) -> None:
    """Where weights travel as bf16."""
    runs = [
        undisturbed(tmp_path / s, *RUN, "precision=bf16", f"dist={s}", processes=2) for s in ("ddp", "fsdp")
    ]
    close(*runs, "bf16")


def test_batch_norms_in_bf16(tmp_path: Path) -> None:
    """Their running statistics are in fp32: trained as with DDP, stopped and gone on, read by hornet-eval."""
    more = [*RUN, "precision=bf16", "model=timm", "model.name=test_resnet"]
    more += ["model.channels_last=false"]  # as FSDP has kernels: other ones round otherwise, which grows
    ddp = undisturbed(tmp_path / "ddp", *more, "dist=ddp", processes=2)
    fsdp = tmp_path / "fsdp"
    stopped = torchrun(2, "-m", "hornet_train", *more, "dist=fsdp", f"run_dir={fsdp}", STOP)
    assert "saved" in stopped.stderr, stopped.stderr
    undisturbed(fsdp, *more, "dist=fsdp", processes=2)
    assert events(fsdp, "resumed")
    close(fsdp, ddp, "bf16")
    done = run("hornet-eval", f"checkpoint={fsdp}", "data.workers=0")
    assert done.returncode == 0, done.stderr


@pytest.mark.draw(1)
@pytest.mark.parametrize(("first", "then"), [("ddp", "fsdp"), ("fsdp", "ddp"), ("fsdp", "one")])
def test_each_goes_on_from_the_other(first: str, then: str, ddp: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    stopped = torchrun(2, "-m", "hornet_train", *RUN, f"dist={first}", f"run_dir={folder}", STOP)
    assert "saved" in stopped.stderr
    if then == "one":
        undisturbed(folder, *RUN)
    else:
        undisturbed(folder, *RUN, f"dist={then}", processes=2)
        close(folder, ddp, "fp32")  # of one process the draws of mixing are others
    assert 0 < events(folder, "resumed")[0]["step"] < 12


def test_a_shorter_last_step_has_equally_many_micro_batches_on_every_rank(tmp_path: Path) -> None:
    """Of 13 images a step of 8 leaves 2 and 3: in micro-batches of 2 one and, on the other rank, two."""
    uneven = [*RUN, "data.train_count=13", "batch_size=8", "micro_batch_size=2", "dist.timeout_minutes=0.5"]
    runs = [undisturbed(tmp_path / s, *uneven, f"dist={s}", processes=2) for s in ("ddp", "fsdp")]
    close(*runs, "fp32")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_after_a_stop_it_is_the_undisturbed_run(strategy: str, tmp_path: Path) -> None:
    """Asked in step 7, stopped in the middle of an event's eight steps, and of an epoch."""
    asked = [*RUN, f"dist={strategy}", "log.every=8it", "log.gates=true"]
    whole, folder = undisturbed(tmp_path / "whole", *asked, processes=2), tmp_path / "run"
    faulty = [str(ROOT / "tests" / "support" / "faulty.py"), '[{"kind": "stop", "steps": [6], "rank": 1}]']
    stopped = torchrun(2, *faulty, *asked, f"run_dir={folder}")
    assert "saved; the same command" in stopped.stderr
    assert 7 <= events(folder, "preempted")[0]["step"] < 12
    undisturbed(folder, *asked, processes=2)
    assert comparable(folder) == comparable(whole)
    torch.testing.assert_close(final(folder), final(whole), rtol=0, atol=0)


def test_an_evaluation_is_left_and_made_up_for(tmp_path: Path) -> None:
    """Asked to stop while the weights are gathered for inference, and nothing is saved yet of this step."""
    slow = [*TINY, "dist=fsdp", "eval.every=3it", "checkpoint.every=100it"]
    slow += ["eval.batch_size=1", "data.val_count=600"]
    whole, folder = undisturbed(tmp_path / "whole", *slow, processes=2), tmp_path / "run"
    process = started(
        *("torchrun", "--standalone", "--nproc_per_node=2", "-m", "hornet_train", *slow),
        f"run_dir={folder}",
    )
    wait_until(process, has_logged(folder, 3))
    time.sleep(0.3)
    os.kill(ranks_of(process)[1], signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert "saved; the same command" in err
    assert not events(folder, "eval")
    assert [event["step"] for event in events(folder, "preempted")] == [3]
    saved = final(folder)
    assert all(name + "/exp_avg" in saved["optimizer"] for name in saved["model"])
    undisturbed(folder, *slow, processes=2)
    assert {event["count"] for event in events(folder, "eval")} == {600}
    assert comparable(folder) == comparable(whole)
    torch.testing.assert_close(final(folder), final(whole), rtol=0, atol=0)


def test_shards_are_shards(tmp_path: Path) -> None:
    """Each rank holds about half of everything, and what is saved is whole."""
    code = (
        "import sys, torch, hornet_train.engine.trainer as t\n"
        "from torch.distributed.tensor import DTensor\n"
        "step = t.train_step\n"
        "def reason(state, *a, world, **k):\n"
        "    result = step(state, *a, world=world, **k)\n"
        "    held = sum(v.to_local().numel() for g in state.tensors().values() for v in g.values()"
        " if isinstance(v, DTensor))\n"
        "    whole = sum(v.numel() for g in state.tensors().values() for v in g.values())\n"
        "    print(f'held {held / whole:.3f}', flush=True)\n"
        "    return result\n"
        "t.train_step = reason\n"
        "from hornet_train.cli.train import main\n"
        "main(sys.argv[1:])\n"
    )
    (tmp_path / "reason.py").write_text(code)
    command = [*TINY, "dist=fsdp", "epochs=1", "model=hornet_pico_7x7", "model.grad_checkpointing=true"]
    done = torchrun(2, f"{tmp_path}/reason.py", *command, f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    shares = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("held")]
    assert shares
    assert all(0.4 < share < 0.6 for share in shares)
    name = read_pointer(tmp_path / "run/checkpoints", "last")
    saved = read_checkpoint(tmp_path / "run/checkpoints" / str(name))
    assert saved.tensors["model"]["downsample_layers.0.0.weight"].ndim == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["precision=fp16"], "precision=fp16 with dist=fsdp"),
        ([], "dist=fsdp needs several processes"),
    ],
)
def test_what_does_not_go_with_it_is_refused(arguments: list[str], message: str) -> None:
    done = run("hornet-train", *TINY, "dist=fsdp", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
