"""How a model is sharded over the ranks: into which parts, and in which dtype its weights are gathered."""

from __future__ import annotations

import torch
from torch import nn

from hornet_train.engine.precision import PrecisionName
from hornet_train.engine.sharding import shard
from hornet_train.errors import ConfigError
from hornet_train.models.structure import backbone_of, blocks_of


def spread_over_ranks(model: nn.Module, name: str, precision: PrecisionName) -> None:
    """Shard a model, in place, for dist=fsdp.

    With bf16 the weights of a HorNet travel as bf16. Those of other models, and of models that hold a HorNet
    beside other layers, travel in fp32, and autocast casts them as it does with dist=ddp: such layers are
    written for weights in fp32, and raise where a norm meets images or running statistics in fp32 with a
    weight in bf16.

    Args:
        model: the same on every rank, on its device.
        name: of the model, for messages.
        precision: of the training.

    Raises:
        ConfigError: FSDP cannot shard it.
    """
    scalars = [name for name, parameter in model.named_parameters() if parameter.ndim == 0]
    if scalars:
        raise ConfigError(
            [
                f"dist=fsdp cannot spread {name}: {len(scalars)} of its parameters are single numbers "
                f"({scalars[0]}, ...), which have no parts; take dist=ddp"
            ]
        )
    as_bf16 = precision == "bf16" and backbone_of(model) is model
    shard(model, blocks_of(model), param_dtype=torch.bfloat16 if as_bf16 else None)
