"""dist=fsdp: the same training as DDP's, and checkpoints that either reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import TINY, events, run, torchrun
from processes import final

from hornet_train.engine.checkpoint import pointed, read_checkpoint

pytestmark = pytest.mark.faults

RUN = [*TINY, "epochs=4", "augment=paper", "model.drop_path=0.2", "checkpoint.every=6it", "eval.every=4ep"]
RUN += ["dist.threads=1", "micro_batch_size=4"]
STOP = "checkpoint.max_minutes=0.0001"  # after the first step


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    done = {}
    for strategy in ("ddp", "fsdp"):
        done[strategy] = folder / strategy
        command = [*RUN, f"precision={request.param}", f"dist={strategy}", f"run_dir={done[strategy]}"]
        result = torchrun(2, "-m", "hornet_train", *command)
        assert result.returncode == 0, result.stderr
    done["precision"] = Path(request.param)
    return done


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


def test_it_is_the_training_of_ddp(runs: dict[str, Path]) -> None:
    close(runs["fsdp"], runs["ddp"], str(runs["precision"]))
    evaluated = [run("hornet-eval", f"checkpoint={runs[s]}", "data.workers=0") for s in ("ddp", "fsdp")]
    assert [e.returncode for e in evaluated] == [0, 0], evaluated[1].stderr


@pytest.mark.parametrize(("first", "then"), [("ddp", "fsdp"), ("fsdp", "ddp"), ("fsdp", "one")])
def test_each_goes_on_from_the_other(first: str, then: str, runs: dict[str, Path], tmp_path: Path) -> None:
    if str(runs["precision"]) == "bf16":
        pytest.skip("once is enough")
    folder = tmp_path / "run"
    for strategy, more in ((first, [STOP]), (then, [])):
        command = [*RUN, "precision=fp32", f"run_dir={folder}", *more]
        if strategy == "one":
            done = run("hornet-train", *command, "augment=paper")
        else:
            done = torchrun(2, "-m", "hornet_train", *command, f"dist={strategy}")
        assert more or done.returncode == 0, done.stderr
    assert 0 < events(folder, "resumed")[0]["step"] < 12
    if then != "one":  # draws of mixing are by rank
        close(folder, runs["ddp"], "fp32")


def test_shards_are_shards(tmp_path: Path) -> None:
    """Each rank holds about half of everything, and what is saved is whole."""
    code = (
        "import sys, torch, hornet_train.engine.trainer as t\n"
        "from torch.distributed.tensor import DTensor\n"
        "step = t.train_step\n"
        "def told(state, *a, world, **k):\n"
        "    result = step(state, *a, world=world, **k)\n"
        "    held = sum(v.to_local().numel() for g in state.tensors().values() for v in g.values()"
        " if isinstance(v, DTensor))\n"
        "    whole = sum(v.numel() for g in state.tensors().values() for v in g.values())\n"
        "    print(f'held {held / whole:.3f}', flush=True)\n"
        "    return result\n"
        "t.train_step = told\n"
        "from hornet_train.cli.train import main\n"
        "main(sys.argv[1:])\n"
    )
    (tmp_path / "told.py").write_text(code)
    command = [*TINY, "dist=fsdp", "epochs=1", "model=hornet_pico_7x7", "model.grad_checkpointing=true"]
    done = torchrun(2, f"{tmp_path}/told.py", *command, f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    shares = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("held")]
    assert shares
    assert all(0.4 < share < 0.6 for share in shares)
    name = pointed(tmp_path / "run/checkpoints", "last")
    saved = read_checkpoint(tmp_path / "run/checkpoints" / str(name))
    assert saved.tensors["model"]["downsample_layers.0.0.weight"].ndim == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["precision=fp16"], "precision=fp16 with dist=fsdp"), ([], "dist=fsdp needs several processes")],
)
def test_what_does_not_go_with_it_is_refused(arguments: list[str], message: str) -> None:
    done = run("hornet-train", *TINY, "dist=fsdp", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
