"""Compose the configs of `hornet-info` and `hornet-bench`, which have no task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from hornet_train.config.bench_schema import Bench
from hornet_train.config.compose import Composed, checked, libraries_faults, read_conf, training_only
from hornet_train.config.key import keys_where
from hornet_train.config.overrides import parse
from hornet_train.config.schema import InfoConfig

INFO_GROUPS = ("model",)
BENCH_GROUPS = ("dist",)

C = TypeVar("C", bound=InfoConfig | Bench)
B = TypeVar("B", bound=Bench)


def compose_info(overrides: list[str]) -> Composed[InfoConfig]:
    """The config of `hornet-info <overrides>`.

    Raises:
        ConfigError: with every fault found.
    """
    no_cost = keys_where(InfoConfig, lambda key: key.no_cost)

    def unused(parsed: Iterable[str]) -> list[str]:
        return [f"{key} changes nothing that hornet-info shows" for key in parsed if key in no_cost]

    return _compose(InfoConfig, "info", overrides, INFO_GROUPS, before=unused)


def compose_bench(schema: type[B], name: str, overrides: list[str]) -> Composed[B]:
    """The config of `hornet-bench <name> <overrides>`.

    Raises:
        ConfigError: with every fault found.
    """
    return _compose(
        schema, f"bench_{name}", overrides, BENCH_GROUPS, check=lambda config: training_only(config.dist)
    )


def _compose(
    schema: type[C],
    name: str,
    overrides: list[str],
    groups: tuple[str, ...],
    *,
    before: Callable[[Iterable[str]], list[str]] = lambda _parsed: [],
    check: Callable[[C], Iterable[str]] = lambda _config: (),
) -> Composed[C]:
    """A config without a task. `before`: faults that the keys alone show; `check`: those of the config."""
    parsed, faults = parse(overrides, groups, schema)
    faults += before(parsed)
    with libraries_faults(faults):
        tree, options = read_conf(name, {key: parsed[key] for key in groups if key in parsed}, groups)
    return checked(schema, tree, parsed, options=options, faults=faults, check=check)
