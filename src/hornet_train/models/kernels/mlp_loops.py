"""The loops of the MLP branch that numba compiles: whole blocks of rows, forward and backward.

A block of rows goes through the whole branch in one thread's caches: its norm, then some hundred hidden
channels at a time, whose product, GELU and share of the second product follow each other. Blocks, not
threads, decide in what order sums are taken.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.arguments import (
    Gelu,
    GeluGradient,
    GeluGradientHalves,
    GeluHalves,
    Norm,
    NormGradient,
    NormGradientHalves,
    NormHalves,
    code_of,
)
from hornet_train.models.kernels.compile_kernel import compiled, own_share, thread_number, unpacked
from hornet_train.models.kernels.copy_vectors import finish_row, load_row
from hornet_train.models.kernels.depthwise_vectors import clear_row
from hornet_train.models.kernels.gelu_vectors import gelu_gradient_row, gelu_row
from hornet_train.models.kernels.instructions import VERSION
from hornet_train.models.kernels.norm_vectors import norm_gradient_row, norm_row
from hornet_train.models.kernels.product_arguments import Finish, FinishFlags, Load, LoadFlags, Product
from hornet_train.models.kernels.product_vectors import COLUMNS, SPAN, multiply
from hornet_train.models.kernels.tile_arguments import (
    MlpGradientTiles,
    MlpGradientTilesFlags,
    MlpTiles,
    MlpTilesFlags,
)

AT_ONCE = 512  # hidden channels


def scratch_bytes(block: int, channels: int, hidden: int) -> int:
    """Of one thread, forward: the rows of a block before, within and behind the products."""
    return 4 * block * (2 * channels + min(hidden, AT_ONCE))


def gradient_scratch_bytes(block: int, channels: int) -> int:
    """Of one thread, backward: the gradient of the norm's output."""
    return 4 * block * channels


