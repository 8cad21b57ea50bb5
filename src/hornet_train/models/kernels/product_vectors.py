"""Matrix products of float32 in registers, and how a weight is laid out for them.

A product out (rows, columns) = a (rows, depth) b (depth, columns) goes tile by tile: ROWS x COLUMNS sums
stay in registers over the whole depth; each step loads one row of b's panel and multiplies it with a
value of each row of a. b lies in panels of COLUMNS columns, (depth, COLUMNS) each, one behind the other,
so that a panel is read in order and, small enough, stays in the first cache for all rows. LANES divides
the columns; on processors whose panels are wider the last one may be half as wide. a and out lie in
blocks of LANES columns, (rows, LANES) each: rows a power of two apart would share few sets of a cache.

Each sum is taken by one thread in the order of the depth: results depend on nothing but the inputs.
"""

from __future__ import annotations

import platform

from llvmlite import ir
from numba.core import cgutils

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.instructions import (
    FLOAT,
    I64,
    VECTOR,
    WIDTH,
    fused,
    instruction,
    load,
    store,
    summing,
)
from hornet_train.models.kernels.product_arguments import (
    Outer,
    Pack,
    PackFlags,
    Product,
)
from hornet_train.models.kernels.row_vectors import (
    spaced_row,
)

VECTORS = 2  # of a row of a tile
COLUMNS = VECTORS * WIDTH
ROWS = 12 if WIDTH == 16 else 6  # of a tile: as many as the registers hold, 16 of AVX2 and 32 of AVX-512
# of the tiles of a^T b, whose rows are LANES columns of a: (the first, how many)
OUTER_ROWS = ((0, 8), (8, 8)) if WIDTH == 16 else ((0, 6), (6, 6), (12, 4))
SPAN = 4 * LANES  # bytes from one row of a block to the next
ZERO = ir.Constant(VECTOR, [0.0] * WIDTH)
_UNROLLED = 4  # products of a turn of a^T b
X86 = platform.machine() in ("x86_64", "AMD64")


