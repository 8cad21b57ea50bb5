"""Which layers of a network gnConv can stand in for, and what then stands there.

Layout suffixes: `x_BNC` is batch, tokens, channels; `x_BCHW` batch, channels, height, width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Attention
from timm.models.beit import Attention as BeitAttention
from timm.models.swin_transformer import WindowAttention
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from hornet_train.models.gnconv import GnConv
from hornet_train.models.init import init_layer_
from hornet_train.models.kernels.dispatch import has_hooks
from hornet_train.models.mixers import Mixer

_ATTENTION = (Attention, BeitAttention, WindowAttention)


class TokenGnConv(nn.Module):
    """gnConv in the place of a self-attention: tokens of a square map in, as many out.

    Tokens before those of the map (a class token) are given the mean of the map's, as they would otherwise
    learn nothing of the image.

    Args:
        gnconv: of the tokens' width.
        prefix: how many tokens come before those of the map.
    """

    def __init__(self, gnconv: GnConv, prefix: int = 0) -> None:
        super().__init__()
        self.gnconv, self.prefix = gnconv, prefix

    def forward(self, x_BNC: Tensor, *_: Any, **__: Any) -> Tensor:
        """Shape in and out: (B, N, C); masks and biases, given besides, are of attention and left out.

        Raises:
            ValueError: the tokens are of no square map.
        """
        tokens, channels = x_BNC.shape[1] - self.prefix, x_BNC.shape[2]
        side = math.isqrt(tokens)
        if side * side != tokens:
            raise ValueError(f"{tokens} tokens are of no square map")
        map_BCHW = x_BNC[:, self.prefix :].transpose(1, 2).reshape(-1, channels, side, side)
        mixed_BNC: Tensor = self.gnconv(map_BCHW).flatten(2).transpose(1, 2)
        if not self.prefix:
            return mixed_BNC
        first_BPC = mixed_BNC.mean(1, keepdim=True).expand(-1, self.prefix, -1)
        return torch.cat([first_BPC, mixed_BNC], dim=1)


@dataclass(frozen=True)
class Place:
    """Where a layer is.

    Attributes:
        size: (height, width) of the map that it gives; None where that is not known.
        prefix: tokens that come before those of a map.
    """

    size: tuple[int, int] | None
    prefix: int


def is_candidate(module: nn.Module) -> bool:
    """Whether a layer mixes pixels or tokens, so that a user may have meant it."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return max(module.kernel_size) > 1
    return isinstance(module, _ATTENTION) or type(module).__name__.endswith("Attention")


def refusal(module: nn.Module) -> str | None:
    """Why gnConv cannot stand in for a layer; None where it can."""
    if has_hooks(module):
        return "it has hooks, which would be lost"
    if any(is_parametrized(one) for one in module.modules()):
        return "its weights are parametrised"
    if isinstance(module, nn.Conv2d):
        return _refusal_of(module)
    if isinstance(module, _ATTENTION):
        return None
    if isinstance(module, nn.MultiheadAttention):
        return "it is called with queries, keys and values, which gnConv does not take"
    if isinstance(module, nn.Conv1d | nn.Conv3d):
        return "gnConv mixes maps of height and width"
    return f"how a {type(module).__name__} is called is not known here"


def _refusal_of(conv: nn.Conv2d) -> str | None:
    height, width = conv.kernel_size
    if conv.transposed:
        return "it enlarges its map"
    if height != width or height % 2 == 0:
        return f"its kernel is {height}x{width}, not square and odd"
    if conv.dilation != (1, 1):
        return f"it is dilated by {conv.dilation[0]}x{conv.dilation[1]}"
    if conv.stride[0] != conv.stride[1]:
        return f"its strides are {conv.stride[0]} and {conv.stride[1]}"
    if conv.padding not in ("same", (height // 2, width // 2)):
        return f"its padding is {conv.padding}: with {height // 2} it would keep the map"
    if conv.padding_mode != "zeros":
        return f"its padding is {conv.padding_mode}"
    if conv.groups != 1 and not conv.groups == conv.in_channels == conv.out_channels:
        return f"it has {conv.groups} groups, and gnConv mixes all channels"
    return None


def stand_in(module: nn.Module, place: Place, *, order: int, mixer: Mixer) -> nn.Module:
    """A new gnConv, initialised, with the widths, stride, device, dtype and mode of a layer.

    A stride is a mean over as many pixels before the gnConv, which keeps odd sizes.

    Raises:
        ValueError: gnConv of this order or mixer cannot have these widths, or the size of the map, which a
            global filter needs, is not known.
    """
    weight = next(module.parameters())
    kept: dict[str, Any] = {"order": order, "mixer": mixer, "device": weight.device, "dtype": weight.dtype}
    if mixer == "gf":
        if place.size is None:
            raise ValueError("a global filter needs the size of the map, which is not known here")
        kept["grid"] = (place.size[0], place.size[1] // 2 + 1)
    made: nn.Module
    if isinstance(module, nn.Conv2d):
        gnconv = GnConv(module.out_channels, in_dim=module.in_channels, **kept)
        stride = module.stride[0]
        made = gnconv if stride == 1 else nn.Sequential(nn.AvgPool2d(stride, ceil_mode=True), gnconv)
    else:
        width = _width_of(module)
        made = TokenGnConv(GnConv(width, **kept), place.prefix)
    made.apply(init_layer_)
    return made.train(module.training)


def _width_of(attention: nn.Module) -> int:
    projection = attention.get_submodule("proj")
    assert isinstance(projection, nn.Linear)
    return projection.out_features


def described(module: nn.Module) -> str:
    """A layer in a few words."""
    if isinstance(module, nn.Conv2d):
        kind = "depthwise" if module.groups > 1 else "conv"
        size = "x".join(map(str, module.kernel_size))
        step = f", stride {module.stride[0]}" if module.stride[0] > 1 else ""
        return f"{kind} {size}, {module.in_channels} to {module.out_channels}{step}"
    if isinstance(module, TokenGnConv):
        return f"{described(module.gnconv)}, on tokens"
    if isinstance(module, nn.Sequential):
        return f"mean of {module[0].kernel_size}, {described(module[1])}"
    if isinstance(module, GnConv):
        order, out = len(module.widths), module.proj_out.out_channels
        return f"gnConv of order {order}, {module.proj_in.in_channels} to {out}"
    return f"{type(module).__name__}, {_width_of(module)}"
