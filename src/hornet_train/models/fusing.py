"""Folds what a trained HorNet multiplies and adds channel by channel into the layers beside it.

All in float64 and exact but for rounding: y = W (w * n + b) + c = (W w) n + (W b + c) for a norm's weight w
and bias b, gamma * (W x + c) = (gamma W) x + gamma c for layer scale.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hornet_train.models.ablations import PlainConv
from hornet_train.models.block import Block
from hornet_train.models.global_filter import GlobalLocalFilter
from hornet_train.models.gnconv import GnConv
from hornet_train.models.layers import DepthwiseConv2d, LayerNorm

Linear = nn.Conv2d | nn.Linear


@torch.no_grad()
def fuse_block_(block: Block) -> None:
    """Layer scale into the last layer of each branch, norms into the first, 1 / alpha into f."""
    operator = block.gnconv
    if isinstance(operator, GnConv | PlainConv):
        _fold_norm_(block.norm1, operator.proj_in)
        if block.gamma1 is not None:
            _fold_scale_(block.gamma1, operator.proj_out)
            block.gamma1 = None
    _fold_norm_(block.norm2, block.pwconv1)
    if block.gamma2 is not None:
        _fold_scale_(block.gamma2, block.pwconv2)
        block.gamma2 = None
    if isinstance(operator, GnConv):
        if isinstance(operator.dwconv, DepthwiseConv2d):
            _fold_scale_(torch.tensor(operator.scale, dtype=torch.float64), operator.dwconv)
            operator.scale = 1.0
        elif isinstance(operator.dwconv, GlobalLocalFilter):
            norm = operator.dwconv.post_norm
            _replace(norm, "weight", operator.scale * norm.weight.double())
            _replace(norm, "bias", operator.scale * norm.bias.double())
            operator.scale = 1.0


@torch.no_grad()
def fuse_downsampler_(layers: nn.Module) -> None:
    """The norm before a convolution without padding into it; the stem's, behind its convolution, stays."""
    if isinstance(layers, nn.Sequential) and len(layers) == 2 and isinstance(layers[0], LayerNorm):
        convolution = layers[1]
        assert isinstance(convolution, nn.Conv2d)
        _fold_norm_(layers[0], convolution)


def _fold_norm_(norm: LayerNorm | nn.LayerNorm, layer: Linear) -> None:
    """The norm's weight and bias into the layer behind it."""
    affine = dict(norm.named_parameters())
    if not affine:  # fused before
        return
    weight, (w, b) = layer.weight.double(), (affine["weight"].double(), affine["bias"].double())
    rest = (1,) * (weight.dim() - 2)
    bias = 0.0 if layer.bias is None else layer.bias.double()
    shift = (weight * b.view(1, -1, *rest)).flatten(1).sum(1)
    _replace(layer, "bias", bias + shift, like=layer.weight)
    _replace(layer, "weight", weight * w.view(1, -1, *rest))
    norm.weight = norm.bias = None  # type: ignore[assignment]


def _fold_scale_(scale: Tensor, layer: Linear) -> None:
    """A factor on the layer's output, for each channel or all."""
    factor = scale.double().to(layer.weight.device).expand(layer.weight.shape[0])
    _replace(layer, "weight", factor.view(-1, *(1,) * (layer.weight.dim() - 1)) * layer.weight.double())
    if layer.bias is not None:
        _replace(layer, "bias", factor * layer.bias.double())


def _replace(module: nn.Module, name: str, value: Tensor, like: Tensor | None = None) -> None:
    """Put a value in a parameter's place, in the dtype and layout that it had."""
    old = module.get_parameter(name) if like is None else like
    new = value.to(old.dtype)
    if new.dim() == 4 and old.is_contiguous(memory_format=torch.channels_last):
        new = new.contiguous(memory_format=torch.channels_last)
    setattr(module, name, nn.Parameter(new, requires_grad=False))
