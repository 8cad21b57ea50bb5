"""The groups of conf/ with their options, as --help lists them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hornet_train.config.choose_task import GROUPS_BY_TASK
from hornet_train.config.conf_files import default_options, options, own_settings, tasks_of
from hornet_train.config.task_schema import Find
from hornet_train.config.unknown_key import evaluation_only_sources

_WIDTH = 100


def group_lines(groups: Sequence[str], *, find: Find, names: Sequence[str], training: bool) -> list[str]:
    """The options of each group, as lines of text; the default option is in [brackets].

    If there are several tasks, options that belong to one task are listed under its name.

    Args:
        groups: the groups that the command takes.
        find: returns the schema of a task, by its name.
        names: of all tasks.
        training: whether to leave out the options that only an evaluation takes.
    """
    defaults = default_options()
    refused = _evaluation_only(find, names) if training else frozenset()
    lines = ["Groups, group=option; the default in [brackets]:"]
    for group in groups:
        title = f"  {group:<9}"
        shown = [option for option in options(group) if option not in refused or group != "data"]
        for label, part in _by_task(group, shown, names):
            words = [f"[{one}]" if one == defaults[group] else one for one in part]
            lines += _wrapped([*label, *words], title)
            title = " " * len(title)
    if len(names) > 1:
        lines.append("Tasks, task=name; an option of one task chooses that task too:")
        lines += [f"  {name:<15} {find(name).about}" for name in names]
    return lines


def _by_task(group: str, shown: Sequence[str], names: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """(label, options) for each task with options in a group; no label if all tasks share them."""
    of = {option: tasks_of(group, option) for option in shown}
    if len(names) < 2 or group not in GROUPS_BY_TASK or not any(of.values()):
        yield [], list(shown)
        return
    for task in (None, *names):
        if part := [option for option in shown if (task in of[option] if task else not of[option])]:
            yield [f"{task}:" if task else "any task:"], part


def _wrapped(words: Sequence[str], title: str) -> list[str]:
    """The words, wrapped into lines; the first line begins with the title, the others are indented by it."""
    lines = [title]
    for word in words:
        if len(lines[-1]) + len(word) > _WIDTH:
            lines.append(" " * len(title))
        lines[-1] += f" {word}"
    return lines


def _evaluation_only(find: Find, names: Sequence[str]) -> frozenset[str]:
    """The options of `data` that are for evaluation only, and that hornet-train refuses."""
    sources = {source for name in names for source in evaluation_only_sources(find(name).train)}
    return frozenset(name for name in options("data") if own_settings("data", name).get("source") in sources)
