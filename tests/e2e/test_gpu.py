"""The commands on a GPU: nothing waits for it, and what holds on a CPU holds there."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
import torch
from configs import compose_train
from gpu import GPU, NEEDS_GPU
from helpers import TINY, comparable, events, resolve, run
from processes import final

from hornet_train.run.build import build_run
from hornet_train.tasks.classification.build.kit import KIT
from hornet_train.track.durable_files import read_json

pytestmark = NEEDS_GPU

RANDOM = [*TINY, "data.train_count=104", "augment=paper", "model.drop_path=0.2"]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("model", ["hornet_pico_7x7", "hornet_pico_gf"])
def test_the_loop_never_waits_for_the_device(model: str, precision: str, tmp_path: Path) -> None:
    """Between events: batches, mixing, forward, backward, clipping, update, average and the guard."""
    asked = [*RANDOM, f"model={model}", f"precision={precision}", "data.workers=2", "optim.clip_grad=1.0"]
    asked += ["epochs=12it", "log.every=12it", "checkpoint.every=12it", "eval.every=12it"]
    composed = compose_train([*asked, "micro_batch_size=8", "dist.device=cuda"])
    trainer = build_run(KIT, composed.config, composed.tree, world=GPU, folder=tmp_path).trainer
    if precision == "fp16":  # no overflow, which is checked and reported
        trainer.state.scaler = torch.amp.GradScaler("cuda", init_scale=256.0)
    strict = []

    def advance(step: int) -> None:
        if 4 <= step < 11:  # the first allocate; the last is followed by the evaluation
            torch.cuda.set_sync_debug_mode("error")
            strict.append(step)
        else:
            torch.cuda.set_sync_debug_mode("default")

    trainer.advance = advance
    try:
        trainer.fit()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(strict) == 7


@pytest.mark.parametrize("model", ["hornet_pico_7x7", "hornet_pico_gf"])
def test_a_deterministic_run_is_the_same_after_a_stop(model: str, tmp_path: Path) -> None:
    """Bit by bit, in bf16, with another number of data workers."""
    asked = [*RANDOM, f"model={model}", "precision=bf16", "deterministic=true", "dist.device=cuda"]
    asked += ["log.every=3it", "log.gates=true"]
    whole = run("hornet-train", *asked, f"run_dir={tmp_path}/whole")
    assert whole.returncode == 0, whole.stderr
    stop = ["checkpoint.max_minutes=0.0001"]  # after the first step
    stopped = run("hornet-train", *asked, f"run_dir={tmp_path}/stopped", *stop)
    assert stopped.returncode == 75, stopped.stderr
    again = run("hornet-train", *asked, f"run_dir={tmp_path}/stopped", "data.workers=2")
    assert again.returncode == 0, again.stderr
    assert events(tmp_path / "stopped", "resumed")
    assert comparable(tmp_path / "stopped") == comparable(tmp_path / "whole")
    torch.testing.assert_close(final(tmp_path / "stopped"), final(tmp_path / "whole"), rtol=0, atol=0)


def test_it_is_the_training_of_a_cpu(tmp_path: Path) -> None:
    """In fp32, and each evaluates what the other has trained."""
    steady = [*TINY, "augment=none"]
    for device in ("cpu", "cuda"):
        done = run("hornet-train", *steady, f"dist.device={device}", f"run_dir={tmp_path}/{device}")
        assert done.returncode == 0, done.stderr
    for kind, keys in (("train", ("loss", "grad_norm")), ("eval", ("loss", "top1", "count"))):
        ours, theirs = events(tmp_path / "cuda", kind), events(tmp_path / "cpu", kind)
        assert len(ours) == len(theirs) > 0
        for one, other in zip(ours, theirs, strict=True):
            assert [one[key] for key in keys] == pytest.approx([other[key] for key in keys], rel=1e-3)
    for device, other in (("cpu", "cuda"), ("cuda", "cpu")):
        done = run("hornet-eval", f"checkpoint={tmp_path}/{other}", f"dist.device={device}")
        assert done.returncode == 0, done.stderr


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    """DDP, with Gloo, which lets two processes share a GPU: each is a node of its own."""
    steady = [*TINY, "augment=none", "dist.device=cuda"]
    one = run("hornet-train", *steady, f"run_dir={tmp_path}/one")
    assert one.returncode == 0, one.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = []
    for node in range(2):
        launch = ["torchrun", "--nnodes=2", f"--node_rank={node}", "--nproc_per_node=1"]
        launch += ["--master_addr=127.0.0.1", f"--master_port={port}", "-m", "hornet_train"]
        command = resolve((*launch, *steady, "dist.backend=gloo", f"run_dir={tmp_path}/two"))
        nodes.append(subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    try:
        for process in nodes:
            _, message = process.communicate(timeout=240)
            assert process.returncode == 0, message
    finally:
        for process in nodes:
            process.kill()
    for kind, keys in (("train", ("loss", "grad_norm")), ("eval", ("loss", "top1", "count"))):
        ours, theirs = events(tmp_path / "two", kind), events(tmp_path / "one", kind)
        assert len(ours) == len(theirs) > 0
        for a, b in zip(ours, theirs, strict=True):
            assert [a[key] for key in keys] == pytest.approx([b[key] for key in keys], rel=1e-3)


@pytest.mark.parametrize(
    "switches",
    [
        ["compile=true", "precision=bf16"],
        ["compile=blocks", "precision=bf16"],
        ["compile=blocks", "precision=bf16", "model=hornet_pico_7x7", "model.grad_checkpointing=true"],
        ["compile=true", "precision=bf16", "model=hornet_pico_7x7", "model.grad_checkpointing=true"],
        ["precision=fp16", "log.gates=true", "guard.dump=true"],
        ["precision=bf16", "model=timm", "model.name=convnext_atto", "model.grad_checkpointing=true"],
    ],
)
def test_every_switch_of_the_loop_trains(switches: list[str], tmp_path: Path) -> None:
    done = run("hornet-train", *RANDOM, *switches, "dist.device=cuda", f"run_dir={tmp_path}", timeout=400)
    assert done.returncode == 0, done.stderr
    losses = [event["loss"] for event in events(tmp_path, "train") if event["loss"] is not None]
    assert len(losses) >= (8 if "precision=fp16" in switches else 14)  # whose first overflow
    evaluated = run("hornet-eval", f"checkpoint={tmp_path}", "data.workers=2")
    assert evaluated.returncode == 0, evaluated.stderr
    assert read_json(tmp_path / "environment.json")["device"] == "cuda"
