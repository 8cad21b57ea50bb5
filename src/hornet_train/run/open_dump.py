"""Rebuild the model and task of a dumped step from its file, for `replay=`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from hornet_train.config.compose import Composed
from hornet_train.config.compose_train import compose_replay
from hornet_train.config.schema import Config
from hornet_train.config.stored import CLASSES, HEADER, config_in_folder
from hornet_train.engine.dump import Dump
from hornet_train.engine.state import load_strictly
from hornet_train.engine.task import Task
from hornet_train.errors import CheckpointError
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.kit_types import Datasets
from hornet_train.tasks.table import NAMES, find
from hornet_train.untrusted import parse_json


def replay_config(dump: Dump, file: Path, overrides: list[str]) -> Composed[Config]:
    """The config of the run that wrote the file, but for what the command line says.

    Raises:
        UserError: the file has no config, or the overrides are at fault.
    """
    if "config.yaml" not in dump.texts:
        raise CheckpointError(f"{file} holds no config")
    tree = config_in_folder(dump.texts["config.yaml"], file)
    return compose_replay(tree, file, overrides, find=find, names=NAMES, world_size=dump.numbers.world_size)


def build_replay(kit: Kit[Any, Any], config: Config, dump: Dump, file: Path) -> tuple[Task, nn.Module]:
    """The task, and the model with the weights of the step.

    Raises:
        UserError: the file does not name the classes, or its weights are for another model.
    """
    try:
        classes = tuple(str(name) for name in parse_json(dump.texts[HEADER])[CLASSES])
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{file} does not name the classes of its run") from error
    task = kit.build_task(config, Datasets(None, None, classes))
    model = task.build_model()
    load_strictly(model, dump.model, what="model")
    return task, model
