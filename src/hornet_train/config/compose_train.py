"""Compose the config of `hornet-train`: a new training, one that repeats a run (`from=`), or `replay=`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hornet_train.config.choose_task import ChosenTask, choose_task, stored_task
from hornet_train.config.compose import Composed, Tree, checked, libraries_faults, resolved
from hornet_train.config.conf_files import default_options, options, own_settings
from hornet_train.config.from_run import (
    Repeated,
    escape_references,
    merge_stored,
    nearest_option,
    repeated,
)
from hornet_train.config.key import keys_where
from hornet_train.config.moved_paths import relocate
from hornet_train.config.overrides import FROM, RUN_DIR, TASK, parse, path_value, texts
from hornet_train.config.schema import Config
from hornet_train.config.task_conf import conf_of_task, own_groups
from hornet_train.config.task_schema import Find, Given
from hornet_train.config.validate import shared_rules, without_secrets
from hornet_train.errors import ConfigError

GROUPS = ("model", "data", "augment", "optim", "schedule", "ema", "dist", "log", TASK, "recipe")


def compose_train(
    overrides: list[str], *, find: Find, names: Sequence[str], world_size: int = 1
) -> Composed[Config]:
    """The config of `hornet-train <overrides>`.

    Without `recipe=`, the default recipe (the digits) holds for as long as the data are the digits; other
    data then start from the task's own, what its published trainings have in common. With `from=` neither
    counts: the base is the config of the run that it names. So too with a `run_dir=` that holds a run, where
    no group of settings is chosen beside it: the run goes on, but for the keys that are given.

    Args:
        overrides: the command line.
        find: the schema of the task of a name.
        names: of this program's tasks.
        world_size: processes of the training.

    Raises:
        ConfigError: with every fault found.
    """
    task, run, faults_of_run = task_and_run(texts(overrides), find=find, names=names)
    parsed, faults = parse(overrides, GROUPS, task.schema.train)
    parsed.pop(FROM, None)
    faults += [*task.faults, *faults_of_run]
    if faults_of_run or not task.certain:
        raise ConfigError(list(dict.fromkeys(faults)))
    check = _rules(task, parsed, world_size)
    if run is not None:
        return _compose_repeated(run, task, parsed, faults, check, goes_on=FROM not in texts(overrides))
    default = default_options()
    if (parsed.get("data", default["data"]), task.name) != (default["data"], default[TASK]):
        parsed.setdefault("recipe", task.schema.recipe)
    with libraries_faults(faults):
        tree, chosen = conf_of_task("train", task, parsed, GROUPS)
    return replace(
        checked(task.schema.train, tree, parsed, options=chosen, faults=faults, check=check), task=task.name
    )


def compose_replay(
    tree: Tree, file: Path, overrides: list[str], *, find: Find, names: Sequence[str], world_size: int
) -> Composed[Config]:
    """The config of `hornet-train replay=<file> <overrides>`.

    Args:
        tree: the config of the run that wrote the step to the file.
        file: is named in messages.
        overrides: without `replay=`.
        find: the schema of the task of a name.
        names: of this program's tasks.
        world_size: of that run.

    Raises:
        ConfigError: with every fault found.
    """
    task = choose_task(texts(overrides), find=find, names=names, stored=stored_task(f"replay={file}", tree))
    parsed, faults = parse(overrides, GROUPS, task.schema.train)
    faults += task.faults
    if not task.certain:
        raise ConfigError(faults)
    return _compose_repeated(Repeated(file, tree), task, parsed, faults, _rules(task, {}, world_size))


def task_and_run(
    given: Mapping[str, str], *, find: Find, names: Sequence[str]
) -> tuple[ChosenTask, Repeated | None, Sequence[str]]:
    """The task of a command line, the run that `from=` names, and the faults where that cannot be read."""
    run, faults = None, tuple[str, ...]()
    key, path = FROM if FROM in given else RUN_DIR, None
    if text := given.get(key):  # `from=` without a path: `parse` has a message for it
        try:
            path = path_value(key, text)
            if path is not None and (key == FROM or _goes_on(path, given)):
                run = repeated(path)
        except ConfigError as error:
            faults = error.faults
    stored = stored_task(f"{key}={path}", run.tree) if run is not None else None
    return choose_task(given, find=find, names=names, stored=stored), run, faults


def _goes_on(run_dir: str, given: Mapping[str, str]) -> bool:
    """Whether a command line goes on with the run in a folder: it chooses no settings but single keys."""
    chosen = [group for group in GROUPS if group in given and group not in ("dist", "log", TASK)]
    return not chosen and given.get("resume") != "restart" and (Path(run_dir) / "config.yaml").is_file()


def _rules(task: ChosenTask, given: Given, world_size: int) -> Callable[[Config], Iterable[str]]:
    """The rules that every task shares, and the task's own."""

    def check(config: Config) -> Iterable[str]:
        yield from shared_rules(config, world_size)
        yield from task.schema.rules(config, given, world_size)

    return check


