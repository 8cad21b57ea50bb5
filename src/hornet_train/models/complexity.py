"""Parameters and multiply-accumulates (MACs) of a model, counted on one forward without arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call


@dataclass(frozen=True)
class Complexity:
    """What a model costs.

    Attributes:
        parameters: number of scalars in all parameters.
        macs: multiply-accumulates of one image in convolutions and linear layers; biases, norms, activations,
            products and FFTs are not counted.
        image_size: (height, width) of that image, in pixels.
    """

    parameters: int
    macs: int
    image_size: tuple[int, int]


def count(model: nn.Module, image_size: int | tuple[int, int] = 224, *, in_chans: int = 3) -> Complexity:
    """Count parameters and MACs of any image model, on the meta device: nothing is computed or changed.

    A layer called through its function, not its module (nn.MultiheadAttention's fused path), is not seen.

    Args:
        model: takes a batch (B, in_chans, H, W); it may live on any device.
        image_size: pixels, one number for a square.
        in_chans: channels of the image.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    macs = 0

    def add(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Linear):
            macs += output.numel() * module.in_features
        elif isinstance(module, nn.Conv2d):
            kernel_height, kernel_width = module.kernel_size
            macs += output.numel() * (module.in_channels // module.groups) * kernel_height * kernel_width

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    images = torch.empty(1, in_chans, height, width, device="meta", dtype=_float_dtype(model))
    modes = {module: module.training for module in model.modules()}
    hooks = [layer.register_forward_hook(add) for layer in layers]
    model.eval()
    try:
        with torch.no_grad():
            functional_call(model, state, (images,))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return Complexity(sum(parameter.numel() for parameter in model.parameters()), macs, (height, width))


def _float_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the model's first floating-point parameter; float32 for a model without any."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
