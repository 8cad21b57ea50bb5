"""Layers that every HorNet module shares: layer norm over channels, depthwise and 1x1 convolutions.

Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_BHWC` has the channels last.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.jit import is_scripting, is_tracing  # type: ignore[attr-defined]
from torch.nn.modules.module import _has_any_global_hook

from hornet_train.models.kernels import depthwise as kernels
from hornet_train.models.kernels import rows as row_kernels


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
            if is_exporting():
                return y_BCHW.contiguous()
        return y_BCHW

    def extra_repr(self) -> str:
        return f"{self.normalized_shape[0]}, eps={self.eps}"


class HasPlainPath:
    """What runs in one of several ways, one of which is torch's plain operators.

    Attributes:
        plain: whether it is always these.
    """

    plain: bool


class DepthwiseConv2d(nn.Conv2d, HasPlainPath):
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
        if not is_scripting():  # noqa: SIM102 - as in GnConv
            if not self.plain and computed_on_cpu(x_BCHW):
                lower_BCHW = x_BCHW.to(lower_precision(x_BCHW))
                if kernels.serves(lower_BCHW, weight):
                    out: Tensor = kernels.depthwise(lower_BCHW, weight, bias)
                    return out
        plain: Tensor = self._conv_forward(x_BCHW, weight, bias)
        return plain


class PointwiseConv2d(nn.Conv2d, HasPlainPath):
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
        if not is_scripting():  # noqa: SIM102 - as in GnConv
            if not self.plain and computed_on_cpu(x_BCHW) and lower_precision(x_BCHW) == torch.bfloat16:
                x_BHWC = x_BCHW.permute(0, 2, 3, 1)
                y_BHWC = nn.functional.linear(x_BHWC, self.weight.flatten(1), self.bias)
                return y_BHWC.permute(0, 3, 1, 2)
        plain: Tensor = self._conv_forward(x_BCHW, self.weight, self.bias)
        return plain


def is_exporting() -> bool:
    """Whether torch.export traces.

    `torch.compiler.is_exporting()` says the same, but torch.compile of torch 2.11 takes it for true always.
    """
    flag: bool = torch.compiler._is_exporting_flag
    return flag


def computed_now(x: Tensor) -> bool:
    """Whether x is a tensor: no proxy of symbolic tracing, not seen by export, trace or func.

    Forward-mode derivatives and torch.func know nothing of our operators, and go through torch's.
    """
    kept_as_graph = is_exporting() or is_tracing()
    transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return isinstance(x, Tensor) and not (kept_as_graph or transformed)


def computed_on_cpu(x: Tensor) -> bool:
    """Whether it is so on a CPU."""
    return computed_now(x) and x.device.type == "cpu"


def lower_precision(x: Tensor) -> torch.dtype:
    """The dtype that convolutions have a CPU's x in: autocast's where that is on, else its own."""
    if x.dtype != torch.float64 and torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return x.dtype


def served_by_rows(x_BCHW: Tensor, *layers: nn.Module) -> bool:
    """Whether these layers may run as one operator on a CPU, over rows of pixels.

    They may where they are plain layers, of dtypes that it is made for, that nobody watches, has replaced or
    reparametrised.
    """
    if not computed_on_cpu(x_BCHW) or _has_any_global_hook():
        return False
    lower = lower_precision(x_BCHW)
    return all(
        type(layer) in (LayerNorm, PointwiseConv2d, nn.LayerNorm, nn.Linear, nn.GELU)
        and not (layer._forward_hooks or layer._forward_pre_hooks)
        and not (layer._backward_hooks or layer._backward_pre_hooks)
        and all(row_kernels.serves(x_BCHW, one, lower) for one in layer.parameters(recurse=False))
        and (not isinstance(layer, nn.Linear | nn.Conv2d) or layer.bias is not None)
        and getattr(layer, "approximate", "none") == "none"  # GELU's
        and getattr(layer, "eps", row_kernels.EPS) == row_kernels.EPS
        for layer in layers
    )


def affine(norm: nn.Module, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """A norm's weight and bias; 1 and 0 where they were folded into what is behind."""
    channels, (weight, bias) = x_BCHW.shape[1], (norm.weight, norm.bias)
    return (
        weight if isinstance(weight, Tensor) else x_BCHW.new_ones(channels),
        bias if isinstance(bias, Tensor) else x_BCHW.new_zeros(channels),
    )


def lay_out(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    """Bring a model's kernels into a memory format, channels_last or contiguous, in place.

    As `model.to(memory_format=layout)`, which also asks channels_last of kernels for volumes and raises: some
    image models have 3-D convolutions.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=layout)
    return model


def use_kernels(model: nn.Module, choice: Literal["auto", "plain"]) -> None:
    """Choose between the passes that are fastest for device and dtype and torch's plain operators."""
    for module in model.modules():
        if isinstance(module, HasPlainPath):
            module.plain = choice == "plain"
