"""Layers that every HorNet module shares: layer norm over channels and the depthwise convolution.

Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_BHWC` has the channels last.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]


class LayerNorm(nn.Module):
    """Layer norm over the channels of each pixel of an NCHW tensor.

    y = (x - mean_C(x)) / sqrt(var_C(x) + eps) * weight + bias, with the biased variance. The permuted view
    costs nothing where the tensor is channels_last already, and the result is channels_last, so that the
    convolutions behind a norm run in that layout. While torch.export traces, the result is contiguous
    instead: slices of channels_last maps would bind a dynamic image size to guards on their strides.

    Args:
        channels: C.
        eps: added to the variance, inside the root.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-6,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        self.normalized_shape = (channels,)
        self.eps = eps

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in and out: (B, C, H, W)."""
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        y_BHWC = nn.functional.layer_norm(x_BHWC, self.normalized_shape, self.weight, self.bias, self.eps)
        y_BCHW = y_BHWC.permute(0, 3, 1, 2)
        if not is_scripting():  # noqa: SIM102 - as in GnConv
            if torch.compiler.is_exporting():
                return y_BCHW.contiguous()
        return y_BCHW

    def extra_repr(self) -> str:
        return f"{self.normalized_shape[0]}, eps={self.eps}"


def depthwise(
    channels: int,
    kernel: int,
    *,
    bias: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Conv2d:
    """A depthwise convolution that keeps height and width.

    Raises:
        ValueError: `kernel` is even or less than 1, so that no padding keeps the size.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(
            f"a depthwise kernel must be odd to keep the size, not {kernel}; use {max(kernel, 0) + 1}"
        )
    return nn.Conv2d(
        channels,
        channels,
        kernel,
        padding=kernel // 2,
        groups=channels,
        bias=bias,
        device=device,
        dtype=dtype,
    )
