"""What a task hands to config: its schema and its rules. config imports no task, it is given `find`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hornet_train.config.key import keys_where
from hornet_train.config.schema import Config, EvalConfig

Given = Mapping[str, Any]  # the keys that a command line sets, with their values


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
        defaults: group -> what it holds, of a task that has no options in conf/: a user's own, in a Python
            module or file. `evaluation` has the keys that only its evaluations have.
    """

    name: str
    about: str
    train: type[Config]
    evaluate: type[EvalConfig]
    rules: Callable[[Any, Given, int], Iterable[str]]
    eval_rules: Callable[[Any, Given], Iterable[str]]
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def preprocessing(self) -> frozenset[str]:
        """The dotted keys that an evaluation takes from the checkpoint, whatever its data."""
        return keys_where(self.evaluate, lambda key: key.preprocessing)


Find = Callable[[str], TaskSchema]  # `task=` -> its schema; raises ConfigError, with "did you mean"
