"""Norm and projection with products in float32, which are ours.

Shape suffixes: N rows (pixels), C channels in, D out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hornet_train.models.kernels import openmp
from hornet_train.models.kernels.rows import FLOAT32, dense, is_half, like_map, matrix, row_bytes, rows_of
from hornet_train.models.kernels.tile_arguments import (
    ProjectionGradientTiles,
    ProjectionGradientTilesFlags,
    ProjectionTiles,
    ProjectionTilesFlags,
)
from hornet_train.models.kernels.tiles import (
    Held,
    add_weight_gradient,
    block_rows,
    packed,
    results,
)

if TYPE_CHECKING:
    from hornet_train.models.kernels.projection import Projection


def forward(inputs: Projection, lower: torch.dtype) -> Tensor:
    """See `projection.project`."""
    from hornet_train.models.kernels.projection_loops import projection_loop, scratch_bytes

    x_NC = rows_of(inputs.x_BCHW).contiguous()
    (count, channels), columns = x_NC.shape, inputs.weight.shape[0]
    out_BDHW, block = like_map(inputs.x_BCHW, columns, lower), block_rows(count)
    norm, bias = (dense(inputs.norm_weight), dense(inputs.norm_bias)), dense(inputs.bias)
    weight = packed(matrix(inputs.weight, torch.float32))
    one = torch.ones(1, **FLOAT32)
    memory = openmp.scratch(scratch_bytes(block, channels, columns))
    arguments = ProjectionTiles(
        x=x_NC.data_ptr(),
        norm_weight=norm[0].data_ptr(),
        norm_bias=norm[1].data_ptr(),
        weight=weight.data_ptr(),
        bias=bias.data_ptr(),
        out=out_BDHW.data_ptr(),
        rows=count,
        channels=channels,
        columns=columns,
        one=one.data_ptr(),
        block=block,
        scratch=memory.ctypes.data,
        scratch_bytes=scratch_bytes(block, channels, columns),
    )
    openmp.run(projection_loop(ProjectionTilesFlags(is_half(x_NC), is_half(out_BDHW))), arguments)
    return out_BDHW


def backward(inputs: Projection, gradient_BDHW: Tensor) -> list[Tensor]:
    """See `projection.project_gradient`."""
    from hornet_train.models.kernels.projection_loops import gradient_scratch_bytes, projection_gradient_loop

    for_x_BCHW = like_map(inputs.x_BCHW, inputs.x_BCHW.shape[1], inputs.x_BCHW.dtype)
    x_NC, gradient_ND = rows_of(inputs.x_BCHW).contiguous(), rows_of(gradient_BDHW)
    for_x_NC, (count, channels), columns = rows_of(for_x_BCHW), x_NC.shape, gradient_ND.shape[1]
    norm = dense(inputs.norm_weight), dense(inputs.norm_bias)
    weight = packed(matrix(inputs.weight, torch.float32), backward=True)
    held = Held(count, columns, channels)
    above, normed = held.tensors
    totals = held.new_totals(2 * channels + columns)
    zeros, one = torch.zeros(channels, **FLOAT32), torch.ones(1, **FLOAT32)
    memory = openmp.scratch(gradient_scratch_bytes(held.block, channels))
    for_matrix, for_vectors = (
        torch.zeros(columns, channels, **FLOAT32),
        torch.zeros(2 * channels + columns, **FLOAT32),
    )
    flags = ProjectionGradientTilesFlags(is_half(x_NC), is_half(gradient_ND))
    for begin, end in held.pieces:
        rows = end - begin
        arguments = ProjectionGradientTiles(
            x=x_NC[begin:].data_ptr(),
            gradient=gradient_ND[begin:].data_ptr(),
            gradient_step=row_bytes(gradient_ND),
            norm_weight=norm[0].data_ptr(),
            norm_bias=norm[1].data_ptr(),
            weight=weight.data_ptr(),
            out=for_x_NC[begin:].data_ptr(),
            above=above.data_ptr(),
            normed=normed.data_ptr(),
            held_block=held.stride,
            totals=totals.data_ptr(),
            rows=rows,
            channels=channels,
            columns=columns,
            one=one.data_ptr(),
            block=held.block,
            zeros=zeros.data_ptr(),
            scratch=memory.ctypes.data,
            scratch_bytes=gradient_scratch_bytes(held.block, channels),
        )
        openmp.run(projection_gradient_loop(flags), arguments)
        add_weight_gradient(for_matrix, above, normed, rows)
        for_vectors += held.sum_of(totals, rows)
    for_weight, for_norm_bias, for_bias = for_vectors.split((channels, channels, columns))
    return [for_x_BCHW, *results((for_weight, for_norm_bias, for_matrix, for_bias), inputs.parameters)]
