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
from hornet_train.dense.rcnn.detector import Detector
from hornet_train.models.complexity import macs_of_layer, on_meta


@dataclass(frozen=True)
class Counts:
    """What a dense model costs, by submodule: the backbone, and the parts of each head.

    Attributes:
        parameters: numbers of scalars.
        macs: multiply-accumulates of convolutions and linear layers for one image.
        flops: the published figures: `macs`, and one more for each output of a convolution with bias, each
            output of a ReLU behind a norm or in the heads of detectors, and each input of a pooling. Norms
            count nothing there.
    """

    parameters: Mapping[str, int]
    macs: Mapping[str, int]
    flops: Mapping[str, int]


def count_dense(model: nn.Module, shape: tuple[int, int, int]) -> Counts:
    """Count what inference on one image costs, on the meta device: nothing is computed or changed.

    The auxiliary head, which is for training alone, has parameters and no FLOPs. A detector's heads are given
    1,000 proposals each, its mask heads 100.

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
        biased = isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None
        if biased or isinstance(module, SyncBatchNorm2d | nn.ReLU):
            extras[part] += output.numel()
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            extras[part] += inputs[0].numel()

    hooks = [module.register_forward_hook(partial(add, name)) for name, module in model.named_modules()]
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            images = torch.empty(1, *shape, device="meta")
            whole = _AllLayers(model) if isinstance(model, Detector) else model
            functional_call(whole, on_meta(whole), (images,), tie_weights=False)
    finally:
        for hook in hooks:
            hook.remove()
        for module, before in training.items():
            module.training = before
    return Counts(dict(parameters), dict(macs), dict(macs + extras))


class _AllLayers(nn.Module):
    """Calls every layer of a detector."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> None:
        self.detector.forward_all(images)


def _part(name: str) -> str:
    """The submodule of a layer or parameter: "backbone", "decode_head.psp_modules", "roi_head.bbox_head"."""
    first, *others = name.split(".")
    if first == "roi_head" and len(others) > 1 and others[1].isdigit():
        return ".".join((first, *others[:2]))
    return f"{first}.{others[0]}" if first in ("decode_head", "roi_head") and others else first
