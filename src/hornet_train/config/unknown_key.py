"""What to say of a key that a config does not have: which option, or which command, has it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import get_args

from hornet_train.config.bench_schema import BENCHES
from hornet_train.config.conf_files import (
    all_settings,
    conf_dir,
    default_options,
    dotted_keys,
    options,
    tasks_of,
)
from hornet_train.config.key import keys_where, walk
from hornet_train.config.schema import Config, EvalConfig, InfoConfig
from hornet_train.errors import did_you_mean

_COMMANDS: dict[str, tuple[type, str]] = {  # name -> schema, file in conf/
    "hornet-train": (Config, "train"),
    "hornet-eval": (EvalConfig, "eval"),
    "hornet-info": (InfoConfig, "info"),
    **{f"hornet-bench {name}": (schema, f"bench_{name}") for name, schema in BENCHES.items()},
}
_OF_WEIGHTS = "checkpoint=<run folder, step folder or weights> says what is evaluated"
_INSTEAD = {  # (command, key): what its user is likely to want
    ("hornet-train", "checkpoint"): (
        "init_from=<weights> begins with weights, run_dir=<run folder> goes on with a run, "
        "from=<run folder> repeats one"
    ),
    ("hornet-train", "out"): "run_dir=<folder> says where a run is written",
    ("hornet-eval", "run_dir"): _OF_WEIGHTS,
    ("hornet-eval", "init_from"): _OF_WEIGHTS,
    ("hornet-eval", "from"): _OF_WEIGHTS,
}
_MOST = 8  # options of a group that are listed
_CLOSE = 0.8  # likeness to a key from which that is suggested beside another command that has the word


def unknown_key(key: str, keys: Collection[str], chosen: Mapping[str, str], schema: type) -> str:
    """A sentence on a key that a config does not have.

    Args:
        key: as it was given.
        keys: those that the config has.
        chosen: group -> its option.
        schema: of the config.
    """
    unknown = f"unknown key {key}:"
    if key.startswith("hydra."):
        return f"{unknown} settings of Hydra are for a sweep (hornet-train --multirun)"
    if elsewhere := _other_options(key, chosen, schema):
        return f"{unknown} {elsewhere}"
    command = command_of(schema)
    same_name = [one for one in keys if one.rpartition(".")[2] == key.rpartition(".")[2]]
    if (others := _commands_with(key, command)) or (command, key) in _INSTEAD:
        has = f"{_having(others)}, {command} does not" if others else ""
        near = same_name or difflib.get_close_matches(key, keys, n=1, cutoff=_CLOSE)
        hint = _INSTEAD.get((command, key)) or (f"did you mean {near[0]!r}?" if near else "")
        return f"{unknown} {'; '.join(part for part in (has, hint) if part)}"
    if not same_name and not any(one.startswith(key) for one in keys):
        for other in _nearest(key, {*keys, *_keys_of_options(tuple(chosen))}):
            if other not in keys and (elsewhere := _other_options(other, chosen, schema)):
                return f"{unknown} did you mean {other!r}? {elsewhere}"
    return f"{unknown} {did_you_mean(key, keys)}"


def no_single_value(key: str, keys: Iterable[str], schema: type) -> str:
    """What to say of a single value for a key that holds further keys, as `checkpoint=` in a training."""
    within = [one for one in keys if one.startswith(f"{key}.")]
    return _INSTEAD.get((command_of(schema), key)) or f"it is one of {_cut(within)} that takes a value"


def command_of(schema: type) -> str:
    """The command whose config has this schema."""
    return next(name for name, (base, _) in _COMMANDS.items() if issubclass(schema, base))


def evaluation_only_sources(schema: type) -> frozenset[str]:
    """The values of `data.source` that only an evaluation takes."""
    return frozenset(
        source
        for _, properties, field in walk(schema)
        if properties.evaluation_only
        for source in get_args(field.annotation)
    )


def never_known(parsed: Iterable[str], groups: Collection[str], schema: type) -> list[str]:
    """A sentence for each key that a config does not have, whichever options are chosen."""
    keys = {key for key, _, _ in walk(schema)} | _keys_of_options(tuple(groups)) | set(groups)
    free = tuple(f"{key}." for key in keys_where(schema, lambda key: key.free))
    return [
        unknown_key(key, sorted(keys), {}, schema)
        for key in parsed
        if key not in keys and not key.startswith(free)
    ]


def _other_options(key: str, chosen: Mapping[str, str], schema: type) -> str:
    """Which options of its group have a key that the chosen one lacks, those of the same task if any has;
    empty where none has."""
    group, _, name = key.partition(".")
    if not name or group not in chosen:
        return ""
    refused = evaluation_only_sources(schema) if issubclass(schema, Config) else ()
    kinds = {}  # option -> what names its kind, as data.source does
    for option in options(group):
        settings = all_settings(group, option)
        kind = settings.get("source", settings.get("kind"))
        if name in dotted_keys(settings) and kind not in refused:
            kinds[option] = kind
    tasks = set(tasks_of(group, chosen[group]))
    alike = {one: kind for one, kind in kinds.items() if tasks & set(tasks_of(group, one))}
    kinds = alike or kinds
    names = sorted(kinds, key=lambda one: (one != kinds[one], one))  # data=folder before data=imagenet
    if not names or chosen[group] in names:
        return ""
    return f"{group}={chosen[group]} has none; {_having([f'{group}={one}' for one in names])}"


def _commands_with(key: str, command: str) -> list[str]:
    """The other commands that have a key; of several benchmarks one name for all."""
    found = [name for name in _COMMANDS if name != command and key in _keys_of_command(name)]
    benches = [name.partition(" ")[2] for name in found if name.startswith("hornet-bench")]
    rest = [name for name in found if not name.startswith("hornet-bench")]
    return [*rest, f"hornet-bench {'|'.join(benches)}"] if benches else rest


@cache
def _keys_of_command(name: str) -> frozenset[str]:
    schema, file = _COMMANDS[name]
    groups = tuple(default_options(file))
    return frozenset({key for key, _, _ in walk(schema)} | _keys_of_options(groups))


@cache
def _keys_of_options(groups: tuple[str, ...]) -> frozenset[str]:
    """The dotted keys that any option of these groups sets; of `evaluation`, which are outside of groups."""
    return frozenset(
        key if group == "evaluation" else f"{group}.{key}"
        for group in groups
        if group != "recipe" and (conf_dir() / group).is_dir()  # a recipe sets keys of other groups
        for option in options(group)
        for key in dotted_keys(all_settings(group, option))
    )


def _nearest(key: str, keys: Collection[str]) -> list[str]:
    """Keys of the same last name, else the most similar one."""
    same = sorted(one for one in keys if one.rpartition(".")[2] == key.rpartition(".")[2])
    return same or difflib.get_close_matches(key, sorted(keys), n=1, cutoff=0.6)


def _having(names: list[str]) -> str:
    """That these have it."""
    return f"{_cut(names)} {'have' if len(names) > 1 else 'has'} it"


def _cut(names: list[str]) -> str:
    return ", ".join(names[:_MOST]) + (", ..." if len(names) > _MOST else "")
