"""How a model is spread over the ranks: in which parts, and in which dtype its weights travel."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from hornet_train.engine.precision import PrecisionName
from hornet_train.engine.sharding import shard
from hornet_train.errors import ConfigError
from hornet_train.models import HorNet


def spread_over_ranks(model: nn.Module, name: str, precision: PrecisionName) -> None:
    """Shard a model, in place, for dist=fsdp.

    With bf16 the weights of a HorNet travel as bf16. Those of other models travel in fp32, and autocast casts
    them as it does with dist=ddp: models are written for weights in fp32, and raise where a norm meets images
    or running statistics in fp32 with a weight in bf16.

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
    as_bf16 = precision == "bf16" and isinstance(model, HorNet)
    shard(model, blocks_of(model), gathered_as=torch.bfloat16 if as_bf16 else None)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The parts that a model repeats: a HorNet's blocks; of another model what its lists hold.

    A part that shares weights with another one is left out: they are gathered with the rest of the model.
    """
    if isinstance(model, HorNet):
        return [block for stage in model.stages for block in stage.children()]
    found: list[nn.Module] = []

    def look(module: nn.Module) -> None:
        children = list(module.children())
        alike = isinstance(module, (nn.Sequential, nn.ModuleList)) and len({type(c) for c in children}) == 1
        for child in children:
            is_part = alike and len(children) > 1 and next(child.parameters(), None) is not None
            if is_part and not isinstance(child, (nn.ModuleList, nn.ModuleDict)):  # which are never called
                found.append(child)
            else:
                look(child)

    look(model)
    return _with_own_weights(model, found)


def _with_own_weights(model: nn.Module, parts: list[nn.Module]) -> list[nn.Module]:
    """Those of some disjoint parts whose weights no other part has, nor what is in no part."""
    inside = {module for part in parts for module in part.modules()}
    outside = {
        parameter
        for module in model.modules()
        if module not in inside
        for parameter in module.parameters(recurse=False)
    }
    owners = Counter(parameter for part in parts for parameter in part.parameters())
    return [
        part
        for part in parts
        if all(owners[parameter] == 1 and parameter not in outside for parameter in part.parameters())
    ]
