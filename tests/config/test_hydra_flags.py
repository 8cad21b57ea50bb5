"""Flags that Hydra's users know."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from hornet_train.config.hydra_flags import without_config_flag
from hornet_train.errors import ConfigError

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("flag", ["--cfg job", "--cfg=job", "-c job", "-cjob", "--cfg job --resolve"])
def test_each_spelling_asks_for_the_config(flag: str) -> None:
    assert without_config_flag(["seed=1", *flag.split()]) == ["seed=1"]


def test_other_configs_are_not_there() -> None:
    assert without_config_flag(["seed=1"]) is None
    with pytest.raises(ConfigError, match="--cfg hydra: the config that this program prints is --cfg job"):
        without_config_flag(["--cfg", "hydra"])


def test_each_command_prints_its_config(command: Command) -> None:
    for name, key, given in (
        ("hornet-train", "epochs", ["-c", "job", "epochs=7"]),
        ("hornet-info", "num_classes", ["--cfg", "job", "num_classes=7"]),
        ("hornet-bench", "rounds", ["loop", "--cfg=job", "rounds=7"]),
    ):
        code, out, err = command(name, *given)
        assert code == 0, err
        assert str(yaml.safe_load(out)[key]).removesuffix("ep") == "7"


@pytest.mark.parametrize("name", ["hornet-train", "hornet-eval", "hornet-info"])
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (["--info"], "unknown flag --info: --cfg job prints the config"),
        (["--resolve"], "it belongs to --cfg job"),
        (["-cn", "mine"], "unknown flag -cn: the configs are this program's own"),
        (["--run"], "leave it out"),
    ],
)
def test_what_is_not_there_is_answered(command: Command, name: str, flag: list[str], message: str) -> None:
    code, out, err = command(name, *flag)
    assert (code, out) == (2, "")
    assert message in err
    assert "key=value" not in err


def test_a_sweep_of_evaluations_is_a_loop_of_the_shell(command: Command) -> None:
    code, _, err = command("hornet-eval", "-m", "checkpoint=x")
    assert code == 2
    assert "hornet-train alone has it; of other commands a loop of the shell makes several" in err
