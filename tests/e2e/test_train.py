"""hornet-train as real processes: equalities, kills and resumes, what a run folder holds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from helpers import BIN, TINY, comparable, events, resolve, run, torchrun

from hornet_train.engine.checkpoint import read_checkpoint
from hornet_train.track.events import best_result
from hornet_train.track.sinks import read_events

# everything random on, and three epochs of 6.5 steps
RANDOM = [
    *TINY,
    "data.train_count=104",
    "epochs=3",
    "augment=paper",
    "augment.repeats=2",
    "data.image_size=48",
    "augment.start_size=32",
    "augment.grow_until=2ep",
    "augment.size_step=16",
    "model.drop_path=0.2",
    "checkpoint.every=2it",
    "checkpoint.keep=50",
    "log.every=3it",
]


def final(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return read_checkpoint(folder / "checkpoints" / (folder / "checkpoints/last").read_text().strip()).tensors


@pytest.mark.quick
def test_killed_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    """SIGKILL in mid-epoch, resumed with another number of workers, against the undisturbed run."""
    whole = run("hornet-train", *RANDOM, f"run_dir={tmp_path}/whole", "data.workers=1")
    assert whole.returncode == 0, whole.stderr
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        resolve(("hornet-train", *RANDOM, f"run_dir={killed}", "data.workers=2")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (killed / "checkpoints" / "step_00000008").exists():  # written in the background, in mid-epoch
            break
        time.sleep(0.01)
    assert process.poll() is None, "ended or stuck before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)  # its data workers too
    process.wait()

    again = run("hornet-train", *RANDOM, f"run_dir={killed}", "data.workers=0")
    assert again.returncode == 0, again.stderr
    (resumed,) = events(killed, "resumed")
    assert 8 <= resumed["step"] < 21
    assert resumed["epoch"] != int(resumed["epoch"]), "was meant to stop in mid-epoch"
    assert "going on from" in again.stdout

    torch.testing.assert_close(final(killed), final(tmp_path / "whole"), rtol=0, atol=0)
    assert comparable(killed) == comparable(tmp_path / "whole"), "the events of one undisturbed run"

    complete = run("hornet-train", *RANDOM, f"run_dir={killed}")
    assert complete.returncode == 0
    assert "complete" in complete.stdout
    assert len(events(killed, "train")) == 7


@pytest.mark.quick
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Step by step and in the end, with half the batch each; 21 evaluation images on two ranks count 21."""
    steady = [*TINY, "augment=none", "log.gates=true"]
    one = run("hornet-train", *steady, f"run_dir={tmp_path}/one")
    two = torchrun(2, "-m", "hornet_train", *steady, f"run_dir={tmp_path}/two", fresh=True)
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    gates = tuple(f"gate_product_{stage}" for stage in range(4))
    for kind, keys in (
        ("train", ("loss", "lr", "grad_norm", *gates)),
        ("eval", ("loss", "top1", "top5", "count")),
    ):
        ours, theirs = events(tmp_path / "one", kind), events(tmp_path / "two", kind)
        assert len(ours) == len(theirs) == (6 if kind == "train" else 4)
        for a, b in zip(ours, theirs, strict=True):
            assert [a[key] for key in keys] == pytest.approx([b[key] for key in keys], rel=2e-5), (a, b)
    assert {event["count"] for event in events(tmp_path / "two", "eval")} == {21}
    for group in ("model", "ema"):
        torch.testing.assert_close(
            final(tmp_path / "two")[group], final(tmp_path / "one")[group], rtol=1e-4, atol=1e-5
        )
    assert two.stdout.count("best top1") == 1, "only rank 0 prints"


def test_a_run_goes_on_with_other_processes(tmp_path: Path) -> None:
    """Started on one process, killed, gone on with on two: the same images in each step."""
    steady = [*TINY, "augment=none", f"run_dir={tmp_path}/run", "checkpoint.every=1it"]
    short = run("hornet-train", *steady, "checkpoint.keep=9")
    assert short.returncode == 0, short.stderr
    expected = [event["loss"] for event in events(tmp_path / "run", "train")]
    for path in sorted((tmp_path / "run/checkpoints").glob("step_*"))[2:]:  # as if killed in step 3
        subprocess.run(["rm", "-r", str(path)], check=True)
    two = torchrun(2, str(BIN / "hornet-train"), *steady)
    assert two.returncode == 0, two.stderr
    assert [event["step"] for event in events(tmp_path / "run", "resumed")] == [2]
    assert [event["loss"] for event in events(tmp_path / "run", "train")] == pytest.approx(expected, rel=1e-4)


