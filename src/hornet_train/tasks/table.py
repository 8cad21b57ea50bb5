"""The tasks by name: one row each, which is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from hornet_train.config.task_schema import TaskSchema
from hornet_train.errors import ConfigError, did_you_mean

_ROWS = {"classification": "hornet_train.tasks.classification.rules"}  # each has a SCHEMA
NAMES = tuple(_ROWS)


def find(name: str) -> TaskSchema:
    """The schema of the task that `task=` names.

    Raises:
        ConfigError: there is none.
    """
    if name not in _ROWS:
        raise ConfigError(f"task={name}: no such option of task; {did_you_mean(name, NAMES)}")
    schema: TaskSchema = import_module(_ROWS[name]).SCHEMA
    return schema
