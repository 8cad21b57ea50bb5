"""Compose conf/ for a task: with the options of a built-in task, or with the defaults of a user's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from hornet_train.config import conf_files
from hornet_train.config.choose_task import ChosenTask
from hornet_train.config.compose import read_conf
from hornet_train.config.overrides import TASK

_BY_TASK = (TASK, "data", "augment", "evaluation")  # groups of which all options are of one task each


def own_groups(task: ChosenTask) -> Collection[str]:
    """The groups that conf/ has no option of for this task."""
    return () if task.built_in else _BY_TASK


def conf_of_task(
    name: str, task: ChosenTask, parsed: Mapping[str, Any], groups: Collection[str]
) -> tuple[DictConfig, dict[str, str]]:
    """conf/<name>.yaml for a task, with the options that are chosen: the tree, and the option of each group.

    Args:
        name: of the file.
        task: the task.
        parsed: key -> value; the groups among these keys count.
        groups: those that the command takes.
    """
    chosen = {group: str(parsed[group]) for group in groups if group in parsed and group != TASK}
    listed = conf_files.default_options(name)
    if task.built_in:
        empty = []
        for group in (TASK, "evaluation"):
            if group in listed and task.name in conf_files.options(group):
                chosen[group] = task.name
            elif group in listed:  # no keys of its own
                empty.append(group)
        chosen = {group: conf_files.within(group, option, task.name) for group, option in chosen.items()}
        return read_conf(name, chosen, groups, left_out=empty)
    empty = [group for group in _BY_TASK if group in listed and group not in chosen]
    tree, options = read_conf(name, chosen, groups, left_out=empty)
    _fill_in(tree, task, empty)
    return tree, {**options, **{group: task.schema.name for group in empty if group in groups}}


def _fill_in(tree: DictConfig, task: ChosenTask, empty: Collection[str]) -> None:
    """Put the defaults that a user's own task gives into a tree of conf/, of which some groups are empty."""
    given = task.schema.defaults
    if "data" in empty:  # what the loader of every task reads
        tree.data = yaml.safe_load(
            (conf_files.conf_dir() / "data" / "_loader.yaml").read_text(encoding="utf-8")
        )
    if "evaluation" in empty:
        tree.merge_with(given.get("evaluation", {}))  # keys outside of groups
    for group in (name for name in dict.fromkeys([*empty, *given]) if name != "evaluation"):
        if group in empty or group in tree:  # hornet-eval has fewer groups than hornet-train
            tree[group] = OmegaConf.merge(tree.get(group, {}), given.get(group, {}))
    if TASK in empty:
        tree[TASK].name = task.name  # config.yaml then names the task
    if "recipe" in tree:
        tree.recipe.setdefault("published", {})
