"""Layers that HorNet modules share: layer norm over channels; depthwise, 1x1 and patch convolutions.

Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_BHWC` has the channels last.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from hornet_train.models.kernels import EPS, dispatch, dispatch_convs
from hornet_train.models.kernels.tensor_kinds import is_exporting


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
        eps: float = EPS,
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
        if not is_scripting():  # noqa: SIM102 - TorchScript compiles nothing under a false `if`, but all of an `and`
            if is_exporting():
                return y_BCHW.contiguous()
        return y_BCHW

    def extra_repr(self) -> str:
        return f"{self.normalized_shape[0]}, eps={self.eps}"


class DepthwiseConv2d(nn.Conv2d, dispatch.HasKernels):
    """A depthwise convolution that keeps height and width.

    On a CPU it runs as `hornet_train.models.kernels.depthwise` where that is faster than torch's own; under
    autocast too, with x in the lower precision and the weight in its own. TorchScript, symbolic tracing and
    torch.export see a plain convolution.

    Args:
        channels: C.
        kernel: K, odd.
        bias, device, dtype: as nn.Conv2d.

    Raises:
        ValueError: `kernel` is even or less than 1, so that no padding keeps the size.
    """

    def __init__(
        self,
        channels: int,
        kernel: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(
                f"a depthwise kernel must be odd to keep the size, not {kernel}; use {max(kernel, 0) + 1}"
            )
        super().__init__(
            channels,
            channels,
            kernel,
            padding=kernel // 2,
            groups=channels,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.plain = False

    def forward(self, x_BCHW: Tensor, scale: float = 1.0) -> Tensor:
        """`scale` times the convolution, for no more than a scaled weight. Shape in and out: (B, C, H, W)."""
        weight, bias = self.weight, self.bias
        if scale != 1.0:
            weight, bias = weight * scale, None if bias is None else bias * scale
        if not is_scripting():
            fast_BCHW = dispatch_convs.depthwise_conv(self, x_BCHW, weight, bias)
            if fast_BCHW is not None:
                return fast_BCHW
        y_BCHW: Tensor = self._conv_forward(x_BCHW, weight, bias)
        return y_BCHW


class PointwiseConv2d(nn.Conv2d, dispatch.HasKernels):
    """A 1x1 convolution, which in bfloat16 on a CPU runs as a linear layer on the channels-last view.

    Args:
        in_channels, out_channels, device, dtype: as nn.Conv2d.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, 1, device=device, dtype=dtype)
        self.plain = False

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in: (B, C_in, H, W); out: (B, C_out, H, W)."""
        if not is_scripting():
            fast_BCHW = dispatch_convs.pointwise_conv(self, x_BCHW)
            if fast_BCHW is not None:
                return fast_BCHW
        y_BCHW: Tensor = self._conv_forward(x_BCHW, self.weight, self.bias)
        return y_BCHW


class PatchConv2d(nn.Conv2d, dispatch.HasKernels):
    """A convolution of patches that lie side by side, `size` pixels square: the stem, and a downsampling.

    Args:
        in_channels, out_channels, device, dtype: as nn.Conv2d.
        size: of the kernel and of its steps.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, size, stride=size, device=device, dtype=dtype)
        self.plain = False

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in: (B, C_in, H, W); out: (B, C_out, H // size, W // size)."""
        if not is_scripting():
            fast_BCHW = dispatch_convs.patch_conv(self, x_BCHW)
            if fast_BCHW is not None:
                return fast_BCHW
        y_BCHW: Tensor = self._conv_forward(x_BCHW, self.weight, self.bias)
        return y_BCHW


def lay_out(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    """Bring a model's kernels into a memory format, channels_last or contiguous, in place.

    As `model.to(memory_format=layout)`, which also asks channels_last of kernels for volumes and raises: some
    image models have 3-D convolutions.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=layout)
    return model
