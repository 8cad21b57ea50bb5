"""The first convolution of a model, and weights for it that were trained on images of other channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.models.convert import STEM
from hornet_train.models.structure import located


def stem_name(model: nn.Module) -> str | None:
    """The name of the weight of a model's first convolution; None where the model does not say.

    Of a larger model with a HorNet in it, the HorNet's.
    """
    prefix, backbone = located(model)
    if backbone is not None:
        return f"{prefix}{STEM}"
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    first = config.get("first_conv")
    if isinstance(first, (list, tuple)):
        first = first[0] if first else None
    return f"{first}.weight" if first else None


def takes_channels(model: nn.Module, in_chans: int) -> bool:
    """Whether a model is for images of so many channels, as far as its first convolution says."""
    weight = model.state_dict().get(stem_name(model) or "")
    return weight is None or weight.ndim != 4 or in_chans == 3 or weight.shape[1] != 3


def channels_apart(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], name: str | None) -> bool:
    """Whether the weights of a name are convolutions of images that differ in their channels alone."""
    if name is None or name not in given or name not in wanted:
        return False
    theirs, ours = given[name].shape, wanted[name].shape
    same = len(theirs) == len(ours) == 4 and (theirs[0], theirs[2:]) == (ours[0], ours[2:])
    return same and theirs[1] != ours[1]


def fit_stem(given: dict[str, Tensor], wanted: Mapping[str, Tensor], name: str | None) -> list[str]:
    """Adapt the first convolution in `given` to other channels, as timm's `adapt_input_conv` does.

    For one channel the weights are summed. Those of one or three channels are repeated for others, times the
    old number over the new one: equal channels give what they gave before.

    Returns:
        What was done, as a sentence; nothing for weights that fit, or that cannot be adapted.
    """
    if name is None or not channels_apart(given, wanted, name):
        return []
    weight, new = given[name], wanted[name].shape[1]
    old = weight.shape[1]
    precise = weight.to(torch.promote_types(weight.dtype, torch.float32))
    if new == 1:
        given[name] = precise.sum(1, keepdim=True).to(weight.dtype)
        return [f"summed the first convolution's weights over the {old} channels of the file for one channel"]
    if old not in (1, 3):
        return []
    repeated = precise.repeat(1, math.ceil(new / old), 1, 1)[:, :new]
    given[name] = (repeated * (old / new)).to(weight.dtype)
    was = "one channel" if old == 1 else f"{old} channels"
    return [f"repeated the first convolution's weights of {was} for {new}, times {old}/{new}"]