def _compose_repeated(
    run: Repeated,
    task: ChosenTask,
    parsed: Mapping[str, Any],
    faults: list[str],
    check: Callable[[Config], Iterable[str]],
    *,
    goes_on: bool = False,
) -> Composed[Config]:
    """The config of a run, except for the groups and keys of the command line.

    `goes_on`: whether it is the run itself, and not another one like it.
    """
    schema = task.schema.train
    if "recipe" in parsed:
        faults.append("recipe= and from= exclude each other: each is a whole training")
    replaced = [group for group in GROUPS if group in parsed and (group != TASK or task.built_in)]
    chosen, unknown = _nearest_options(run, task, replaced)
    if unknown:
        raise ConfigError(list(dict.fromkeys([*faults, *unknown])))
    with libraries_faults(faults):
        tree, options_of = conf_of_task("train", task, {**chosen, **parsed, "recipe": "none"}, GROUPS)
        defaults = resolved(tree)
    try:
        stored, missing = merge_stored(defaults, run, replaced, keys_where(schema, lambda key: key.free))
    except ConfigError as error:
        raise ConfigError(list(dict.fromkeys([*faults, *error.faults]))) from error
    for name, part in stored.items():
        tree[name] = escape_references(part)
    moved, lost = list[str](), list[str]()
    if "data" not in replaced and isinstance(run.tree.get("data"), dict):
        moved, lost = relocate(tree, run.tree, run.file, keys_where(schema, lambda key: key.path), parsed)

    def check_all(config: Config) -> Iterable[str]:
        yield from check(config)
        yield from without_secrets(config.data)
        yield from lost
        if config.run_dir is not None and run.holds(config.run_dir) and not goes_on:
            yield f"run_dir={config.run_dir} is the run that from= repeats: choose another, or leave it out"

    composed = checked(schema, tree, parsed, options=options_of, faults=faults, check=check_all)
    if goes_on:
        return replace(composed, task=task.name, goes_on=True, notes=tuple(moved))
    how_read = keys_where(schema, lambda key: key.how_read)
    own_images = any(key == "data" or (key.startswith("data.") and key not in how_read) for key in parsed)
    unknown = sorted(set(missing) - keys_where(schema, lambda key: key.absent), key=missing.index)
    notes = [f"{run.file} does not have {', '.join(unknown)}: defaults are taken"] if unknown else []
    repeats = replace(run, own_images=own_images, notes=[*notes, *moved], defaults=defaults)
    return replace(composed, task=task.name, repeats=repeats)


def _nearest_options(
    run: Repeated, task: ChosenTask, replaced: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Group -> the option that comes nearest to what a run has in it, and a fault where there is none.

    Of the groups in which one key names the option, except for those that the command line replaces.
    """
    names_option = dict(key.split(".") for key in keys_where(task.schema.train, lambda key: key.names_option))
    found, faults = {}, []
    for group in GROUPS:
        if group not in names_option or group in replaced or group in own_groups(task):
            continue
        names = options(group, task=task.schema.name)
        settings = {option: own_settings(group, option, task.schema.name) for option in names}
        part = run.tree.get(group)
        stored = part if isinstance(part, dict) else {}
        option = nearest_option(stored, names_option[group], settings)
        if option is None and group == "model":  # a name that only timm knows; any option has the same keys
            option = "timm"
        if option is not None:
            found[group] = option
        else:
            kind = names_option[group]
            faults.append(f"{run.file}: {group}.{kind}={stored.get(kind)} is not known to this program")
    return found, faults
