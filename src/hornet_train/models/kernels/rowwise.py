"""Layer norm, GELU and gating of rows, each one pass over what lies in the caches, on torch's threads.

Rows (N, C) lie any distance apart; C is a multiple of LANES, values are float32 or
bfloat16. Sums over rows are taken in groups of rows, so that results do not depend on the number of threads.

Shape suffixes: N rows (pixels), C channels, M hidden channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hornet_train.models.kernels import LANES, openmp
from hornet_train.models.kernels.arguments import (
    Gate,
    GateGradient,
    GateGradientHalves,
    GateHalves,
    Gelu,
    GeluGradient,
    GeluGradientHalves,
    GeluHalves,
    Norm,
    NormGradient,
    NormGradientHalves,
    NormHalves,
)

AVAILABLE = openmp.available()
_GROUPS = 16


def normalise(x_NC: Tensor, weight_C: Tensor, bias_C: Tensor, out_NC: Tensor) -> Tensor:
    """out = LN(x) * weight + bias; weight and bias are float32."""
    from hornet_train.models.kernels.row_loops import norm_loop

    rows, channels = x_NC.shape
    arguments = Norm(
        x=x_NC.data_ptr(),
        x_step=_step(x_NC),
        weight=weight_C.data_ptr(),
        bias=bias_C.data_ptr(),
        out=out_NC.data_ptr(),
        out_step=_step(out_NC),
        out_block=_block(out_NC),
        rows=rows,
        channels=channels,
    )
    openmp.run(norm_loop(NormHalves(x=_half(x_NC), out=_half(out_NC))), arguments)
    return out_NC


def normalise_gradient(
    x_NC: Tensor, above_NC: Tensor, weight_C: Tensor, besides_NC: Tensor | None, out_NC: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient of x into out, plus `besides`; returns those of weight and bias, in float32.

    Args:
        above_NC: the gradient of LN(x) * weight + bias.
        out_NC: of x's dtype.
    """
    from hornet_train.models.kernels.row_loops import norm_gradient_loop

    rows, channels = x_NC.shape
    added_NC = x_NC if besides_NC is None else besides_NC
    totals_G2C = torch.empty(_GROUPS, 2, channels, dtype=torch.float32)
    arguments = NormGradient(
        x=x_NC.data_ptr(),
        x_step=_step(x_NC),
        above=above_NC.data_ptr(),
        above_step=_step(above_NC),
        above_block=_block(above_NC),
        weight=weight_C.data_ptr(),
        besides=added_NC.data_ptr(),
        besides_step=_step(added_NC),
        out=out_NC.data_ptr(),
        out_step=_step(out_NC),
        totals=totals_G2C.data_ptr(),
        groups=_GROUPS,
        rows=rows,
        channels=channels,
    )
    halves = NormGradientHalves(
        x=_half(x_NC), above=_half(above_NC), besides=_half(added_NC), add=besides_NC is not None
    )
    openmp.run(norm_gradient_loop(halves), arguments)
    for_weight_C, for_bias_C = totals_G2C.sum(0)
    return for_weight_C, for_bias_C


def gelu(product_NM: Tensor, bias_M: Tensor, kept_NM: Tensor | None, out_NM: Tensor) -> Tensor:
    """kept = product + bias, which may be the product itself; out = GELU(product + bias); bias is float32."""
    from hornet_train.models.kernels.row_loops import gelu_loop

    rows, channels = product_NM.shape
    keep = kept_NM is not None
    kept_NM = product_NM if kept_NM is None else kept_NM
    arguments = Gelu(
        product=product_NM.data_ptr(),
        product_step=_step(product_NM),
        bias=bias_M.data_ptr(),
        kept=kept_NM.data_ptr(),
        kept_step=_step(kept_NM),
        out=out_NM.data_ptr(),
        out_step=_step(out_NM),
        rows=rows,
        channels=channels,
    )
    openmp.run(gelu_loop(GeluHalves(product=_half(product_NM), kept=_half(kept_NM), keep=keep)), arguments)
    return out_NM


