"""Models whose global filters are products of real matrices, which every runtime has and has fast.

Layout suffixes: `x_BSHW` is batch, channels, height, width; F = W // 2 + 1 frequencies; N is batch or rows.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hornet_train.errors import ConfigError
from hornet_train.models.global_filter import GlobalLocalFilter
from hornet_train.models.kernels.fourier import FixedFilter


class RealFilter(nn.Module):
    """`GlobalLocalFilter` for maps of one size, without complex numbers.

    Args:
        layer: whose norms and convolution it takes.
        height, width: of the maps.
    """

    if TYPE_CHECKING:
        down: Tensor
        across: Tensor
        up: Tensor
        back: Tensor

    def __init__(self, layer: GlobalLocalFilter, height: int, width: int) -> None:
        super().__init__()
        self.dw, self.pre_norm, self.post_norm = layer.dw, layer.pre_norm, layer.post_norm
        fixed = FixedFilter(layer.complex_weight, height, width)
        self.height, self.width = height, width
        self.register_buffer("down", fixed.down)
        self.register_buffer("across", fixed.across)
        self.register_buffer("up", fixed.up)
        self.register_buffer("back", fixed.back)
        real_HFS, imaginary_HFS = fixed.filter_KhwS
        self.register_buffer("real_H1FS", real_HFS.unsqueeze(1).contiguous())
        self.register_buffer("imaginary_H1FS", imaginary_HFS.unsqueeze(1).contiguous())

    def forward(self, x_BSHW: Tensor, scale: float = 1.0) -> Tensor:
        """See `GlobalLocalFilter`. Shape in and out: (B, S, height, width)."""
        u_BCHW, v_BCHW = self.pre_norm(x_BSHW).chunk(2, dim=1)
        local_BCHW, global_BHWC = self.dw(u_BCHW), self._filtered(v_BCHW)
        both_BHWC2 = torch.stack((local_BCHW.permute(0, 2, 3, 1), global_BHWC), 4)
        y_BSHW: Tensor = self.post_norm(both_BHWC2.flatten(3).permute(0, 3, 1, 2))
        return y_BSHW if scale == 1.0 else y_BSHW * scale

    def _filtered(self, v_BCHW: Tensor) -> Tensor:
        """irfft2(rfft2(v) * W), one dimension at a time: (B, H, W, C)."""
        channels, height, width = v_BCHW.shape[1], self.height, self.width
        half = width // 2 + 1
        x = v_BCHW.permute(0, 2, 3, 1).reshape(-1, height, width * channels)
        x = torch.matmul(self.down, x).reshape(-1, 2 * width, channels)
        spectrum = torch.matmul(self.across, x).reshape(-1, height, 2, half, channels)
        re, im = spectrum.split(1, dim=2)
        products = (
            re * self.real_H1FS - im * self.imaginary_H1FS,
            re * self.imaginary_H1FS + im * self.real_H1FS,
        )
        x = torch.cat(products, dim=2).reshape(-1, 2 * height, half * channels)
        x = torch.matmul(self.up, x).reshape(-1, 2 * half, channels)
        return torch.matmul(self.back, x).reshape(-1, height, width, channels)


@torch.no_grad()
def with_real_filters(model: nn.Module, images: Tensor) -> nn.Module:
    """A copy of a model whose global filters are `RealFilter`s, for images of the size of `images`.

    Args:
        model: in evaluation mode.
        images: (B, C, H, W), which go through it once.

    Raises:
        ConfigError: a filter sees maps of several sizes.
    """
    sizes: dict[str, set[tuple[int, int]]] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, GlobalLocalFilter):
            seen = sizes.setdefault(name, set())
            note = lambda _module, inputs, seen=seen: seen.add(tuple(inputs[0].shape[2:]))  # noqa: E731
            hooks.append(module.register_forward_pre_hook(note))
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    made = copy.deepcopy(model)
    for name, seen in sizes.items():
        if len(seen) != 1:
            raise ConfigError([f"the filter {name} sees maps of {len(seen)} sizes, and an export takes one"])
        parent, _, child = name.rpartition(".")
        layer = made.get_submodule(name)
        assert isinstance(layer, GlobalLocalFilter)
        setattr(made.get_submodule(parent), child, RealFilter(layer, *next(iter(seen))))
    return made
