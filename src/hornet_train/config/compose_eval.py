"""Compose the config of `hornet-eval`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hornet_train.config.choose_task import ChosenTask, choose_task, stored_task
from hornet_train.config.compose import Composed, Tree, checked, libraries_faults, training_only
from hornet_train.config.conf_files import default_options, options, own_settings
from hornet_train.config.from_run import nearest_option
from hornet_train.config.key import keys_where, walk
from hornet_train.config.moved_paths import relocate
from hornet_train.config.overrides import TASK, parse, path_value, texts
from hornet_train.config.schema import EvalConfig
from hornet_train.config.task_conf import conf_of_task
from hornet_train.config.task_schema import Find, NoData
from hornet_train.config.unknown_key import never_known
from hornet_train.config.validate import without_secrets
from hornet_train.errors import ConfigError

EVAL_GROUPS = ("model", "data", "dist")


def checkpoint_of(overrides: list[str]) -> str | None:
    """The path that `checkpoint=` gives, if it is given.

    Raises:
        ConfigError: it has a variable that the environment does not have.
    """
    return path_value("checkpoint", texts(overrides).get("checkpoint", "null")) or None


def check_keys(overrides: list[str], *, find: Find, names: Sequence[str]) -> None:
    """Find the keys and options that no evaluation has, whatever its checkpoint.

    Raises:
        ConfigError: with every such fault.
    """
    task = choose_task(texts(overrides), find=find, names=names)
    parsed, faults = parse(overrides, EVAL_GROUPS, task.schema.evaluate)
    if faults := [*faults, *never_known(parsed, EVAL_GROUPS, task.schema.evaluate)]:
        raise ConfigError(faults)


def compose_eval(
    overrides: list[str],
    stored: Callable[[str], Tree | None],
    *,
    find: Find,
    names: Sequence[str],
    opens_data: bool = True,
) -> Composed[EvalConfig]:
    """The config of `hornet-eval <overrides>`.

    What the checkpoint was trained with comes first: its model and its data, and its preprocessing also
    where other data are chosen. Group choices replace these, and single keys replace both.

    Args:
        overrides: the command line.
        stored: gives what is known of a checkpoint's training: a training config; or, where the weights alone
            are known, the parts of one that follow from them, with `unlike` for why no model does; None for
            nothing.
        find: the schema of the task of a name.
        names: of this program's tasks.
        opens_data: False for a prediction, which takes the preprocessing from the data group and no data.

    Raises:
        ConfigError: with every fault found.
    """
    given = texts(overrides)
    checkpoint = checkpoint_of(overrides)
    trained = (stored(checkpoint) if checkpoint is not None else None) or {}
    task = choose_task(given, find=find, names=names, stored=stored_task(f"checkpoint={checkpoint}", trained))
    parsed, faults = parse(overrides, EVAL_GROUPS, task.schema.evaluate)
    parsed.pop(TASK, None)
    faults += [*task.faults, *_select_data(parsed, task)]
    faults += _missing(checkpoint, parsed, trained, task)
    training = keys_where(task.schema.evaluate, lambda key: key.training_only)
    faults += [f"{key} is read in training only" for key in parsed if key in training]
    same_data = "data" not in parsed and "source" in trained.get("data", {})
    if same_data and (option := _option_of(trained["data"], task)) is not None:
        parsed["data"] = option  # for keys that are younger than the checkpoint
    is_default = task.name == default_options()[TASK]
    if not task.certain or not ("data" in parsed or is_default or not task.built_in):
        raise ConfigError(
            faults or [f"{checkpoint}: data.source={trained['data']['source']} is not known here"]
        )
    with libraries_faults(faults):
        tree, chosen = conf_of_task("eval", task, parsed, EVAL_GROUPS)
        _take_over(tree, trained, task, model="model" not in parsed, data=same_data)
    notes, lost = list[str](), list[str]()
    if same_data:
        paths = keys_where(task.schema.evaluate, lambda key: key.path)
        notes, lost = relocate(tree, trained, Path(checkpoint or ""), paths, parsed)

    def check(config: EvalConfig) -> Iterable[str]:
        rules = task.schema.eval_rules(config, parsed)
        yield from (fault for fault in rules if opens_data or not isinstance(fault, NoData))
        yield from training_only(config.dist)
        yield from without_secrets(config.data)
        yield from lost if opens_data else ()

    composed = checked(task.schema.evaluate, tree, parsed, options=chosen, faults=faults, check=check)
    parts = (key.partition(".") for key in task.schema.preprocessing)
    known = (f"{group}.{name}" for group, _, name in parts if name in trained.get(group, {}))
    return replace(
        composed,
        task=task.name,
        given=composed.given.union(known),
        notes=(*composed.notes, *(notes if opens_data else ())),
    )


def _select_data(parsed: dict[str, Any], task: ChosenTask) -> Iterable[str]:
    """Choose the option of `data` that a key such as `suite` selects; a fault where `data=` is given too."""
    for key, properties, _ in walk(task.schema.evaluate):
        if properties.selects_data is None or parsed.get(key) is None:
            continue
        if "data" in parsed:
            yield f"data={parsed['data']} and {key}= exclude each other: {key}= finds its own data"
        parsed["data"] = properties.selects_data


def _missing(
    checkpoint: str | None, parsed: Mapping[str, Any], trained: Mapping[str, Any], task: ChosenTask
) -> Iterable[str]:
    """A sentence for each thing that neither the command line nor the checkpoint says."""
    if checkpoint is None:
        if parsed.get("checkpoint") is None:
            yield "checkpoint is missing: checkpoint=<run folder, step folder, .safetensors or .pth>"
        return
    if "model" not in parsed and not trained.get("model"):
        unlike = f" ({trained['unlike']})" if "unlike" in trained else ""
        yield f"model is missing, and {checkpoint} does not name one{unlike}: model=hornet_t_gf, say"
    if "data" not in parsed and "source" not in trained.get("data", {}):
        known = [name for name in options("data", task=task.name) if task.name != default_options()[TASK]]
        example = next(iter(known), "imagenet")
        yield f"data is missing, and {checkpoint} does not name any: data={example} data.root=<folder>, say"


def _option_of(data: Tree, task: ChosenTask) -> str | None:
    """The option of `data` with the keys that a checkpoint's data have; None where there is none."""
    names = options("data", task=task.schema.name)
    if data["source"] in names:
        return str(data["source"])
    return nearest_option(
        data, "source", {name: own_settings("data", name, task.schema.name) for name in names}
    )


def _take_over(
    tree: DictConfig, trained: Mapping[str, Any], task: ChosenTask, *, model: bool, data: bool
) -> None:
    """Put what a checkpoint was trained with into a tree: model, data, preprocessing and precision."""
    if model:
        tree.model = OmegaConf.merge(tree.model, trained.get("model", {}))
    if data:
        tree.data = OmegaConf.merge(tree.data, trained["data"])
    for key in task.schema.preprocessing:
        group, _, name = key.partition(".")
        if name in trained.get(group, {}):
            tree[group][name] = trained[group][name]
    tree.precision = trained.get("precision", tree.precision)
