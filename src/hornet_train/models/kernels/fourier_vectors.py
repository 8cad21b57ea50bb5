"""Vector instructions of the global filter: LANES channels of an image, by real Fourier matrices.

A transform along one dimension is a matrix times the LANES channels of its pixels. Along the width real
values become (frequency, re | im), along the height (re | im, h) becomes the same of frequencies, so that
every step reads and writes at one distance. The norm behind the filter interleaves its halves.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.fourier_arguments import Apply, Interleave, InterleaveFlags, Spectra
from hornet_train.models.kernels.instructions import I64, WIDTH, instruction, store, summing, widened
from hornet_train.models.kernels.norm_vectors import statistics
from hornet_train.models.kernels.product_vectors import ROWS, SPAN, ZERO, summed
from hornet_train.models.kernels.row_vectors import (
    accumulate,
    at_block,
    at_step,
    call,
    filled,
    put,
    spaced_row,
    sum_of_lanes,
)

_VECTORS = LANES // WIDTH
_TILES = (ROWS, 2, 1)  # rows of a tile: as many as there are, then what is left


def _apply(builder: ir.IRBuilder, p: Apply) -> None:
    """`apply_matrix(apply)`: out = matrix b."""
    kind = ir.FunctionType(ir.VoidType(), [I64] * len(p))
    function = cgutils.get_or_insert_function(builder.module, kind, "hornet_apply")
    if function.is_declaration:  # once for all steps of a loop
        function.linkage = "internal"
        function.attributes.add("noinline")
        body = ir.IRBuilder(function.append_basic_block("entry"))
        _emit_apply(body, Apply(*function.args))
        body.ret_void()
    builder.call(function, p)


apply_matrix = instruction(_apply)


def _emit_apply(builder: ir.IRBuilder, p: Apply) -> None:
    matrix_step, done, left = builder.mul(p.depth, I64(4)), I64(0), p.rows
    b_parts = [builder.add(p.b, I64(4 * WIDTH * j)) for j in range(_VECTORS)]
    for rows in _TILES:
        tiles = builder.sdiv(left, I64(rows))
        with cgutils.for_range(builder, tiles) as tile:
            row = builder.add(done, builder.mul(tile.index, I64(rows)))
            a_rows = [
                spaced_row(builder, p.matrix, builder.add(row, I64(i)), matrix_step) for i in range(rows)
            ]
            sums = summed(
                *(builder, p.depth, 1, [ZERO] * (rows * _VECTORS), a_rows, I64(4), 4),
                *(b_parts, p.b_step, 0),
            )
            for i in range(rows):
                place = spaced_row(builder, p.out, builder.add(row, I64(i)), p.out_step)
                for j in range(_VECTORS):
                    store(builder, sums[i * _VECTORS + j], builder.add(place, I64(4 * WIDTH * j)))
        taken = builder.mul(tiles, I64(rows))
        done, left = builder.add(done, taken), builder.sub(left, taken)


def _parts(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value, height: ir.Value) -> list[ir.Value]:
    """Addresses of a complex value's real and imaginary part."""
    re = builder.add(base, offset)
    return [re, builder.add(re, builder.mul(height, I64(SPAN)))]


def _filter_spectrum(builder: ir.IRBuilder, p: Spectra) -> None:
    """`filter_spectrum(spectra)`: spectrum *= filter, complex."""
    with cgutils.for_range(builder, p.columns) as column, cgutils.for_range(builder, p.height) as line:
        offset = _offset(builder, p, column.index, line.index)
        places = _parts(builder, p.spectrum, offset, p.height)
        re, im = (widened(builder, place, False) for place in places)
        f_re, f_im = (widened(builder, place, False) for place in _parts(builder, p.filter, offset, p.height))
        put(builder, builder.fsub(builder.fmul(re, f_re), builder.fmul(im, f_im)), places[0], False)
        put(builder, call(builder, "fma", re, f_im, builder.fmul(im, f_re)), places[1], False)


filter_spectrum = instruction(_filter_spectrum)


def _filter_gradient(builder: ir.IRBuilder, p: Spectra) -> None:
    """`filter_gradient(spectra)`: total += conj(spectrum) gradient, gradient *= conj(filter)."""
    with cgutils.for_range(builder, p.columns) as column, cgutils.for_range(builder, p.height) as line:
        offset = _offset(builder, p, column.index, line.index)
        bases = p.spectrum, p.filter, p.gradient, p.total
        places = [_parts(builder, base, offset, p.height) for base in bases]
        (re, im), (f_re, f_im), (g_re, g_im), (t_re, t_im) = (
            [widened(builder, place, False) for place in both] for both in places
        )
        t_re = call(builder, "fma", re, g_re, call(builder, "fma", im, g_im, t_re))
        t_im = builder.fsub(call(builder, "fma", re, g_im, t_im), builder.fmul(im, g_re))
        x_re = call(builder, "fma", f_re, g_re, builder.fmul(f_im, g_im))
        x_im = builder.fsub(builder.fmul(f_re, g_im), builder.fmul(f_im, g_re))
        for value, place in zip((x_re, x_im, t_re, t_im), (*places[2], *places[3]), strict=True):
            put(builder, value, place, False)


