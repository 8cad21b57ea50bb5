"""Any timm model as the backbone of a dense model: its maps at several strides."""

from __future__ import annotations

from typing import Any

import timm
from timm.layers import Format
from torch import Tensor, nn

from hornet_train.dense.batch_norm import synchronise_norms
from hornet_train.models.variants import VARIANTS


def build_backbone(name: str, *, in_chans: int = 3, **arguments: Any) -> nn.Module:
    """A model of timm without its head. HorNet's has a norm for each stage's output, as published.

    Batch norms take their statistics over all processes of a training, as those of the heads do.

    Args:
        name: in timm.
        in_chans: channels of the images.
        arguments: of the model, as `timm.create_model` takes them. One that is made for a size (`img_size`)
            takes others too, where timm can do that.

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
    arguments = {"features_only": True, "in_chans": in_chans, **arguments}
    try:
        try:
            sizes = {"strict_img_size": False} if "img_size" in arguments else {}
            model = timm.create_model(name, **{**sizes, **arguments})
        except TypeError as error:
            if "strict_img_size" not in str(error):
                raise
            model = timm.create_model(name, **arguments)
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise ValueError(f"{name} gives no maps of features ({error})") from error
    info: Any = model.feature_info
    if len(set(info.reduction())) < len(info.reduction()) or len(info.reduction()) < 2:
        raise ValueError(f"{name} gives maps of strides {info.reduction()}; a pyramid needs rising ones")
    synchronise_norms(model)
    return model


def widths_of(backbone: nn.Module) -> tuple[int, ...]:
    """The channels of a backbone's levels, the finest first."""
    info: Any = backbone.feature_info
    if _has_output_norms(backbone):
        return tuple(one["num_chs"] for one in info)
    return tuple(info.channels())


def strides_of(backbone: nn.Module) -> tuple[int, ...]:
    """The pixels of an image from cell to cell of each of a backbone's levels, the finest first."""
    info: Any = backbone.feature_info
    if _has_output_norms(backbone):
        return tuple(one["reduction"] for one in info)
    return tuple(info.reduction())


def features_of(backbone: nn.Module, images: Tensor) -> list[Tensor]:
    """The levels (B, c, h, w) of images (B, in_chans, H, W), the finest first, channels in the second place.

    timm's Swin and a few others put the channels last, and say so.

    Args:
        backbone: of `build_backbone`, or any of `timm.create_model(..., features_only=True)`.
        images: normalised.
    """
    if _has_output_norms(backbone):
        hornet: Any = backbone
        found: list[Tensor] = hornet.forward_intermediates(images, norm=True, intermediates_only=True)
        return found
    levels: list[Tensor] = backbone(images)
    if getattr(backbone, "output_fmt", Format.NCHW) == Format.NHWC:  # a few have no such attribute
        return [one.permute(0, 3, 1, 2) for one in levels]
    return levels


def _has_output_norms(backbone: nn.Module) -> bool:
    """Whether it is a HorNet of `build_backbone`: named as published, without timm's wrapper around it."""
    return bool(getattr(backbone, "output_norms", False))