def _broadcast(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
    """One float32 from memory in all of a vector."""
    value = builder.load(builder.inttoptr(place, FLOAT.as_pointer()))
    value.align = 4
    lane = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(lane, lane, mask)


def _settled(builder: ir.IRBuilder, sums: list[ir.Value]) -> list[ir.Value]:
    """The same sums, which the compiler may not put off: for some processors it would load ahead for many
    products, until no register is left, and a third of all instructions move values to memory and back.
    """
    count = len(sums)
    # LLVM takes no struct of one
    outputs = VECTOR if count == 1 else ir.LiteralStructType([VECTOR] * count)
    constraint = ",".join(["=v"] * count + [str(i) for i in range(count)])
    tied = builder.asm(ir.FunctionType(outputs, [VECTOR] * count), "", constraint, sums, side_effect=True)
    return [tied] if count == 1 else [builder.extract_value(tied, i) for i in range(count)]


def summed(
    builder: ir.IRBuilder,
    turns: ir.Value,
    unrolled: int,
    sums: list[ir.Value],
    a_rows: list[ir.Value],
    a_turn: ir.Value,
    a_step: int,
    b_parts: list[ir.Value],
    b_turn: ir.Value,
    b_step: int,
) -> list[ir.Value]:
    """The sums of a tile, row by row, plus so many turns of `unrolled` products each.

    Args:
        a_rows, b_parts: addresses of the first values, of each row and of each vector.
        a_turn, b_turn: bytes from one turn's values to the next's.
        a_step, b_step: bytes from one product's values to the next's of a turn.
    """
    vectors = len(b_parts)
    with summing(builder, turns, sums) as held:
        now = list(held.values)
        a_offset, b_offset = builder.mul(held.index, a_turn), builder.mul(held.index, b_turn)
        for step in range(unrolled):
            parts = [
                load(builder, builder.add(builder.add(part, b_offset), I64(step * b_step)), VECTOR)
                for part in b_parts
            ]
            for i, a_row in enumerate(a_rows):
                place = builder.add(builder.add(a_row, a_offset), I64(step * a_step))
                value = _broadcast(builder, place)
                for j, part in enumerate(parts):
                    now[i * vectors + j] = fused(builder, value, part, now[i * vectors + j])
            now = _settled(builder, now) if X86 else now
        held.after += now
    return held.values


def _panels(builder: ir.IRBuilder, columns: ir.Value) -> list[tuple[int, ir.Value, ir.Value]]:
    """(vectors of a row, number of panels, column of the first) of the whole panels, and of the half one."""
    whole = builder.sdiv(columns, I64(COLUMNS))
    kinds = [(VECTORS, whole, I64(0))]
    if COLUMNS > LANES:
        behind = builder.mul(whole, I64(COLUMNS))
        kinds.append((LANES // WIDTH, builder.sdiv(builder.sub(columns, behind), I64(LANES)), behind))
    return kinds


def _multiply(builder: ir.IRBuilder, p: Product) -> None:
    """`multiply(product)`: out = a b, plus a bias of each column, plus, with `add`, what out was.

    Whole tiles are written: a and out must have memory for a multiple of ROWS rows. LANES divides the depth.
    """
    kind = ir.FunctionType(ir.VoidType(), [I64] * len(p))
    function = cgutils.get_or_insert_function(builder.module, kind, "hornet_multiply")
    if function.is_declaration:  # once for all products of a loop, as it is long
        function.linkage = "internal"
        function.attributes.add("noinline")
        body = ir.IRBuilder(function.append_basic_block("entry"))
        _emit_multiply(body, Product(*function.args))
        body.ret_void()
    builder.call(function, p)


multiply = instruction(_multiply)


def _emit_multiply(builder: ir.IRBuilder, p: Product) -> None:
    tiles = builder.sdiv(builder.add(p.rows, I64(ROWS - 1)), I64(ROWS))
    turns = builder.sdiv(p.depth, I64(LANES))
    for vectors, panels, column in _panels(builder, p.columns):
        b_step = 4 * WIDTH * vectors
        with cgutils.for_range(builder, panels) as panel:
            first = builder.add(column, builder.mul(panel.index, I64(COLUMNS)))
            b = builder.add(p.b, builder.mul(builder.sdiv(first, I64(COLUMNS)), p.b_panel))
            b = builder.add(b, builder.mul(p.b_skipped, I64(b_step)))
            b_parts = [builder.add(b, I64(4 * WIDTH * j)) for j in range(vectors)]
            bias = builder.add(p.bias, builder.mul(first, I64(4)))
            start = [load(builder, builder.add(bias, I64(4 * WIDTH * j)), VECTOR) for j in range(vectors)]
            with cgutils.for_range(builder, tiles) as tile:
                offset = builder.mul(tile.index, I64(ROWS * SPAN))
                a_rows = [builder.add(builder.add(p.a, offset), I64(SPAN * i)) for i in range(ROWS)]
                b_turn = I64(LANES * b_step)
                sums = summed(
                    *(builder, turns, LANES, start * ROWS, a_rows, p.a_block, 4),
                    *(b_parts, b_turn, b_step),
                )
                places = [
                    builder.add(builder.add(place, offset), I64(SPAN * i))
                    for i in range(ROWS)
                    for place in _blocked(builder, p.out, first, p.out_block, vectors)
                ]
                with builder.if_else(builder.icmp_signed("!=", p.add, I64(0))) as (onto, to):
                    with onto:
                        _write(builder, sums, places, True)
                    with to:
                        _write(builder, sums, places, False)


def _blocked(
    builder: ir.IRBuilder, rows: ir.Value, column: ir.Value, block: ir.Value, vectors: int
) -> list[ir.Value]:
    """Addresses of the vectors that begin at a column, a multiple of LANES, of rows in blocks."""
    first = builder.add(rows, builder.mul(builder.sdiv(column, I64(LANES)), block))
    return [
        builder.add(
            first, builder.add(builder.mul(block, I64(j * WIDTH // LANES)), I64(4 * (j * WIDTH % LANES)))
        )
        for j in range(vectors)
    ]


def _write(builder: ir.IRBuilder, sums: list[ir.Value], places: list[ir.Value], add: bool) -> None:
    """The sums of a tile to, or onto, what lies there."""
    for value, place in zip(sums, places, strict=True):
        store(builder, builder.fadd(load(builder, place, VECTOR), value) if add else value, place)


def _add_outer(builder: ir.IRBuilder, p: Outer) -> None:
    """`add_outer(outer)`: out (rows, columns) += a^T b, of a (depth, rows) and b (depth, columns).

    LANES divides rows and columns.
    """
    turns, rest = builder.sdiv(p.depth, I64(_UNROLLED)), builder.srem(p.depth, I64(_UNROLLED))
    done = builder.mul(turns, I64(_UNROLLED * SPAN))
    for vectors, panels, column in _panels(builder, p.columns):
        with cgutils.for_range(builder, panels) as panel:
            first = builder.add(column, builder.mul(panel.index, I64(COLUMNS)))
            b_parts = _blocked(builder, p.b, first, p.b_block, vectors)
            with cgutils.for_range(builder, builder.sdiv(p.rows, I64(LANES))) as block:
                a = builder.add(p.a, builder.mul(block.index, p.a_block))
                for begin, rows in OUTER_ROWS:
                    sums = [ZERO] * (rows * vectors)
                    for count, unrolled, skipped in ((turns, _UNROLLED, I64(0)), (rest, 1, done)):
                        from_a = builder.add(a, skipped)
                        rows_a = [builder.add(from_a, I64(4 * (begin + i))) for i in range(rows)]
                        parts = [builder.add(part, skipped) for part in b_parts]
                        turn = I64(unrolled * SPAN)
                        sums = summed(builder, count, unrolled, sums, rows_a, turn, SPAN, parts, turn, SPAN)
                    row = builder.add(builder.mul(block.index, I64(LANES)), I64(begin))
                    out = builder.add(spaced_row(builder, p.out, row, p.out_step), builder.mul(first, I64(4)))
                    places = [
                        builder.add(spaced_row(builder, out, I64(i), p.out_step), I64(4 * WIDTH * j))
                        for i in range(rows)
                        for j in range(vectors)
                    ]
                    _write(builder, sums, places, True)


add_outer = instruction(_add_outer)


def _pack_panel(builder: ir.IRBuilder, flags: PackFlags, p: Pack, column: ir.Value) -> None:
    """`pack_panel(flags, pack, column)`: the panel that begins at a column, a multiple of COLUMNS."""
    left = builder.sub(p.columns, column)
    narrow = builder.icmp_signed("<", left, I64(COLUMNS))
    out = builder.add(p.out, builder.mul(builder.mul(column, p.depth), I64(4)))
    source = spaced_row(builder, p.b, column, p.b_column)
    with builder.if_else(narrow) as (half, whole):
        with half:
            _copy_panel(builder, flags, p, source, out, LANES)
        with whole:
            _copy_panel(builder, flags, p, source, out, COLUMNS)


pack_panel = instruction(_pack_panel)


def _copy_panel(
    builder: ir.IRBuilder, flags: PackFlags, p: Pack, source: ir.Value, out: ir.Value, columns: int
) -> None:
    with cgutils.for_range(builder, p.depth) as loop:
        row = spaced_row(builder, source, loop.index, p.b_row)
        target = builder.add(out, builder.mul(loop.index, I64(4 * columns)))
        for j in range(0, columns, WIDTH):
            if flags.along:
                value = load(builder, builder.add(row, I64(4 * j)), VECTOR)
            else:
                value = ir.Constant(VECTOR, ir.Undefined)
                for lane in range(WIDTH):
                    place = spaced_row(builder, row, I64(j + lane), p.b_column)
                    one = builder.load(builder.inttoptr(place, FLOAT.as_pointer()))
                    one.align = 4
                    value = builder.insert_element(value, one, ir.IntType(32)(lane))
            store(builder, value, builder.add(target, I64(4 * j)))
