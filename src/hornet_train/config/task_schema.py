"""What a task hands to config: its schema and its rules. config imports no task, it is given `find`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hornet_train.config.fields import group
from hornet_train.config.key import keys_where
from hornet_train.config.schema import Config, Data, EvalConfig, InfoConfig, Task

Given = Mapping[str, Any]  # the keys that a command line sets, with their values


class NoData(str):
    """A sentence of a rule that says where the data are missing: a fault where they are opened, which a
    prediction does not do."""


@dataclass(frozen=True)
class TaskSchema:
    """The config of a task.

    Attributes:
        name: one word.
        about: one line for --help.
        train: its training config.
        evaluate: its evaluation config.
        rules: (config, keys that the command line sets, world size) -> a sentence for each rule across fields
            that is broken. What every task shares is checked beside it.
        eval_rules: the same for an evaluation config: (config, keys that the command line sets).
        info: what hornet-info is asked about one of its models.
        info_rules: a sentence for each rule that such a config breaks.
        recipe: the option of `recipe` where the command line chooses none.
        defaults: group -> what it holds, of a task that has no options in conf/: a user's own, in a Python
            module or file. `evaluation` has the keys that only its evaluations have.
    """

    name: str
    about: str
    train: type[Config]
    evaluate: type[EvalConfig]
    rules: Callable[[Any, Given, int], Iterable[str]]
    eval_rules: Callable[[Any, Given], Iterable[str]]
    info: type[InfoConfig] = InfoConfig
    info_rules: Callable[[Any], Iterable[str]] = lambda _config: ()
    recipe: str = "none"
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def preprocessing(self) -> frozenset[str]:
        """The dotted keys that an evaluation takes from the checkpoint, whatever its data."""
        return keys_where(self.evaluate, lambda key: key.preprocessing)


Find = Callable[[str], TaskSchema]  # `task=` -> its schema; raises ConfigError, with "did you mean"


def simple_schema(
    name: str,
    about: str,
    *,
    data: type[Data],
    task: type[Task] = Task,
    defaults: Mapping[str, Mapping[str, Any]],
) -> TaskSchema:
    """The schema of a task whose groups `data` and `task` are its own, and which has no further rules.

    Args:
        name: one word.
        about: one line for --help.
        data, task: the types of the groups; `training_only` keys of `data` are refused in an evaluation.
        defaults: what the groups hold, with `data.source`.
    """
    own = {"__module__": data.__module__, "__doc__": about}
    of_training = {**own, "__annotations__": {"data": data, "task": task}}
    of_evaluation = {**own, "__annotations__": {"data": data}}
    train: type[Config] = group(type("OwnConfig", (Config,), of_training))
    evaluate: type[EvalConfig] = group(type("OwnEval", (EvalConfig,), of_evaluation))
    return TaskSchema(name, about, train, evaluate, lambda *_: (), lambda *_: (), defaults=defaults)
