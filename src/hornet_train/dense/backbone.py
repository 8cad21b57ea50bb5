"""Any timm model as the backbone of a dense model: its maps at several strides."""

from __future__ import annotations

from typing import Any

import timm
from torch import Tensor, nn

from hornet_train.models.variants import VARIANTS


def build_backbone(name: str, *, in_chans: int = 3, **arguments: Any) -> nn.Module:
    """A model of timm without its head. HorNet's has a norm for each stage's output, as published.

    Args:
        name: in timm.
        in_chans: channels of the images.
        arguments: of the model, as `timm.create_model` takes them.

    Raises:
        ValueError: the model gives no maps, or several of one stride, as a ViT does.
    """
    if name in VARIANTS:
        model: nn.Module = timm.create_model(
            name, num_classes=0, in_chans=in_chans, output_norms=True, **arguments
        )
        hornet: Any = model
        hornet.prune_intermediate_layers(len(hornet.stages), prune_norm=True)
        return model
    try:
        model = timm.create_model(name, features_only=True, in_chans=in_chans, **arguments)
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise ValueError(f"{name} gives no maps of features ({error})") from error
    info: Any = model.feature_info
    if len(set(info.reduction())) < len(info.reduction()) or len(info.reduction()) < 2:
        raise ValueError(f"{name} gives maps of strides {info.reduction()}; a pyramid needs rising ones")
    return model


def widths_of(backbone: nn.Module) -> tuple[int, ...]:
    """The channels of a backbone's levels, the finest first."""
    info: Any = backbone.feature_info
    if _has_output_norms(backbone):
        return tuple(one["num_chs"] for one in info)
    return tuple(info.channels())


def features_of(backbone: nn.Module, images: Tensor) -> list[Tensor]:
    """The levels (B, c, h, w) of images (B, in_chans, H, W), the finest first, channels in the second place.

    timm's Swin and a few others put the channels last.
    """
    if _has_output_norms(backbone):
        hornet: Any = backbone
        found: list[Tensor] = hornet.forward_intermediates(images, norm=True, intermediates_only=True)
        return found
    levels: list[Tensor] = backbone(images)
    return [
        one if one.shape[1] == width else one.permute(0, 3, 1, 2)
        for one, width in zip(levels, widths_of(backbone), strict=True)
    ]


def _has_output_norms(backbone: nn.Module) -> bool:
    """Whether it is a HorNet of `build_backbone`: named as published, without timm's wrapper around it."""
    return bool(getattr(backbone, "output_norms", False))