def gelu_gradient_(kept_NM: Tensor, gradient_NM: Tensor, out_NM: Tensor) -> Tensor:
    """The gradient times GELU's slope, in its place, and GELU(kept) into out; returns the sum of its rows."""
    from hornet_train.models.kernels.row_loops import gelu_gradient_loop

    rows, channels = kept_NM.shape
    totals_GM = torch.empty(_GROUPS, channels, dtype=torch.float32)
    arguments = GeluGradient(
        kept=kept_NM.data_ptr(),
        kept_step=_step(kept_NM),
        gradient=gradient_NM.data_ptr(),
        gradient_step=_step(gradient_NM),
        out=out_NM.data_ptr(),
        out_step=_step(out_NM),
        totals=totals_GM.data_ptr(),
        groups=_GROUPS,
        rows=rows,
        channels=channels,
    )
    halves = GeluGradientHalves(gradient=_half(gradient_NM), kept=_half(kept_NM))
    openmp.run(gelu_gradient_loop(halves), arguments)
    return totals_GM.sum(0)


def gate(a_NC: Tensor, bias_C: Tensor | None, gate_NC: Tensor, out_NC: Tensor) -> Tensor:
    """out = (a + bias) * gate; bias is float32."""
    from hornet_train.models.kernels.row_loops import gate_loop

    rows, channels = a_NC.shape
    arguments = Gate(
        a=a_NC.data_ptr(),
        a_step=_step(a_NC),
        a_block=_block(a_NC),
        gate=gate_NC.data_ptr(),
        gate_step=_step(gate_NC),
        out=out_NC.data_ptr(),
        out_step=_step(out_NC),
        out_block=_block(out_NC),
        bias=0 if bias_C is None else bias_C.data_ptr(),
        rows=rows,
        channels=channels,
    )
    halves = GateHalves(a=_half(a_NC), gate=_half(gate_NC), out=_half(out_NC), add=bias_C is not None)
    openmp.run(gate_loop(halves), arguments)
    return out_NC


def gate_gradient(
    a_NC: Tensor,
    bias_C: Tensor | None,
    gate_NC: Tensor,
    above_NC: Tensor,
    for_gate_NC: Tensor,
    out_NC: Tensor,
) -> Tensor:
    """From `above`, the gradient of (a + bias) * gate, that of the gate, and into out that of a, which may be
    above itself; returns the bias's, in float32.
    """
    from hornet_train.models.kernels.row_loops import gate_gradient_loop

    rows, channels = a_NC.shape
    totals_GC = torch.empty(_GROUPS, channels, dtype=torch.float32)
    arguments = GateGradient(
        a=a_NC.data_ptr(),
        a_step=_step(a_NC),
        a_block=_block(a_NC),
        gate=gate_NC.data_ptr(),
        gate_step=_step(gate_NC),
        above=above_NC.data_ptr(),
        above_step=_step(above_NC),
        above_block=_block(above_NC),
        for_gate=for_gate_NC.data_ptr(),
        for_gate_step=_step(for_gate_NC),
        out=out_NC.data_ptr(),
        out_step=_step(out_NC),
        out_block=_block(out_NC),
        bias=0 if bias_C is None else bias_C.data_ptr(),
        totals=totals_GC.data_ptr(),
        groups=_GROUPS,
        rows=rows,
        channels=channels,
    )
    halves = GateGradientHalves(
        a=_half(a_NC),
        gate=_half(gate_NC),
        above=_half(above_NC),
        out=_half(out_NC),
        add=bias_C is not None,
    )
    openmp.run(gate_gradient_loop(halves), arguments)
    return totals_GC.sum(0)


def _half(rows: Tensor) -> bool:
    return rows.dtype == torch.bfloat16


def _step(rows: Tensor) -> int:
    """Bytes from one row to the next."""
    return rows.stride(0) * rows.element_size()


def _block(rows: Tensor) -> int:
    """Bytes from LANES channels of a row to the next."""
    return LANES * rows.element_size()
