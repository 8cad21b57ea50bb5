"""From a kept step to the model and task that it was made with."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from hornet_train.config.compose_train import compose_replay
from hornet_train.config.stored import CLASSES, HEADER, config_in_folder
from hornet_train.engine.dump import Dump
from hornet_train.engine.state import load_strictly
from hornet_train.errors import CheckpointError
from hornet_train.run.data import build_task
from hornet_train.tasks.classification.schema import ClassificationConfig
from hornet_train.tasks.classification.task import Classification
from hornet_train.tasks.table import NAMES, find
from hornet_train.untrusted import parse_json


def replay_config(dump: Dump, file: Path, overrides: list[str]) -> ClassificationConfig:
    """The config of the run that kept a step, but for what the command line says.

    Raises:
        UserError: the file has no config, or the overrides are at fault.
    """
    if "config.yaml" not in dump.texts:
        raise CheckpointError(f"{file} holds no config")
    tree = config_in_folder(dump.texts["config.yaml"], file)
    composed = compose_replay(
        tree, file, overrides, find=find, names=NAMES, world_size=dump.numbers.world_size
    )
    assert isinstance(composed.config, ClassificationConfig)
    return composed.config


def build_replay(config: ClassificationConfig, dump: Dump, file: Path) -> tuple[Classification, nn.Module]:
    """The task, and the model with the weights of the step.

    Raises:
        UserError: the file does not tell the classes, or its weights are for another model.
    """
    try:
        classes = parse_json(dump.texts[HEADER])[CLASSES]
        count = len(classes)
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{file} does not tell the classes of its run") from error
    task = build_task(config.model, config.data, count, config)
    model = task.build_model()
    load_strictly(model, dump.model, what="model")
    return task, model