def test_a_run_folder_has_what_others_rely_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = (*TINY, f"run_dir={folder}", "log=tensorboard", "checkpoint.keep=1")
    done = run("hornet-train", *arguments, fresh=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a start without warnings"
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    for message in (
        "480,336 parameters",
        "GMACs",
        "40 training images, 21 held out",
        "16 = 1 process",
        "fp32",
    ):
        assert message in done.stdout
    assert {p.name for p in folder.iterdir()} - {"uncommitted.diff"} == {
        ".lock",
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "curves.png",
        "checkpoints",
        "tensorboard",
    }
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    train = events(folder, "train")[0]
    assert set(train) == {
        "event", "step", "epoch", "loss", "lr", "grad_norm", "images_per_second", "data_wait",
    }  # fmt: skip
    assert 0 <= train["data_wait"] <= 1
    evaluation = events(folder, "eval")[-1]
    assert set(evaluation) == {"event", "step", "epoch", "weights", "loss", "top1", "top5", "count"}
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["world_size"] == 1
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    steps = sorted((folder / "checkpoints").glob("step_*"))
    best = (folder / "checkpoints/best").read_text().strip()
    assert {path.name for path in steps} == {best, "step_00000006"}


def test_rank_and_size_of_batches_are_checked_together(tmp_path: Path) -> None:
    refused = torchrun(2, "-m", "hornet_train", *TINY, "batch_size=15", f"run_dir={tmp_path}/run")
    assert refused.returncode != 0
    assert refused.stderr.count("batch_size=14 or batch_size=16") == 1, "message once, by rank 0"
    assert not (tmp_path / "run").exists()


def test_any_timm_model_goes_through_the_same_loop(tmp_path: Path) -> None:
    """One with batch norm, on two processes: what is evaluated in training is what is saved."""
    done = torchrun(
        2,
        "-m",
        "hornet_train",
        *TINY,
        "model=timm",
        "model.name=resnet10t",
        "optim.layer_decay=0.8",
        "precision=bf16",
        f"run_dir={tmp_path}/run",
    )
    assert done.returncode == 0, done.stderr
    for weights in ("model", "ema"):
        place = f"checkpoint={tmp_path}/run/checkpoints/step_00000006"
        evaluated = run("hornet-eval", place, f"weights={weights}", f"out={tmp_path}/eval.json")
        assert evaluated.returncode == 0, evaluated.stderr
        result = json.loads((tmp_path / "eval.json").read_text())
        (event,) = [e for e in events(tmp_path / "run", "eval") if e["weights"] == weights and e["step"] == 6]
        assert result["top1"] == pytest.approx(event["top1"])
        assert result["loss"] == pytest.approx(event["loss"], rel=1e-3)  # bf16


def test_batch_norm_gets_no_single_image_where_that_can_be_avoided(tmp_path: Path) -> None:
    """Of 21 images a step of 12 leaves 9, in micro-batches of 4: 3, 3, 3 and not 4, 4, 1; the map is 1x1."""
    norm = ["model=timm", "model.name=resnet10t", "data.train_count=21", "batch_size=12", "epochs=1"]
    done = run("hornet-train", *TINY, *norm, "micro_batch_size=4", f"run_dir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert [event["epoch"] for event in events(tmp_path / "run", "train")] == [0.5, 1.0]
    refused = run("hornet-train", *TINY, *norm, "data.train_count=25", f"run_dir={tmp_path}/other")
    assert refused.returncode == 2
    assert refused.stderr.startswith("hornet-train: the last step of an epoch has 1 image, ")
    assert not (tmp_path / "other").exists()


def test_a_fault_of_one_rank_ends_all_with_its_reason(tmp_path: Path) -> None:
    """A node that lacks a file: no rank waits for one that has gone, and the reason is reported."""
    script = tmp_path / "train.py"
    script.write_text(
        "import os, sys\n"
        "from hornet_train.cli.train import main\n"
        "name = 'missing' if os.environ['RANK'] == '1' else 'model'\n"
        f"main([*sys.argv[1:], f'init_from={tmp_path}/{{name}}.safetensors'])\n"
    )
    first = run("hornet-train", *TINY, "epochs=1it", f"run_dir={tmp_path}/first")
    assert first.returncode == 0, first.stderr
    shutil.copy(tmp_path / "first/checkpoints/step_00000001/model.safetensors", tmp_path)
    done = torchrun(2, str(script), *TINY, f"run_dir={tmp_path}/run", timeout=120)
    assert done.returncode != 0
    assert "rank 1:" in done.stderr
    assert "missing.safetensors: no such file" in done.stderr
    assert not (tmp_path / "run").exists()


def test_all_ranks_write_where_the_first_does(tmp_path: Path) -> None:
    """Also where each is given another folder, as a job script with the rank in the name does."""
    script = tmp_path / "train.py"
    script.write_text(
        "import os, sys\n"
        "from hornet_train.cli.train import main\n"
        f"main([*sys.argv[1:], f'run_dir={tmp_path}/run{{os.environ[\"RANK\"]}}'])\n"
    )
    done = torchrun(2, str(script), *TINY, "epochs=1it")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run0/checkpoints/step_00000001/model.safetensors").is_file()
    assert not (tmp_path / "run1").exists()


def test_a_training_that_ends_diverged_says_so(tmp_path: Path) -> None:
    """Also where there are too few steps for a rollback to give up; and such weights are not the best."""
    hot = [*TINY, "optim.lr=1e30", "schedule.warmup=0it", "guard.dump=true", f"run_dir={tmp_path}"]
    done = run("hornet-train", *hot)
    assert done.returncode == 2
    assert "the loss of the evaluation at step 6 is not finite" in done.stderr
    assert "loss nan" in done.stdout
    assert "best top1" not in done.stdout
    assert not (tmp_path / "checkpoints/best").exists()
    assert best_result(read_events(tmp_path / "metrics.jsonl")) is None
    replayed = run("hornet-train", f"replay={min((tmp_path / 'dumps').iterdir())}", "precision=fp16")
    assert replayed.returncode == 0, replayed.stderr
    assert " 0 in the input" not in replayed.stdout


def test_every_switch_of_the_loop_trains(tmp_path: Path) -> None:
    """Micro-batches, recomputed activations, a compiled step, contiguous memory, one kernel at a time."""
    done = run(
        "hornet-train",
        *TINY,
        "micro_batch_size=8",
        "model.args.depths=[1,1,1,1]",
        "model.grad_checkpointing=true",
        "model.channels_last=false",
        "compile=true",
        "deterministic=true",
        "optim.implementation=foreach",
        "schedule=multistep",
        "ema=none",
        "epochs=2it",
        "eval.every=2it",
        f"run_dir={tmp_path}/run",
    )
    assert done.returncode == 0, done.stderr
    assert "2 micro-batches" in done.stdout
    assert {event["weights"] for event in events(tmp_path / "run", "eval")} == {"model"}
