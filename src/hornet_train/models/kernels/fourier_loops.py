"""The loops of the global filter that numba compiles, and of the norms before and behind it.

A task of the filter is LANES channels of an image (or of a group of images, for gradients), whose spectrum
stays in the first cache. Tasks, not threads, decide in what order sums are taken.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.arguments import (
    Norm,
    NormGradient,
    NormGradientHalves,
    NormHalves,
    code_of,
)
from hornet_train.models.kernels.compile_kernel import compiled, own_share, thread_number, unpacked
from hornet_train.models.kernels.depthwise_vectors import clear_row
from hornet_train.models.kernels.fourier_arguments import (
    Apply,
    Blocked,
    BlockedGradient,
    Fourier,
    FourierGradient,
    Interleave,
    InterleaveFlags,
    Spectra,
)
from hornet_train.models.kernels.fourier_vectors import (
    apply_matrix,
    filter_gradient,
    filter_spectrum,
    interleave_gradient_row,
    interleave_row,
)
from hornet_train.models.kernels.instructions import VERSION
from hornet_train.models.kernels.norm_vectors import norm_gradient_row, norm_row
from hornet_train.models.kernels.product_vectors import SPAN


def spectrum_bytes(height: int, width: int) -> int:
    """Of one spectrum of LANES channels."""
    return SPAN * 2 * height * (width // 2 + 1)


@cache
def fourier_loop() -> int:
    """The address of a loop: out = the global filter of x."""
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - a compiled loop is kept on disk under what it closes over
        a = unpacked(arguments, Fourier)
        columns, line, tall = a.width // 2 + 1, a.width * SPAN, a.height * SPAN
        one = a.scratch + thread_number() * a.scratch_bytes
        other = one + columns * 2 * tall
        for task in own_share(a.images * a.blocks):
            image, block = task // a.blocks, task % a.blocks
            x = a.x + block * a.x_block + image * a.height * line
            out = a.out + block * a.out_block + image * a.height * line
            for h in range(a.height):
                apply_matrix(Apply(a.across, 2 * columns, a.width, x + h * line, SPAN, one + h * SPAN, tall))
            for f in range(columns):
                place = f * 2 * tall
                apply_matrix(
                    Apply(a.down, 2 * a.height, 2 * a.height, one + place, SPAN, other + place, SPAN)
                )
            values = a.filters + block * columns * 2 * tall
            filter_spectrum(Spectra(other, values, 0, 0, columns, a.height))
            for f in range(columns):
                place = f * 2 * tall
                apply_matrix(Apply(a.up, 2 * a.height, 2 * a.height, other + place, SPAN, one + place, SPAN))
            for h in range(a.height):
                apply_matrix(Apply(a.back, a.width, 2 * columns, one + h * SPAN, tall, out + h * line, SPAN))

    return compiled(loop)


@cache
def fourier_gradient_loop() -> int:
    """The address of a loop: the gradient of x, and totals of the filter's for each group of images."""
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, FourierGradient)
        columns, line, tall = a.width // 2 + 1, a.width * SPAN, a.height * SPAN
        one = a.scratch + thread_number() * a.scratch_bytes
        spectrum = one + columns * 2 * tall
        gradient = spectrum + columns * 2 * tall
        for task in own_share(a.groups * a.blocks):
            group, block = task // a.blocks, task % a.blocks
            total = a.totals + (group * a.blocks + block) * columns * 2 * tall
            clear_row(total, columns * 2 * a.height)
            values = a.filters + block * columns * 2 * tall
            for image in range(a.images * group // a.groups, a.images * (group + 1) // a.groups):
                x = a.x + block * a.x_block + image * a.height * line
                above = a.gradient + block * a.gradient_block + image * a.height * line
                out = a.out + block * a.out_block + image * a.height * line
                for h in range(a.height):
                    apply_matrix(
                        Apply(a.across, 2 * columns, a.width, x + h * line, SPAN, one + h * SPAN, tall)
                    )
                for f in range(columns):
                    place = f * 2 * tall
                    apply_matrix(
                        Apply(a.down, 2 * a.height, 2 * a.height, one + place, SPAN, spectrum + place, SPAN)
                    )
                for h in range(a.height):
                    apply_matrix(
                        Apply(a.back_t, 2 * columns, a.width, above + h * line, SPAN, one + h * SPAN, tall)
                    )
                for f in range(columns):
                    place = f * 2 * tall
                    apply_matrix(
                        Apply(a.up_t, 2 * a.height, 2 * a.height, one + place, SPAN, gradient + place, SPAN)
                    )
                filter_gradient(Spectra(spectrum, values, gradient, total, columns, a.height))
                for f in range(columns):
                    place = f * 2 * tall
                    apply_matrix(
                        Apply(a.down_t, 2 * a.height, 2 * a.height, gradient + place, SPAN, one + place, SPAN)
                    )
                for h in range(a.height):
                    apply_matrix(
                        Apply(a.across_t, a.width, 2 * columns, one + h * SPAN, tall, out + h * line, SPAN)
                    )

    return compiled(loop)


@cache
def blocked_norm_loop(half: bool) -> int:
    """The address of a loop: LN of rows, bfloat16 with `half`, into blocks."""
    code, version = code_of(NormHalves(x=half, out=False)), VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, Blocked)
        norms = Norm(a.x, a.x_step, a.weight, a.bias, a.out, SPAN, a.out_block, a.rows, a.channels)
        for block in own_share((a.rows + a.block - 1) // a.block):
            for r in range(block * a.block, min(a.rows, (block + 1) * a.block)):
                norm_row(code, norms, r)

    return compiled(loop)


@cache
def blocked_norm_gradient_loop(half: bool) -> int:
    """The address of a loop: the gradient of x, bfloat16 with `half`, from blocks."""
    code = code_of(NormGradientHalves(x=half, above=False, besides=False, add=False))
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, BlockedGradient)
        ends = NormGradient(
            *(a.x, a.x_step, a.above, SPAN, a.above_block, a.weight, 0, 0, a.out, a.out_step),
            *(0, 1, a.rows, a.channels),
        )
        for block in own_share((a.rows + a.block - 1) // a.block):
            total = a.totals + block * a.channels * 8
            clear_row(total, 2 * a.channels // LANES)
            for r in range(block * a.block, min(a.rows, (block + 1) * a.block)):
                norm_gradient_row(code, ends, r, total, total + a.channels * 4)

    return compiled(loop)


@cache
def interleave_loop(flags: InterleaveFlags) -> int:
    """The address of a loop of `interleave_row`."""
    code, version = code_of(flags), VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, Interleave)
        for block in own_share((a.rows + a.block - 1) // a.block):
            for r in range(block * a.block, min(a.rows, (block + 1) * a.block)):
                interleave_row(code, a, r)

    return compiled(loop)


@cache
def interleave_gradient_loop(flags: InterleaveFlags) -> int:
    """The same of `interleave_gradient_row`."""
    code, version = code_of(flags), VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, Interleave)
        for block in own_share((a.rows + a.block - 1) // a.block):
            total = a.totals + block * a.channels * 8
            clear_row(total, 2 * a.channels // LANES)
            for r in range(block * a.block, min(a.rows, (block + 1) * a.block)):
                interleave_gradient_row(code, a, r, total)

    return compiled(loop)
