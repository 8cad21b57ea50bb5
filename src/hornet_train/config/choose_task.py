"""Which task a command is for: that of `task=`, of its options, of its checkpoint or of its `from=`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hornet_train.config.conf_files import default_options, options, task_of, tasks_of
from hornet_train.config.overrides import TASK
from hornet_train.config.task_schema import Find, TaskSchema
from hornet_train.errors import ConfigError

GROUPS_BY_TASK = ("data", "model", "augment", "recipe")  # whose options may belong to one task


@dataclass(frozen=True)
class ChosenTask:
    """The task of a command.

    Attributes:
        name: as `task=` takes it.
        schema: its config.
        built_in: whether it is one of this program's, with options in conf/.
        faults: a sentence for each choice that contradicts another one, or that there is no such task.
        certain: whether its schema is the one to look for more faults with.
    """

    name: str
    schema: TaskSchema
    built_in: bool
    faults: tuple[str, ...] = ()
    certain: bool = True


@dataclass(frozen=True)
class StoredTask:
    """The task that a stored config names. The file may be anyone's.

    Attributes:
        given: how the command line names the file, `checkpoint=runs/mine`.
        name: what the config has as task.name.
    """

    given: str
    name: str


def stored_task(given: str, tree: Mapping[str, object]) -> StoredTask | None:
    """The task of a stored config; None where it names none."""
    task = tree.get("task")
    name = task.get("name") if isinstance(task, dict) else None
    return None if name is None else StoredTask(given, str(name))


def same_task(name: str, other: str) -> bool:
    """Whether two values of `task=` name one module or file, as far as they say: `examples/own_task.py`,
    `examples.own_task`, and either one seen from another folder."""
    parts, others = _module_parts(name), _module_parts(other)
    shorter = min(len(parts), len(others))
    return name == other or (shorter > 0 and parts[-shorter:] == others[-shorter:])


def _module_parts(name: str) -> list[str]:
    """The names of packages and module in a dotted name or a path."""
    parts = name.removesuffix(".py").split("/") if name.endswith(".py") else name.split(".")
    return [part for part in parts if part not in ("", ".", "..", "~")]


def choose_task(
    given: Mapping[str, str], *, find: Find, names: Sequence[str], stored: StoredTask | None = None
) -> ChosenTask:
    """The task that a command line chooses, else the stored one, else that of the default options.

    A stored name never leads to a task that is not one of this program's: this would run code that a file
    names. The user has to name it too.

    Args:
        given: key -> text of the command line.
        find: the schema of the task of a name.
        names: of this program's tasks.
        stored: of the checkpoint that is evaluated, or of the run that is repeated.
    """
    default = default_options()[TASK]
    faults: list[str] = []
    own = stored is not None and stored.name not in names and given.get(TASK, names[0]) not in names
    if stored is not None and own and same_task(stored.name, given[TASK]):
        stored = replace(stored, name=given[TASK])
    if stored is not None and stored.name not in names and given.get(TASK) != stored.name:
        faults.append(
            f"{stored.given} is of the task {stored.name!r}, which is not one of this program's: "
            f"task={stored.name} says that its code may run"
            + (f"; task={given[TASK]} is another" if TASK in given else "")
        )
        stored = None
    said = list(_said(given, stored))
    name = said[0][1] if said else default
    faults += [_clash(said[0], other) for other in said[1:] if other[1] != name]
    faults += _of_no_task(given, name)
    try:
        schema = find(name)
    except ConfigError as error:
        # a misspelt name; the default task's schema finds more faults, if no option says that it is another
        return ChosenTask(default, find(default), True, tuple(error.faults), certain=len(said) == 1)
    return ChosenTask(name, schema, name in names, tuple(faults), certain=not faults)


def _of_no_task(given: Mapping[str, str], task: str) -> Iterator[str]:
    """A fault for each option of any task where this task has options of its own, with keys that it lacks."""
    for group in GROUPS_BY_TASK:
        option, known = given.get(group), options(group)
        own = [name for name in known if task in tasks_of(group, name)]
        if group != "recipe" and own and option in known and not tasks_of(group, option):
            yield f"{group}={option} is not for {task}: take one of {', '.join(own)}"


def _said(given: Mapping[str, str], stored: StoredTask | None) -> Iterator[tuple[str, str]]:
    """(who says it, task), the most explicit first."""
    if TASK in given:
        yield f"{TASK}={given[TASK]}", given[TASK]
    if stored is not None:
        yield stored.given, stored.name
    for group in GROUPS_BY_TASK:
        known = given.get(group) in options(group)  # `parse` has a message for an unknown option
        if known and (task := task_of(group, given[group])) is not None:
            yield f"{group}={given[group]}", task


def _clash(first: tuple[str, str], other: tuple[str, str]) -> str:
    """How two choices contradict each other, and what to do."""
    (given, task), (words, another) = first, other
    group = words.partition("=")[0]
    if given.startswith(f"{TASK}="):
        clash = f"{words} is for {another}, but {given} is given"
    else:
        clash = f"{given} is for {task}, {words} for {another}"
    if group not in GROUPS_BY_TASK:  # a checkpoint or a run, which is for what it is for
        return f"{clash}: leave {TASK}= out"
    of_that_task = [name for name in options(group) if task_of(group, name) == task]
    instead = f", or take one for {task}: {', '.join(of_that_task)}" if of_that_task else ""
    return f"{clash}: leave {group}= out{instead}"
