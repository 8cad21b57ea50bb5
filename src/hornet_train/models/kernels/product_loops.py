"""The loops that numba compiles for what is done with whole matrices: packing weights, and their
gradients.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.arguments import code_of
from hornet_train.models.kernels.compile_kernel import compiled, own_share, unpacked
from hornet_train.models.kernels.instructions import VERSION
from hornet_train.models.kernels.product_arguments import Outer, Pack, PackFlags
from hornet_train.models.kernels.product_vectors import COLUMNS, SPAN, add_outer, pack_panel

_ROWS, _COLUMNS, _DEPTH = 32, 64, 256  # of a task of `outer_loop`, and of what it reads at once


@cache
def pack_loop(flags: PackFlags) -> int:
    """The address of a loop of `pack_panel` over all panels."""
    code, version = code_of(flags), VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - a compiled loop is kept on disk under what it closes over
        a = unpacked(arguments, Pack)
        for panel in own_share((a.columns + COLUMNS - 1) // COLUMNS):
            pack_panel(code, a, panel * COLUMNS)

    return compiled(loop)


@cache
def outer_loop() -> int:
    """The address of a loop of `add_outer`: a task is a part of the matrix, and takes the depth in steps."""
    version = VERSION

    def loop(arguments: Any) -> None:
        version  # noqa: B018 - as above
        a = unpacked(arguments, Outer)
        across = (a.columns + _COLUMNS - 1) // _COLUMNS
        down = (a.rows + _ROWS - 1) // _ROWS
        for task in own_share(across * down):
            row, column = task // across * _ROWS, task % across * _COLUMNS
            rows, columns = min(_ROWS, a.rows - row), min(_COLUMNS, a.columns - column)
            out = a.out + row * a.out_step + column * 4
            for begin in range(0, a.depth, _DEPTH):
                depth = min(_DEPTH, a.depth - begin)
                part_a = a.a + row // LANES * a.a_block + begin * SPAN
                part_b = a.b + column // LANES * a.b_block + begin * SPAN
                add_outer(Outer(part_a, a.a_block, part_b, a.b_block, depth, out, a.out_step, rows, columns))

    return compiled(loop)
