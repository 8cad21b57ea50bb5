"""HorNet in plain layers, written straight from the paper: what the fast paths are compared with.

It shares nothing with `hornet_train.models`: norms over channels are single operations in NCHW, 1x1
convolutions are convolutions, the depthwise convolution has autograd's backward pass, the global filter is
torch's FFT. Names and shapes in the state dict are the published ones, so that weights can be copied from one
to the other.

Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_BHWC` has the channels last.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hornet_train.images.size import Size, height_width


class ChannelNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the channels of each pixel of an NCHW map."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in and out: (B, C, H, W)."""
        centred = x_BCHW - x_BCHW.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        return centred / (variance + self.eps).sqrt() * self.weight[:, None, None] + self.bias[:, None, None]


class PlainFilter(nn.Module):
    """The global filter: 3x3 on one half of the channels, a filter of the spectrum on the other, interleaved.

    Args:
        dim: number of channels, S.
        grid: (H, W // 2 + 1): the size of the spectrum of its maps.
    """

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.complex_weight = nn.Parameter(0.02 * torch.randn(dim // 2, *grid, 2))
        self.dw = nn.Conv2d(dim // 2, dim // 2, 3, padding=1, groups=dim // 2, bias=False)
        self.pre_norm = ChannelNorm(dim)
        self.post_norm = ChannelNorm(dim)

    def forward(self, x_BSHW: Tensor) -> Tensor:
        """Shape in and out: (B, S, H, W)."""
        u, v = self.pre_norm(x_BSHW).chunk(2, dim=1)
        spectrum = torch.fft.rfft2(v.float(), norm="ortho")
        spectrum = spectrum * torch.view_as_complex(self.complex_weight.contiguous())
        everywhere = torch.fft.irfft2(spectrum, s=x_BSHW.shape[2:], norm="ortho")
        mixed = torch.stack((self.dw(u), everywhere.to(u.dtype)), dim=2).flatten(1, 2)
        out: Tensor = self.post_norm(mixed)
        return out


class PlainGnConv(nn.Module):
    """Recursive gated convolution, eqs. (3.2)-(3.4).

    Args:
        dim: number of channels, C.
        order: n of gnConv.
        scale: 1 / alpha.
        grid: of the global filter's spectrum; None: a 7x7 depthwise convolution instead.
    """

    def __init__(self, dim: int, order: int, scale: float, grid: tuple[int, int] | None) -> None:
        super().__init__()
        self.widths = [dim // 2 ** (order - 1 - k) for k in range(order)]
        total = sum(self.widths)
        self.scale = scale
        self.proj_in = nn.Conv2d(dim, 2 * dim, 1)
        depthwise = nn.Conv2d(total, total, 7, padding=3, groups=total)
        self.dwconv: nn.Module = depthwise if grid is None else PlainFilter(total, grid)
        self.proj_out = nn.Conv2d(dim, dim, 1)
        self.pws = nn.ModuleList(nn.Conv2d(narrow, wide, 1) for narrow, wide in pairwise(self.widths))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in and out: (B, C, H, W)."""
        p, q = self.proj_in(x_BCHW).split((self.widths[0], sum(self.widths)), dim=1)
        gates = (self.dwconv(q) * self.scale).split(self.widths, dim=1)
        x = p * gates[0]
        for project, gate in zip(self.pws, gates[1:], strict=True):
            x = project(x) * gate
        out: Tensor = self.proj_out(x)
        return out


class PlainBlock(nn.Module):
    """Two residual branches with layer scale: gnConv, and the MLP of width 4C."""

    def __init__(
        self, dim: int, order: int, scale: float, grid: tuple[int, int] | None, layer_scale_init: float
    ) -> None:
        super().__init__()
        self.gamma1 = nn.Parameter(torch.full((dim,), layer_scale_init))
        self.gamma2 = nn.Parameter(torch.full((dim,), layer_scale_init))
        self.norm1 = ChannelNorm(dim)
        self.gnconv = PlainGnConv(dim, order, scale, grid)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in and out: (B, C, H, W)."""
        x_BCHW = x_BCHW + self.gamma1[:, None, None] * self.gnconv(self.norm1(x_BCHW))
        x_BHWC = self.norm2(x_BCHW.permute(0, 2, 3, 1))
        x_BHWC = self.gamma2 * self.pwconv2(nn.functional.gelu(self.pwconv1(x_BHWC)))
        out: Tensor = x_BCHW + x_BHWC.permute(0, 3, 1, 2)
        return out


class PlainHorNet(nn.Module):
    """HorNet as an image classifier.

    Args:
        dim: channels of the first stage.
        gf: whether the last two stages have global filters.
        depths, orders: number of blocks and order of gnConv, by stage.
        scale: 1 / alpha.
        image_size: pixels, multiples of the last stage's stride. Global filters fit this size only.
        stem_stride: kernel and stride of the first convolution.
        layer_scale_init: initial layer scale of both branches of each block.
        num_classes: outputs of the head.
    """

    def __init__(
        self,
        dim: int,
        *,
        gf: bool,
        depths: Sequence[int] = (2, 3, 18, 2),
        orders: Sequence[int] = (2, 3, 4, 5),
        scale: float = 1 / 3,
        image_size: Size = 224,
        stem_stride: int = 4,
        layer_scale_init: float = 1e-6,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        widths = [dim * 2**stage for stage in range(len(depths))]
        self.downsample_layers = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(3, dim, stem_stride, stride=stem_stride), ChannelNorm(dim))]
        )
        for narrow, wide in pairwise(widths):
            self.downsample_layers.append(
                nn.Sequential(ChannelNorm(narrow), nn.Conv2d(narrow, wide, 2, stride=2))
            )
        self.stages = nn.ModuleList()
        for stage, (depth, order, width) in enumerate(zip(depths, orders, widths, strict=True)):
            high, wide = (side // (stem_stride * 2**stage) for side in height_width(image_size))
            grid = (high, wide // 2 + 1) if gf and stage >= len(depths) - 2 else None
            self.stages.append(
                nn.Sequential(
                    *(PlainBlock(width, order, scale, grid, layer_scale_init) for _ in range(depth))
                )
            )
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images (B, 3, H, W) to logits (B, classes)."""
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x_BCHW = stage(downsample(x_BCHW))
        out: Tensor = self.head(self.norm(x_BCHW.mean((2, 3))))
        return out