@cache
def mlp_loop(flags: MlpTilesFlags) -> int:
    """The address of a loop: out = x + factor * (W2 GELU(W1 LN(x) + b1) + b2)."""
    norm = code_of(NormHalves(x=flags.x, out=False))
    gelu = code_of(GeluHalves(product=False, kept=flags.kept, keep=flags.keep))
    finish = code_of(FinishFlags(add=True, added_half=flags.x, out_half=flags.out))
    size: Any = 2 if flags.x else 4
    kept_size: Any = 2 if flags.kept else 4
    out_size: Any = 2 if flags.out else 4
    keep, version = int(flags.keep), VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - a compiled loop is kept on disk under what it closes over
        a = unpacked(arguments, MlpTiles)
        x_step, out_step, kept_step = a.channels * size, a.channels * out_size, a.hidden * kept_size
        wide = SPAN * a.block  # a block of LANES channels
        normed = a.scratch + thread_number() * a.scratch_bytes
        branch = normed + a.channels // LANES * wide
        hidden = branch + a.channels // LANES * wide
        w1_panel, w2_panel = 4 * COLUMNS * a.channels, 4 * COLUMNS * a.hidden
        for block in own_share((a.rows + a.block - 1) // a.block):
            first = block * a.block
            rows = min(a.block, a.rows - first)
            x = a.x + first * x_step
            norms = Norm(x, x_step, a.norm_weight, a.norm_bias, normed, SPAN, wide, rows, a.channels)
            for r in range(rows):
                norm_row(norm, norms, r)
            for h in range(0, a.hidden, AT_ONCE):
                count = min(AT_ONCE, a.hidden - h)
                w1 = a.w1 + h // COLUMNS * w1_panel
                multiply(
                    Product(normed, wide, w1, w1_panel, 0, a.channels, hidden, wide, rows, count, a.zeros, 0)
                )
                for c in range(0, count, LANES):
                    part = hidden + c // LANES * wide
                    kept, step = part, SPAN
                    if keep:
                        kept, step = a.kept + first * kept_step + (h + c) * kept_size, kept_step
                    values = Gelu(part, SPAN, a.b1 + (h + c) * 4, kept, step, part, SPAN, rows, LANES)
                    for r in range(rows):
                        gelu_row(gelu, values, r)
                bias = a.zeros if h else a.b2
                multiply(
                    Product(hidden, wide, a.w2, w2_panel, h, count, branch, wide, rows, a.channels, bias, h)
                )
            ends = Finish(branch, SPAN, wide, x, x_step, a.out + first * out_step, out_step, a.channels)
            for r in range(rows):
                finish_row(finish, ends, r, a.factors + (first + r) // a.pixels * 4)

    return compiled(loop)


@cache
def mlp_gradient_loop(flags: MlpGradientTilesFlags) -> int:
    """The address of a loop: the gradient of x, and what those of the parameters are made of."""
    norm = code_of(NormHalves(x=flags.x, out=False))
    given = code_of(LoadFlags(half=flags.gradient))
    gelu = code_of(GeluGradientHalves(gradient=False, kept=flags.kept))
    back_norm = code_of(NormGradientHalves(x=flags.x, above=False, besides=flags.gradient, add=True))
    size: Any = 2 if flags.x else 4
    kept_size: Any = 2 if flags.kept else 4
    gradient_size: Any = 2 if flags.gradient else 4
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, MlpGradientTiles)
        x_step, gradient_step, kept_step = a.channels * size, a.channels * gradient_size, a.hidden * kept_size
        wide, held = SPAN * a.block, a.held_block
        back = a.scratch + thread_number() * a.scratch_bytes
        w1_panel, w2_panel = 4 * COLUMNS * a.hidden, 4 * COLUMNS * a.channels
        for block in own_share((a.rows + a.block - 1) // a.block):
            first = block * a.block
            rows = min(a.block, a.rows - first)
            x, gradient, out = (
                a.x + first * x_step,
                a.gradient + first * gradient_step,
                a.out + first * x_step,
            )
            above, normed = a.above + first * SPAN, a.normed + first * SPAN
            for_b1 = a.totals + block * (a.hidden + 3 * a.channels) * 4
            for_weight = for_b1 + a.hidden * 4
            for_bias = for_weight + a.channels * 4
            for_b2 = for_bias + a.channels * 4
            clear_row(for_b1, (a.hidden + 3 * a.channels) // LANES)
            loads = Load(gradient, gradient_step, above, SPAN, held, a.channels)
            norms = Norm(x, x_step, a.norm_weight, a.norm_bias, normed, SPAN, held, rows, a.channels)
            for r in range(rows):
                load_row(given, loads, r, a.factors + (a.row + first + r) // a.pixels * 4, for_b2)
                norm_row(norm, norms, r)
            for h in range(0, a.hidden, AT_ONCE):
                count, skipped = min(AT_ONCE, a.hidden - h), h // LANES * held + first * SPAN
                inner, after = a.inner + skipped, a.after + skipped
                w2 = a.w2 + h // COLUMNS * w2_panel
                multiply(
                    Product(above, held, w2, w2_panel, 0, a.channels, inner, held, rows, count, a.zeros, 0)
                )
                for c in range(0, count, LANES):
                    kept, part = a.kept + first * kept_step + (h + c) * kept_size, c // LANES * held
                    values = GeluGradient(
                        kept, kept_step, inner + part, SPAN, after + part, SPAN, 0, 1, rows, LANES
                    )
                    for r in range(rows):
                        gelu_gradient_row(gelu, values, r, for_b1 + (h + c) * 4)
                multiply(
                    Product(inner, held, a.w1, w1_panel, h, count, back, wide, rows, a.channels, a.zeros, h)
                )
            ends = NormGradient(
                *(x, x_step, back, SPAN, wide, a.norm_weight, gradient, gradient_step, out, x_step),
                *(0, 1, rows, a.channels),
            )
            for r in range(rows):
                norm_gradient_row(back_norm, ends, r, for_weight, for_bias)

    return compiled(loop)
