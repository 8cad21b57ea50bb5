"""The models of a bench: timm's, HorNet's among them, and HorNets in plain layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import timm
from torch import nn

from hornet_train.bench.plain import PlainHorNet
from hornet_train.bench.step import Contender
from hornet_train.errors import ConfigError, did_you_mean
from hornet_train.models.variants import GF, VARIANTS

_CLASSES = 1000


def contenders_of(
    peers: Sequence[str], models: Sequence[str], image_size: int, *, plain: bool
) -> list[Contender]:
    """Peers first, each name once.

    Args:
        peers, models: timm's names.
        image_size: pixels, square.
        plain: whether the HorNets among `models` come in plain layers too.

    Raises:
        ConfigError: names that timm does not know, or a HorNet that there is no plain one of.
    """
    names = dict.fromkeys((*peers, *models))
    faults = [
        f"{name}: timm has no such model; {did_you_mean(name, timm.list_models())}"
        for name in names
        if not timm.is_model(name)
    ]
    ours = [name for name in models if name in VARIANTS] if plain else []
    faults += [
        f"plain=true: {name} is isotropic, which there is no plain one of"
        for name in ours
        if VARIANTS[name].isotropic
    ]
    if faults:
        raise ConfigError(faults)
    contenders = [contender(name, image_size) for name in names]
    plain_ones = [
        Contender(f"{name}, plain layers", partial(plain_hornet, name, image_size)) for name in ours
    ]
    return [*contenders, *plain_ones]


def contender(name: str, image_size: int) -> Contender:
    """One of timm's models, for images of one size."""
    return Contender(name, partial(_build, name, image_size))


def _build(name: str, image_size: int) -> nn.Module:
    try:  # what has filters or positions is built for the size; a plain convolutional network takes none
        built: nn.Module = timm.create_model(name, num_classes=_CLASSES, img_size=image_size)
    except TypeError:
        built = timm.create_model(name, num_classes=_CLASSES)
    return built


def plain_hornet(name: str, image_size: int) -> PlainHorNet:
    """A registered HorNet in plain layers, for images of one size."""
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
