"""The global filter (GF): half of the channels through a learned filter in the frequency domain.

Layout suffixes: S is the width of the layer, h and w the stored frequency grid; `K` as last dimension holds
(real, imaginary).
"""

from __future__ import annotations

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from hornet_train.models.layers import LayerNorm, depthwise


def resize_filter(weight_ShwK: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize a stored filter to another frequency grid, bilinearly with aligned corners, as published.

    Shape in: (S/2, h, w, 2); out: (S/2, *grid, 2). The tensor itself comes back where its grid is right.
    """
    if weight_ShwK.shape[1:3] == grid:
        return weight_ShwK
    weight_KShw = weight_ShwK.permute(3, 0, 1, 2)
    resized = nn.functional.interpolate(weight_KShw, size=grid, mode="bilinear", align_corners=True)
    return resized.permute(1, 2, 3, 0)


def grid_of(height: int, width: int) -> tuple[int, int]:
    """The frequency grid (h, w) of the real FFT of a feature map: w holds the non-negative half only."""
    return height, width // 2 + 1


class GlobalLocalFilter(nn.Module):
    """The GF layer f of gnConv: 3x3 depthwise on one half, a global filter on the other, interleaved.

    local = dw3x3(u),  global = irfft2(rfft2(v) * W)  (both FFTs "ortho"),  where (u | v) = LN(x);
    y = LN(interleave(local, global)), output channel 2i from local_i and 2i+1 from global_i.

    The FFT runs in float32 whatever autocast says (float64 stays float64): half-precision FFTs exist for
    powers of two only, and not in bfloat16 at all.

    Args:
        dim: S, even.
        grid: (h, w) of the stored filter; H x W feature maps need (H, W // 2 + 1), any other is resized to it
            in every forward.

    Raises:
        ValueError: an odd `dim`, or a grid with a side below 1.
    """

    def __init__(self, dim: int, *, grid: tuple[int, int]) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(
                f"the global filter halves its channels, so their number must be even, not {dim}; "
                "use a width whose smallest branch is even"
            )
        height, width = grid
        if height < 1 or width < 1:
            raise ValueError(f"a global filter's grid must be at least 1 x 1, not {height} x {width}")
        self.complex_weight = nn.Parameter(
            torch.empty(dim // 2, height, width, 2)
        )  # stored real: (re, im) last
        trunc_normal_(self.complex_weight, std=0.02)
        self.dw = depthwise(dim // 2, 3, bias=False)
        self.pre_norm = LayerNorm(dim)
        self.post_norm = LayerNorm(dim)

    def forward(self, x_BSHW: Tensor) -> Tensor:
        """Shape in and out: (B, S, H, W), any H and W."""
        u, v = self.pre_norm(x_BSHW).chunk(2, dim=1)
        local: Tensor = self.dw(u)
        everywhere = self._filter(v).to(local.dtype)
        interleaved = torch.stack((local, everywhere), dim=2).flatten(
            1, 2
        )  # (B, S/2, 2, H, W) -> (B, S, H, W)
        out: Tensor = self.post_norm(interleaved)
        return out

    def _filter(self, v_BSHW: Tensor) -> Tensor:
        """Circular convolution with the learned filter, as a product of spectra. Out: float32 or float64."""
        height, width = v_BSHW.shape[-2:]
        dtype = torch.promote_types(v_BSHW.dtype, torch.float32)
        weight_ShwK = resize_filter(self.complex_weight.to(dtype), grid_of(height, width))
        # not view_as_complex, which wants (re, im) side by side: channels_last permutes this 4-D weight
        # too, and the compiler may
        filter_Shw = torch.complex(*weight_ShwK.unbind(-1))
        spectrum = torch.fft.rfft2(v_BSHW.to(dtype), norm="ortho")
        out: Tensor = torch.fft.irfft2(spectrum * filter_Shw, s=(height, width), norm="ortho")
        return out

    def extra_repr(self) -> str:
        half, height, width, _ = self.complex_weight.shape
        return f"{2 * half}, grid=({height}, {width})"
