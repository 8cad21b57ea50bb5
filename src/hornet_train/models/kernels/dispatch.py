"""Which kernel runs for which input: the one place that chooses.

The `forward` of each module holds its arithmetic in torch's operators, as the paper writes it. Before those
lines it asks here (single convolutions: in `dispatch_convs`): it gets the result of a faster way where there
is one for this tensor, device and dtype, and None where its own lines are to run. TorchScript, symbolic
tracing, torch.export, torch.func and forward-mode derivatives always have a module's own lines; so has every
module whose `plain` is set.

Layout suffixes: `x_BCHW` is batch, channels, height, width; S is the width of gnConv's gates (or, in a global
filter, of its filtered half).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from hornet_train.models.kernels import (
    EPS,
    fourier,
    gating,
    global_local_pass,
    mlp,
    projection,
    rows,
)
from hornet_train.models.kernels.global_local import global_local as global_local_operator
from hornet_train.models.kernels.rows import add_scaled
from hornet_train.models.kernels.tensor_kinds import is_real, is_real_on_cpu, product_input_dtype
from hornet_train.models.spectrum import resize_filter

if TYPE_CHECKING:
    from hornet_train.models.block import Block
    from hornet_train.models.global_filter import GlobalLocalFilter
    from hornet_train.models.gnconv import GnConv


class HasKernels:
    """Mixed into the modules that ask here.

    Attributes:
        plain: whether the module's own lines always run.
    """

    plain: bool


def use_kernels(model: nn.Module, choice: Literal["auto", "plain"]) -> None:
    """Let a model run by the kernels that are fastest for device and dtype, or by torch's operators alone."""
    for module in model.modules():
        if isinstance(module, HasKernels):
            module.plain = choice == "plain"


# single layers


def global_filter(layer: GlobalLocalFilter, v_BSHW: Tensor) -> Tensor | None:
    """The global filter by matrix products, with those made beforehand (`fuse`) where they are for such maps.

    Shape in and out: (B, S, H, W); out: float32 or float64.
    """
    if layer.plain or not is_real(v_BSHW):
        return None
    if layer.fixed is not None and layer.fixed.serves(v_BSHW):
        fixed_BSHW: Tensor = layer.fixed(v_BSHW)
        return fixed_BSHW
    if fourier.takes_matrices(v_BSHW.shape[2], v_BSHW.shape[3], v_BSHW.device):
        return fourier.filter_by_matrices(v_BSHW, layer.complex_weight)
    return None


