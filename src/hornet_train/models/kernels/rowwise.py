"""Layer norm, GELU and gating of rows, each one pass over what lies in the caches, on torch's threads.

Rows are dense (N, C), those of gating any distance apart; C is a multiple of LANES, values are float32 or
bfloat16. Sums over rows are taken in groups of rows,
so that results do not depend on the number of threads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hornet_train.models.kernels import openmp

AVAILABLE = openmp.available()
EPS = 1e-6  # of layer norm
_GROUPS = 16


def _half(rows: Tensor) -> bool:
    return rows.dtype == torch.bfloat16


def _spaced(*several: Tensor) -> tuple[int, ...]:
    """Address and bytes from one row to the next, of each."""
    return tuple(n for one in several for n in (one.data_ptr(), one.stride(0) * one.element_size()))


def normalise(x_NC: Tensor, weight: Tensor, bias: Tensor, out_NC: Tensor) -> Tensor:
    """out = LN(x) * weight + bias; weight and bias are float32."""
    from hornet_train.models.kernels.loops import norm_loop

    places = (one.data_ptr() for one in (x_NC, weight, bias, out_NC))
    openmp.run(norm_loop(_half(x_NC), _half(out_NC)), (*places, *x_NC.shape), 0)
    return out_NC


def normalise_gradient(
    x_NC: Tensor, above_NC: Tensor, weight: Tensor, besides_NC: Tensor | None, out_NC: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient of x into out, plus `besides`; gives those of weight and bias, in float32.

    Args:
        above_NC: the gradient of LN(x) * weight + bias.
        out_NC: of x's dtype.
    """
    from hornet_train.models.kernels.loops import norm_slope_loop

    besides = x_NC if besides_NC is None else besides_NC
    totals = torch.empty(_GROUPS, 2, x_NC.shape[1], dtype=torch.float32)
    loop = norm_slope_loop(_half(x_NC), _half(above_NC), _half(besides), besides_NC is not None)
    places = (one.data_ptr() for one in (x_NC, above_NC, weight, besides, out_NC, totals))
    openmp.run(loop, (*places, _GROUPS, *x_NC.shape), 0)
    for_weight, for_bias = totals.sum(0)
    return for_weight, for_bias


def gelu(product_NM: Tensor, bias: Tensor, kept_NM: Tensor | None, out_NM: Tensor) -> Tensor:
    """kept = product + bias, which may be the product itself; out = GELU(product + bias); bias is float32."""
    from hornet_train.models.kernels.loops import gelu_loop

    kept = product_NM if kept_NM is None else kept_NM
    places = (one.data_ptr() for one in (product_NM, bias, kept, out_NM))
    loop = gelu_loop(_half(product_NM), _half(kept), kept_NM is not None)
    openmp.run(loop, (*places, *product_NM.shape), 0)
    return out_NM


def gelu_gradient_(kept_NM: Tensor, gradient_NM: Tensor, out_NM: Tensor) -> Tensor:
    """The gradient times GELU's slope, in its place, and GELU(kept) into out; gives the sum of its rows."""
    from hornet_train.models.kernels.loops import gelu_slope_loop

    totals = torch.empty(_GROUPS, kept_NM.shape[1], dtype=torch.float32)
    loop = gelu_slope_loop(_half(gradient_NM), _half(kept_NM))
    places = (one.data_ptr() for one in (kept_NM, gradient_NM, out_NM, totals))
    openmp.run(loop, (*places, _GROUPS, *kept_NM.shape), 0)
    return totals.sum(0)


def gate(a_NC: Tensor, bias: Tensor | None, gate_NC: Tensor, out_NC: Tensor) -> Tensor:
    """out = (a + bias) * gate; bias is float32."""
    from hornet_train.models.kernels.loops import gate_loop

    loop = gate_loop(_half(a_NC), _half(gate_NC), _half(out_NC), bias is not None)
    places = (*_spaced(a_NC, gate_NC, out_NC), 0 if bias is None else bias.data_ptr())
    openmp.run(loop, (*places, *a_NC.shape), 0)
    return out_NC


def gate_gradient(
    a_NC: Tensor, bias: Tensor | None, gate_NC: Tensor, above_NC: Tensor, for_gate_NC: Tensor, out_NC: Tensor
) -> Tensor:
    """From `above`, the gradient of (a + bias) * gate, that of the gate, and into out that of a, which may be
    above itself; gives the bias's, in float32.
    """
    from hornet_train.models.kernels.loops import gate_slope_loop

    totals = torch.empty(_GROUPS, a_NC.shape[1], dtype=torch.float32)
    loop = gate_slope_loop(_half(a_NC), _half(gate_NC), _half(above_NC), _half(out_NC), bias is not None)
    places = _spaced(a_NC, gate_NC, above_NC, for_gate_NC, out_NC)
    bias_place = 0 if bias is None else bias.data_ptr()
    openmp.run(loop, (*places, bias_place, totals.data_ptr(), _GROUPS, *a_NC.shape), 0)
    return totals.sum(0)
