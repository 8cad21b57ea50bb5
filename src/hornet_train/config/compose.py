"""From conf/ and the keys of a command line to a typed config: the steps that all commands share.

Outside of this package nothing sees Hydra's objects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hornet_train.config import conf_files
from hornet_train.config.bench_schema import Bench
from hornet_train.config.from_run import Repeated, escape_references
from hornet_train.config.key import keys_where
from hornet_train.config.schema import Config, Dist, EvalConfig, InfoConfig
from hornet_train.config.unknown_key import no_single_value, unknown_key
from hornet_train.config.validate import plain, typed
from hornet_train.errors import ConfigError

C = TypeVar("C", bound=Config | EvalConfig | InfoConfig | Bench)
Tree = dict[str, Any]


@dataclass(frozen=True)
class Composed(Generic[C]):
    """A config, typed and as the plain mapping that config.yaml holds.

    Attributes:
        config: the typed one.
        tree: the same as a mapping, each value written in one way, however it was given.
        choices: group -> option.
        task: as `task=` takes it; None for a command that has none.
        repeats: the run that `from=` names.
        given: the keys that the command line sets, or of an evaluation the checkpoint.
        notes: one sentence for each thing that a user should know of.
        goes_on: whether it is the config of the run in `run_dir`, but for what the command line changes.
    """

    config: C
    tree: Tree
    choices: Mapping[str, str]
    task: str | None = None
    repeats: Repeated | None = None
    given: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    goes_on: bool = False

    def yaml(self) -> str:
        return to_yaml(self.tree)


def to_yaml(tree: Mapping[str, Any]) -> str:
    """The text of config.yaml."""
    text: str = yaml.safe_dump(dict(tree), sort_keys=False, width=110, default_flow_style=None)
    return text


@contextmanager
def libraries_faults(faults: Collection[str]) -> Iterator[None]:
    """Hydra's and OmegaConf's errors as a ConfigError, after the faults that were found before."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([*faults, " ".join(str(error).split())]) from error


def read_conf(
    name: str, chosen: Mapping[str, str], groups: Collection[str], left_out: Collection[str] = ()
) -> tuple[DictConfig, dict[str, str]]:
    """conf/<name>.yaml with the options of its groups: the tree, and the option of each group.

    Args:
        name: of the file.
        chosen: group -> option; other groups have the file's default, or what an option chooses for them.
        groups: those whose option is to be named.
        left_out: groups of the file that stay empty.
    """
    overrides = [*(f"{group}={option}" for group, option in chosen.items()), *(f"~{one}" for one in left_out)]
    folder = str(conf_files.conf_dir())
    with initialize_config_dir(version_base="1.3", config_dir=folder, job_name="hornet"):
        tree = compose(name, overrides, return_hydra_config=True)
    OmegaConf.set_struct(tree, False)
    choices = {group: str(tree.hydra.runtime.choices[group]) for group in groups if group not in left_out}
    options = {group: option.rpartition("/")[2] for group, option in choices.items()}  # without its folder
    del tree["hydra"]
    return tree, options


def checked(
    schema: type[C],
    tree: DictConfig,
    parsed: Mapping[str, Any],
    *,
    options: Mapping[str, str],
    faults: Iterable[str],
    check: Callable[[C], Iterable[str]],
) -> Composed[C]:
    """Set the keys of the command line, check types and rules.

    Args:
        schema: of the config.
        tree: the defaults, with the options that are chosen.
        parsed: key -> value of the command line; groups among them are in `tree` already.
        options: group -> option, for `choices` of the result.
        faults: those that were found before.
        check: gives a sentence for each rule across fields that is broken.

    Raises:
        ConfigError: with `faults` and every further one.
    """
    faults = list(faults)
    with libraries_faults(faults):
        defaults = resolved(tree)
    keys = conf_files.dotted_keys(defaults)
    free = tuple(f"{key}." for key in keys_where(schema, lambda key: key.free))
    for key, value in parsed.items():
        if key in options:
            continue
        if key in keys or key.startswith(free):
            holds_keys = key in keys and bool(at(defaults, key)) and isinstance(at(defaults, key), dict)
            if holds_keys and not isinstance(value, Mapping):
                faults.append(f"{key}={value}: {no_single_value(key, keys, schema)}")
                continue
            try:
                OmegaConf.update(tree, key, value, merge=True)
            except OmegaConfBaseException:  # a list for a mapping, say
                faults.append(f"{key}={value} is not of the kind that {key} takes")
        else:
            faults.append(unknown_key(key, keys, options, schema))
    with libraries_faults(faults):  # a ${reference} to nothing
        config, mistyped = typed(schema, resolved(tree))
    faults += mistyped.values()
    if config is None:  # with defaults in place of these keys, find the rules that other keys break
        for key in mistyped:
            while key not in keys:  # an element of a list
                key = key.rpartition(".")[0]
            OmegaConf.update(tree, key, escape_references(at(defaults, key)), merge=False)
        config, _ = typed(schema, resolved(tree))
    if config is not None:
        # not of the defaults that stand in for mistyped keys
        faults += [fault for fault in check(config) if not any(f"{key}=" in fault for key in mistyped)]
    if faults or config is None:
        raise ConfigError(faults)
    return Composed(config, plain(config), options, given=frozenset(parsed))


def resolved(tree: DictConfig) -> Tree:
    """The tree as a plain mapping, each ${reference} replaced by what it refers to."""
    nested = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(nested, dict)
    return {str(key): value for key, value in nested.items()}


def at(tree: Any, key: str) -> Any:
    """What stands at a dotted key of a nested mapping."""
    for name in key.split("."):
        tree = tree[name]
    return tree


def training_only(dist: Dist) -> Iterable[str]:
    """A sentence where `dist` asks for what only a training can do."""
    if dist.strategy != "ddp":
        yield f"dist.strategy={dist.strategy} is for training only: leave dist out"
