"""The models of a benchmark: timm's (HorNet is one of them), and HorNets built from plain layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import timm
from torch import nn

from hornet_train.bench.plain import PlainHorNet
from hornet_train.bench.step_times import Contender
from hornet_train.errors import ConfigError, did_you_mean
from hornet_train.images.size import Size, as_value
from hornet_train.models.variants import GF, VARIANTS

_CLASSES = 1000


def build_contenders(
    peers: Sequence[str], models: Sequence[str], image_size: Size, *, plain: bool
) -> list[Contender]:
    """The models to compare: peers first, each name once.

    Args:
        peers, models: names of models in timm.
        image_size: pixels.
        plain: whether to add a plain-layer version of each HorNet among `models`.

    Raises:
        ConfigError: timm has no model of a name, or a HorNet has no plain-layer version.
    """
    names = dict.fromkeys((*peers, *models))
    faults = [
        f"{name}: timm has no such model; {did_you_mean(name, timm.list_models())}"
        for name in names
        if not timm.is_model(name)
    ]
    ours = [name for name in models if name in VARIANTS] if plain else []
    faults += [
        f"plain=true: {name} is isotropic, and isotropic models have no plain version"
        for name in ours
        if VARIANTS[name].isotropic
    ]
    if faults:
        raise ConfigError(faults)
    contenders = [contender(name, image_size) for name in names]
    plain_models = [
        Contender(f"{name}, plain layers", partial(plain_hornet, name, image_size)) for name in ours
    ]
    return [*contenders, *plain_models]


def contender(name: str, image_size: Size) -> Contender:
    """A model of timm, for images of a size, in pixels."""
    return Contender(name, partial(_build, name, image_size))


def _build(name: str, image_size: Size) -> nn.Module:
    try:  # models with global filters or position embeddings are built for an image size
        built: nn.Module = timm.create_model(name, num_classes=_CLASSES, img_size=image_size)
    except TypeError:  # a convolutional network takes no img_size
        built = timm.create_model(name, num_classes=_CLASSES)
    except (ValueError, AssertionError) as error:
        raise ConfigError([f"image_size={as_value(image_size)} does not suit {name}: {error}"]) from error
    return built


def plain_hornet(name: str, image_size: Size) -> PlainHorNet:
    """A registered HorNet built from plain layers, for images of a size, in pixels."""
    variant = VARIANTS[name]
    orders = variant.orders
    return PlainHorNet(
        variant.dim,
        gf=variant.mixers == GF,
        depths=variant.depths,
        orders=[orders] * len(variant.depths) if isinstance(orders, int) else orders,
        image_size=image_size,
        stem_stride=variant.stem_stride,
        layer_scale_init=variant.layer_scale_init,
        num_classes=_CLASSES,
    )
