"""What the paper compares gnConv with: the same block with a plain depthwise convolution, or with SE."""

from __future__ import annotations

import torch
from timm.layers import SqueezeExcite
from torch import Tensor, nn

from hornet_train.models.gnconv import GnConv
from hornet_train.models.layers import PointwiseConv2d
from hornet_train.models.mixers import Mixer, build_mixer

GATINGS = ("recursive", "se", "none")


class PlainConv(nn.Module):
    """A depthwise operator between two 1x1 convolutions, all of width C: gnConv without its gating.

    y = W_out e(f(W_in x)), e the squeeze-and-excitation (arXiv 1709.01507: each channel times a sigmoid of
    all channels' means, reduced to C / 16 between, at least 8) or nothing.

    Args:
        dim: C, the width in and out.
        mixer, grid: f, as for GnConv.
        squeeze_excite: whether there is an e.
        device, dtype: of the parameters.

    Raises:
        ValueError: an unknown mixer, an even kernel, a grid below 1 x 1.
    """

    def __init__(
        self,
        dim: int,
        *,
        mixer: Mixer = "7x7",
        grid: tuple[int, int] = (14, 8),
        squeeze_excite: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.proj_in = PointwiseConv2d(dim, dim, device=device, dtype=dtype)
        self.dwconv = build_mixer(mixer, dim, grid=grid, device=device, dtype=dtype)
        excite = SqueezeExcite(dim).to(device=device, dtype=dtype) if squeeze_excite else nn.Identity()
        self.excite: nn.Module = excite
        self.proj_out = PointwiseConv2d(dim, dim, device=device, dtype=dtype)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in and out: (B, C, H, W)."""
        out: Tensor = self.proj_out(self.excite(self.dwconv(self.proj_in(x_BCHW))))
        return out


def build_operator(
    dim: int,
    *,
    gating: str,
    order: int,
    mixer: Mixer,
    grid: tuple[int, int],
    scale: float,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The spatial operator of a block.

    Args:
        gating: "recursive" for gnConv; "se" or "none" for PlainConv, which has neither order nor scale.

    Raises:
        ValueError: an unknown gating, or what the operator itself refuses.
    """
    if gating == "recursive":
        return GnConv(dim, order=order, mixer=mixer, grid=grid, scale=scale, device=device, dtype=dtype)
    if gating not in GATINGS:
        raise ValueError(f"gating is one of {', '.join(GATINGS)}, not {gating!r}")
    return PlainConv(dim, mixer=mixer, grid=grid, squeeze_excite=gating == "se", device=device, dtype=dtype)
