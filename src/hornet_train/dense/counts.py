"""Parameters and FLOPs of dense models by submodule, counted as the published figures are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hornet_train.dense.batch_norm import SyncBatchNorm2d
from hornet_train.models.complexity import macs_of_layer, on_meta


@dataclass(frozen=True)
class Counts:
    """What a dense model costs, by submodule: the backbone, and the parts of each head.

    Attributes:
        parameters: numbers of scalars.
        macs: multiply-accumulates of convolutions and linear layers for one image.
        flops: the published figures: `macs`, and one more for each output of a convolution with bias, each
            output of a ReLU behind a norm, and each input of a pooling. Norms count nothing there.
    """

    parameters: Mapping[str, int]
    macs: Mapping[str, int]
    flops: Mapping[str, int]


def count_dense(model: nn.Module, shape: tuple[int, int, int]) -> Counts:
    """Count what inference on one image costs, on the meta device: nothing is computed or changed.

    The auxiliary head, which is for training alone, has parameters and no FLOPs.

    Args:
        shape: of the image, (channels, height, width) in pixels.
    """
    parameters: Counter[str] = Counter()
    macs: Counter[str] = Counter()
    extras: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parameters[_part(name)] += parameter.numel()

    def add(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        part = _part(name)
        found = macs_of_layer(module, output) if isinstance(output, Tensor) else 0
        if found:
            macs[part] += found
        if (isinstance(module, nn.Conv2d) and module.bias is not None) or isinstance(module, SyncBatchNorm2d):
            extras[part] += output.numel()
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            extras[part] += inputs[0].numel()

    hooks = [module.register_forward_hook(partial(add, name)) for name, module in model.named_modules()]
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            images = torch.empty(1, *shape, device="meta")
            functional_call(model, on_meta(model), (images,), tie_weights=False)
    finally:
        for hook in hooks:
            hook.remove()
        for module, before in training.items():
            module.training = before
    return Counts(dict(parameters), dict(macs), dict(macs + extras))


def _part(name: str) -> str:
    """The submodule of a layer or parameter: "backbone", "decode_head.lateral_convs"."""
    first, *others = name.split(".")
    return f"{first}.{others[0]}" if first == "decode_head" and others else first