filter_gradient = instruction(_filter_gradient)


def _offset(builder: ir.IRBuilder, p: Spectra, column: ir.Value, line: ir.Value) -> ir.Value:
    """Bytes before the real part of a value."""
    rows = builder.add(builder.mul(column, builder.mul(p.height, I64(2))), line)
    return builder.mul(rows, I64(SPAN))


def _shuffled(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes)
    return builder.shuffle_vector(a, b, mask)


_FIRST = [lane // 2 + lane % 2 * LANES for lane in range(LANES)]  # a_0 b_0 a_1 b_1 ..
_SECOND = [lane + LANES // 2 for lane in _FIRST]
_EVEN = [2 * lane for lane in range(LANES)]
_ODD = [2 * lane + 1 for lane in range(LANES)]


def _interleave_row(builder: ir.IRBuilder, flags: InterleaveFlags, p: Interleave, row: ir.Value) -> None:
    """`interleave_row(flags, interleave, row)`: out = LN(mixed) * weight + bias, the halves alternating."""
    mixed = builder.add(p.mixed, builder.mul(row, I64(SPAN)))
    out = spaced_row(builder, p.out, row, p.out_step)
    half = builder.sdiv(p.channels, I64(2 * LANES))
    _, mean, scale = statistics(builder, False, mixed, p.channels, p.mixed_block)
    with cgutils.for_range(builder, half) as loop:
        both = []
        for index in (loop.index, builder.add(loop.index, half)):
            value = widened(builder, at_step(builder, mixed, index, p.mixed_block), False)
            w, b = (
                widened(builder, at_block(builder, base, index, False), False) for base in (p.weight, p.bias)
            )
            both.append(call(builder, "fma", builder.fmul(builder.fsub(value, mean), scale), w, b))
        for part, lanes in enumerate((_FIRST, _SECOND)):
            block = builder.add(builder.mul(loop.index, I64(2)), I64(part))
            value = _shuffled(builder, both[0], both[1], lanes)
            put(builder, value, at_block(builder, out, block, flags.half), flags.half)


interleave_row = instruction(_interleave_row)


def _interleave_gradient_row(
    builder: ir.IRBuilder, flags: InterleaveFlags, p: Interleave, row: ir.Value, total: ir.Value
) -> None:
    """`interleave_gradient_row(flags, interleave, row, total)`: mixed becomes its gradient, from that of out.

    total, of weight and behind it of bias, is added to.
    """
    mixed = builder.add(p.mixed, builder.mul(row, I64(SPAN)))
    gradient = spaced_row(builder, p.out, row, p.out_step)
    half = builder.sdiv(p.channels, I64(2 * LANES))
    for_bias = builder.add(total, builder.mul(p.channels, I64(4)))
    share, mean, scale = statistics(builder, False, mixed, p.channels, p.mixed_block)

    def at(index: ir.Value) -> list[tuple[ir.Value, ir.Value, ir.Value, ir.Value]]:
        """(index of the block, n, gradient, d) of a block of each half."""
        pair = [
            widened(
                builder,
                at_block(builder, gradient, builder.add(builder.mul(index, I64(2)), I64(part)), flags.half),
                flags.half,
            )
            for part in (0, 1)
        ]
        found = []
        for block, lanes in ((index, _EVEN), (builder.add(index, half), _ODD)):
            g = _shuffled(builder, pair[0], pair[1], lanes)
            value = widened(builder, at_step(builder, mixed, block, p.mixed_block), False)
            w = widened(builder, at_block(builder, p.weight, block, False), False)
            n = builder.fmul(builder.fsub(value, mean), scale)
            found.append((block, n, g, builder.fmul(g, w)))
        return found

    with summing(builder, half, [filled(0.0), filled(0.0)]) as held:
        of_d, of_dn = held.values
        for block, n, g, d in at(held.index):
            accumulate(builder, builder.fmul(g, n), total, block)
            accumulate(builder, g, for_bias, block)
            of_d, of_dn = builder.fadd(of_d, d), call(builder, "fma", d, n, of_dn)
        held.after += [of_d, of_dn]
    of_d, of_dn = (builder.fmul(sum_of_lanes(builder, value), share) for value in held.values)
    with cgutils.for_range(builder, half) as loop:
        for block, n, _, d in at(loop.index):
            value = builder.fmul(builder.fsub(builder.fsub(d, of_d), builder.fmul(n, of_dn)), scale)
            put(builder, value, at_step(builder, mixed, block, p.mixed_block), False)


interleave_gradient_row = instruction(_interleave_gradient_row)
