"""Parameters and multiply-accumulates (MACs) of a model, counted on one forward without arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hornet_train.models.global_filter import GlobalLocalFilter
from hornet_train.models.gnconv import GnConv

NORM_FLOPS = 5  # per LayerNorm element, as fvcore counts


@dataclass(frozen=True)
class Complexity:
    """What a model costs.

    Attributes:
        parameters: number of scalars in all parameters.
        macs: multiply-accumulates of one image in convolutions and linear layers; biases, norms, activations,
            products and FFTs are not counted.
        published_macs: as the published code counts, whose README gives these figures: `macs`, plus 5 for
            each element of each channels-last layer norm, plus its estimate of the FFTs (`fft_estimate`).
        image_size: (height, width) of that image, in pixels.
        by_module: name of each layer -> its share of `macs`.
        gate_products: name of each gnConv -> multiplications of its gating for one image, which no other
            figure counts.
        output_sizes: name of each module whose output is a map -> (height, width) of it.
        output_tokens: name of each module whose output is (B, N, C) -> N.
    """

    parameters: int
    macs: int
    published_macs: int
    image_size: tuple[int, int]
    by_module: Mapping[str, int] = field(repr=False)
    gate_products: Mapping[str, int] = field(repr=False)
    output_sizes: Mapping[str, tuple[int, int]] = field(repr=False)
    output_tokens: Mapping[str, int] = field(repr=False)

    def macs_of(self, module: str) -> int:
        """The MACs of a module and of all modules inside it."""
        return sum(macs for name, macs in self.by_module.items() if f"{name}.".startswith(f"{module}."))


@dataclass
class _Tally:
    """Counts while a model runs: `add` is a forward hook of every module."""

    macs: dict[str, int] = field(default_factory=dict)
    extras: int = 0
    gates: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            self.sizes[name] = (output.shape[2], output.shape[3])
        if isinstance(output, Tensor) and output.ndim == 3:
            self.tokens[name] = output.shape[1]
        if isinstance(module, nn.Linear | nn.Conv2d):
            macs = macs_of_layer(module, output)
            self.macs[name] = self.macs.get(name, 0) + macs  # a layer may be called more than once
        elif isinstance(module, nn.LayerNorm):
            self.extras += NORM_FLOPS * output.numel()
        elif isinstance(module, GlobalLocalFilter):
            half, height, width = output.shape[1] // 2, *output.shape[2:]
            self.extras += fft_estimate(half, height, width)
        elif isinstance(module, GnConv):
            pixels = inputs[0].shape[2] * inputs[0].shape[3]
            self.gates[name] = module.total_width * pixels


def macs_of_layer(module: nn.Module, output: Tensor) -> int:
    """The multiply-accumulates that a convolution or a linear layer took for an output; 0 for any other."""
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    if isinstance(module, nn.Conv2d):
        return output.numel() * (module.in_channels // module.groups) * math.prod(module.kernel_size)
    if isinstance(module, nn.ConvTranspose2d):  # each input pixel, to every place of the kernel
        inputs = output.numel() // math.prod(module.stride)
        return inputs * (module.in_channels // module.groups) * math.prod(module.kernel_size)
    return 0


def count(model: nn.Module, image_size: int | tuple[int, int] = 224, *, in_chans: int = 3) -> Complexity:
    """Count parameters and MACs of any image model, on the meta device: nothing is computed or changed.

    A layer that is computed without calling its module (nn.MultiheadAttention's fused path) is not counted.

    Args:
        model: takes a batch (B, in_chans, H, W); it may live on any device.
        image_size: pixels, one number for a square.
        in_chans: channels of the image.

    Raises:
        ValueError: images too small for a HorNet; other models raise what they raise.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    tally = _Tally()
    hooks = [module.register_forward_hook(partial(tally.add, name)) for name, module in model.named_modules()]
    try:
        _forward_on_meta(model, (1, in_chans, height, width), training=False)
    finally:
        for hook in hooks:
            hook.remove()
    macs = sum(tally.macs.values())
    return Complexity(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=macs,
        published_macs=macs + tally.extras,
        image_size=(height, width),
        by_module=tally.macs,
        gate_products=tally.gates,
        output_sizes=tally.sizes,
        output_tokens=tally.tokens,
    )


def trains_on_one_image(model: nn.Module, image_size: int | tuple[int, int], *, in_chans: int = 3) -> bool:
    """Whether a model can be trained on a micro-batch of a single image of a size; see `count` for both.

    Batch norm cannot where one image's map has only one pixel: torch refuses the mean of a single value a
    channel. Found by forward passes of one image and of two on the meta device; nothing is computed or
    changed. A model that refuses two images just the same has another reason, and is taken to train on one.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size

    def refused(images: int) -> bool:
        try:
            _forward_on_meta(model, (images, in_chans, height, width), training=True)
        except (ValueError, TypeError, AssertionError, RuntimeError):  # models say it in their own ways
            return True
        return False

    return not refused(1) or refused(2)


def _forward_on_meta(model: nn.Module, shape: tuple[int, int, int, int], *, training: bool) -> None:
    """A forward pass of images (B, C, H, W) without arithmetic; the model stays as it is."""
    state = on_meta(model)
    images = torch.empty(shape, device="meta", dtype=_float_dtype(model))
    modes = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        with torch.no_grad():
            functional_call(model, state, (images,), tie_weights=False)
    finally:
        for module, before in modes.items():
            module.training = before


def on_meta(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer as an empty tensor on the meta device, under one name for each place.

    A module that stands in several places of the model is named once: torch.func.functional_call would take
    the tensors of a second name for those to put back, and leave the model on the meta device.
    """
    tied: dict[Tensor, Tensor] = {}
    return {
        f"{prefix}.{name}" if prefix else name: tied.setdefault(
            tensor, torch.empty_like(tensor, device="meta")
        )
        for prefix, module in model.named_modules()
        for name, tensor in (
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        )
    }


def fft_estimate(channels: int, height: int, width: int) -> int:
    """The FLOPs that the published counter charges for a global filter's FFT and its inverse.

    It mistakes the map (channels, H, W) for one of (H, W, channels), so that the logarithm is of channels * H
    instead of H * W: each transform costs its number of elements times ceil(log2(channels * H)); the inverse
    has the elements of the half spectrum. The published figures contain it: at most 0.04 G of them.
    """
    steps = math.ceil(math.log2(channels * height))
    return channels * height * (width + width // 2 + 1) * steps


def gnconv_bound(dim: int, kernel: int) -> float:
    """The paper's bound for gnConv of any order: MACs per pixel <= C (2 K^2 + 11 C / 3 + 2) (section 3.1).

    It holds for a depthwise mixer of one K x K kernel and out_dim = dim, without biases. The last term stands
    for the gating products, which `macs` leaves out.
    """
    return dim * (2 * kernel**2 + 11 * dim / 3 + 2)


def _float_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the model's first floating-point parameter; float32 for a model without any."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
