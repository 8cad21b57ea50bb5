"""The loops of norm and projection that numba compiles: whole blocks of rows, forward and backward."""

from __future__ import annotations

from functools import cache
from typing import Any

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.arguments import Norm, NormGradient, NormGradientHalves, NormHalves, code_of
from hornet_train.models.kernels.compile_kernel import compiled, own_share, thread_number, unpacked
from hornet_train.models.kernels.copy_vectors import finish_row, load_row
from hornet_train.models.kernels.depthwise_vectors import clear_row
from hornet_train.models.kernels.instructions import VERSION
from hornet_train.models.kernels.norm_vectors import norm_gradient_row, norm_row
from hornet_train.models.kernels.product_arguments import Finish, FinishFlags, Load, LoadFlags, Product
from hornet_train.models.kernels.product_vectors import COLUMNS, SPAN, multiply
from hornet_train.models.kernels.tile_arguments import (
    ProjectionGradientTiles,
    ProjectionGradientTilesFlags,
    ProjectionTiles,
    ProjectionTilesFlags,
)


def scratch_bytes(block: int, channels: int, columns: int) -> int:
    """Of one thread, forward: a block of rows before and behind the product."""
    return 4 * block * (channels + columns)


def gradient_scratch_bytes(block: int, channels: int) -> int:
    """Of one thread, backward: the gradient of the norm's output."""
    return 4 * block * channels


@cache
def projection_loop(flags: ProjectionTilesFlags) -> int:
    """The address of a loop: out = W LN(x) + bias."""
    norm = code_of(NormHalves(x=flags.x, out=False))
    finish = code_of(FinishFlags(add=False, added_half=False, out_half=flags.out))
    size: Any = 2 if flags.x else 4
    out_size: Any = 2 if flags.out else 4
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - a compiled loop is kept on disk under what it closes over
        a = unpacked(arguments, ProjectionTiles)
        x_step, out_step, wide = a.channels * size, a.columns * out_size, SPAN * a.block
        normed = a.scratch + thread_number() * a.scratch_bytes
        product = normed + a.channels // LANES * wide
        panel = 4 * COLUMNS * a.channels
        for block in own_share((a.rows + a.block - 1) // a.block):
            first = block * a.block
            rows = min(a.block, a.rows - first)
            x, out = a.x + first * x_step, a.out + first * out_step
            norms = Norm(x, x_step, a.norm_weight, a.norm_bias, normed, SPAN, wide, rows, a.channels)
            for r in range(rows):
                norm_row(norm, norms, r)
            multiply(
                Product(
                    normed, wide, a.weight, panel, 0, a.channels, product, wide, rows, a.columns, a.bias, 0
                )
            )
            ends = Finish(product, SPAN, wide, 0, 0, out, out_step, a.columns)
            for r in range(rows):
                finish_row(finish, ends, r, a.one)

    return compiled(loop)


@cache
def projection_gradient_loop(flags: ProjectionGradientTilesFlags) -> int:
    """The address of a loop: the gradient of x, and what those of the parameters are made of."""
    norm = code_of(NormHalves(x=flags.x, out=False))
    given = code_of(LoadFlags(half=flags.gradient))
    back_norm = code_of(NormGradientHalves(x=flags.x, above=False, besides=False, add=False))
    size: Any = 2 if flags.x else 4
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, ProjectionGradientTiles)
        x_step, wide, held = a.channels * size, SPAN * a.block, a.held_block
        back = a.scratch + thread_number() * a.scratch_bytes
        panel = 4 * COLUMNS * a.columns
        for block in own_share((a.rows + a.block - 1) // a.block):
            first = block * a.block
            rows = min(a.block, a.rows - first)
            x, out = a.x + first * x_step, a.out + first * x_step
            above, normed = a.above + first * SPAN, a.normed + first * SPAN
            for_weight = a.totals + block * (2 * a.channels + a.columns) * 4
            for_norm_bias = for_weight + a.channels * 4
            for_bias = for_norm_bias + a.channels * 4
            clear_row(for_weight, (2 * a.channels + a.columns) // LANES)
            gradient = a.gradient + first * a.gradient_step
            loads = Load(gradient, a.gradient_step, above, SPAN, held, a.columns)
            norms = Norm(x, x_step, a.norm_weight, a.norm_bias, normed, SPAN, held, rows, a.channels)
            for r in range(rows):
                load_row(given, loads, r, a.one, for_bias)
                norm_row(norm, norms, r)
            multiply(
                Product(above, held, a.weight, panel, 0, a.columns, back, wide, rows, a.channels, a.zeros, 0)
            )
            ends = NormGradient(
                *(x, x_step, back, SPAN, wide, a.norm_weight, 0, 0, out, x_step),
                *(0, 1, rows, a.channels),
            )
            for r in range(rows):
                norm_gradient_row(back_norm, ends, r, for_weight, for_norm_bias)

    return compiled(loop)
