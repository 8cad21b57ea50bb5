"""Configs composed as the commands do, with the tasks of this program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hornet_train.config import compose_eval as of_eval
from hornet_train.config import compose_info as of_info
from hornet_train.config import compose_train as of_train
from hornet_train.config.compose import Composed
from hornet_train.tasks.table import NAMES, find


def compose_train(overrides: list[str], *, world_size: int = 1) -> Composed[Any]:
    """The config of `hornet-train <overrides>`."""
    return of_train.compose_train(overrides, find=find, names=NAMES, world_size=world_size)


def compose_eval(overrides: list[str], stored: Callable[[str], dict[str, Any] | None]) -> Composed[Any]:
    """The config of `hornet-eval <overrides>`; `stored` returns the training config of a checkpoint."""
    return of_eval.compose_eval(overrides, stored, find=find, names=NAMES)


def compose_info(overrides: list[str]) -> Composed[Any]:
    """The config of `hornet-info <overrides>`."""
    return of_info.compose_info(overrides, find=find, names=NAMES)
