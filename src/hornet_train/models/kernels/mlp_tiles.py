"""The MLP branch with products in float32, which are ours.

Shape suffixes: C channels, M hidden channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hornet_train.models.kernels import openmp
from hornet_train.models.kernels.rows import (
    FLOAT32,
    dense,
    is_half,
    like_map,
    matrix,
    rows_of,
    unscale_,
    vector,
)
from hornet_train.models.kernels.tile_arguments import (
    MlpGradientTiles,
    MlpGradientTilesFlags,
    MlpTiles,
    MlpTilesFlags,
)
from hornet_train.models.kernels.tiles import (
    Held,
    add_weight_gradient,
    block_rows,
    factors_of,
    packed,
    results,
)

if TYPE_CHECKING:
    from hornet_train.models.kernels.mlp import Mlp


def forward(inputs: Mlp, lower: torch.dtype, *, keep: bool) -> tuple[Tensor, Tensor]:
    """See `mlp.mlp`."""
    from hornet_train.models.kernels.mlp_loops import mlp_loop, scratch_bytes

    x_NC, out_BCHW = rows_of(inputs.x_BCHW).contiguous(), inputs.new_output()
    (hidden, channels), block = inputs.w1_MC.shape, block_rows(len(x_NC))
    hidden_NM = torch.empty(len(x_NC) if keep else 0, hidden, dtype=lower)
    w1, w2 = packed(matrix(inputs.w1_MC, torch.float32)), packed(_second(inputs))
    norm = dense(inputs.norm_weight), dense(inputs.norm_bias)
    b1, b2 = dense(inputs.b1), vector(inputs.b2, torch.float32, inputs.gamma)
    factors, pixels = factors_of(inputs.factor_B, inputs.x_BCHW)
    zeros = torch.zeros(max(hidden, channels), **FLOAT32)
    memory = openmp.scratch(scratch_bytes(block, channels, hidden))
    arguments = MlpTiles(
        x=x_NC.data_ptr(),
        factors=factors.data_ptr(),
        pixels=pixels,
        norm_weight=norm[0].data_ptr(),
        norm_bias=norm[1].data_ptr(),
        w1=w1.data_ptr(),
        b1=b1.data_ptr(),
        w2=w2.data_ptr(),
        b2=b2.data_ptr(),
        kept=hidden_NM.data_ptr(),
        out=out_BCHW.data_ptr(),
        rows=len(x_NC),
        channels=channels,
        hidden=hidden,
        block=block,
        zeros=zeros.data_ptr(),
        scratch=memory.ctypes.data,
        scratch_bytes=scratch_bytes(block, channels, hidden),
    )
    flags = MlpTilesFlags(
        x=is_half(x_NC),
        kept=keep and is_half(hidden_NM),
        out=is_half(out_BCHW),
        keep=keep,
    )
    openmp.run(mlp_loop(flags), arguments)
    return out_BCHW, hidden_NM


def backward(inputs: Mlp, hidden_NM: Tensor, gradient_BCHW: Tensor) -> list[Tensor]:
    """See `mlp.mlp_gradient`."""
    from hornet_train.models.kernels.mlp_loops import gradient_scratch_bytes, mlp_gradient_loop

    for_x_BCHW = like_map(inputs.x_BCHW, inputs.x_BCHW.shape[1], inputs.x_BCHW.dtype)
    x_NC, gradient_NC = rows_of(inputs.x_BCHW).contiguous(), rows_of(gradient_BCHW).contiguous()
    for_x_NC = rows_of(for_x_BCHW)
    (hidden, channels), count = inputs.w1_MC.shape, len(x_NC)
    w1 = packed(matrix(inputs.w1_MC, torch.float32), backward=True)
    w2 = packed(_second(inputs), backward=True)
    norm = dense(inputs.norm_weight), dense(inputs.norm_bias)
    factors, pixels = factors_of(inputs.factor_B, inputs.x_BCHW)
    held = Held(count, channels, channels, hidden, hidden)
    above, normed, inner, after = held.tensors
    totals = held.new_totals(hidden + 3 * channels)
    zeros = torch.zeros(max(hidden, channels), **FLOAT32)
    memory = openmp.scratch(gradient_scratch_bytes(held.block, channels))
    flags = MlpGradientTilesFlags(
        x=is_half(x_NC),
        gradient=is_half(gradient_NC),
        kept=is_half(hidden_NM),
    )
    for_w1, for_w2 = torch.zeros(hidden, channels, **FLOAT32), torch.zeros(channels, hidden, **FLOAT32)
    for_vectors = torch.zeros(hidden + 3 * channels, **FLOAT32)
    for begin, end in held.pieces:
        rows = end - begin
        arguments = MlpGradientTiles(
            x=x_NC[begin:].data_ptr(),
            gradient=gradient_NC[begin:].data_ptr(),
            factors=factors.data_ptr(),
            pixels=pixels,
            norm_weight=norm[0].data_ptr(),
            norm_bias=norm[1].data_ptr(),
            w1=w1.data_ptr(),
            w2=w2.data_ptr(),
            kept=hidden_NM[begin:].data_ptr(),
            out=for_x_NC[begin:].data_ptr(),
            above=above.data_ptr(),
            normed=normed.data_ptr(),
            inner=inner.data_ptr(),
            after=after.data_ptr(),
            held_block=held.stride,
            totals=totals.data_ptr(),
            row=begin,
            rows=rows,
            channels=channels,
            hidden=hidden,
            block=held.block,
            zeros=zeros.data_ptr(),
            scratch=memory.ctypes.data,
            scratch_bytes=gradient_scratch_bytes(held.block, channels),
        )
        openmp.run(mlp_gradient_loop(flags), arguments)
        add_weight_gradient(for_w2, above, after, rows)
        add_weight_gradient(for_w1, inner, normed, rows)
        for_vectors += held.sum_of(totals, rows)
    for_b1, for_weight, for_bias, for_b2 = for_vectors.split((hidden, channels, channels, channels))
    for_gamma = unscale_(inputs.gamma, inputs.w2_CM, inputs.b2, for_w2, for_b2)
    found = for_weight, for_bias, for_w1, for_b1, for_w2, for_b2
    return [for_x_BCHW, for_gamma, *results(found, inputs.parameters)]


def _second(inputs: Mlp) -> Tensor:
    """gamma W2."""
    return matrix(inputs.w2_CM, torch.float32, inputs.gamma)