def global_local(layer: GlobalLocalFilter, x_BSHW: Tensor, scale: float) -> Tensor | None:
    """`GlobalLocalFilter.forward` as one operator on a CPU, for maps whose filter is applied by matrices.

    Shape in and out: (B, S, H, W).
    """
    # here, as these import this module
    from hornet_train.models.global_filter import GlobalLocalFilter as Ours
    from hornet_train.models.layers import DepthwiseConv2d

    if type(layer) is not Ours or layer.plain or not served_by_rows(x_BSHW, layer.pre_norm, layer.post_norm):
        return None
    height, width = x_BSHW.shape[2:]
    conv, weight = layer.dw, layer.complex_weight
    if not (
        global_local_pass.serves(len(weight))
        and fourier.takes_matrices(height, width, x_BSHW.device)
        and type(conv) is DepthwiseConv2d
        and not has_hooks(conv)
        and conv.bias is None
        and conv.weight.shape[2:] == (3, 3)
        and conv.weight.dtype in rows.DTYPES
        and weight.dtype in rows.DTYPES
    ):
        return None
    if layer.fixed is not None and layer.fixed.serves(x_BSHW):
        filter_ChwK = layer.fixed.filter_KhwS.permute(3, 1, 2, 0)
    else:
        filter_ChwK = resize_filter(weight.float(), height, width // 2 + 1)
    post_weight, post_bias = _affine(layer.post_norm, x_BSHW)
    inputs = global_local_pass.GlobalLocal(
        *(x_BSHW, *_affine(layer.pre_norm, x_BSHW), conv.weight, filter_ChwK),
        *(post_weight * scale, post_bias * scale),
    )
    out_BSHW: Tensor = global_local_operator(*inputs, product_input_dtype(x_BSHW))
    return out_BSHW


# several layers as one operator


def gate(layer: GnConv, p_BCHW: Tensor, gates_BSHW: Tensor) -> Tensor | None:
    """`GnConv.gate` as one operator on a CPU; on any device in float32 where autocast made p float16.

    A product of n + 1 activations leaves float16's range long before its factors do.
    """
    if gates_by_rows(layer, gates_BSHW) and gating.fits(p_BCHW, gates_BSHW, layer.total_width):
        return _gate_by_rows(layer, p_BCHW, gates_BSHW)
    # a proxy of symbolic tracing has no dtype
    if isinstance(p_BCHW, Tensor) and p_BCHW.dtype == torch.float16 != layer.proj_out.weight.dtype:
        with torch.autocast(p_BCHW.device.type, enabled=False):
            return layer.gate(p_BCHW.float(), gates_BSHW.float())
    return None


def block(layers: Block, x_BCHW: Tensor) -> Tensor | None:
    """`Block.forward` as compiled code where `compile_blocks` asked for it, else by operators on a CPU.

    Shape in and out: (B, C, H, W).
    """
    from hornet_train.models.compiled_block import compiled_branches  # here, as it imports this module

    if layers.compiled and is_real(x_BCHW) and not torch.compiler.is_compiling():
        return compiled_branches()(layers, x_BCHW, *layers.drop_factors(x_BCHW))
    if layers.plain or not is_real_on_cpu(x_BCHW):
        return None
    return block_on_cpu(layers, x_BCHW, layers.drop_factors(x_BCHW))


def block_on_cpu(layers: Block, x_BCHW: Tensor, factors: tuple[Tensor | None, Tensor | None]) -> Tensor:
    """Each branch as few operators over rows of pixels where these serve it.

    Shape in and out: (B, C, H, W).

    Args:
        factors: by what drop path multiplies each image's branches, (B,) each; None for 1.
    """
    if gnconv_by_rows(layers.gnconv, layers.norm1, x_BCHW):
        x_BCHW = _add_gnconv_by_rows(layers, x_BCHW, factors[0])
    else:
        branch_BCHW = layers.gnconv(layers.norm1(x_BCHW))
        x_BCHW = add_scaled(x_BCHW, branch_BCHW, layers.gamma1, factors[0])
    if mlp_by_rows(layers, x_BCHW):
        return _add_mlp_by_rows(layers, x_BCHW, factors[1])
    return add_scaled(x_BCHW, layers.mlp(x_BCHW), layers.gamma2, factors[1])


def served_by_rows(x_BCHW: Tensor, *layers: nn.Module) -> bool:
    """Whether one operator over rows of pixels may stand in for these layers, on this x.

    It may on a CPU, where they are of the very classes and options that the operators compute, of dtypes that
    they take, and have no hook and no parametrisation.
    """
    from hornet_train.models.layers import LayerNorm, PointwiseConv2d  # here, as these import this module

    if not is_real_on_cpu(x_BCHW) or _has_any_global_hook():
        return False
    lower = product_input_dtype(x_BCHW)
    return all(
        type(layer) in (LayerNorm, PointwiseConv2d, nn.LayerNorm, nn.Linear, nn.GELU)
        and not has_hooks(layer)
        and all(rows.serves(x_BCHW, one, lower) for one in layer.parameters(recurse=False))
        and (not isinstance(layer, nn.Linear | nn.Conv2d) or layer.bias is not None)
        and getattr(layer, "approximate", "none") == "none"  # GELU's
        and getattr(layer, "eps", EPS) == EPS
        and getattr(layer, "normalized_shape", x_BCHW.shape[1:2]) == x_BCHW.shape[1:2]
        for layer in layers
    )


def gates_by_rows(layer: GnConv, x_BCHW: Tensor) -> bool:
    """Whether the products of gnConv, eqs. (3.3) and (3.4), run as one operator over rows of pixels."""
    served = gating.serves(layer.widths[0]) and served_by_rows(x_BCHW, *layer.pws, layer.proj_out)
    return served and not layer.plain


def gnconv_by_rows(layer: nn.Module, norm: nn.Module, x_BCHW: Tensor) -> bool:
    """Whether a norm, the gnConv behind it and the residual sum run over rows of pixels."""
    # here, as these import this module
    from hornet_train.models.global_filter import GlobalLocalFilter
    from hornet_train.models.gnconv import GnConv
    from hornet_train.models.layers import DepthwiseConv2d

    return (
        type(layer) is GnConv
        and not has_hooks(layer)
        and type(layer.dwconv) in (DepthwiseConv2d, GlobalLocalFilter)  # whose gates are known to fit
        and served_by_rows(x_BCHW, norm, layer.proj_in)
        and gates_by_rows(layer, x_BCHW)
    )


def mlp_by_rows(layers: Block, x_BCHW: Tensor) -> bool:
    """Whether the second branch of a block and its residual sum run as one operator over rows of pixels."""
    return served_by_rows(x_BCHW, layers.norm2, layers.pwconv1, layers.act, layers.pwconv2)


def has_hooks(layer: nn.Module) -> bool:
    """Whether something wants to see what goes into this layer and comes out of it."""
    return bool(
        layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    )


# how they are called


def _gate_by_rows(
    layer: GnConv,
    p_BCHW: Tensor,
    gates_BSHW: Tensor,
    residual_BCHW: Tensor | None = None,
    factor_B: Tensor | None = None,
    gamma_C: Tensor | None = None,
) -> Tensor:
    """residual + factor * gamma * gate(p, gates), in one operator."""
    parameters = [one for conv in (*layer.pws, layer.proj_out) for one in (conv.weight, conv.bias)]
    inputs = gating.Gating(p_BCHW, gates_BSHW, residual_BCHW, factor_B, gamma_C, parameters)
    out_BCHW: Tensor = gating.gating(*inputs, product_input_dtype(p_BCHW))
    return out_BCHW


def _add_gnconv_by_rows(layers: Block, x_BCHW: Tensor, factor_B: Tensor | None) -> Tensor:
    """x + factor * gamma1 * gnConv(LN(x)): the projection, f, and the gating with the residual sum."""
    layer: Any = layers.gnconv  # a GnConv, as `gnconv_by_rows` found
    inputs = projection.Projection(
        x_BCHW, *_affine(layers.norm1, x_BCHW), layer.proj_in.weight, layer.proj_in.bias
    )
    pq_BCHW: Tensor = projection.project(*inputs, product_input_dtype(x_BCHW))
    p_BCHW, q_BSHW = pq_BCHW.split((layer.widths[0], layer.total_width), dim=1)
    gates_BSHW = layer.scaled_mixer(q_BSHW)
    return _gate_by_rows(layer, p_BCHW, gates_BSHW, x_BCHW, factor_B, layers.gamma1)


def _add_mlp_by_rows(layers: Block, x_BCHW: Tensor, factor_B: Tensor | None) -> Tensor:
    """x + factor * gamma2 * W2 GELU(W1 LN(x)), in one operator."""
    inputs = mlp.Mlp(
        x_BCHW,
        factor_B,
        layers.gamma2,
        *_affine(layers.norm2, x_BCHW),
        *(layers.pwconv1.weight, layers.pwconv1.bias),
        *(layers.pwconv2.weight, layers.pwconv2.bias),
    )
    out_BCHW: Tensor = mlp.mlp(*inputs, product_input_dtype(x_BCHW), torch.is_grad_enabled())[0]
    return out_BCHW


def _affine(norm: nn.Module, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """A norm's weight and bias; 1 and 0 where `fuse` folded them into the layer behind."""
    channels, (weight_C, bias_C) = x_BCHW.shape[1], (norm.weight, norm.bias)
    return (
        weight_C if isinstance(weight_C, Tensor) else x_BCHW.new_ones(channels),
        bias_C if isinstance(bias_C, Tensor) else x_BCHW.new_zeros(channels),
    )
