"""What a launcher such as torchrun has put into the environment. Read without torch, which takes seconds."""

from __future__ import annotations

import os

from hornet_train.errors import ConfigError


def launched_world_size() -> int:
    """How many processes torchrun started; 1 without torchrun.

    Raises:
        ConfigError: the environment has a part of a launcher's variables, or such that contradict each other.
    """
    size, rank = _launched("WORLD_SIZE", 1), _launched("RANK", 0)
    if size == 1:
        return 1
    needed = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in needed if name not in os.environ]:
        raise launch_fault(f"WORLD_SIZE={size} without {', '.join(missing)}")
    if not 0 <= rank < size:
        raise launch_fault(f"RANK={rank} is not one of WORLD_SIZE={size} processes")
    _launched("MASTER_PORT", 0)
    return size


def _launched(name: str, default: int) -> int:
    """The number that a launcher has put into the environment."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise launch_fault(f"{name}={text} is not a number")
    return int(text)


def launch_fault(what: str) -> ConfigError:
    """The error for what is wrong with a launcher's variables."""
    fault = ConfigError(
        [f"{what}, in the environment: unset what a launcher left there, or start with torchrun --standalone"]
    )
    fault.of_one_rank = True
    return fault


def may_restart() -> bool:
    """Whether torchrun restarts the processes when one is lost."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0
