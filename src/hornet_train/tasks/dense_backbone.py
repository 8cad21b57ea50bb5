"""What the tasks on dense models share: their backbones by name, and how a model is set up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import timm
import torch
from torch import nn

from hornet_train.config.schema import Model
from hornet_train.errors import ConfigError, did_you_mean
from hornet_train.images.size import Size
from hornet_train.models import structure
from hornet_train.models.constructor_options import unknown_option
from hornet_train.models.kernels.dispatch import use_kernels
from hornet_train.models.layers import lay_out
from hornet_train.models.spec import MODEL_ERRORS, RESERVED, error_text
from hornet_train.models.variants import VARIANTS


def known_backbone(name: str) -> str:
    """The name of a backbone. Raises ConfigError where timm has no such model."""
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models())
        raise ConfigError([f"model.backbone={name}: timm has no such model; {hint}"])
    return name


def backbone_arguments(model: Model) -> dict[str, Any]:
    """What the config gives to the backbone's constructor.

    Raises:
        ConfigError: it sets what is set otherwise.
    """
    if reserved := [f"model.args.{key}: {RESERVED[key]}" for key in model.args if key in RESERVED]:
        raise ConfigError(reserved)
    return {**model.args, **({"drop_path_rate": model.drop_path} if model.drop_path else {})}


@contextmanager
def refusals(name: str, backbone: str) -> Iterator[None]:
    """What the constructors of a model and its backbone raise becomes a ConfigError."""
    try:
        yield
    except MODEL_ERRORS as error:
        if unknown := unknown_option(backbone, error, RESERVED):
            raise ConfigError([unknown]) from error
        raise ConfigError([f"model.name={name}, {backbone}: {error_text(error)}"]) from error


def for_size(backbone: str, arguments: dict[str, Any], image_size: Size) -> dict[str, Any]:
    """The same arguments, with the size of images that the backbone is made for, if it is made for one."""
    if backbone in VARIANTS or _made_for_a_size(backbone):
        return {"img_size": image_size, **arguments}
    return arguments


def _made_for_a_size(backbone: str) -> bool:
    """Whether timm builds a model for images of one size, such as one with windows of attention."""
    known = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    return known is not None and bool(known.fixed_input_size)


def set_up(built: nn.Module, model: Model, backbone: str) -> None:
    """Choose the kernels, the checkpointing of activations and the memory format of a model.

    Raises:
        ConfigError: the model has no such stages.
    """
    use_kernels(built, model.kernels)
    if model.grad_checkpointing is not False:
        try:
            structure.set_grad_checkpointing(built, model.grad_checkpointing, backbone)
        except ValueError as error:
            raise ConfigError([f"model.grad_checkpointing={model.grad_checkpointing}: {error}"]) from error
    if model.channels_last:
        lay_out(built, torch.channels_last)


def preprocessing_of(backbone: str | None, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Key -> value of the preprocessing that another model of timm's wants.

    Args:
        backbone: its name; None for none.
        mean, std: as they are.
    """
    if backbone is None or backbone in VARIANTS:
        return {}
    known = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    if known is None:
        return {}
    found = {}
    for key, theirs, ours in (("mean", known.mean, mean), ("std", known.std, std)):
        if len(theirs) == 3 and tuple(theirs) != tuple(ours):
            found[f"data.{key}"] = [float(one) for one in theirs]
    return found
