"""Compose the configs of `hornet-info` and `hornet-bench`, which have no data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from hornet_train.config.bench_schema import Bench
from hornet_train.config.choose_task import choose_task
from hornet_train.config.compose import Composed, checked, libraries_faults, read_conf, training_only
from hornet_train.config.key import keys_where
from hornet_train.config.overrides import parse, texts
from hornet_train.config.schema import InfoConfig
from hornet_train.config.task_schema import Find

INFO_GROUPS = ("model",)
BENCH_GROUPS = ("dist",)

C = TypeVar("C", bound=InfoConfig | Bench)
B = TypeVar("B", bound=Bench)


def compose_info(overrides: list[str], *, find: Find, names: Sequence[str]) -> Composed[InfoConfig]:
    """The config of `hornet-info <overrides>`.

    Args:
        overrides: the command line. The model says which task's it is; one of any task is asked about as a
            classifier.
        find: the schema of the task of a name.
        names: of this program's tasks.

    Raises:
        ConfigError: with every fault found.
    """
    chosen = {key: value for key, value in texts(overrides).items() if key == "model"}
    task = choose_task(chosen, find=find, names=names)
    schema = task.schema.info
    no_cost = keys_where(schema, lambda key: key.no_cost)

    def unused(parsed: Iterable[str]) -> list[str]:
        return [f"{key} changes nothing that hornet-info shows" for key in parsed if key in no_cost]

    composed = _compose(
        schema,
        "info",
        overrides,
        INFO_GROUPS,
        before=unused,
        check=lambda config: task.schema.info_rules(config),
    )
    return replace(composed, task=task.name)


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
    """A config without data. `before`: faults that the keys alone show; `check`: those of the config."""
    parsed, faults = parse(overrides, groups, schema)
    faults += before(parsed)
    with libraries_faults(faults):
        tree, options = read_conf(name, {key: parsed[key] for key in groups if key in parsed}, groups)
    return checked(schema, tree, parsed, options=options, faults=faults, check=check)
