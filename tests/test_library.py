"""The commands as calls: plain results, our errors, one after the other in one process."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path

import pytest
import torch
from helpers import TINY

import hornet_train
from hornet_train.errors import CheckpointError, ConfigError

SMALL = [*TINY, "model=hornet_pico_7x7", "epochs=1"]


def test_two_trainings_one_after_the_other_are_those_of_the_command(
    tmp_path: Path, command: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of the first is left for the second: no handler, no listener, no random state."""
    handlers = (signal.getsignal(signal.SIGTERM), list(logging.getLogger("hornet_train").handlers))
    first = hornet_train.train([*SMALL, "seed=1", f"run_dir={tmp_path}/a"], quiet=True)
    second = hornet_train.train([*SMALL, f"run_dir={tmp_path}/b"], quiet=True)
    assert capsys.readouterr().out == ""
    assert handlers == (signal.getsignal(signal.SIGTERM), logging.getLogger("hornet_train").handlers)
    assert (first.step, first.total_steps, first.run_dir) == (3, 3, tmp_path / "a")
    assert first.best is not None
    assert first.metrics.keys() == {"model", "ema"}
    assert first.metrics["ema"]["count"] == 21
    assert first.metrics != second.metrics
    code, _, err = command("hornet-train", *SMALL, f"run_dir={tmp_path}/c")  # type: ignore[operator]
    assert code == 0, err
    ours, theirs = (_weights(tmp_path / name / "checkpoints/step_00000003") for name in "bc")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    again = hornet_train.train([*SMALL, f"run_dir={tmp_path}/b"], quiet=True)
    assert again.best == second.best


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    import safetensors.torch

    return safetensors.torch.load_file(folder / "model.safetensors")


def test_an_evaluation_gives_what_it_writes(tmp_path: Path) -> None:
    run = hornet_train.train([*SMALL, f"run_dir={tmp_path}/run"], quiet=True)
    assert run.best is not None
    result = hornet_train.evaluate([f"checkpoint={run.run_dir}", "fuse=false"], quiet=True)
    assert result.values == json.loads(result.out.read_text())
    assert result.values["top1"] == run.best.value
    assert result.tables[0].columns[2] == "top-1"


def test_a_model_s_costs_are_numbers() -> None:
    info = hornet_train.info(["model=hornet_t_gf"])
    assert (info.name, info.image_size, info.parameters) == ("hornet_tiny_gf", 224, 22_991_848)
    assert round(info.macs / 1e9, 4) == 3.8887
    assert info.table.rows


def test_overrides_are_a_list() -> None:
    with pytest.raises(ConfigError, match="are a list of texts"):
        hornet_train.info("model=hornet_s_gf")
    with pytest.raises(ConfigError, match="hornet-train replay=FILE"):
        hornet_train.train(["replay=x"])


def test_mistakes_are_our_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        hornet_train.train(["optim.rl=1"])
    with pytest.raises(CheckpointError):
        hornet_train.evaluate([f"checkpoint={tmp_path}", "model=hornet_t_gf"])
    with pytest.raises(ConfigError, match="hornet-info reads no weights"):
        hornet_train.info(["model.args.pretrained=true"])
