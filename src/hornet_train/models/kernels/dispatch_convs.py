"""Which kernel runs a single convolution; see `dispatch`.

Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_BHWC` has the channels last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hornet_train.models.kernels import depthwise, rows
from hornet_train.models.kernels.tensor_kinds import is_real_on_cpu, product_input_dtype

if TYPE_CHECKING:
    from hornet_train.models.layers import DepthwiseConv2d, PatchConv2d, PointwiseConv2d


def depthwise_conv(
    layer: DepthwiseConv2d, x_BCHW: Tensor, weight_C1KK: Tensor, bias_C: Tensor | None
) -> Tensor | None:
    """A depthwise convolution on a CPU; under autocast x is in the lower precision, the weight in its own.

    Shape in and out: (B, C, H, W).
    """
    if layer.plain or not is_real_on_cpu(x_BCHW):
        return None
    lower_BCHW = x_BCHW.to(product_input_dtype(x_BCHW))
    if not depthwise.serves(lower_BCHW, weight_C1KK):
        return None
    out_BCHW: Tensor = depthwise.depthwise(lower_BCHW, weight_C1KK, bias_C)
    return out_BCHW


def pointwise_conv(layer: PointwiseConv2d, x_BCHW: Tensor) -> Tensor | None:
    """A 1x1 convolution in bfloat16 on a CPU: as a linear layer on the channels-last view.

    Shape in: (B, C_in, H, W); out: (B, C_out, H, W).
    """
    if layer.plain or not is_real_on_cpu(x_BCHW) or product_input_dtype(x_BCHW) != torch.bfloat16:
        return None
    x_BHWC, weight_DC = x_BCHW.permute(0, 2, 3, 1), layer.weight.flatten(1)
    return _multiplied(nn.functional.linear, x_BHWC, weight_DC, layer.bias).permute(0, 3, 1, 2)


def patch_conv(layer: PatchConv2d, x_BCHW: Tensor) -> Tensor | None:
    """A convolution of patches in bfloat16 on a CPU that multiplies faster in float32.

    There torch's own takes ten times as long as in float32. Shape in: (B, C_in, H, W); out: (B, C_out, h, w).
    """
    if layer.plain or not is_real_on_cpu(x_BCHW):
        return None
    lower = product_input_dtype(x_BCHW)
    if rows.product_dtype(lower) == lower:
        return None
    return _multiplied(layer._conv_forward, x_BCHW, layer.weight, layer.bias)


def _multiplied(
    operator: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """The operator in the dtype that products are fast in on this processor, its result rounded once."""
    lower = product_input_dtype(x)
    product = rows.product_dtype(lower)
    if product == lower:
        return operator(x, weight, bias)
    with torch.autocast("cpu", enabled=False):
        wide = operator(x.to(product), weight.to(product), None if bias is None else bias.to(product))
        return wide.to(lower)
