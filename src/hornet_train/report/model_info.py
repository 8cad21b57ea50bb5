"""What a model is made of and what it costs, whatever its task."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch

from hornet_train.config.schema import InfoConfig
from hornet_train.errors import ConfigError
from hornet_train.images.size import Size, size_of
from hornet_train.models.spec import ModelSpec
from hornet_train.models.structure import image_size_of
from hornet_train.report.model_tables import Table, stage_table
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.model_check import check_image_size


@dataclass(frozen=True)
class ModelInfo:
    """What a model is made of and what it costs.

    Attributes:
        name: as timm knows it.
        image_size: pixels, one number for a square or (height, width), that the costs are for.
        parameters: their number.
        macs: multiply-accumulates of the convolutions and linear layers, of one image.
        table: its stages.
    """

    name: str
    image_size: Size
    parameters: int
    macs: int
    table: Table


def info_of(kit: Kit[Any, Any], config: InfoConfig, keys: Collection[str]) -> ModelInfo:
    """The figures of the model that a config names, which is not run.

    Args:
        kit: of the model's task.
        config: what is asked.
        keys: those that the command line sets.

    Raises:
        ConfigError: there is no such model, or it does not take images of that size.
    """
    parts = kit.describe_model(config, keys)
    if parts is not None:
        shown = parts.table
        rows = [tuple(map(str, row)) for row in shown.rows]
        table = Table(shown.title, shown.columns, rows, list(parts.notes))
        return ModelInfo(config.model.name, parts.image_size, parts.parameters, parts.macs, table)
    given = config.model
    if given.args.get("pretrained"):
        raise ConfigError(["model.args.pretrained: hornet-info reads no weights"])
    with torch.device("meta"):
        classes = given.num_classes or config.num_classes
        model = ModelSpec(given.name, classes, args=given.args, in_chans=given.in_chans).build()
    size = config.image_size or size_of(*(image_size_of(model) or (224, 224)))  # timm's own default
    cost = check_image_size(model, given.name, size, "image_size", in_chans=given.in_chans)
    table = stage_table(model, given.name, size, in_chans=given.in_chans)
    return ModelInfo(given.name, size, cost.parameters, cost.macs, table)
